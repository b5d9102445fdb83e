"""Predicting: `get_preds` and `tta` over a bare forward loop on the same batches, and tiles a second from a folder of files."""
import argparse, contextlib, io, statistics, tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import torch
from torchvision import models

from common import add_data_args, our_data, report, secs, spread, table, tile_table
from planet_course.tiles import decode
from planet_course.answers import export_model, Predictor, tta
from planet_course.nets import create_cnn


def quietly(f):
    "Run without bars."
    with contextlib.redirect_stderr(io.StringIO()): return f()


def bare(learn, dl, views:int):
    "The least that must be done: go over the batches, run the network on each so many times, keep the probabilities."
    learn.model.eval()
    with torch.no_grad(): return torch.cat([sum(learn.forward(xb).sigmoid() for _ in range(views))/views for xb, _ in dl]).cpu()


def decode_all(files, size:int):
    with ThreadPoolExecutor(torch.get_num_threads()) as pool: return list(pool.map(partial(decode, size=size), files))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    add_data_args(parser, tiles=1000)
    parser.add_argument('--arch', default='mobilenet_v2')
    parser.add_argument('--size', type=int, default=128)
    parser.add_argument('--bs', type=int, default=64)
    parser.add_argument('--rounds', type=int, default=5)
    args = parser.parse_args()
    df, path = tile_table(args.data, args.tiles)
    data = our_data(df, path, args.size, args.bs)
    with contextlib.redirect_stdout(io.StringIO()):
        learn = create_cnn(data, getattr(models, args.arch), pretrained=False)
        dl, files = data.test_dl(data.lists.items), list(data.lists.items.files)
        dl.source.tiles
        with tempfile.TemporaryDirectory() as tmp: predictor = Predictor(export_model(learn, Path(tmp)/'model.safetensors'))
    tiles = dl.source.tiles
    sides = {'get_preds': (lambda: learn.get_preds(dl), lambda: bare(learn, dl, 1)), 'tta': (lambda: tta(learn, dl), lambda: bare(learn, dl, 8))}
    ways = {'Predictor, files': lambda: list(predictor.stream(files, args.bs)), 'decoding alone': lambda: decode_all(files, args.size),
            'network alone': lambda: [predictor.forward(tiles[i:i + args.bs]) for i in range(0, len(tiles), args.bs)]}
    runs = {name: [] for name in (*sides, *ways)}
    for pair in sides.values(): quietly(pair[0])
    for _ in range(args.rounds):
        for name, (ours, plain) in sides.items(): runs[name].append([quietly(lambda: secs(f)) for f in (ours, plain)])
        for name, f in ways.items(): runs[name].append(secs(f))
    n, rows = len(files), []
    for name in sides:
        ours, plain = zip(*runs[name])
        rows.append([name, spread([n/s for s in ours]), spread([n/s for s in plain]), f'{statistics.median(a/b for a, b in runs[name]):.3f}'])
    for name in ways: rows.append([name, spread([n/s for s in runs[name]]), '', ''])
    text = table(['what', 'tiles/s', 'bare loop, tiles/s', 'time over bare'], rows)
    report('Predict', f'{text}\n\n{args.arch}, {n:,} tiles, {args.size} px, batches of {args.bs}, fp32 on a CPU, n = {args.rounds}: median (smallest to '
           'largest), by turns. The bare loop runs the network on the same batches as often, without turning them. *Predictor* reads the '
           'files; the two rows below are its parts, each alone on all cores.')


if __name__ == '__main__': main()
