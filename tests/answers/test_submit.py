"""The competition's table, and the real Kaggle client against a server."""
import csv, os
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from fake_kaggle import FakeKaggle, token
from small import bunch, little
from torchvision import models

from planet_course.answers import export_model, predict, Predictor, submission, submit as submit_module, submit_to_kaggle, tta
from planet_course import get
from planet_course.core import imagenet_stats
from planet_course.data import ImageList, Loader, TileSource
from planet_course.get import BadCredentialsError, DataError, download, FileGoneError, OfflineError, RateLimitedError, RulesNotAcceptedError
from planet_course.nets import create_cnn
from planet_course.train import Learner


# ---- submissions -----------------------------------------------------------------------------------------------------

def made_dl(names):
    "A loader of tiles that have names and random pixels, and no files."
    source = TileSource(SimpleNamespace(files=[f'somewhere/{name}.jpg' for name in names]), torch.device('cpu'), 'disk')
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


def test_an_upload_tells_no_password(kaggle, handed_in, tmp_path):
    "What .netrc holds for the host is not sent; an address without https gets nothing, and is not shown."
    (tmp_path/'.netrc').write_text('machine 127.0.0.1 login me password secret\n')
    (tmp_path/'.netrc').chmod(0o600)
    submit_to_kaggle(handed_in, 'x')
    assert [entry['auth'] for entry in kaggle.asked('upload')] == ['']
    kaggle.fault('StartSubmissionUpload', dict(body=b'{"createUrl": "http://example.org/put?Signature=1", "token": "t"}', json=True))
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
    ('CreateSubmission', dict(body=b'{}', json=True), OfflineError, 'receipt'),
    ('CreateSubmission', dict(body=b'{"ref": "abc"}', json=True), OfflineError, 'receipt'),
    ('CreateSubmission', dict(body=b'{"ref": -3}', json=True), OfflineError, 'receipt'),
    ('StartSubmissionUpload', dict(body=b'{"createUrl": "https://[::1", "token": "x"}', json=True), OfflineError, 'an address'),
    ('upload', dict(slow_head=.001), OfflineError, 'no whole answer'),
    ('upload', dict(status=503), OfflineError, 'receipt for the upload')])
def test_what_kaggle_may_answer(kaggle, handed_in, capfd, monkeypatch, call, ill, kind, says):
    "The kind, a page to open, a line to type, no secret; and nothing is ever handed in twice."
    if 'slow_head' in ill: monkeypatch.setattr(download, '_PATIENCE', 1)
    kaggle.fault(call, ill)
    with pytest.raises(DataError, match=says) as e: submit_to_kaggle(handed_in, 'x')
    shown = str(e.value) + ''.join(capfd.readouterr())
    assert 'submit_to_kaggle' in e.value.then or 'same line' in e.value.then
    if kind in (OfflineError, RateLimitedError) and call == 'CreateSubmission': assert 'whether it has arrived' in e.value.then
    assert e.type is kind and 'https://www.kaggle.com/' in e.value.page and token not in shown and 'Signature=1' not in shown
    assert len(kaggle.asked('CreateSubmission')) <= 1 and len(kaggle.submissions) <= 1


@pytest.mark.parametrize('ill', [dict(endless=True), dict(drip=.02), dict(says={'Content-Encoding': 'gzip'}), dict(cut=10)], ids=str)
def test_what_comes_back_for_an_upload_is_not_read(kaggle, handed_in, ill):
    kaggle.fault('upload', ill)
    assert submit_to_kaggle(handed_in, 'x').status == 'complete' and len(kaggle.asked('upload')) == 1
    assert kaggle.asked('upload')[0]['sent'] < (100 if 'drip' in ill else 1 << 24)


@pytest.mark.parametrize('bad', ['abc', '0,9313', 'nan', '1e999', [1]])
def test_a_score_that_is_no_number(kaggle, handed_in, capsys, bad):
    "It is handed in, and a line says where to look."
    kaggle.scores = [dict(status='COMPLETE', publicScore=bad, privateScore='0.9')]
    assert submit_to_kaggle(handed_in, 'x') == ('pending', None, None, 1001)
    said = capsys.readouterr().out.splitlines()[-1]
    assert said.startswith('submission 1001 is handed in: the score could not be had') and '/submissions' in said


def test_a_receipt_that_is_packed(kaggle, handed_in):
    "It may have arrived, so the error does not ask for the same line again."
    kaggle.fault('CreateSubmission', dict(status=200, headers={'Content-Encoding': 'gzip'}))
    with pytest.raises(DataError) as e: submit_to_kaggle(handed_in, 'x')
    assert 'whether it has arrived' in e.value.then and 'same line' not in e.value.then


def test_an_upload_that_breaks_once(kaggle, handed_in):
    kaggle.fault('upload', dict(status=503), {})
    kaggle.fault('GetSubmission', dict(status=502), {})
    assert submit_to_kaggle(handed_in, 'x').status == 'complete' and len(kaggle.submissions) == 1


@pytest.mark.parametrize('where, left', [('_put', 'nothing is handed in'), ('hand_in', 'whether it is handed in'), ('sleep', 'submission 1001 is handed in')])
def test_ctrl_c_says_in_a_line_whether_it_is_handed_in(kaggle, handed_in, monkeypatch, where, left):
    def pressed(*args): raise KeyboardInterrupt
    home = {'_put': submit_module, 'hand_in': get, 'sleep': submit_module.time}[where]
    with monkeypatch.context() as m:
        m.setattr(home, where, pressed)
        if where == '_put': m.setattr(get, 'in_time', lambda action, more: action())    # another thread gets no Ctrl-C
        with pytest.raises(KeyboardInterrupt) as e: submit_to_kaggle(handed_in, 'x')
    line, = e.value._render_traceback_()
    assert line == str(e.value) and line.startswith('stopped') and left in line and ('/submissions' in line or 'again' in line)


def test_a_file_that_kaggle_cannot_score(kaggle, handed_in):
    kaggle.scores = [dict(status='ERROR', errorDescription='Evaluation Exception: Row 1')]
    with pytest.raises(DataError, match='Row 1'): submit_to_kaggle(handed_in, 'x')
