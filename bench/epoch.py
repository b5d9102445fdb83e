"""Whole epochs of the lesson, training and validating, at both sizes, frozen and unfrozen: ours and fastai's, by turns."""
import argparse, contextlib, io, json, statistics, subprocess, sys

import torch
from torchvision import models

from common import add_data_args, our_data, report, secs, spread, table, tile_table

kinds = {'fastai': {}, 'fastai_fp16': dict(half=True), 'ours': dict(precision='fp32'), 'ours_bf16': dict(precision='bf16'),
         'ours_auto': dict(precision='auto'), 'ours_compiled': dict(precision='auto', compiled=True)}


def start_ours(args, df, path, size, precision, compiled=False):
    "A function that trains for an epoch, frozen or not."
    from planet_course.train import accuracy_thresh, fbeta
    from planet_course.nets import create_cnn
    data = our_data(df, path, size, args.bs)
    learn = create_cnn(data, getattr(models, args.arch), pretrained=False, precision=precision, metrics=[accuracy_thresh, fbeta])
    data.source.tiles
    if compiled: learn.model.compile()
    def epoch(frozen):
        (learn.freeze if frozen else learn.unfreeze)()
        learn.fit_one_cycle(1, 1e-3)
    return epoch, data.train_dl.n + data.valid_dl.n


def start_fastai(args, df, path, size, half=False):
    "The same with fastai; half: `to_fp16()` and channels last, as a careful user of a GPU would."
    from peer import fastai_data, fastai_learner
    data = fastai_data(df, path, size, args.bs, args.workers)
    learn = fastai_learner(data, getattr(models, args.arch))
    if half:
        learn = learn.to_fp16()
        learn.model.to(memory_format=torch.channels_last)
    def epoch(frozen):
        (learn.freeze if frozen else learn.unfreeze)()
        with learn.no_bar(): learn.fit_one_cycle(1, 1e-3)
    return epoch, len(data.train)*args.bs + data.valid.n


def measure(kind:str, args, size:int) -> dict:
    "One kind in a process of its own: tiles a second, frozen and unfrozen, and the first epoch's seconds."
    df, path = tile_table(args.data, args.tiles)
    start = start_fastai if kind.startswith('fastai') else start_ours
    with contextlib.redirect_stdout(sys.stderr): epoch, n = start(args, df, path, size, **kinds[kind])
    result = dict(n=n)
    for frozen in (True, False):
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            first = secs(lambda: epoch(frozen))
            again = secs(lambda: epoch(frozen))
        result['frozen' if frozen else 'unfrozen'] = n/again
        result['first_' + ('frozen' if frozen else 'unfrozen')] = first - again
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    add_data_args(parser, tiles=480)
    parser.add_argument('--arch', default='resnet50')
    parser.add_argument('--bs', type=int, default=32)
    parser.add_argument('--workers', type=int, default=2, help="fastai's num_workers")
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--sizes', type=int, nargs='+', default=[128, 256])
    parser.add_argument('--kinds', nargs='+', default=['fastai', 'ours', 'ours_bf16'], choices=kinds, help='ratios are to the first')
    parser.add_argument('--child', nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        kind, size = args.child
        return print('RESULT', json.dumps(measure(kind, args, int(size))))
    rows = []
    for size in args.sizes:
        runs = {kind: [] for kind in args.kinds}
        for _ in range(args.rounds):
            for kind in args.kinds:
                out = subprocess.run([sys.executable, *sys.argv, '--child', kind, str(size)], check=True, stdout=subprocess.PIPE, text=True).stdout
                runs[kind].append(json.loads(out.split('RESULT')[1]))
        for stage in ('frozen', 'unfrozen'):
            base = [r[stage] for r in runs[args.kinds[0]]]
            for kind in args.kinds:
                speed = [r[stage] for r in runs[kind]]
                rows.append([size, stage, kind, spread(speed, 1), f'{statistics.median(a/b for a, b in zip(speed, base)):.2f}',
                             f'{statistics.median(r["first_" + stage] for r in runs[kind]):.1f}'])
    text = table(['px', 'stage', 'what', 'tiles/s', f'times {args.kinds[0]}', 'first epoch, s more'], rows)
    report('Epochs', f'{text}\n\n{args.arch}, {args.tiles} tiles, batches of {args.bs}, n = {args.rounds}: median (smallest to largest). Tiles a second, '
           'validation tiles counted; the second epoch of each stage is timed, and the first one\'s extra seconds are in the last column.', 'fastai')


if __name__ == '__main__': main()
