"""A machine for each test, tiles for all of them, Kaggle as the learner finds it."""
import os, pickle, random, socket, subprocess, threading, traceback
from types import SimpleNamespace

import pytest
from fake_kaggle import FakeKaggle, key, token
from get_helpers import arranged, mounted, pack, send_kaggle_to, training, visible, zipped

from planet_course.get import DataError, download as download_module, planet as planet_module, planet_synthetic, URLs


@pytest.fixture
def machine(tmp_path, monkeypatch):
    "Each test has a machine of its own: empty home, data and working folders, no token, short waits. It leaves no thread behind."
    for name in ('home', 'course', 'here'): (tmp_path/name).mkdir()
    for name in [name for name in os.environ if name.startswith(('KAGGLE_', 'XDG_')) or name.lower().endswith('_proxy')]:
        monkeypatch.delenv(name)
    for name, value in dict(HOME=tmp_path/'home', PLANET_COURSE_HOME=tmp_path/'course', no_proxy='127.0.0.1,localhost',
                            https_proxy='http://127.0.0.1:9').items(): monkeypatch.setenv(name, str(value))  # nothing gets out
    monkeypatch.chdir(tmp_path/'here')
    monkeypatch.setattr(planet_module, '_MOUNT', tmp_path/'input')
    monkeypatch.setattr(download_module, '_TIMEOUT', (5, 5))
    monkeypatch.setattr(download_module, '_WAITS', (0.01,))
    threads = set(threading.enumerate())
    yield
    left = [thread for thread in set(threading.enumerate()) - threads if not thread.daemon]
    assert not left, f'still running: {left}'


@pytest.fixture(scope='session')
def planet(tmp_path_factory):
    "What each route must give, name -> bytes: 240 training, 12 test, 6 additional tiles, 32 pixels wide, and two tables."
    path = planet_synthetic(tmp_path_factory.mktemp('download')/'planet', n=240, n_test=12, size=32, workers=1, progress=False)
    files = {file.relative_to(path).as_posix(): file.read_bytes() for file in path.rglob('*.jpg')}
    files |= {f'test-jpg-additional/file_{i}.jpg': files[f'test-jpg/test_{i}.jpg'] for i in range(6)}
    names = [f'test_{i}' for i in range(12)] + [f'file_{i}' for i in range(6)]
    files['sample_submission_v2.csv'] = '\n'.join(['image_name,tags', *(f'{name},clear' for name in names)]).encode()
    return files | {'train_v2.csv': (path/'train_v2.csv').read_bytes()}


@pytest.fixture(scope='session')
def little(planet):
    "As `planet`, with 24 training tiles: for what comes through the network."
    return training(planet, 24) | {name: data for name, data in planet.items() if not name.startswith('train')}


@pytest.fixture(scope='session')
def few(planet): return training(planet, 6)


@pytest.fixture(scope='session')
def two(planet): return training(planet, 2)


@pytest.fixture(scope='session')
def noise():
    "Two and a half megabytes that do not compress, so that downloads can be cut half-way."
    return random.Random(3).randbytes(2_500_000)


@pytest.fixture
def fails(capfd):
    "What every failure must have: just this class, a page, a next line; no secret in what is shown, nothing under a final name."
    def check(kind, folder, call, *args, **kwargs):
        before = visible(folder)
        with pytest.raises(DataError) as e: call(*args, **kwargs)
        shown = ''.join([*capfd.readouterr(), str(e.value), *traceback.format_exception(e.value)])
        assert e.type is kind, shown
        assert str(pickle.loads(pickle.dumps(e.value))) == str(e.value)
        assert e.value.page.startswith('http') and e.value.page in str(e.value) and e.value.then in str(e.value)
        assert e.value.then.strip() and e.value.what.strip()
        assert not [secret for secret in (token, key, 'X-Goog-Signature=') if secret in shown]
        assert visible(folder) == before
        return e.value
    return check


@pytest.fixture
def server():
    with FakeKaggle() as server: yield server


@pytest.fixture
def waits(monkeypatch):
    "The seconds that are waited between attempts: written down instead."
    waits = []
    monkeypatch.setattr(download_module, 'time', SimpleNamespace(sleep=waits.append))
    return waits


@pytest.fixture
def hurry(monkeypatch):
    "Wait 0.4 s only for a server that is silent for longer; with {} again as long as usual."
    return lambda ill: monkeypatch.setattr(download_module, '_TIMEOUT', (5, 0.4) if {'stall', 'hang'} & ill.keys() else (5, 5))


@pytest.fixture
def nobody():
    "An address where nobody answers."
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return f'http://127.0.0.1:{s.getsockname()[1]}'


@pytest.fixture(scope='session')
def mirror(little, noise):
    "The data set on Kaggle, one .zip of 2.5 MB."
    return zipped(arranged(little, 'mirror') | {'planet/planet/notes.bin': noise})


@pytest.fixture
def kaggle(server, little, mirror, monkeypatch):
    "Kaggle as the learner with a token finds it: doubled names, the small table zipped, the mirror as one .zip of 2.5 MB."
    send_kaggle_to(server.url, monkeypatch)
    monkeypatch.setenv('KAGGLE_API_TOKEN', token)
    table = 'sample_submission_v2.csv'
    server.tables = {'train_v2.csv/train_v2.csv': little['train_v2.csv'], f'{table}/{table}.zip': zipped({table: little[table]}),
                     'Kaggle-planet-train-tif.torrent': b'no'}
    server.mirror = mirror
    return server


@pytest.fixture(scope='session')
def packed_sample(little, noise):
    "fast.ai's sample: a .tgz of 2.5 MB, with a picture that does not compress."
    return pack(arranged(little, 'fastai') | {'planet_sample/noise.png': noise}, '.tgz')


@pytest.fixture
def sample(server, packed_sample, monkeypatch):
    "fast.ai's sample as `untar_data` finds it."
    server.sample = packed_sample
    monkeypatch.setattr(URLs, 'PLANET_SAMPLE', server.plain('planet_sample.tgz', server.sample))
    return server


@pytest.fixture
def disk(tmp_path):
    "A disk of 600 kB."
    mounted(tmp_path/'disk', 'size=600k')
    yield tmp_path/'disk'
    subprocess.run(['umount', '-l', tmp_path/'disk'], check=True)
