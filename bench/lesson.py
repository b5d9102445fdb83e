"""The lesson's stages as numbers: every epoch in `<out>_epochs.csv`, every point of `lr_find` in `<out>_rates.csv`, for the lesson to plot.

    python bench/lesson.py --data ../shared/data/planet_sample --name real --sizes 128 256     # the lesson
    python bench/lesson.py --data ../shared/data/planet_sample --name real --sizes 256         # at one size from the start
"""
import argparse, time
from functools import partial
from pathlib import Path

import pandas as pd
from torchvision import models

from common import add_data_args, machine, our_data, tile_table
from planet_course.device import seed_everything
from planet_course.nets import create_cnn
from planet_course.train import fbeta


def resnet50_v1(weights=None):
    "ResNet-50 as it was first published: the stride of a block is in its first convolution. A file of its weights goes with `--weights`."
    net = models.resnet50(weights=weights)
    for layer in (net.layer2, net.layer3, net.layer4): layer[0].conv1.stride, layer[0].conv2.stride = (2, 2), (1, 1)
    return net


def fit(learn, epochs:int, rates, stage:str):
    "One stage, and how long its epochs took."
    start = time.perf_counter()
    learn.fit_one_cycle(epochs, rates, stage=stage)
    return (time.perf_counter() - start)/epochs


def run(bunches:dict, arch, weights, epochs:int, steps:int) -> tuple[list, list]: # of epochs, and of rates tried
    "All stages of one seed, with the rates that the lesson takes."
    rows, rates = [], []
    learn = None
    for size, data in bunches.items():
        lr = 1e-2 if learn is None else 5e-3
        if learn is None: learn = create_cnn(data, arch, weights=weights, metrics=partial(fbeta, thresh=0.2))
        learn.data = data
        learn.freeze()
        for part, slices in enumerate((slice(lr), slice(1e-5, lr/5)), start=1):
            if steps:
                learn.lr_find(num_it=steps)
                found = learn.recorder.records[-1]
                rates += [dict(stage=f'stage-{part}-{size}', lr=f'{r[-1]:.3g}', loss=loss) for r, loss in zip(found.lrs, found.losses)]
            seconds = fit(learn, epochs, slices, f'stage-{part}-{size}')
            done = learn.recorder.fits[-1]
            rows += [dict(stage=done.stage, epoch=i, train_loss=done.smoothed()[end - 1], valid_loss=loss, f2=m['fbeta'], seconds=seconds)
                     for i, (end, loss, m) in enumerate(zip(done.ends, done.valid_losses, done.metrics))]
            learn.unfreeze()
    return rows, rates


def save(rows:list, file:Path, line:str) -> None:
    "Add rows to a table; its first lines say on which machine each run was made."
    if not rows: return
    table = pd.DataFrame(rows).round(dict(loss=4, train_loss=5, valid_loss=5, f2=4, seconds=1)).astype(str)
    lines = [line]
    if file.exists():
        lines = list(dict.fromkeys([*(text for text in file.read_text().splitlines() if text.startswith('#')), line]))
        table = pd.concat([pd.read_csv(file, comment='#', dtype=str), table])
    file.write_text('\n'.join([*lines, table.to_csv(index=False)]))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_data_args(parser, tiles=1000)
    parser.add_argument('--name', default='synthetic', help='what the tiles are called in the tables')
    parser.add_argument('--arch', default='mobilenet_v2', help="one of torchvision's, or resnet50_v1")
    parser.add_argument('--weights', help='a file of ImageNet weights; without it, where they are to be had')
    parser.add_argument('--sizes', type=int, nargs='+', default=[64, 128])
    parser.add_argument('--epochs', type=int, default=5, help='a stage')
    parser.add_argument('--lr-steps', type=int, default=0, help='for lr_find before each stage; 0: no lr_find')
    parser.add_argument('--seeds', type=int, nargs='+', default=[42])
    parser.add_argument('--out', type=Path, default=Path('lesson'))
    args = parser.parse_args()
    df, path = tile_table(args.data, args.tiles)
    bunches = {size: our_data(df, path, size) for size in args.sizes}
    arch = resnet50_v1 if args.arch == 'resnet50_v1' else args.arch
    for seed in args.seeds:
        seed_everything(seed)
        facts = dict(tiles=args.name, arch=args.arch, sizes='+'.join(map(str, args.sizes)), epochs=args.epochs, seed=seed)
        rows, rates = run(bunches, arch, args.weights, args.epochs, args.lr_steps)
        save([facts | row for row in rows], args.out.with_name(f'{args.out.name}_epochs.csv'), f'# {machine()}')
        save([facts | row for row in rates], args.out.with_name(f'{args.out.name}_rates.csv'), f'# {machine()}')


if __name__ == '__main__': main()
