"""The lesson's four stages on one device, and what else the time could have been: a resident batch, and the roofline."""
import argparse, contextlib, io, math
from dataclasses import replace

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision import models

from common import label_lists, report, secs, table, tfms, tile_table, work
from planet_course.core import imagenet_stats
from planet_course.device import seed_everything
from planet_course.data import TileSource
from planet_course.train import kept_bytes, train_step
from planet_course.train import accuracy_thresh, fbeta
from planet_course.get import planet_synthetic
from planet_course.nets import create_cnn


def quietly(f):
    "Run without tables and bars."
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()): return f()


def made_tiles(n:int, size:int, device) -> torch.Tensor:
    "Bytes (n, 3, size, size) with the look of soft landscape, made on the device: for timing alone, nothing can be learned from them."
    out = torch.empty(n, 3, size, size, dtype=torch.uint8, device=device)
    for part in out.split(512):
        coarse = torch.rand(len(part), 3, size//8, size//8, device=device)
        part.copy_(nn.functional.interpolate(coarse, size=size, mode='bilinear')*255)
    return out


def made_data(lists, size:int, bs:int, device):
    "Loaders whose tiles are made on the device instead of decoded."
    data = lists.transform(tfms, size=size).databunch(bs=bs, device=device)
    source = TileSource(None, data.device, 'device')
    source.tiles = made_tiles(len(lists.items), size, data.device)
    return replace(data, source=source).normalize(imagenet_stats)


def ceilings(device) -> tuple[float, float]:
    "What the device reaches: FLOP/s of a large matrix product in the precision of training, bytes/s of a large copy."
    big, dtype = (8192, torch.bfloat16) if device.type == 'cuda' else (1024, torch.float32)
    a, b = (torch.randn(big, big, device=device, dtype=dtype) for _ in range(2))
    x = torch.rand(2**28 if device.type == 'cuda' else 2**25, device=device)
    y = torch.empty_like(x)
    for _ in range(3): a @ b; y.copy_(x)
    product = min(secs(lambda: [a @ b for _ in range(10)]) for _ in range(3))/10
    copy = min(secs(lambda: [y.copy_(x) for _ in range(10)]) for _ in range(3))/10
    return 2*big**3/product, 2*x.nbytes/copy


def floor_tiles_per_s(learn, xb, yb, frozen:bool, flops:float, bandwidth:float) -> tuple[float, str]:
    """No implementation trains much faster: the larger of arithmetic and memory traffic.

    Arithmetic: forward, the same again for the inputs' gradients and, unless frozen, for the weights'. Memory: all that is kept for
    the backward pass is written once and read twice (by the next layer, by the backward pass), and so is its gradient, once each.
    """
    with FlopCounterMode(display=False) as counter, torch.no_grad(): learn.forward(xb)
    work = counter.get_total_flops()*(2 if frozen else 3)/len(xb)
    moved = 5*kept_bytes(learn, xb, yb)/len(xb)
    times = {'arithmetic': work/flops, 'memory': moved/bandwidth}
    bound = max(times, key=times.get)
    return 1/times[bound], f'{bound}: {work/1e9:.1f} GFLOP, {moved/1e6:.0f} MB a tile'


def stage(learn, epochs:int, lr, frozen:bool, flops:float, bandwidth:float) -> tuple:
    "Train, then time the same steps with one batch that is there already."
    (learn.freeze if frozen else learn.unfreeze)()
    cuda, data = learn.device.type == 'cuda', learn.data
    if cuda: torch.cuda.reset_peak_memory_stats()
    took = secs(lambda: quietly(lambda: learn.fit_one_cycle(epochs, lr)))
    peak = torch.cuda.max_memory_allocated() if cuda else math.nan
    valid = secs(lambda: quietly(learn.validate))*epochs
    loading = secs(lambda: [None for _ in data.train_dl])*epochs
    xb, yb = data.one_batch()
    steps = max(3, min(50, len(data.train_dl)))
    learn.model.train()
    for _ in range(3): train_step(learn, xb, yb, [])
    resident = steps*len(xb)/secs(lambda: [train_step(learn, xb, yb, []) for _ in range(steps)])
    floor, bound = floor_tiles_per_s(learn, xb, yb, frozen, flops, bandwidth)
    trained = epochs*data.train_dl.n/(took - valid)
    return took, trained, resident, floor, bound, loading, peak, valid


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--tiles', type=int, default=40479)
    parser.add_argument('--made', choices=['device', 'synthetic'], default='device', help='random bytes on the device, or drawn JPEGs, decoded')
    parser.add_argument('--arch', default='resnet50')
    parser.add_argument('--sizes', type=int, nargs=2, default=[128, 256])
    parser.add_argument('--epochs', type=int, default=5, help='of each stage')
    parser.add_argument('--bs', type=int, nargs=2, default=[512, 256], help='at each size')
    parser.add_argument('--compile', action='store_true', help='torch.compile the network')
    parser.add_argument('--precision', default='auto')
    args = parser.parse_args()
    device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    seed_everything(42)
    drawn = 64 if args.made == 'device' else args.tiles      # the files of made tiles are never opened
    lists = label_lists(*tile_table(planet_synthetic(work/f'synthetic_{drawn}', n=drawn), args.tiles))
    flops, bandwidth = ceilings(device)
    rows, total, learn, decode = [], 0., None, ''
    for size, bs, head_lr in zip(args.sizes, args.bs, (1e-2, 5e-3)):
        scale = (bs/64)**.5      # Adam's rates grow with the square root of the batch
        if args.made == 'device': data = made_data(lists, size, bs, device)
        else:
            data = lists.transform(tfms, size=size).databunch(bs=bs).normalize(imagenet_stats)
            decode += f' {size} px {secs(lambda: data.source.tiles):.0f} s.'
        if learn: learn.data = data
        else:
            learn = create_cnn(data, getattr(models, args.arch), pretrained=False, metrics=[accuracy_thresh, fbeta], precision=args.precision)
            if args.compile: learn.model.compile()
        for frozen, lr in ((True, slice(head_lr*scale)), (False, slice(1e-5*scale, head_lr/5*scale))):
            took, trained, resident, floor, bound, loading, peak, valid = stage(learn, args.epochs, lr, frozen, flops, bandwidth)
            total += took
            rows.append([size, 'frozen' if frozen else 'unfrozen', bs, f'{took:.1f}', f'{trained:,.0f}', f'{resident:,.0f}', f'{trained/resident:.2f}',
                         f'{loading/(took - valid):.1%}', f'{valid:.1f}', f'{peak/1e9:.1f}', f'{floor:,.0f}', f'{trained/floor:.2f}', bound])
    text = table(['px', 'stage', 'bs', 's', 'trained tiles/s', 'resident batch', 'share of it', 'batches alone', 'validation, s', 'peak GB',
                  'roofline tiles/s', 'share of it', 'bound by'], rows)
    report('The lesson\'s stages on one device',
           f'{text}\n\n{args.tiles:,} tiles ({"random bytes made on the device" if args.made == "device" else "drawn by planet_synthetic"}), {args.arch}, '
           f'precision {learn.precision}{", compiled" if args.compile else ""}, {args.epochs} epochs a stage: {total:.0f} s in all.'
           f'{" Decoding, not counted:" + decode if decode else ""} Rates grow with the square root of the batch size over 64. *Resident batch*: the same '
           'training steps, always with one batch that is there. *Batches alone*: the time of going over the batches without a network, as a share of '
           f'training; on a GPU most of it overlaps. Ceilings measured: {flops/1e12:,.1f} TFLOP/s, {bandwidth/1e9:,.0f} GB/s. n = 1.')


if __name__ == '__main__': main()
