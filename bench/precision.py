"""Does bf16 learn what fp32 learns? The lesson's smaller half in both, with several seeds; real tiles and real weights, please."""
import argparse, contextlib, io
from functools import partial

from torchvision import models

from common import add_data_args, our_data, report, secs, spread, table, tile_table
from planet_course.device import seed_everything
from planet_course.train import fbeta
from planet_course.nets import create_cnn


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    add_data_args(parser, tiles=1000)
    parser.add_argument('--arch', default='resnet50')
    parser.add_argument('--weights', help='a file of ImageNet weights; without it, what PyTorch has or downloads')
    parser.add_argument('--size', type=int, default=128)
    parser.add_argument('--epochs', type=int, default=5, help='frozen, and as many unfrozen')
    parser.add_argument('--precisions', nargs='+', default=['fp32', 'bf16'])
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1])
    args = parser.parse_args()
    df, path = tile_table(args.data, args.tiles)
    data, rows = our_data(df, path, args.size), []
    data.source.tiles
    for precision in args.precisions:
        scores, losses, times = [], [], []
        for seed in args.seeds:
            seed_everything(seed)
            learn = create_cnn(data, getattr(models, args.arch), weights=args.weights, metrics=[partial(fbeta, thresh=0.2)], precision=precision)
            def run():
                with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                    learn.fit_one_cycle(args.epochs, slice(1e-2))
                    learn.unfreeze()
                    learn.fit_one_cycle(args.epochs, slice(1e-5, 2e-3))
            times.append(secs(run))
            scores.append(learn.recorder.fits[-1].metrics[-1]['fbeta'])
            losses.append(learn.recorder.fits[-1].valid_losses[-1])
        rows.append([precision, spread(losses, 4), spread(scores, 4), spread(times)])
    text = table(['precision', 'validation loss', 'F2 at 0.2', 's'], rows)
    report('Precision', f'{text}\n\n{args.arch}, {args.tiles} tiles at {args.size} px, {args.epochs} epochs frozen and {args.epochs} unfrozen, '
           f'seeds {args.seeds}: median (smallest to largest).')


if __name__ == '__main__': main()
