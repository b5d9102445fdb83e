"""What the Learner costs: its epoch, and its lr_find, over a bare PyTorch loop with the same model, batches and schedule."""
import argparse, contextlib, io, statistics
from functools import partial
from types import SimpleNamespace

import torch
from torch import nn
from torchvision import models

from common import report, secs, spread, table
from planet_course.train import Learner
from planet_course.train import accuracy_thresh, fbeta
from planet_course.train import lr_range, one_cycle
from planet_course.nets import create_body, create_head


def make_model(arch:str) -> nn.Sequential:
    "The lesson's network, or a tiny one, beside which any overhead shows."
    if arch == 'tiny': return nn.Sequential(nn.Conv2d(3, 8, 3, stride=4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 17))
    body, _ = create_body(getattr(models, arch)(), None, None)
    return nn.Sequential(body, create_head({'resnet18': 512, 'resnet34': 512}.get(arch, 2048), 17)).to(memory_format=torch.channels_last)


def bare_epoch(model, opt, loss_func, train, valid, metrics, lrs, moms):
    "What a careful user would write: one epoch, one wait for the device at its end."
    model.train()
    losses = []
    for (xb, yb), lr, mom in zip(train, lrs, moms):
        for group in opt.param_groups: group['lr'], group['betas'] = lr[0], (mom, 0.99)
        loss = loss_func(model(xb), yb)
        loss.backward()
        opt.step()
        opt.zero_grad()
        losses.append(loss.detach())
    model.eval()
    with torch.no_grad():
        logits, targs = (torch.cat(parts) for parts in zip(*[(model(xb), yb) for xb, yb in valid]))
        valid_loss = loss_func(logits, targs)
        scores = [m(logits, targs) for m in metrics]
    return torch.stack(losses).tolist(), valid_loss.item(), [s.item() for s in scores]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--archs', nargs='+', default=['tiny', 'resnet18'])
    parser.add_argument('--size', type=int, default=64)
    parser.add_argument('--bs', type=int, default=16)
    parser.add_argument('--steps', type=int, default=20)
    parser.add_argument('--lr-steps', type=int, default=100)
    parser.add_argument('--rounds', type=int, default=5)
    args = parser.parse_args()
    device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    loss_func, rows = nn.BCEWithLogitsLoss(), []
    metrics = [partial(accuracy_thresh, thresh=0.2), partial(fbeta, thresh=0.2)]
    def batch(): return (torch.rand(args.bs, 3, args.size, args.size, device=device).to(memory_format=torch.channels_last),
                         (torch.rand(args.bs, 17, device=device) > .8).float())
    train, valid = [batch() for _ in range(args.steps)], [batch() for _ in range(max(1, args.steps//4))]
    data = SimpleNamespace(train_dl=train, valid_dl=valid, device=device, classes=[], path='.')
    lrs, moms = one_cycle(args.steps, lr_range(1e-3, 1))
    for arch in args.archs:
        model = make_model(arch).to(device)
        learn = Learner(data, model, loss_func, metrics, precision='fp32')
        opt = learn.opt_func([dict(params=list(model.parameters()), lr=1e-3)])
        bare = lambda: bare_epoch(model, opt, loss_func, train, valid, metrics, lrs, moms)
        def bare_steps():
            bare_epoch(model, opt, loss_func, (train*args.lr_steps)[:args.lr_steps], valid[:1], (), [lrs[0]]*args.lr_steps, [.9]*args.lr_steps)
        def ours():
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()): learn.fit_one_cycle(1, 1e-3)
        def find():
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                learn.lr_find(num_it=args.lr_steps, stop_div=False, start=1e-7, end=1e-4)
        for what, one, two, n in (('epoch', ours, bare, args.steps + len(valid)), ('lr_find', find, bare_steps, args.lr_steps)):
            one(), two()
            a, b = zip(*[(secs(one), secs(two)) for _ in range(args.rounds)])
            ratio = statistics.median(x/y for x, y in zip(a, b))
            rows.append([arch, what, n, spread([x*1e3 for x in a], 1), spread([x*1e3 for x in b], 1), f'{ratio:.3f}',
                         f'{statistics.median((x - y)/n*1e6 for x, y in zip(a, b)):.0f}'])
    text = table(['network', 'what', 'batches', 'Learner, ms', 'bare loop, ms', 'ratio', 'more a batch, us'], rows)
    report('Overhead', f'{text}\n\nBatches of {args.bs} at {args.size} px, all on the device before; n = {args.rounds}: median (smallest to largest), '
           'by turns; the ratio is the median of the rounds\' ratios.')


if __name__ == '__main__': main()
