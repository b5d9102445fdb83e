"""Stage files: what is in one is checked before anything in the learner changes, whoever wrote it."""
import os, random, subprocess, sys, textwrap
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from planet_course.core import imagenet_stats
from planet_course.data import Category, MultiCategory
from planet_course.train import Learner, state_digest


def data(path, n=16, classes=('a', 'b')):
    torch.manual_seed(0)
    xb, yb = torch.randn(n, 3, 8, 8), (torch.rand(n, 2) > 0.5).float()
    dl = DataLoader(TensorDataset(xb, yb), 8)
    return SimpleNamespace(train_dl=dl, valid_dl=dl, loss_func=nn.BCEWithLogitsLoss(), device='cpu', path=path, classes=list(classes))


def small(path, opt_func=None, **kwargs):
    "Two convolutions of as many parameters, of other shapes."
    torch.manual_seed(1)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 3, (3, 3)), nn.BatchNorm2d(3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
    return Learner(data(path, **kwargs), net, arch='small', **({'opt_func': opt_func} if opt_func else {}))


def trained(path, opt_func=None):
    learn = small(path, opt_func)
    learn.fit(2, 1e-3)
    return learn


def change(file, edit, digest=True):
    "Another file with the same name, as somebody who knows the format would write it."
    state = torch.load(file, weights_only=True)
    edit(state)
    del state['digest']
    if digest: state['digest'] = state_digest(state)
    torch.save(state, file)


def everything(learn):
    "A copy of all that a load may change."
    flat = {k: v.clone() for k, v in learn.model.state_dict().items()}
    for i, kept in enumerate(learn.opt.state.values()):
        flat |= {f'{i} {k}': v.clone() if isinstance(v, torch.Tensor) else v for k, v in kept.items()}
    return flat, id(learn.opt)


def same(one, other): return one[1] == other[1] and one[0].keys() == other[0].keys() and all(torch.equal(v, other[0][k]) for k, v in one[0].items())


def refused(learn, name, match, error=ValueError):
    "`load` says what is wrong, and has changed nothing."
    before = everything(learn)
    with pytest.raises(error, match=match): learn.load(name)
    assert same(before, everything(learn))


def test_save_and_load_go_on_as_one_run(tmp_path, capsys):
    "Two epochs, saved, loaded elsewhere, two more: the same weights as without a file between, to the bit."
    learn = trained(tmp_path)
    learn.save('half')
    other = small(tmp_path).load('half')
    assert capsys.readouterr().out.count('half') == 0      # nothing to say
    for run in (learn, other): run.fit(2, 1e-3)
    assert all(torch.equal(v, other.model.state_dict()[k]) for k, v in learn.model.state_dict().items())
    assert other.opt.state[other.model[0].weight]['step'] == 8


def test_another_layer_frozen_by_hand(tmp_path, capsys):
    "As many weights are trainable, of other shapes: such an optimizer's memory once ended the process in the next fit."
    learn = small(tmp_path)
    for p in learn.model[0].parameters(): p.requires_grad_(False)
    learn.reset_opt()
    learn.fit(1, 1e-3)
    learn.save('first')
    other = small(tmp_path)
    for p in other.model[1].parameters(): p.requires_grad_(False)
    other.reset_opt()
    other.load('first')
    assert 'other layers were trainable then; weights loaded, the optimizer is new' in capsys.readouterr().out
    assert not other.opt.state
    other.fit(1, 1e-3)
    assert all(s['exp_avg'].shape == p.shape for p, s in other.opt.state.items())


def odd_tensors():
    yield 'short', torch.zeros(3), r'exp_avg: \(3,\) in the file, \(4, 3, 3, 3\) here'
    yield 'empty', torch.zeros(0), 'exp_avg'
    yield 'double', torch.zeros(4, 3, 3, 3).double(), 'torch.float64 in the file'
    yield 'half', torch.zeros(4, 3, 3, 3).half(), 'torch.float16 in the file'
    yield 'complex', torch.zeros(4, 3, 3, 3, dtype=torch.complex64), 'torch.complex64 in the file'
    yield 'NaN', torch.full((4, 3, 3, 3), float('nan')), 'no numbers that training gives'
    yield 'infinite', torch.full((4, 3, 3, 3), float('inf')), 'no numbers that training gives'
    yield 'no tensor', 0.5, 'float in the file'
    yield 'nothing', None, 'NoneType in the file'


def with_odd_memory(tmp_path, weight, key, value):
    "A trained learner whose stage 'odd' remembers `value` of a weight."
    learn = trained(tmp_path)
    def edit(state): state['opt']['state'][weight][key] = value
    change(learn.save('odd'), edit)
    return learn


@pytest.mark.parametrize('value, match', [pytest.param(*odd[1:], id=odd[0]) for odd in odd_tensors()])
def test_memory_that_the_optimizer_cannot_have(tmp_path, value, match):
    learn = with_odd_memory(tmp_path, '0.weight', 'exp_avg', value)
    refused(learn, 'odd', match)
    refused(learn, 'odd', r"load\('odd', with_opt=False\) takes the weights alone")
    learn.load('odd', with_opt=False).fit(1, 1e-3)


@pytest.mark.parametrize('value, match', [(torch.tensor(-3.), 'no numbers that training gives'), (torch.tensor(float('nan')), 'no numbers'),
                                          (torch.ones(4), r'step: \(4,\) in the file'), (torch.tensor(3), 'int64 in the file'), (3, 'int in the file')])
def test_step_counters(tmp_path, value, match):
    refused(with_odd_memory(tmp_path, '5.bias', 'step', value), 'odd', match)


def test_keys_and_names_of_a_memory(tmp_path):
    learn = trained(tmp_path)
    def lacking(state): del state['opt']['state']['0.weight']['exp_avg_sq']
    def extra(state): state['opt']['state']['0.weight']['momentum_buffer'] = torch.zeros(4, 3, 3, 3)
    def stranger(state): state['opt']['state']['9.weight'] = {'step': torch.tensor(1.)}
    def no_dict(state): state['opt']['state'] = [1, 2]
    def no_opt(state): state['opt'] = {}
    for edit, match in ((lacking, 'exp_avg_sq: absent in the file'), (extra, r'momentum_buffer: \(4, 3, 3, 3\) in the file, absent here'),
                        (stranger, 'not what their names say'), (no_dict, 'not what their names say'), (no_opt, 'not what their names say')):
        change(learn.save('odd'), edit)
        refused(learn, 'odd', match)


@pytest.mark.parametrize('make', [lambda w: w.to_sparse(), lambda w: torch.quantize_per_tensor(w, 0.1, 0, torch.qint8),
                                  lambda w: torch.zeros(1).expand(w.shape), lambda w: w.to_sparse_csr() if w.ndim == 2 else w.to_sparse()],
                         ids=['sparse', 'quantised', 'expanded', 'sparse rows'])
@pytest.mark.parametrize('where', ['model', 'opt'])
@pytest.mark.filterwarnings('ignore')
def test_tensors_of_another_layout(tmp_path, make, where):
    learn = trained(tmp_path)
    file = learn.save('odd')
    state = torch.load(file, weights_only=True)
    place, key = (state['model'], '5.weight') if where == 'model' else (state['opt']['state']['5.weight'], 'exp_avg')
    place[key] = make(place[key])
    torch.save(state, file)
    refused(learn, 'odd', 'is no plain tensor|numbers in 4 bytes|not a stage')


def test_weights_of_another_kind(tmp_path):
    learn = trained(tmp_path)
    def double(state): state['model']['5.weight'] = state['model']['5.weight'].double()
    def words(state): state['model']['5.weight'] = 'weights'
    def numbered(state): state['model'][3] = torch.zeros(1)
    def nan(state): state['model']['2.running_var'][1] = float('nan')
    for edit, match in ((double, r'5.weight: \(2, 3\) torch.float64 in the file, \(2, 3\) here'), (words, 'not what their names say'),
                        (numbered, 'not what their names say'), (nan, 'NaN in 2.running_var')):
        change(learn.save('odd'), edit)
        refused(learn, 'odd', match)


def facts():
    yield None
    yield 'facts'
    yield {}
    yield {'arch': torch.zeros(2), 'classes': torch.zeros(2)}
    yield {'arch': ['small'], 'classes': 'ab'}
    yield {'arch': 'small', 'classes': [torch.zeros(2), torch.zeros(2)]}
    yield {'arch': 'small\x1b[2J\r', 'classes': ['a', 'b']}
    yield {'arch': 'small', 'classes': ['b', 'a']}
    yield {'arch': 'small', 'classes': [['a', 'b']]*10**4}


@pytest.mark.parametrize('odd', list(facts()), ids=range(9))
def test_odd_facts(tmp_path, odd):
    learn = trained(tmp_path)
    def edit(state): state['facts'] = odd
    change(learn.save('odd'), edit)
    refused(learn, 'odd', 'not what their names say|does not fit this learner')
    try: learn.load('odd')
    except ValueError as e: assert len(str(e)) < 1500 and str(e).isprintable()


other_stats = ((.5,)*3, (.05,)*3)


def told(path, **says):
    "A learner whose data says something about its tiles."
    learn = small(path)
    vars(learn.data).update(says)
    return learn


@pytest.mark.parametrize('then, now, cure', [
    (imagenet_stats, other_stats, r'other colours. Make it with \.normalize\(imagenet_stats\)'), (imagenet_stats, None, r'\.normalize\(imagenet_stats\)'),
    (None, imagenet_stats, r'Make it with no \.normalize\(\)'), (other_stats, None, r'\.normalize\(\[\[0\.5, 0\.5, 0\.5\], \[0\.05, 0\.05, 0\.05\]\]\)')])
def test_a_stage_of_tiles_in_other_colours(tmp_path, then, now, cure):
    told(tmp_path, stats=then).save('colours')
    refused(told(tmp_path, stats=now), 'colours', '^colours.pth learned from other tiles: .*' + cure)
    told(tmp_path, stats=then and torch.tensor(then)).load('colours')     # in 32 bits


def test_a_stage_with_another_kind_of_targets(tmp_path):
    told(tmp_path, kind=MultiCategory).save('kind')
    refused(told(tmp_path, kind=Category), 'kind', 'targets of the kind Category, the model was built for MultiCategory.*label_delim=')
    told(tmp_path, kind=MultiCategory).load('kind')


def test_what_a_stage_does_not_say_is_not_asked(tmp_path, capsys):
    "A file of an earlier version, and data of a user's own."
    says = dict(stats=imagenet_stats, kind=MultiCategory)
    small(tmp_path).save('silent')
    told(tmp_path, **says).load('silent')
    told(tmp_path, **says).save('says')
    small(tmp_path).load('says')
    told(tmp_path, stats=(.5, .25), kind=nn.Identity()).save('plain')      # a channel, and no class
    told(tmp_path, stats=torch.tensor([[.5], [.25]]), kind=nn.Identity()).load('plain')
    assert capsys.readouterr().out == ''


@pytest.mark.parametrize('odd', [{'kind': torch.zeros(2)}, {'kind': ['x']*10**4}, {'stats': 'x'}, {'stats': 3}, {'stats': [[0.5]*10**4, [1.]]}, {'stats': [['a'], ['b']]}, {'stats': [{}, None]}])
def test_odd_facts_about_tiles(tmp_path, odd):
    learn = told(tmp_path, stats=imagenet_stats, kind=MultiCategory)
    def edit(state): state['facts'].update(odd)
    change(learn.save('odd'), edit)
    refused(learn, 'odd', '^odd.pth(:| learned from other tiles)')
    try: learn.load('odd')
    except ValueError as e: assert len(str(e)) < 1500 and str(e).isprintable()


def test_parts_that_are_missing(tmp_path):
    learn = trained(tmp_path)
    for odd in ([1], {}, {'model': {}}, torch.zeros(3), learn.model.state_dict()):
        learn.save('odd')
        torch.save(odd, tmp_path/'models'/'odd.pth')
        refused(learn, 'odd', 'is not a stage that Learner.save wrote')
    loop = []
    loop.append(loop)
    torch.save({'model': {}, 'opt': None, 'facts': {'classes': loop}}, tmp_path/'models'/'odd.pth')
    refused(learn, 'odd', 'is not a stage that Learner.save wrote')
    torch.save(learn.model, tmp_path/'models'/'odd.pth')
    refused(learn, 'odd', r'holds a torch.nn.modules.container.Sequential, which is code, and was not opened. .*state_dict')


def test_one_flipped_bit_is_found(tmp_path):
    "In 200 files: either what is loaded is what was saved, or an error; never another weight."
    learn = trained(tmp_path)
    file = learn.save('bit')
    whole, saved, luck, found = file.read_bytes(), everything(learn)[0], random.Random(0), 0
    for _ in range(200):
        spot, bit = luck.randrange(len(whole)), 1 << luck.randrange(8)
        file.write_bytes(whole[:spot] + bytes([whole[spot] ^ bit]) + whole[spot + 1:])
        try: learn.load('bit')
        except ValueError: found += 1
        now = everything(learn)[0]
        assert now.keys() == saved.keys() and all(torch.equal(v, now[k]) for k, v in saved.items())
    assert found > 100


def test_digest_covers_what_is_read(tmp_path):
    "Weights changed by somebody who packs the file anew: the archive's checksums are right, the digest is not."
    learn = trained(tmp_path)
    file = learn.save('changed')
    state = torch.load(file, weights_only=True)
    state['model']['5.bias'][0] += 1e-6
    torch.save(state, file)
    refused(learn, 'changed', 'its digest is another')
    state['model']['5.bias'] = learn.model[5].bias.detach()
    state['facts']['version'] = 'another'
    torch.save(state, file)
    refused(learn, 'changed', 'its digest is another')


def test_digest_tells_apart():
    one = {'a': torch.arange(4.), 'b': [1, 'x', None, True]}
    others = ({'a': torch.arange(4.).view(2, 2), 'b': one['b']}, {'a': torch.arange(4.).double(), 'b': one['b']}, {**one, 'b': [1, 'x', None, 1]},
              {**one, 'b': (1, 'x', None, True)}, {**one, 'b': ['1', 'x', None, True]}, {**one, 'c': None}, {'c': one['a'], 'b': one['b']})
    assert len({state_digest(one), *map(state_digest, others)}) == 8
    assert state_digest({'a': torch.arange(4.).view(2, 2).t()}) == state_digest({'a': torch.tensor([[0., 2.], [1., 3.]])})   # however it lies in memory
    with pytest.raises(ValueError, match='state.a is a set; tensors, text and numbers can be kept'): state_digest({'a': {1}})


def as_before(learn, file):
    "What `save` wrote before there was a digest, the optimizer's memory by position."
    facts = {'arch': learn.arch, 'classes': list(learn.data.classes), 'version': '0.2.0'}
    torch.save({'model': learn.model.state_dict(), 'opt': learn.opt.state_dict(), 'facts': facts}, file)


def test_stage_of_an_earlier_version(tmp_path, capsys):
    learn = trained(tmp_path)
    file = learn.save('old')
    as_before(learn, file)
    other = small(tmp_path).load('old')
    out = capsys.readouterr().out
    assert 'old.pth: an earlier version wrote it, without a digest' in out
    assert 'an earlier version kept the optimizer without names; weights loaded, the optimizer is new' in out
    assert torch.equal(other.model[0].weight, learn.model[0].weight) and not other.opt.state
    whole = file.read_bytes()
    spot = whole.index(learn.model[0].weight.detach().numpy().tobytes())
    file.write_bytes(whole[:spot] + bytes([whole[spot] ^ 1]) + whole[spot + 1:])
    refused(other, 'old', 'does not have its checksum')


@pytest.mark.parametrize('make', [partial(torch.optim.SGD, lr=1.), partial(torch.optim.Adam, amsgrad=True), torch.optim.RMSprop, torch.optim.Adagrad,
                                  torch.optim.NAdam, partial(torch.optim.Adafactor, lr=1e-3)], ids=['SGD', 'amsgrad', 'RMSprop', 'Adagrad', 'NAdam', 'Adafactor'])
def test_other_optimizers(tmp_path, make, capsys):
    "Each comes back with a memory of its own form; into the usual AdamW it is not taken."
    learn = trained(tmp_path, make)
    learn.save('other')
    again = small(tmp_path, make).load('other')
    assert same((everything(learn)[0], 0), (everything(again)[0], 0)) and again.opt.state
    capsys.readouterr()
    usual = small(tmp_path).load('other')
    assert f'the optimizer was {type(learn.opt).__name__} then, it is AdamW now; weights loaded, the optimizer is new' in capsys.readouterr().out
    usual.fit(1, 1e-3)
    usual.save('usual')
    learn.load('usual').fit(1, 1e-3)
    assert f'the optimizer was AdamW then, it is {type(learn.opt).__name__} now' in capsys.readouterr().out


def test_memory_has_the_layout_of_the_weights(tmp_path):
    "A stage of a network in the usual order, into one with channels last: a fused step reads both in the order they lie in."
    learn = trained(tmp_path)
    learn.save('usual')
    other = small(tmp_path)
    other.model.to(memory_format=torch.channels_last)
    other.reset_opt()
    other.load('usual')
    for run in (learn, other): run.fit(1, 1e-3)
    weight, memory = other.model[0].weight, other.opt.state[other.model[0].weight]['exp_avg']
    assert weight.stride() == memory.stride() != learn.model[0].weight.stride()
    assert torch.allclose(weight, learn.model[0].weight, atol=1e-6)


def test_nan_is_not_saved(tmp_path):
    "What `load` refuses is not written, and the old file stays."
    learn = trained(tmp_path)
    file = learn.save('kept')
    old = file.read_bytes()
    with torch.no_grad(): learn.model[5].bias[0] = float('nan')
    with pytest.raises(ValueError, match=r'kept.pth was not written: NaN in 5.bias'): learn.save('kept')
    assert file.read_bytes() == old


def test_class_names_from_an_array(tmp_path):
    "NumPy's own kinds of text and numbers cannot be read back: they are kept as Python's."
    for classes in (np.array(['a', 'b']), np.arange(2)):
        learn = Learner(data(tmp_path), nn.Sequential(nn.Flatten(), nn.Linear(192, 2)))
        learn.data.classes = classes
        learn.save('array')
        learn.load('array')


def test_what_is_no_plain_file(tmp_path):
    learn = trained(tmp_path)
    folder = learn.save('file').parent
    (folder/'folder.pth').mkdir()
    refused(learn, 'folder', 'folder.pth is no plain file')
    if hasattr(os, 'mkfifo'):
        os.mkfifo(folder/'pipe.pth')
        refused(learn, 'pipe', 'pipe.pth is no plain file')
    with open(folder/'huge.pth', 'wb') as f: f.truncate(10**12)
    refused(learn, 'huge', '1,000,000 MB, far more than this network fills')
    (folder/'empty.pth').touch()
    refused(learn, 'empty', 'is not a stage that Learner.save wrote')
    refused(learn, 'none', 'no saved stage at .*none.pth. Saved there: .*file', FileNotFoundError)


def test_an_archive_that_grows(tmp_path):
    "Deflated parts: 10 MB of zeros from a small file."
    import zipfile
    learn = trained(tmp_path)
    file = learn.save('bomb')
    with zipfile.ZipFile(file, 'w', zipfile.ZIP_DEFLATED) as z: z.writestr('bomb/data.pkl', bytes(10**7))
    refused(learn, 'bomb', 'it would grow when it is read')


def test_what_to_type_for_another_network(tmp_path):
    "Facts of both sides; of class lists, what only one has; and the line that takes the body over."
    learn = small(tmp_path)
    learn.save('mine')
    other = Learner(data(tmp_path, classes=['a', 'zebra']), learn.model, arch='small')
    refused(other, 'mine', r"2 classes in the file, 2 here: only there 'b'; only here 'zebra'")
    body, head = nn.Sequential(nn.Conv2d(3, 4, 3)), nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    cnn = Learner(data(tmp_path), nn.Sequential(body, head), arch='resnet18')
    file = cnn.save('cnn')
    with pytest.raises(ValueError) as e: other.load('cnn')
    assert f"To take its body over, with a new end: create_cnn(data, 'resnet18', weights={str(file)!r})" in str(e.value)


def test_a_network_of_ones_own_is_typed_without_quotes(tmp_path):
    "The line that takes its body over gives the function: its name alone is no network of torchvision."
    net = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 3)), nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)))
    file = Learner(data(tmp_path), net, arch='tiny').save('own')
    with pytest.raises(ValueError) as e: small(tmp_path).load('own')
    assert f'create_cnn(data, tiny, weights={str(file)!r})' in str(e.value)


full = '''
    import resource, sys
    from pathlib import Path
    sys.path.insert(0, sys.argv[2])
    from test_stages import small, torch
    learn = small(Path(sys.argv[1]))
    file = learn.save('kept')
    old = file.read_bytes()
    with torch.no_grad(): learn.model[5].bias += 1
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
    try: learn.save('kept')
    except OSError as e: print('OSError', e)
    print(file.read_bytes() == old, sorted(p.name for p in file.parent.iterdir()))
'''


@pytest.mark.skipif(sys.platform == 'win32', reason='no limits of file size')
def test_full_disk(tmp_path):
    "Where no more can be written the error is the system's, with the place; the old file is whole, nothing lies beside it."
    run = subprocess.run([sys.executable, '-c', textwrap.dedent(full), tmp_path, Path(__file__).parent], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    said, after = run.stdout.splitlines()[-2:]
    assert said.startswith('OSError') and 'no room for' in said and 'models/kept.pth' in said
    assert after == "True ['kept.pth']"


@pytest.mark.skipif(not torch.cuda.is_available(), reason='no GPU')
def test_stage_of_a_gpu_on_a_cpu_and_back(tmp_path):
    learn = trained(tmp_path)
    learn.save('cpu')
    there = data(tmp_path)
    there.device = 'cuda'
    other = Learner(there, small(tmp_path).model, arch='small').load('cpu')
    memory = other.opt.state[other.model[0].weight]
    assert all(v.is_cuda for v in memory.values()) and torch.equal(memory['exp_avg'].cpu(), learn.opt.state[learn.model[0].weight]['exp_avg'])
    other.fit(1, 1e-3)
    other.save('gpu')
    learn.load('gpu').fit(1, 1e-3)


def test_memory_of_another_device(tmp_path):
    "With the `meta` device in place of a GPU: what the optimizer remembers is made where its weights are."
    from planet_course.train import fresh_memory
    learn = small(tmp_path, partial(torch.optim.AdamW, foreach=False))
    learn.model.to('meta')
    _, made = fresh_memory(learn.layer_groups, learn._make_opt)
    assert {v.device.type for kept in made.values() for k, v in kept.items() if k != 'step'} == {'meta'}


def test_a_link_stays_and_a_read_only_file_is_refused(tmp_path):
    "`save` writes where a link points to; what somebody made read-only it leaves alone."
    learn = trained(tmp_path)
    file = learn.save('first')
    elsewhere = tmp_path/'elsewhere.pth'
    file.rename(elsewhere)
    file.symlink_to(elsewhere)
    with torch.no_grad(): learn.model[5].bias += 1
    learn.save('first')
    assert file.is_symlink() and not elsewhere.is_symlink()
    assert torch.equal(torch.load(elsewhere, weights_only=True)['model']['5.bias'], learn.model[5].bias)
    before = elsewhere.read_bytes()
    elsewhere.chmod(0o444)
    with torch.no_grad(): learn.model[5].bias += 1
    with pytest.raises(PermissionError, match='elsewhere.pth'): learn.save('first')
    assert elsewhere.read_bytes() == before and file.is_symlink()
