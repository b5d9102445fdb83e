"""How time and memory grow: with the number of tiles, with threads that decode, with tile size; and what a start costs."""
import argparse, os, statistics, subprocess, sys, tempfile
from pathlib import Path

import numpy as np

from common import add_data_args, our_data, peak_private_mb, report, secs, spread, table, tile_table
from planet_course.tiles import TileCache


def growth(args) -> str:
    "Building the cache and one pass over the batches, for more and more tiles, and the straight line through the times."
    rows, line = [], []
    for n in args.counts:
        df, path = tile_table(args.data, n)
        data = our_data(df, path, args.size, cache='disk')
        with tempfile.TemporaryDirectory(dir=args.work) as folder:
            data.source.cache.folder = Path(folder)
            times = {}
            def run():
                times['build'] = secs(lambda: data.source.tiles)
                times['pass'] = secs(lambda: sum(len(xb) for xb, _ in data.train_dl))
                times['again'] = secs(lambda: sum(len(xb) for xb, _ in data.train_dl))
            os.sync()
            written, mapped = peak_private_mb(run)
            size = data.source.cache.nbytes/1e6
            data.source.cache._tensor = None
        line.append((n, times['build'], times['again']))
        rows.append([f'{n:,}', f'{size:,.0f}', *(f'{t:.1f}' for t in times.values()), f'{written:,.0f}', f'{n/times["build"]:,.0f}',
                     f'{data.train_dl.n/times["again"]:,.0f}'])
    n, build, again = np.array(line).T
    def fit(y, what):
        slope, start = np.polyfit(n, y, 1)
        off = np.abs(np.polyval([slope, start], n) - y).max()/y.max()
        return f'{what}: {slope*1e3:.2f} s a thousand tiles, no more than {off:.0%} of the largest off the line'
    text = table(['tiles', 'cache, MB', 'build, s', 'first pass, s', 'next pass, s', 'peak private MB', 'decoded/s', 'batched/s'], rows)
    return text + ('\n\n' + fit(build, 'Build') + '. ' + fit(again, 'Pass') + '.' if len(n) > 1 else '')


def threads(args) -> str:
    "Decoding with one thread and more."
    df, path = tile_table(args.data, args.tiles)
    files, rows = [path/f for f in df.file], []
    for size in args.sizes:
        for workers in args.threads:
            def build():
                with tempfile.TemporaryDirectory(dir=args.work) as folder: TileCache(files, size, folder, workers).build(progress=False)
            rows.append([size, workers, spread([len(files)/secs(build) for _ in range(args.rounds)])])
    return table(['px', 'threads', 'tiles decoded a second'], rows)


def sizes(args) -> str:
    "Batches at several sizes: tiles, and millions of pixels, a second."
    df, path = tile_table(args.data, args.tiles)
    rows = []
    for size in args.sizes:
        data = our_data(df, path, size, cache='disk')
        one_pass = lambda: sum(len(xb) for xb, _ in data.train_dl)
        one_pass()
        speed = [data.train_dl.n/secs(one_pass) for _ in range(args.rounds)]
        rows.append([size, spread(speed), f'{statistics.median(speed)*size*size/1e6:.0f}'])
    return table(['px', 'tiles batched a second', 'Mpx a second'], rows)


def start(args) -> str:
    "Seconds, each in a new Python."
    df, path = tile_table(args.data, args.tiles)
    our_data(df, path, 128).source.tiles
    first = f'import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); from common import *; ' \
            f'df, path = tile_table({args.data!r}, {args.tiles}); our_data(df, path, 128).one_batch()'
    rows = []
    for what, code in (('`import torch, torchvision`', 'import torch, torchvision'),
                       ('`import planet_course.train.learner`', 'import planet_course.train.learner'),
                       (f'to the first batch of {args.tiles:,} tiles, cached', first)):
        run = lambda: subprocess.run([sys.executable, '-c', code], check=True, stdout=subprocess.DEVNULL)
        run()
        rows.append([what, spread([secs(run) for _ in range(args.rounds)], 2)])
    return table(['what', 's'], rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    add_data_args(parser, tiles=1000)
    parser.add_argument('--counts', type=int, nargs='+', default=[1000, 4000, 16000, 40000])
    parser.add_argument('--size', type=int, default=128, help='for the growth')
    parser.add_argument('--sizes', type=int, nargs='+', default=[64, 128, 256])
    parser.add_argument('--threads', type=int, nargs='+', default=[1, 2, 4, 8])
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--work', help='a folder with room for the caches')
    args = parser.parse_args()
    parts = [('Growth', growth), ('Threads', threads), ('Sizes', sizes), ('Start', start)]
    report('Scale', '\n\n'.join(f'{title} ({f.__doc__.strip().rstrip(".")}):\n\n{f(args)}' for title, f in parts)
           + f'\n\nn = {args.rounds}: median (smallest to largest); growth is one run. {args.size} px there.')


if __name__ == '__main__': main()
