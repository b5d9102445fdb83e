"""From a trained network to tags: submissions, the real Kaggle client against a server, model files, the command, what goes wrong."""
import csv, io, os, subprocess, sys, textwrap
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from fake_kaggle import FakeKaggle, token
from PIL import Image
from torch import nn
from torchvision import models

from planet_course import download
from planet_course.core import imagenet_stats
from planet_course.data import ImageList, Loader, _Source
from planet_course.download import BadCredentialsError, DataError, FileGoneError, OfflineError, RateLimitedError, RulesNotAcceptedError
from planet_course.interpret import add_correction, read_corrections, with_corrections
from planet_course.learner import Learner
from planet_course.predictor import Predictor, export_model, main, predict, submission, submit_to_kaggle, tta
from planet_course.vision import create_cnn

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
    from planet_course.predictor import Predictor
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
    other = create_cnn(learn.data, models.resnet18, pretrained=False, loss_func=nn.MultiLabelSoftMarginLoss())
    with pytest.raises(ValueError, match='no known way'): export_model(other, tmp_path/'m.safetensors')
    assert not list(tmp_path.iterdir())


def test_no_byte_of_a_model_file_crashes_the_reader(model_file, tmp_path):
    "Cut anywhere, or with any byte of the header changed: an error that names the file, or a file that still fits."
    whole, file, rng = model_file.read_bytes(), tmp_path/'m.safetensors', np.random.RandomState(0)
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


def test_a_model_with_one_label_asks_for_no_threshold(tiles, tmp_path):
    learn = create_cnn(bunch(tiles, None), models.resnet18, pretrained=False)
    file = export_model(learn, tmp_path/'m.safetensors')
    for thresh in (None, .01, .99): assert len(Predictor(file, 'cpu', thresh)(learn.data.valid_ds.x.files[0]).labels) == 1


def test_a_picture_that_breaks_late_costs_only_itself(model_file, tiles):
    good = tiles/'test-jpg'/'test_0.jpg'
    cut = Image.open(io.BytesIO(good.read_bytes()[:500]))
    odd = [cut, Image.new('RGB', (0, 0)), np.zeros((0, 9, 3), np.uint8), torch.zeros(3, 9, 9, dtype=torch.bfloat16), torch.rand(3, 9, 9, requires_grad=True)]
    answers = [answer for _, answer in Predictor(model_file, 'cpu').stream([good, *odd, good], bs=2)]
    assert [isinstance(answer, ValueError) for answer in answers] == [False, *[True]*len(odd), False]
    assert Predictor(model_file, 'cpu')([]) == []


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
    (tmp_path/'dir.jpg').mkdir()
    (tmp_path/'empty').mkdir()
    done = run(model_file, tmp_path, tmp_path/'gone.jpg', tmp_path/'empty', '--bs', '2')
    rows = list(csv.DictReader(done.stdout.splitlines()))
    assert done.returncode == 1 and [row['image_name'] for row in rows] == ['test_0', 'test_3', 'test_4', 'test_5']
    for row in rows: assert row['tags'] == predict(learn, row['file']).tags
    for name, why in (('test_1.jpg', 'is empty'), ('test_2.jpg', 'cut short'), ('dir.jpg', 'this is no file'), ('gone.jpg', 'no such file'), ('/empty', 'no pictures')):
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


def test_a_reader_that_wants_no_more(model_file, tiles):
    "As in `planet-predict ... | head -n 1`: no traceback."
    with subprocess.Popen([command, model_file, *[tiles/'test-jpg']*4, '--bs', '1'], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        run.stdout.close()
        assert 'Traceback' not in run.stderr.read()


# ---- corrections -----------------------------------------------------------------------------------------------------

def test_corrections_from_several_processes(tmp_path, capsys):
    "One file, one heading, no record lost or torn."
    code = ('import sys; from planet_course.interpret import add_correction\n'
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
