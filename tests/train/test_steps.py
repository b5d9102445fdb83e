"The open training step: a part replaced, the rest of the loop kept; and switches that are back after an error."
import math
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from planet_course.device import tuned_kernels
from planet_course.train import Callback, Learner


class Accumulating(Learner):
    accumulate = 4

    def backward(self, loss): super().backward(loss/self.accumulate)

    def step_due(self): return (self.step + 1) % self.accumulate == 0


def learner(bs, kind=Learner, n=64, **settings):
    torch.manual_seed(0)
    x = torch.randn(n, 3)
    data = SimpleNamespace(train_dl=DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), bs), valid_dl=None, loss_func=nn.MSELoss(), device='cpu', path='.', classes=[])
    return kind(data, nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1)), opt_func=partial(torch.optim.SGD, lr=0., momentum=.9), **settings)


@pytest.mark.parametrize('precision, atol', [('fp32', 1e-6), ('fp16', 1e-2), ('bf16', 1e-1)])
def test_gradients_of_four_batches_are_those_of_the_larger(precision, atol):
    large, small = learner(16, precision=precision), learner(4, Accumulating, precision=precision)
    for learn in (large, small):
        if precision == 'fp16': learn.scaler.load_state_dict({**learn.scaler.state_dict(), 'scale': 512.})    # no step is skipped
        learn.fit(2, 1e-2)
    assert all(torch.allclose(a, b, atol=atol) for a, b in zip(large.model.parameters(), small.model.parameters()))
    assert len(small.recorder.fits[0].losses) == 32 and small.scaler.get_scale() == large.scaler.get_scale()


def test_after_backward_comes_once_a_step_and_sees_unscaled_gradients():
    class Norm(Callback):
        def __init__(self): self.norms = []
        def after_backward(self, learn): self.norms.append(nn.utils.get_total_norm([p.grad for p in learn.model.parameters()]).item())
    runs = {}
    for precision in ('fp32', 'fp16'):
        runs[precision] = Norm()
        learner(4, Accumulating, precision=precision).fit(1, 1e-4, callbacks=[runs[precision]])
    assert len(runs['fp32'].norms) == len(runs['fp16'].norms) == 4
    assert runs['fp16'].norms == pytest.approx(runs['fp32'].norms, rel=2e-2)


@pytest.mark.parametrize('part', ['forward', 'loss_of', 'backward', 'step_due', 'opt_step'])
def test_each_part_can_be_replaced_on_one_object(part):
    learn, called = learner(16), []
    own = getattr(learn, part)
    def instead(*args):
        called.append(part)
        return own(*args)
    setattr(learn, part, instead)
    learn.fit(1, 1e-2)
    plain = learner(16)
    plain.fit(1, 1e-2)
    assert len(called) == 4 and learn.recorder.fits[0].losses == plain.recorder.fits[0].losses


def test_gradients_of_an_unfinished_step_are_not_left_behind():
    learn = learner(4, Accumulating, n=24)      # six batches: the last two wait for a step that does not come
    learn.fit(1, 1e-2)
    assert all(p.grad is None for p in learn.model.parameters()) and math.isfinite(learn.recorder.fits[0].losses[-1])


@pytest.mark.parametrize('run', [lambda learn, **how: learn.fit(1, 1e-3, **how), lambda learn, **how: learn.lr_find(num_it=3)], ids=['fit', 'lr_find'])
@pytest.mark.parametrize('before', [False, True])
def test_the_switch_for_kernels_is_put_back_after_an_error(monkeypatch, before, run):
    "With the name of a GPU that is not needed: the switch is one for the whole process."
    seen = []
    class Fail(Callback):
        def after_backward(self, learn):
            seen.append(torch.backends.cudnn.benchmark)
            raise RuntimeError('no')
    monkeypatch.setattr(torch.backends.cudnn, 'benchmark', before)
    def as_on_a_gpu(device): return tuned_kernels(torch.device('cuda'))
    for module in ('steps', 'finder'): monkeypatch.setattr(f'planet_course.train.{module}.tuned_kernels', as_on_a_gpu)
    learn = learner(16, callbacks=[Fail()])
    with pytest.raises(RuntimeError, match='^no$'): run(learn)
    assert seen == [True] and torch.backends.cudnn.benchmark is before
