"""From a trained network to tags: submissions, the real Kaggle client against a server, model files, the command, what goes wrong."""
import csv, io, json, os, subprocess, sys, textwrap
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from fake_kaggle import FakeKaggle, token
from PIL import Image
from safetensors.torch import save
from torch import nn
from torch.nn import functional as F
from torchvision import models

from planet_course import download, predictor as predictor_module
from planet_course.core import imagenet_stats
from planet_course.data import ImageList, Loader
from planet_course.data.loader import _Source
from planet_course.get import BadCredentialsError, DataError, FileGoneError, OfflineError, RateLimitedError, RulesNotAcceptedError
from planet_course.answers import add_correction, read_corrections, with_corrections
from planet_course.train import Learner
from planet_course.answers import export_model, main, predict, Predictor, submission, submit_to_kaggle, tta
from planet_course.nets import create_cnn

command = Path(sys.executable).parent/'planet-predict'


def bunch(path, label_delim=' ', size=32):
    src = ImageList.from_csv(path, 'train_v2.csv', folder='train-jpg', suffix='.jpg').split_by_rand_pct(0.2)
    return src.label_from_df(label_delim=label_delim).transform(size=size).databunch(bs=16, device='cpu').normalize(imagenet_stats)


@pytest.fixture(scope='module')
def learn(tiles):
    "A network that has seen an epoch: its running averages are not those it began with."
    torch.manual_seed(0)
    learn = create_cnn(bunch(tiles), models.resnet18, pretrained=False)
    learn.fit_one_cycle(1, 1e-3)
    return learn


@pytest.fixture(scope='module')
def model_file(learn, tmp_path_factory): return export_model(learn, tmp_path_factory.mktemp('model')/'model.safetensors')


@pytest.fixture(scope='module')
def small_file(learn, tmp_path_factory):
    "A fifth of it, for what reads a file many times."
    small = create_cnn(learn.data, models.mobilenet_v2, pretrained=False, lin_ftrs=(16,))
    return export_model(small, tmp_path_factory.mktemp('small')/'model.safetensors')


# ---- submissions -----------------------------------------------------------------------------------------------------

def little(data): return Learner(data, nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, data.c)))


def made_dl(names):
    "A loader of tiles that have names and random pixels, and no files."
    source = _Source(SimpleNamespace(files=[f'somewhere/{name}.jpg' for name in names]), torch.device('cpu'), 'disk')
    source.tiles = torch.randint(256, (len(names), 3, 8, 8), dtype=torch.uint8)
    stats = torch.tensor(imagenet_stats)[:, :, None, None]
    return Loader(source, torch.arange(len(names)), torch.zeros(len(names), 1), 512, stats=stats)


def test_all_61191_tiles(tiles, tmp_path):
    "The full size: two folders, in another order than the sample submission has."
    learn = little(bunch(tiles))
    tests, files = ([f'{kind}_{i}' for i in range(n)] for kind, n in (('test', 40_669), ('file', 20_522)))
    pd.DataFrame(dict(image_name=tests + files, tags='clear')).to_csv(tmp_path/'sample.csv', index=False)
    dls = [made_dl(sorted(files)), made_dl(tests)]
    file = submission(learn, dls, .5, tmp_path/'submission.csv', sample=tmp_path/'sample.csv')
    rows = list(csv.reader(open(file)))
    assert rows[0] == ['image_name', 'tags'] and len(rows) == 61_192 and [row[0] for row in rows[1:]] == tests + files
    probs = dict(zip(sorted(files), learn.get_preds(dls[0])[0]))
    for name, tags in rows[40_670::1000]:
        assert set(tags.split()) == {c for c, p in zip(learn.data.classes, probs[name]) if p > .5}


def test_one_test_tile_missing(tiles, tmp_path):
    data = bunch(tiles)
    files = [f for f in ImageList.from_folder(tiles/'test-jpg').files if not f.endswith('test_3.jpg')]
    with pytest.raises(ValueError, match='1 tiles are missing: test_3'): submission(little(data), data.test_dl(files), path=tmp_path/'out.csv')
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_the_old_submission(learn, tiles, tmp_path, monkeypatch):
    dl = learn.data.test_dl(ImageList.from_folder(tiles/'test-jpg'))
    file = submission(learn, dl, path=tmp_path/'submission.csv')
    old = file.read_bytes()
    def fill_up(self, where, **_):
        Path(where).write_text('image_name,ta')
        raise OSError(28, 'No space left on device')
    monkeypatch.setattr(pd.DataFrame, 'to_csv', fill_up)
    with pytest.raises(OSError, match='No space'): submission(learn, dl, .5, tmp_path/'submission.csv')
    assert file.read_bytes() == old and list(tmp_path.iterdir()) == [file]


def test_the_same_threshold_everywhere(learn, tiles, model_file, tmp_path):
    "Learner, prediction, submission and exported file."
    learn = create_cnn(learn.data, models.resnet18, pretrained=False, thresh=.35)
    dl = learn.data.test_dl(ImageList.from_folder(tiles/'test-jpg'))
    probs, _ = learn.get_preds(dl)
    tags = pd.read_csv(submission(learn, dl, path=tmp_path/'a.csv')).set_index('image_name').tags
    again = Predictor(export_model(learn, tmp_path/'m.safetensors'), 'cpu')
    for file, p in zip(dl.files, probs):
        wanted = {c for c, x in zip(learn.data.classes, p) if x > .35}
        assert wanted == set(str(tags[Path(file).stem]).split()) - {'nan'} == set(predict(learn, file).labels) == set(again(file).labels)
    for bad in (0., 1., -.2, 1.5, float('nan'), [.2]*3 + [2.]):
        with pytest.raises(ValueError, match='thresh'): create_cnn(learn.data, models.resnet18, pretrained=False, thresh=bad)


def test_symmetric_average_of_oblong_tiles_and_of_one_label(tiles):
    "Four symmetries where tiles are no squares; softmax where each has one label."
    data = bunch(tiles, size=(32, 48))
    assert tta(little(data))[0].shape == (12, data.c)
    single = little(bunch(tiles, label_delim=None))
    assert torch.allclose(tta(single)[0].sum(1), torch.ones(12), atol=1e-5)
    assert len(predict(single, single.data.valid_ds.x.files[0]).labels) == 1


class Focal(nn.Module):
    "A loss that says nothing about its logits."
    def forward(self, logits, targs):
        ce = F.binary_cross_entropy_with_logits(logits, targs, reduction='none')
        return ((1 - torch.exp(-ce))**2*ce).mean()


@pytest.mark.parametrize('loss', [Focal(), lambda logits, targs: F.binary_cross_entropy(logits.sigmoid(), targs)], ids=['focal', 'function'])
def test_any_loss(tiles, tmp_path, loss):
    "Seventeen labels stay seventeen: the same probabilities everywhere, and thresholds that are used."
    learn = create_cnn(bunch(tiles), models.resnet18, pretrained=False, loss_func=loss, thresh=.5)
    file, dl = learn.data.valid_ds.x.files[0], learn.data.test_dl(ImageList.from_folder(tiles/'test-jpg'))
    wanted = learn.get_preds(logits=True)[0][0].sigmoid()
    given = {c for c, p in zip(learn.data.classes, wanted) if p > .5}
    made = Predictor(export_model(learn, tmp_path/'m.safetensors'), 'cpu')
    assert made.facts['activation'] == 'sigmoid' and made.thresh == .5
    for answer in (predict(learn, file), made(file)):
        assert torch.allclose(answer.probs, wanted, atol=1e-5) and set(answer.labels) == given
    probs, none = tta(learn, dl)
    assert none is None and 0 <= probs.min() and probs.max() <= 1
    tags = pd.read_csv(submission(learn, dl, path=tmp_path/'a.csv', get_probs=tta), keep_default_na=False).tags
    assert [set(t.split()) for t in tags] == [{c for c, x in zip(learn.data.classes, p) if x > .5} for p in probs]


def test_another_activation(tiles, tmp_path):
    "It is used wherever we predict; softmax over labels of which a tile has several is written down as such."
    learn = create_cnn(bunch(tiles), models.resnet18, pretrained=False, thresh=.1)
    learn.activation = 'softmax'
    file = learn.data.valid_ds.x.files[0]
    made = Predictor(export_model(learn, tmp_path/'m.safetensors'), 'cpu')
    wanted = {c for c, p in zip(learn.data.classes, learn.get_preds()[0][0]) if p > .1}
    assert set(predict(learn, file).labels) == set(made(file).labels) == wanted and made.facts['activation'] == 'softmax'
    learn.activation = lambda logits: logits.sigmoid()
    with pytest.raises(ValueError, match='names its activation'): export_model(learn, tmp_path/'m2.safetensors')
    learn.activation = 'none'
    learn.thresh = .5
    for call in (lambda: predict(learn, file), lambda: submission(learn, path=tmp_path/'b.csv', test_dls=learn.data.test_dl(ImageList.from_folder(tiles/'test-jpg')))):
        with pytest.raises(ValueError, match="are no probabilities.*learn.activation = 'sigmoid'"): call()
    assert not (tmp_path/'m2.safetensors').exists() and not (tmp_path/'b.csv').exists()


def test_loaders_of_other_classes(learn, tiles, tmp_path):
    "Their columns are other labels: no average over them, no submission."
    src = ImageList.from_csv(tiles, 'train_v2.csv', folder='train-jpg', suffix='.jpg').split_by_rand_pct(0.2)
    data = src.label_from_df(label_delim=' ', classes=learn.data.classes[::-1]).transform(size=32).databunch(bs=16, device='cpu')
    with pytest.raises(ValueError, match='classes'): tta(learn, data.valid_dl)
    dl = data.test_dl(ImageList.from_folder(tiles/'test-jpg'))
    for get_probs in (Learner.get_preds, tta):
        with pytest.raises(ValueError, match='classes'): submission(learn, dl, path=tmp_path/'a.csv', get_probs=get_probs)
    assert not list(tmp_path.iterdir())


def test_submissions_that_would_be_other_tiles(learn, tiles, tmp_path):
    "Two tiles of one name, named with their folders; fewer rows than tiles; a loader in random order."
    (tmp_path/'more').mkdir()
    (tmp_path/'more'/'test_0.jpg').write_bytes((tiles/'test-jpg'/'test_0.jpg').read_bytes())
    dl, more = learn.data.test_dl(ImageList.from_folder(tiles/'test-jpg')), learn.data.test_dl(ImageList.from_folder(tmp_path/'more'))
    cases = {'test-jpg/test_0.jpg, .*more/test_0.jpg': dict(test_dls=[dl, more]), 'random order': dict(test_dls=learn.data.train_dl),
             'gave shape': dict(test_dls=dl, get_probs=lambda learn, dl: (torch.rand(5, learn.data.c), None))}
    for why, args in cases.items():
        with pytest.raises(ValueError, match=why): submission(learn, path=tmp_path/'a.csv', **args)
    assert not (tmp_path/'a.csv').exists()


# ---- Kaggle ----------------------------------------------------------------------------------------------------------

@pytest.fixture
def kaggle(tmp_path, monkeypatch):
    "A server that takes submissions, and a learner with a token; nothing else can be reached."
    from kagglesdk import kaggle_env
    for name in [name for name in os.environ if name.startswith('KAGGLE_')]: monkeypatch.delenv(name)
    for name, value in dict(HOME=str(tmp_path), KAGGLE_API_TOKEN=token, no_proxy='127.0.0.1,localhost', https_proxy='http://127.0.0.1:9').items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(download, '_WAITS', (.01,))
    with FakeKaggle() as server:
        for env in kaggle_env.KaggleEnv: monkeypatch.setitem(kaggle_env._env_to_endpoint, env, server.url)
        yield server


@pytest.fixture
def handed_in(tmp_path):
    file = tmp_path/'submission.csv'
    file.write_text('image_name,tags\ntest_0,clear primary\n')
    return file


def test_handing_in(kaggle, handed_in, capfd):
    score = submit_to_kaggle(handed_in, 'eight symmetries')
    assert score == ('complete', .9313, .9296, 1001)
    made, = kaggle.submissions
    assert made['submissionDescription'] == 'eight symmetries' and kaggle.uploads[made['blobFileTokens']] == handed_in.read_bytes()
    assert len(kaggle.asked('GetSubmission')) == 2
    said = ''.join(capfd.readouterr())
    assert 'public 0.9313, private 0.9296' in said and token not in said


def test_an_upload_tells_no_password(kaggle, handed_in, tmp_path, monkeypatch):
    "What .netrc holds for the host is not sent; an address without https gets nothing, and is not shown."
    (tmp_path/'.netrc').write_text('machine 127.0.0.1 login me password secret\n')
    (tmp_path/'.netrc').chmod(0o600)
    submit_to_kaggle(handed_in, 'x')
    assert [entry['auth'] for entry in kaggle.asked('upload')] == ['']
    place = SimpleNamespace(create_url='http://example.org/put?Signature=1', token='t')
    monkeypatch.setattr(predictor_module, '_call', lambda *args, **kwargs: place)
    with pytest.raises(DataError, match='without https') as e: submit_to_kaggle(handed_in, 'x')
    assert 'Signature' not in str(e.value)


def test_a_score_that_does_not_come(kaggle, handed_in, capsys):
    kaggle.scores = [dict(status='PENDING')]
    assert submit_to_kaggle(handed_in, 'x', wait=0) == ('pending', None, None, 1001)
    assert 'not scored yet' in capsys.readouterr().out


@pytest.mark.parametrize('status', [403, 429, 500])
def test_a_score_that_cannot_be_asked_for(kaggle, handed_in, capsys, status):
    "It has been handed in: no error that makes anybody do it again."
    kaggle.fault('GetSubmission', dict(status=status))
    assert submit_to_kaggle(handed_in, 'x') == ('pending', None, None, 1001)
    said = capsys.readouterr().out
    assert '1001 is handed in' in said and '/submissions' in said


@pytest.mark.parametrize('call, ill, kind, says', [
    ('StartSubmissionUpload', dict(status=401), BadCredentialsError, 'does not accept your token'),
    ('StartSubmissionUpload', dict(status=403), RulesNotAcceptedError, 'Late Submission'),
    ('CreateSubmission', dict(status=400), DataError, 'attempts may be used up'),
    ('CreateSubmission', dict(status=429), RateLimitedError, 'receipt'),
    ('CreateSubmission', dict(status=503), OfflineError, 'receipt'),
    ('StartSubmissionUpload', dict(status=404), FileGoneError, 'competition'),
    ('StartSubmissionUpload', dict(status=400), DataError, 'answers 400'),
    ('upload', dict(status=503), OfflineError, 'receipt for the upload')])
def test_what_kaggle_may_answer(kaggle, handed_in, capfd, call, ill, kind, says):
    "The kind, a page to open, a line to type, no secret; and nothing is ever handed in twice."
    kaggle.fault(call, ill)
    with pytest.raises(DataError, match=says) as e: submit_to_kaggle(handed_in, 'x')
    shown = str(e.value) + ''.join(capfd.readouterr())
    assert 'submit_to_kaggle' in e.value.then or 'same line' in e.value.then
    if kind in (OfflineError, RateLimitedError) and call == 'CreateSubmission': assert 'whether it has arrived' in e.value.then
    assert e.type is kind and 'https://www.kaggle.com/' in e.value.page and token not in shown and 'Signature=1' not in shown
    assert len(kaggle.asked('CreateSubmission')) <= 1 and len(kaggle.submissions) <= 1


def test_an_upload_that_breaks_once(kaggle, handed_in):
    kaggle.fault('upload', dict(status=503), {})
    kaggle.fault('GetSubmission', dict(status=502), {})
    assert submit_to_kaggle(handed_in, 'x').status == 'complete' and len(kaggle.submissions) == 1


def test_a_file_that_kaggle_cannot_score(kaggle, handed_in):
    kaggle.scores = [dict(status='ERROR', errorDescription='Evaluation Exception: Row 1')]
    with pytest.raises(DataError, match='Row 1'): submit_to_kaggle(handed_in, 'x')


# ---- model files -----------------------------------------------------------------------------------------------------

fresh = '''
    import sys, torch
    from planet_course.answers import Predictor
    made = Predictor(sys.argv[1], 'cpu')(sys.argv[3:])
    torch.save(torch.stack([p.probs for p in made]), sys.argv[2])
    assert 'matplotlib' not in sys.modules and 'kagglesdk' not in sys.modules
'''


def test_a_new_process_gives_the_learners_probabilities(learn, model_file, tmp_path):
    files = learn.data.valid_ds.x.files
    subprocess.run([sys.executable, '-c', textwrap.dedent(fresh), model_file, tmp_path/'probs.pt', *files], cwd=tmp_path, check=True)
    assert torch.allclose(torch.load(tmp_path/'probs.pt'), learn.get_preds()[0], atol=1e-5)


@pytest.mark.parametrize('mode', ['RGB', 'RGBA', 'L', 'CMYK', 'P', 'I;16', '1'])
def test_any_mode_and_size(learn, model_file, tmp_path, mode):
    "Pillow's modes, at an odd size: from the file, its bytes and the open picture the same answer, and the learner's."
    picture = Image.fromarray(np.random.RandomState(0).randint(255, size=(70, 41, 3), dtype=np.uint8))
    picture = Image.fromarray(np.arange(70*41, dtype=np.uint16).reshape(70, 41)*20) if mode == 'I;16' else picture.convert(mode)
    file = tmp_path/('tile.jpg' if mode == 'CMYK' else 'tile.png')
    picture.save(file)
    with Image.open(file) as opened: answers = Predictor(model_file, 'cpu')([file, str(file), file.read_bytes(), opened])
    wanted = predict(learn, file).probs
    for answer in answers: assert torch.allclose(answer.probs, wanted, atol=1e-5)


def test_other_networks_and_one_label(tiles, tmp_path):
    for arch, delim, more in ((models.mobilenet_v2, ' ', dict(lin_ftrs=(32, 16), bn_final=True)), (models.resnet18, None, {}),
                              (models.densenet121, ' ', dict(cut=1, split=5))):
        data = bunch(tiles, delim)
        learn = create_cnn(data, arch, pretrained=False, **more)
        made = Predictor(export_model(learn, tmp_path/'m.safetensors', cut=more.get('cut')), 'cpu')
        answers = made(data.valid_ds.x)
        assert torch.allclose(torch.stack([a.probs for a in answers]), learn.get_preds()[0], atol=1e-5)
        assert delim or all(len(a.labels) == 1 for a in answers)


def test_networks_that_no_name_rebuilds(learn, tmp_path):
    for odd in (little(learn.data), create_cnn(learn.data, lambda: models.resnet18(), pretrained=False)):
        with pytest.raises(ValueError, match='cannot be built again'): export_model(odd, tmp_path/'m.safetensors')
    other = create_cnn(learn.data, models.resnet18, pretrained=False, loss_func=nn.NLLLoss())
    with pytest.raises(ValueError, match="learn.activation = 'sigmoid'"): export_model(other, tmp_path/'m.safetensors')
    assert not list(tmp_path.iterdir())


def test_no_byte_of_a_model_file_crashes_the_reader(small_file, tmp_path):
    "Cut anywhere, or with any byte of the header changed: an error that names the file, or a file that still fits."
    whole, file, rng = small_file.read_bytes(), tmp_path/'m.safetensors', np.random.RandomState(0)
    header = 8 + int.from_bytes(whole[:8], 'little')
    for n in [*range(12), header - 1, header, header + 7, len(whole) - 1]:
        file.write_bytes(whole[:n])
        with pytest.raises(ValueError, match='m.safetensors'): Predictor(file, 'cpu')
    for at in rng.randint(header, size=60):
        file.write_bytes(whole[:at] + bytes([rng.randint(256)]) + whole[at + 1:])
        try: Predictor(file, 'cpu')
        except ValueError as e: assert 'm.safetensors' in str(e)


def test_a_file_that_changes_under_a_predictor(learn, model_file, tmp_path):
    "Overwritten and cut short in place, as `cp` and a full disk do: what was loaded stays what it was."
    file, tile = tmp_path/'m.safetensors', learn.data.valid_ds.x.files[0]
    file.write_bytes(model_file.read_bytes())
    predictor = Predictor(file, 'cpu')
    before = predictor(tile).probs
    with open(file, 'r+b') as f: f.seek(100_000); f.write(bytes(1_000_000))
    assert torch.equal(predictor(tile).probs, before)
    os.truncate(file, 100)
    assert torch.equal(predictor(tile).probs, before)


def test_others_may_read_what_is_exported(learn, tmp_path):
    (tmp_path/'plain').touch()
    assert export_model(learn, tmp_path/'m.safetensors').stat().st_mode == (tmp_path/'plain').stat().st_mode


def test_a_model_with_one_label_asks_for_no_threshold(tiles, tmp_path, capsys):
    learn = create_cnn(bunch(tiles, None), models.resnet18, pretrained=False)
    file = export_model(learn, tmp_path/'m.safetensors')
    for thresh in (None, .01, .99):
        assert len(Predictor(file, 'cpu', thresh)(learn.data.valid_ds.x.files[0]).labels) == 1
        assert ('thresh is not used' in capsys.readouterr().out) == (thresh is not None)


def test_a_picture_that_breaks_late_costs_only_itself(model_file, tiles):
    good = tiles/'test-jpg'/'test_0.jpg'
    cut = Image.open(io.BytesIO(good.read_bytes()[:500]))
    odd = [cut, Image.new('RGB', (0, 0)), np.zeros((0, 9, 3), np.uint8), torch.zeros(3, 9, 9, dtype=torch.bfloat16), torch.rand(3, 9, 9, requires_grad=True)]
    answers = [answer for _, answer in Predictor(model_file, 'cpu').stream([good, *odd, good], bs=2)]
    assert [isinstance(answer, ValueError) for answer in answers] == [False, *[True]*len(odd), False]
    assert Predictor(model_file, 'cpu')([]) == []


def rewritten(model_file, file, change, digest=True):
    "A model file with other contents: `change` gets facts and tensors."
    facts, state, _ = predictor_module._parse(model_file.read_bytes())
    change(facts, state)
    facts.pop('digest')
    if digest: facts['digest'] = predictor_module._digest_of(facts, state)
    file.write_bytes(save(state, {'planet_course': json.dumps(facts)}))
    return file


def test_one_bit_of_a_model_file(small_file, tmp_path):
    "Anywhere, weights included: an error that names the file. A file without a digest, of an older version, is read."
    whole, file, rng = small_file.read_bytes(), tmp_path/'m.safetensors', np.random.RandomState(0)
    for at in rng.randint(len(whole), size=12):
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << rng.randint(8)]) + whole[at + 1:])
        with pytest.raises(ValueError, match='m.safetensors'): Predictor(file, 'cpu')
    old = Predictor(rewritten(small_file, file, lambda facts, state: None, digest=False), 'cpu')
    assert 'digest' not in old.facts and old.classes == Predictor(small_file, 'cpu').classes


@pytest.mark.parametrize('dtype, why', [
    (torch.float16, None), (torch.float64, None), (torch.complex64, 'holds torch.complex64'), (torch.float8_e4m3fn, 'holds torch.float8'),
    (torch.bool, 'holds torch.bool'), (torch.int64, r'0\.0\.0\.weight: \(32, 3, 3, 3\) torch.int64 in the file')], ids=str)
def test_weights_of_other_types(small_file, tmp_path, dtype, why):
    "Other floats are read; what no weight has, or this weight has not (counts of batches are int64), is refused by name."
    def change(facts, state): state['0.0.0.weight'] = state['0.0.0.weight'].to(dtype)
    file = rewritten(small_file, tmp_path/'m.safetensors', change)
    if why is None: assert Predictor(file, 'cpu').model[0][0][0].weight.dtype == torch.float32
    else:
        with pytest.raises(ValueError, match=why): Predictor(file, 'cpu')


@pytest.mark.parametrize('bad', [float('nan'), float('inf'), 1e300])
def test_weights_that_are_no_numbers(small_file, tmp_path, bad):
    def change(facts, state):
        state['0.0.0.weight'] = state['0.0.0.weight'].double()
        state['0.0.0.weight'][0, 0, 0, 0] = bad
    with pytest.raises(ValueError, match='NaN or infinity in 0.0.0.weight'): Predictor(rewritten(small_file, tmp_path/'m.safetensors', change), 'cpu')


def test_headers_that_ask_for_memory(small_file, tmp_path, monkeypatch):
    "A header of a terabyte, tensors that share their bytes, a file larger than the memory, tiles of 16,384 pixels: refused at once."
    file, whole = tmp_path/'m.safetensors', small_file.read_bytes()
    n = int.from_bytes(whole[:8], 'little')
    header = json.loads(whole[8:8 + n])
    first, second = [name for name in header if name != '__metadata__' and header[name]['shape'] == [64]][:2]
    header[second]['data_offsets'] = header[first]['data_offsets']
    shared = json.dumps(header).encode()
    for content in ((2**40).to_bytes(8, 'little') + whole[8:], len(shared).to_bytes(8, 'little') + shared + whole[8 + n:]):
        file.write_bytes(content)
        with pytest.raises(ValueError, match='no model that'): Predictor(file, 'cpu')
    with open(file, 'wb') as f: f.truncate(2**40)
    with pytest.raises(ValueError, match='half of the memory'): Predictor(file, 'cpu')
    with pytest.raises(ValueError, match='size is'): Predictor(rewritten(small_file, file, lambda facts, state: facts.update(size=16_384)), 'cpu')


def test_batches_of_large_tiles_are_small(model_file, tiles, monkeypatch):
    made, seen = Predictor(model_file, 'cpu'), []
    monkeypatch.setattr(predictor_module, '_batch_px', 32*32*2 + 5)
    monkeypatch.setattr(made, 'forward', lambda batch: seen.append(len(batch)) or torch.full((len(batch), len(made.classes)), .5))
    assert len(made([tiles/'test-jpg'/'test_0.jpg']*5)) == 5 and seen == [2, 2, 1]


def test_what_is_no_model_file_at_all(tmp_path):
    os.mkfifo(tmp_path/'pipe')
    for place in (tmp_path/'pipe', tmp_path, '/dev/zero'):
        with pytest.raises(FileNotFoundError, match='no model file'): Predictor(place, 'cpu')


def test_a_predictor_leaves_the_process_alone(model_file, monkeypatch):
    "How memory is kept is the command's business."
    monkeypatch.setattr(predictor_module, 'keep_freed_memory', None)
    assert Predictor(model_file, 'cpu').device.type == 'cpu'


# ---- the command -----------------------------------------------------------------------------------------------------

def run(*args, **kwargs):
    done = subprocess.run([command, *args], capture_output=True, text=True, **kwargs)
    assert 'Traceback' not in done.stderr, done.stderr
    return done


def test_a_folder_with_unreadable_files(learn, model_file, tiles, tmp_path):
    "The table has the good ones, standard error names the others, and the exit status says that there were some."
    for file in sorted((tiles/'test-jpg').glob('*.jpg')): (tmp_path/file.name).write_bytes(file.read_bytes())
    (tmp_path/'test_1.jpg').write_bytes(b'')
    (tmp_path/'test_2.jpg').write_bytes((tmp_path/'test_3.jpg').read_bytes()[:300])
    (tmp_path/'dir.jpg').mkdir()       # a folder like any other: it is searched
    (tmp_path/'empty').mkdir()
    done = run(model_file, tmp_path, tmp_path/'gone.jpg', tmp_path/'empty', '--bs', '2')
    rows = list(csv.DictReader(done.stdout.splitlines()))
    assert done.returncode == 1 and [row['image_name'] for row in rows] == ['test_0', 'test_3', 'test_4', 'test_5']
    for row in rows: assert row['tags'] == predict(learn, row['file']).tags
    for name, why in (('test_1.jpg', 'is empty'), ('test_2.jpg', 'cut short'), ('gone.jpg', 'no such file'), ('/empty', 'no pictures')):
        line, = (line for line in done.stderr.splitlines() if name in line and 'planet-predict:' in line)
        assert why in line
    assert main([str(model_file), str(tiles/'test-jpg')]) == 0


def test_a_picture_of_20000_pixels_a_side(model_file, tiles, tmp_path, capsys, monkeypatch):
    bomb = tmp_path/'bomb.png'
    Image.new('1', (20_000, 20_000)).save(bomb)
    tile = tiles/'test-jpg'/'test_0.jpg'
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', Image.MAX_IMAGE_PIXELS)      # --max-pixels changes it for the process
    assert main([*map(str, (model_file, bomb, tile))]) == 1
    out, err = capsys.readouterr()
    assert 'bomb' in err and '--max-pixels' in err and len(out.splitlines()) == 2
    assert main([*map(str, (model_file, tile)), '--max-pixels', '1000']) == 1
    assert 'more than 1,000 pixels' in capsys.readouterr().err


def test_the_command_without_a_model(model_file, tiles, tmp_path, capsys):
    tile = tiles/'test-jpg'/'test_0.jpg'
    torch.save({'weights': torch.zeros(1)}, tmp_path/'m.safetensors')
    for args, why in (((tmp_path/'m.safetensors', tile), 'is a pickle'), ((tmp_path/'none', tile), 'no model file'), ((tmp_path, tile), 'no model file'),
                      ((model_file, tile, '--thresh', '2'), 'strictly between'), ((model_file, tile, '--device', 'toaster'), 'toaster')):
        assert main([*map(str, args)]) == 2
        out, err = capsys.readouterr()
        assert out == '' and why in err
    done = run(model_file, tile, '--bs', '0')
    assert (done.returncode, done.stdout) == (2, '') and 'or more' in done.stderr


def test_names_that_would_forge_a_table(model_file, tiles, tmp_path, capsys):
    "A line break splits no row, `=cmd` is no formula, no escape sequence reaches the terminal; each good tile has one row."
    good = (tiles/'test-jpg'/'test_0.jpg').read_bytes()
    for name in ('a\rb.jpg', 'a\nb.jpg', '=cmd.jpg', 'c\x1b[2Jd.jpg', 'caf\udce9.jpg'): (tmp_path/name).write_bytes(good)
    for name in ('bad\x1b[2J\nplanet-predict: all is well.jpg', '%.jpg'): (tmp_path/name).write_bytes(b'%!PS\n{} loop')
    assert main([str(model_file), str(tmp_path)]) == 1
    out, err = capsys.readouterr()
    rows = list(csv.reader(io.StringIO(out, newline='')))
    assert len(rows) == 6 and all(len(row) == 3 for row in rows) and out.count('\n') == 6 and not {'\r', '\x1b'} & {*(out + err)}
    assert sorted(row[0] for row in rows[1:]) == ["'=cmd", 'a\\nb', 'a\\rb', 'c\\x1b[2Jd', 'caf\\udce9']
    assert err.count('planet-predict: cannot read') == 2 and not any(line.startswith('planet-predict: all is well') for line in err.splitlines())


def test_a_pipe_among_the_pictures(model_file, tiles, tmp_path, capsys):
    "Named, not waited for."
    os.mkfifo(tmp_path/'tile.jpg')
    assert main([*map(str, (model_file, tmp_path/'tile.jpg', tiles/'test-jpg'/'test_0.jpg'))]) == 1
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 2 and 'tile.jpg: this is no file' in err


def test_what_a_folder_leaves_out(model_file, tiles, capsys, monkeypatch):
    "What is printed about it is no row of the table, and the status is not 0; a folder that cannot be read costs only itself."
    whole = ImageList.from_folder
    def some(folder):
        print(f'left out 1 folders that cannot be read: {folder}/closed')
        if 'train' in folder: raise PermissionError(13, 'Permission denied', folder)
        return whole(folder)
    monkeypatch.setattr(predictor_module.ImageList, 'from_folder', some)
    assert main([*map(str, (model_file, tiles/'train-jpg', tiles/'test-jpg'))]) == 1
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 7 and 'left out' not in out
    assert err.count('planet-predict: left out 1 folders') == 2 and 'Permission denied' in err


def test_what_is_said_while_pictures_are_read_is_no_row(model_file, tmp_path, capsys):
    Image.effect_noise((64, 64), 40).convert('RGB').save(tmp_path/'a.png')
    alpha = Image.linear_gradient('L').resize((64, 64))
    faded = Image.open(tmp_path/'a.png')
    faded.putalpha(alpha)
    faded.save(tmp_path/'b.png')
    assert main([str(model_file), str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    assert [row.split(',')[0] for row in out.splitlines()] == ['image_name', 'a', 'b']
    assert 'fourth band' in err


def test_labels_with_blanks_in_the_table(tiles, tmp_path, capsys):
    "They can be read back; a submission, which Kaggle cuts at blanks, is refused."
    src = ImageList.from_csv(tiles, 'train_v2.csv', folder='train-jpg', suffix='.jpg').split_by_rand_pct(0.2)
    spaced = [[f'label of {tag}' for tag in tags.split()] for tags in src.items.df.tags]
    by_file = dict(zip(map(Path, src.items.files), spaced))
    data = src.label_from_func(by_file.get).transform(size=32).databunch(bs=16, device='cpu')
    learn = create_cnn(data, models.resnet18, pretrained=False, thresh=.5)
    file = tiles/'test-jpg'/'test_0.jpg'
    capsys.readouterr()
    assert main([*map(str, (export_model(learn, tmp_path/'m.safetensors'), file))]) == 0
    out, err = capsys.readouterr()
    row, = csv.DictReader(out.splitlines())
    answer = predict(learn, file)
    assert row['tags'] == answer.tags and row['tags'].split(';') == list(answer.labels) and set(answer.labels) <= set(data.classes)
    assert len(answer.labels) > 1 and '; stands between' in err
    with pytest.raises(ValueError, match='labels with spaces'): submission(learn, data.test_dl([file]), path=tmp_path/'a.csv')


endings = r"""
import contextlib, json, os, signal, sys, time, torch
from planet_course.answers import main, Predictor

def begin(name, setup, args):
    pid = os.fork()
    if pid: return pid
    for stream, number in (('out', 1), ('err', 2)): os.dup2(os.open(f'{name}.{stream}', os.O_WRONLY | os.O_CREAT), number)
    exec(setup)
    if sys.stdout: sys.stdout = open(1, 'w', closefd=False)
    sys.exit(main(args))

def pipe_that_nobody_reads():
    there, here = os.pipe()
    os.close(there)
    return here

cases, status = json.load(open('cases.json')), {}
torch.set_num_threads(1)                # threads do not live on in a fork
Predictor(cases[0][2][0], 'cpu')        # what is loaded when first used: once for all
for name, setup, args in cases:
    pid = begin(name, setup, args)
    while name == 'stop' and open('stop.out').read().count('\n') < 2: time.sleep(.01)
    if name == 'stop': os.kill(pid, signal.SIGINT)
    status[name] = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
json.dump(status, open('status.json', 'w'))
"""


def test_how_the_command_ends(small_file, tiles, tmp_path):
    "Ctrl-C, a full disk, a reader that left, a closed stream: a status that is not 0, a line where one can be read, and no traceback."
    good, closed_err = str(tiles/'test-jpg'), 'os.close(2); sys.stderr = None'
    cases = dict(stop=('', [good]*20 + ['--bs', '1']), full=("os.dup2(os.open('/dev/full', os.O_WRONLY), 1)", [good]),
                 left=('os.dup2(pipe_that_nobody_reads(), 1)', [good]), no_out=('os.close(1); sys.stdout = None', [good]),
                 no_err=(closed_err, [good, 'gone.jpg']), broken_err=('os.dup2(pipe_that_nobody_reads(), 2)', ['gone.jpg', good]))
    for name in cases: (tmp_path/f'{name}.out').touch()
    (tmp_path/'cases.json').write_text(json.dumps([(name, setup, [str(small_file), *args]) for name, (setup, args) in cases.items()]))
    subprocess.run([sys.executable, '-c', endings], cwd=tmp_path, check=True, timeout=300)
    status = json.loads((tmp_path/'status.json').read_text())
    out, err = ({name: (tmp_path/f'{name}.{stream}').read_text() for name in cases} for stream in ('out', 'err'))
    assert status == dict(stop=130, full=1, left=1, no_out=2, no_err=1, broken_err=1)
    assert not [name for name in cases if 'Traceback' in err[name] or 'Exception ignored' in err[name]]
    for name, why in dict(stop='stopped by Ctrl-C', full='No space left', left='Broken pipe', no_out='standard output is closed').items(): assert why in err[name]
    assert out['stop'].endswith('\n') and all(len(row) == 3 for row in csv.reader(out['stop'].splitlines()))
    for name in ('no_err', 'broken_err'): assert len(out[name].splitlines()) == 7 and 'gone' not in out[name]


# ---- corrections -----------------------------------------------------------------------------------------------------

def test_corrections_from_several_processes(tmp_path, capsys):
    "One file, one heading, no record lost or torn."
    code = ('import sys; from planet_course.answers.report import add_correction\n'
            'for i in range(40): add_correction("fixes.csv", f"tile_{sys.argv[1]}_{i}", "clear", "clear primary")')
    writers = [subprocess.Popen([sys.executable, '-c', code, str(k)], cwd=tmp_path) for k in range(2)]
    assert [writer.wait(120) for writer in writers] == [0]*2
    assert len(read_corrections(tmp_path/'fixes.csv', ['clear', 'primary'])) == 80 and capsys.readouterr().out == ''


def test_corrections_that_excel_saved(tmp_path):
    add_correction(tmp_path/'fixes.csv', 'train_1', 'clear', 'clear primary')
    text = (tmp_path/'fixes.csv').read_text().replace('\n', '\r\n')
    (tmp_path/'fixes.csv').write_bytes(b'\xef\xbb\xbf' + text.encode())
    add_correction(tmp_path/'fixes.csv', 'train_2', 'clear', 'haze')
    assert read_corrections(tmp_path/'fixes.csv', ['clear', 'haze', 'primary']).image_name.tolist() == ['train_1', 'train_2']


def test_corrections_of_one_label(tiles):
    lists = bunch(tiles, None).lists
    fixes = pd.DataFrame(dict(image_name=['train_0', 'train_1'], actual=lists.classes[:1]*2))
    data = with_corrections(lists, fixes).databunch(bs=2, device='cpu')
    assert data.train_ds.labels.count(lists.classes[0]) >= 2 and data.one_batch()[1].ndim == 1
