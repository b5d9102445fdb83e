"""What goes wrong in real life, through the whole of it: nothing is lost, and the message says what to do."""
import math, shutil, signal, subprocess, sys, textwrap, time
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import nn

from planet_course.core import imagenet_stats
from planet_course.data import ImageList
from planet_course.train import Callback, Learner
from planet_course.train import fbeta
from planet_course.nets import create_cnn


def source(path):
    return ImageList.from_csv(path, 'train_v2.csv', folder='train-jpg', suffix='.jpg').split_by_rand_pct(0.2)


def bunch(path, bs=16, size=32):
    return source(path).label_from_df(label_delim=' ').transform(size=size).databunch(bs=bs, device='cpu').normalize(imagenet_stats)


def learner(data):
    net = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, data.c))
    return Learner(data, net)


@pytest.fixture
def own_tiles(tiles, tmp_path):
    "A copy that a test may break."
    return shutil.copytree(tiles, tmp_path/'planet', ignore=shutil.ignore_patterns('.tiles', 'models'))


@pytest.fixture
def no_writing(own_tiles, tmp_path, monkeypatch):
    "Tiles in a folder where neither caches nor stages can be written, whoever asks: plain files are in the way."
    for name in ('.tiles', 'models'): (own_tiles/name).touch()
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path/'cache'))
    return own_tiles


def test_folder_without_write_permission(no_writing, tmp_path, capsys):
    learn = learner(bunch(no_writing))
    learn.fit(1, 1e-3)
    file = learn.save('stage-1')
    assert file.is_relative_to(tmp_path/'cache') and file.exists()
    assert list((tmp_path/'cache').rglob('*.u8')), 'the tile cache is not there either'
    said = capsys.readouterr().out
    assert said.count('cannot be written to') >= 2 and str(tmp_path/'cache') in said
    learn.load('stage-1')


def test_broken_tiles_are_all_named_before_the_first_step(own_tiles):
    names = [f'train_{i}.jpg' for i in (3, 7, 11)]
    whole = (own_tiles/'train-jpg'/names[2]).read_bytes()
    for name, content in zip(names, (b'', b'no picture at all', whole[:len(whole)//2])): (own_tiles/'train-jpg'/name).write_bytes(content)
    learn = learner(bunch(own_tiles))
    before = {k: v.clone() for k, v in learn.model.state_dict().items()}
    with pytest.raises(ValueError) as e: learn.fit(1, 1e-3)
    assert all(name in str(e.value) for name in names) and '3 of 60' in str(e.value)
    assert all(torch.equal(v, before[k]) for k, v in learn.model.state_dict().items())


def test_odd_pictures_are_read(own_tiles):
    from PIL import Image
    folder = own_tiles/'train-jpg'
    Image.new('RGB', (256, 256), 'green').save(folder/'train_0.jpg', 'PNG')
    Image.new('L', (256, 256), 90).save(folder/'train_1.jpg', 'JPEG')
    Image.new('RGB', (1, 1), 'blue').save(folder/'train_2.jpg', 'JPEG')
    data = bunch(own_tiles)
    learner(data).fit(1, 1e-3)
    assert [data.lists.items[i].shape for i in range(3)] == [(3, 256, 256), (3, 256, 256), (3, 1, 1)]


def test_missing_tiles_are_named_up_to_ten_with_the_count(own_tiles):
    for i in range(14): (own_tiles/'train-jpg'/f'train_{i}.jpg').unlink()
    with pytest.raises(FileNotFoundError, match='14 of 60') as e: source(own_tiles)
    assert 'train_9.jpg' in str(e.value) and 'train_12.jpg' not in str(e.value) and '4 more' in str(e.value)


def test_label_without_a_training_tile_is_kept_and_counted_as_missed(own_tiles, capsys):
    csv = own_tiles/'train_v2.csv'
    df = pd.read_csv(csv)
    row = int(source(own_tiles).valid_idx[0])
    df.loc[row, 'tags'] += ' volcano'
    df.to_csv(csv, index=False)
    data = bunch(own_tiles)
    assert 'volcano' in data.classes and 'volcano' in capsys.readouterr().out
    perfect_but_one = torch.where(data.valid_ds.targets > 0, 9., -9.)
    perfect_but_one[:, data.classes.index('volcano')] = -9.
    assert fbeta(perfect_but_one, data.valid_ds.targets) < 1


def test_nan_in_the_middle_puts_the_weights_back(tiles):
    class Nan(Callback):
        def before_batch(self, learn):
            if (learn.epoch, learn.step) == (1, 2): learn.xb = learn.xb * math.nan
    learn = learner(bunch(tiles))
    with pytest.raises(FloatingPointError, match='batch 2 of epoch 1'): learn.fit(2, 1e-3, callbacks=[Nan()])
    assert all(torch.isfinite(v).all() for v in learn.model.state_dict().values())
    learn.fit(1, 1e-3)


def test_load_finds_the_stage_that_was_saved_last(own_tiles, tmp_path, monkeypatch):
    "A folder that became read-only: its stages are still found, but not before newer ones that had to go elsewhere."
    learn = learner(bunch(own_tiles))
    bias, old = learn.model[-1].bias, learn.model[-1].bias.detach().clone()
    learn.save('stage-1')
    monkeypatch.setattr('planet_course.train.learner.writable_folder', lambda folder: tmp_path)
    with torch.no_grad(): bias += 1
    learn.load('stage-1')
    assert torch.equal(bias, old)
    with torch.no_grad(): bias += 2
    learn.save('stage-1')
    with torch.no_grad(): bias += 3
    learn.load('stage-1')
    assert torch.equal(bias, old + 2)


def test_interrupted_save_leaves_the_old_file(tiles, monkeypatch):
    learn = learner(bunch(tiles))
    file = learn.save('kept')
    old = file.read_bytes()
    def cut(state, file):
        file.write(b'half')
        raise KeyboardInterrupt
    monkeypatch.setattr(torch, 'save', cut)
    with pytest.raises(KeyboardInterrupt): learn.save('kept')
    assert file.read_bytes() == old and not list(file.parent.glob('*.tmp'))


def test_other_architecture_and_other_classes_are_refused(tiles):
    from torchvision import models
    data = bunch(tiles)
    create_cnn(data, models.resnet18, pretrained=False).save('small')
    with pytest.raises(ValueError, match="'resnet18' in the file, 'resnet34' here"): create_cnn(data, models.resnet34, pretrained=False).load('small')
    named = [*data.classes[:-1], 'zebra_crossing']
    other = source(tiles).label_from_func(lambda f: ['zebra_crossing'], classes=named).transform(size=32).databunch(bs=16, device='cpu')
    learn = create_cnn(other, models.resnet18, pretrained=False)
    with pytest.raises(ValueError, match='zebra_crossing'): learn.load('small')


script = '''
    import signal, sys
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs start with SIGINT ignored
    from test_faults import bunch, learner
    from planet_course.train import Callback
    class Say(Callback):
        def after_batch(self, learn):
            if learn.epoch == 1 and learn.step == 0: print('READY', flush=True)
    learn = learner(bunch(sys.argv[1], bs=1))
    try: learn.fit(10_000, 1e-3, callbacks=[Say()])
    except KeyboardInterrupt: pass
    done = len(learn.recorder.fits[-1].losses)
    learn.fit(1, 1e-3)
    print('DONE', done, len(learn.recorder.fits), flush=True)
'''


def test_a_real_ctrl_c(tiles):
    "SIGINT in the middle of an epoch: the steps done are recorded, and the learner trains on."
    command = [sys.executable, '-c', textwrap.dedent(script), tiles]
    with subprocess.Popen(command, cwd=Path(__file__).parent, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as run:
        try:
            for line in run.stdout:
                if 'READY' in line: break
            time.sleep(0.05)
            run.send_signal(signal.SIGINT)
            rest, _ = run.communicate(timeout=60)
        finally: run.kill()
    done, fits = rest.split('DONE')[-1].split()
    assert run.returncode == 0 and int(done) >= 49 and fits == '2', rest[-500:]


def test_same_seed_same_losses_in_two_processes(tiles):
    code = ('import sys; from test_faults import bunch, learner; from planet_course.device import seed_everything; seed_everything(3); '
            'learn = learner(bunch(sys.argv[1])); learn.fit_one_cycle(2, 1e-2); print(learn.recorder.fits[-1].losses)')
    runs = [subprocess.run([sys.executable, '-c', code, tiles], cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
            for _ in range(2)]
    assert runs[0].stdout.splitlines()[-1] == runs[1].stdout.splitlines()[-1] != ''


def test_compiled_network_trains_and_saves_the_same(own_tiles):
    "`learn.model.compile()` is PyTorch's own switch: nothing of ours may get in its way, through freezing, saving and loading."
    def losses(compiled):
        torch.manual_seed(0)
        learn = learner(bunch(own_tiles))
        if compiled: learn.model.compile(backend='eager')     # all of it but the machine code, which needs a compiler
        learn.fit(2, 1e-3)
        learn.save('compiled' if compiled else 'plain')
        return learn.recorder.fits[-1].losses
    assert losses(True) == pytest.approx(losses(False), abs=1e-5)
    learn = learner(bunch(own_tiles)).load('compiled')
    compiled = learn.get_preds()[0]
    assert torch.allclose(compiled, learn.load('plain').get_preds()[0], atol=1e-5)


class Pressing(torch.optim.SGD):
    "Ctrl-C comes in the middle of every step."
    def step(self, closure=None):
        groups, self.param_groups = self.param_groups, []
        for group in groups:
            self.param_groups = [group]
            super().step(closure)
            signal.raise_signal(signal.SIGINT)
        self.param_groups = groups


def grouped(data, opt_func):
    net = learner(data).model
    return Learner(data, net, layer_groups=[net[:3], net[3:]], opt_func=opt_func)


def test_a_step_is_whole_and_recorded_or_not_at_all(tiles):
    learn = grouped(bunch(tiles), lambda groups: Pressing(groups, lr=.1))
    before = [p.clone() for p in learn.model.parameters()]
    with pytest.raises(KeyboardInterrupt): learn.fit(2, .1)
    assert not any(torch.equal(p, old) for p, old in zip(learn.model.parameters(), before)), 'a group was left behind'
    assert len(learn.recorder.fits[-1].losses) == len(learn.recorder.fits[-1].lrs) == 1


def test_a_second_ctrl_c_waits_until_the_finder_has_put_everything_back(tiles, monkeypatch):
    learn, handler = learner(bunch(tiles)), signal.getsignal(signal.SIGINT)
    before, put_back, pressed = {k: v.clone() for k, v in learn.model.state_dict().items()}, learn.model.load_state_dict, []
    class Press(Callback):
        def after_batch(self, learn):
            if learn.step == 5: signal.raise_signal(signal.SIGINT)
    def pressing(state):
        pressed.append(1)
        signal.raise_signal(signal.SIGINT)
        return put_back(state)
    monkeypatch.setattr(learn.model, 'load_state_dict', pressing)
    learn.callbacks, opt = [Press()], learn.opt
    with pytest.raises(KeyboardInterrupt): learn.lr_find(start=.1, num_it=20)
    assert pressed and learn.opt is opt and signal.getsignal(signal.SIGINT) is handler
    assert all(torch.equal(v, before[k]) for k, v in learn.model.state_dict().items())


def test_a_second_ctrl_c_leaves_a_fit_its_callbacks_and_its_record(tiles, monkeypatch):
    learn, closed = learner(bunch(tiles)), []
    class Press(Callback):
        def after_batch(self, learn):
            if learn.step == 1: signal.raise_signal(signal.SIGINT)
        def after_fit(self, learn): closed.append(1)
    def pressing():
        signal.raise_signal(signal.SIGINT)
        clear()
    clear = learn.opt.zero_grad
    class Arm(Callback):
        def after_batch(self, learn):
            if learn.step == 1: monkeypatch.setattr(learn.opt, 'zero_grad', pressing)
    with pytest.raises(KeyboardInterrupt): learn.fit(1, 1e-3, callbacks=[Arm(), Press()])
    record = learn.recorder.fits[-1]
    assert learn.callbacks == [] and closed == [1] and len(record.losses) == len(record.lrs) == len(record.moms) == 2


def test_an_error_in_an_fp16_step_wedges_no_later_fit(tiles):
    class Fail(Callback):
        def after_backward(self, learn): raise RuntimeError('no')
    data = bunch(tiles)
    learn = Learner(data, nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, data.c)), precision='fp16')
    learn.scaler.load_state_dict({**learn.scaler.state_dict(), 'scale': 512.})
    with pytest.raises(RuntimeError, match='^no$'): learn.fit(1, 1e-3, callbacks=[Fail()])
    learn.fit(1, 1e-3)
    assert len(learn.recorder.fits[-1].losses) == 3 and learn.scaler.get_scale() == 512.


def test_ctrl_c_is_one_line_in_a_notebook(tiles, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv('IPYTHONDIR', str(tmp_path))
    from IPython.core.interactiveshell import InteractiveShell
    class Press(Callback):
        def after_batch(self, learn):
            if learn.step == 1: signal.raise_signal(signal.SIGINT)
    shell, learn = InteractiveShell(), learner(bunch(tiles))
    shell.push(dict(learn=learn, callbacks=[Press()]))
    capsys.readouterr()
    for call, said in (('fit(1, callbacks=callbacks)', 'stopped after 2 of 3 steps'), ('validate()', 'validate stopped: nothing was changed')):
        if call == 'validate()': learn.model.forward = lambda xb: signal.raise_signal(signal.SIGINT)
        result = shell.run_cell(f'learn.{call}')
        assert isinstance(result.error_in_exec, KeyboardInterrupt), 'Run all would go on'
        lines = capsys.readouterr().out.strip().splitlines()
        assert len(lines) == 1 and lines[0].startswith(said)


def test_a_script_ends_as_after_any_ctrl_c(tiles):
    code = ('import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); from test_faults import bunch, learner; '
            'from planet_course.train import Callback; Press = type("Press", (Callback,), dict(after_batch=lambda self, learn: signal.raise_signal(signal.SIGINT))); '
            'learner(bunch(sys.argv[1])).fit(1, 1e-3, callbacks=[Press()])')
    run = subprocess.run([sys.executable, '-c', code, tiles], cwd=Path(__file__).parent, capture_output=True, text=True)
    assert run.returncode == -signal.SIGINT, 'which a shell shows as 130'
    assert 'stopped after 1 of 3 steps' in run.stderr.splitlines()[-1] and run.stderr.count('File "') < 8
