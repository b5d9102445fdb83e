"""Tiles a second that reach the network, augmented, as a normalised float batch: ours and fastai's, and the memory it takes."""
import argparse, json, os, statistics, subprocess, sys

from common import add_data_args, our_data, peak_private_mb, report, secs, spread, table, tile_table
from planet_course.tiles import clear_cache


def one_pass(loader) -> int:
    "Take all batches; gives the tiles."
    return sum(len(xb) for xb, _ in loader)


def measure(side:str, args, size:int) -> dict:
    "One side in a process of its own: tiles a second, cold and warm, and private memory in MB."
    df, path = tile_table(args.data, args.tiles)
    if side == 'ours':
        data = our_data(df, path, size, args.bs)
        clear_cache(path)
        loader, n = data.train_dl, data.train_dl.n
        build = secs(lambda: data.source.tiles)*n/len(df)   # decodes all tiles, validation's too: training's share of it
    else:
        from peer import fastai_data
        loader = fastai_data(df, path, size, args.bs, args.workers).train
        n, build = len(loader)*args.bs, 0
    cold = n/(build + secs(lambda: one_pass(loader)))
    warm = [n/secs(lambda: one_pass(loader)) for _ in range(3 if side == 'ours' else 1)]
    os.sync()       # pages of the cache file that are still to be written would count as ours
    written, mapped = peak_private_mb(lambda: one_pass(loader))
    return dict(cold=cold, warm=statistics.median(warm), written=written, mapped=mapped)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    add_data_args(parser, tiles=4000)
    parser.add_argument('--bs', type=int, default=64)
    parser.add_argument('--workers', type=int, default=2, help="fastai's num_workers")
    parser.add_argument('--rounds', type=int, default=5, help='how often each side starts anew, by turns')
    parser.add_argument('--sizes', type=int, nargs='+', default=[128, 256])
    parser.add_argument('--sides', nargs='+', default=['ours', 'fastai'], choices=['ours', 'fastai'])
    parser.add_argument('--child', nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        side, size = args.child
        return print('RESULT', json.dumps(measure(side, args, int(size))))
    rows = []
    for size in args.sizes:
        runs = {side: [] for side in args.sides}
        for _ in range(args.rounds):
            for side in args.sides:
                out = subprocess.run([sys.executable, *sys.argv, '--child', side, str(size)], check=True, stdout=subprocess.PIPE, text=True).stdout
                runs[side].append(json.loads(out.split('RESULT')[1]))
        for kind, unit in dict(warm='tiles/s', cold='tiles/s', written='MB', mapped='MB').items():
            got = {side: [r[kind] for r in runs[side]] for side in args.sides}
            ratio = f'{statistics.median(a/b for a, b in zip(*got.values())):.2f}' if len(got) == 2 else ''
            rows.append([size, kind, unit, *map(spread, got.values()), ratio])
    text = table(['px', 'what', 'unit', *args.sides, 'ratio'], rows)
    notes = (f'{args.tiles} tiles, batches of {args.bs}, n = {args.rounds}: median (smallest to largest); the ratio is the median of the '
             'rounds\' ratios. *warm*: a whole pass over the training tiles, starting the workers included. *cold*: the same when nothing '
             'is cached (ours decodes every tile first, its share of that included). *written*: memory that the processes have to themselves; '
             '*mapped*: pages of files that only they map, which the system takes back when it needs them.')
    report('Input', f'{text}\n\n{notes}', 'fastai')


if __name__ == '__main__': main()
