"""Getting the tiles: the real Kaggle client and plain downloads against a server with faults; archives; full disks."""
import contextlib, errno, gzip, hashlib, io, json, lzma, os, pickle, random, shutil, signal, socket, stat, subprocess, sys
import tarfile, textwrap, threading, time, traceback, zipfile, zlib
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import py7zr
import pytest
import requests
from fake_kaggle import FakeKaggle, competition, key, token, user

from planet_course.get import download as download
from planet_course.get import (BadCredentialsError, Config, CorruptError, DataError, DiskFullError, FileGoneError, NoCredentialsError, NoTilesError,
                               OfflineError, planet_data, RateLimitedError, RulesNotAcceptedError, UnsafeArchiveError, untar_data, URLs)
from planet_course.get import planet_synthetic

layout = 'train_v2.csv', 'train_classes.csv', 'sample_submission_v2.csv', 'train-jpg', 'test-jpg', 'test-jpg-additional'
kinds = '.tar.7z', '.tar', '.tgz', '.zip'


# ---- a machine for each test, tiles for all of them ------------------------------------------------------------------

@pytest.fixture(autouse=True)
def machine(tmp_path, monkeypatch):
    "Each test has a machine of its own: empty home, data and working folders, no token, short waits. It leaves no thread behind."
    for name in ('home', 'course', 'here'): (tmp_path/name).mkdir()
    for name in [name for name in os.environ if name.startswith(('KAGGLE_', 'XDG_')) or name.lower().endswith('_proxy')]:
        monkeypatch.delenv(name)
    for name, value in dict(HOME=tmp_path/'home', PLANET_COURSE_HOME=tmp_path/'course', no_proxy='127.0.0.1,localhost',
                            https_proxy='http://127.0.0.1:9').items(): monkeypatch.setenv(name, str(value))  # nothing gets out
    monkeypatch.chdir(tmp_path/'here')
    monkeypatch.setattr(download, '_MOUNT', tmp_path/'input')
    monkeypatch.setattr(download, '_TIMEOUT', (5, 5))
    monkeypatch.setattr(download, '_WAITS', (0.01,))
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


def training(planet, n):
    "The first `n` training tiles and their table."
    files = {f'train-jpg/train_{i}.jpg': planet[f'train-jpg/train_{i}.jpg'] for i in range(n)}
    return files | {'train_v2.csv': b''.join(planet['train_v2.csv'].splitlines(True)[:n + 1])}


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


def arranged(files, how):
    "`files` under the names that they have in the competition, in the mirror, in fast.ai's sample, or all in one folder."
    if how == 'competition': return files
    if how == 'flat': return {name.rsplit('/', 1)[-1]: data for name, data in files.items()}
    if how == 'fastai': return {name.replace('train-jpg', 'planet_sample/train').replace('train_v2', 'planet_sample/labels'): data
                                for name, data in files.items() if name.startswith('train')}
    above = lambda name: 'test-jpg-additional' if 'additional' in name else 'planet/planet'
    return {f'{above(name)}/{name.replace("train_v2", "train_classes").replace("_v2", "")}': data for name, data in files.items()}


def wanted(files, how):
    "What must come out of `files` arranged like this: fast.ai has no test tiles, the mirror another table."
    if how == 'fastai': return {name: data for name, data in files.items() if name.startswith('train')}
    if how != 'mirror': return files
    return {name.replace('train_v2', 'train_classes'): data for name, data in files.items() if name != 'sample_submission_v2.csv'}


def without_submission(files): return {name: data for name, data in files.items() if name != 'sample_submission_v2.csv'}


def tar(files, *odd):
    "The bytes of a .tar: `odd` entries, then `files`."
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode='w') as t:
        for info in odd: t.addfile(info, io.BytesIO(bytes(info.size)))
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            t.addfile(info, io.BytesIO(data))
    return out.getvalue()


lzma2, copied, aes = dict(id=py7zr.FILTER_LZMA2, preset=0), dict(id=py7zr.FILTER_COPY), dict(id=py7zr.FILTER_CRYPTO_AES256_SHA256)


def sevenzip(data, *filters):
    "The bytes of a .7z with `data` in it, and no more."
    out = io.BytesIO()
    with py7zr.SevenZipFile(out, 'w', filters=filters or [lzma2], password='x' if aes in filters else None) as z:
        z.writestr(data, 'train-jpg.tar')
    return out.getvalue()


def zipped(files, *odd):
    out = io.BytesIO()
    with zipfile.ZipFile(out, 'w', zipfile.ZIP_DEFLATED) as z:
        for info, data in [*odd, *files.items()]: z.writestr(info, data)
    return out.getvalue()


def pack(files, kind, *odd):
    "The bytes of an archive of this kind."
    if kind == '.zip': return zipped(files, *odd)
    data = tar(files, *odd)
    return {'.tar': bytes, '.tgz': partial(gzip.compress, compresslevel=1), '.tar.7z': sevenzip}[kind](data)


def lay(files, folder):
    "Write `files` below `folder`; gives `folder`."
    for name, data in files.items():
        (folder/name).parent.mkdir(parents=True, exist_ok=True)
        (folder/name).write_bytes(data)
    return folder


def put(tmp_path, name, data): return lay({name: data}, tmp_path/'shelf')/name


def visible(folder): return sorted(p.name for p in folder.iterdir() if p.name[0] != '.') if folder.exists() else []


def content(folder):
    "What lies in the normal layout in `folder`, name -> bytes; and nothing half-done lies beside it."
    assert not list(folder.glob('.*.part')), 'something half-done was left'
    files = [file for name in layout for file in ((folder/name).iterdir() if (folder/name).is_dir() else [folder/name])]
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files if file.is_file()}


def snapshot(folder):
    "All that is in `folder`, with what changes when somebody writes."
    return {p: (p.lstat().st_mtime_ns, p.lstat().st_ino, p.lstat().st_size) for p in [folder, *folder.rglob('*')]}


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
    monkeypatch.setattr(download, 'time', SimpleNamespace(sleep=waits.append))
    return waits


@pytest.fixture
def hurry(monkeypatch):
    "Wait 0.4 s only for a server that is silent for longer; with {} again as long as usual."
    return lambda ill: monkeypatch.setattr(download, '_TIMEOUT', (5, 0.4) if {'stall', 'hang'} & ill.keys() else (5, 5))


@pytest.fixture
def nobody():
    "An address where nobody answers."
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return f'http://127.0.0.1:{s.getsockname()[1]}'


def send_kaggle_to(url, monkeypatch):
    from kagglesdk import kaggle_env
    for env in kaggle_env.KaggleEnv: monkeypatch.setitem(kaggle_env._env_to_endpoint, env, url)


@pytest.fixture
def kaggle(server, little, noise, monkeypatch):
    "Kaggle as the learner with a token finds it: doubled names, the small table zipped, the mirror as one .zip of 2.5 MB."
    send_kaggle_to(server.url, monkeypatch)
    monkeypatch.setenv('KAGGLE_API_TOKEN', token)
    table = 'sample_submission_v2.csv'
    server.tables = {'train_v2.csv/train_v2.csv': little['train_v2.csv'], f'{table}/{table}.zip': zipped({table: little[table]}),
                     'Kaggle-planet-train-tif.torrent': b'no'}
    server.mirror = zipped(arranged(little, 'mirror') | {'planet/planet/notes.bin': noise})
    return server


# ---- Kaggle ----------------------------------------------------------------------------------------------------------

api = 'ListDataFiles', 'DownloadDataFile', 'DownloadDataset'
sign_in = b'<html>Sign in</html>'
cut = dict(cut=1_100_000)
faults = {  # of a download, at every attempt
    'cut in the first megabyte': (dict(cut=1000), OfflineError),
    'cut later in it': (dict(cut=300_000), OfflineError),
    'cut half-way': (cut, OfflineError),
    'silent': (dict(stall=9), OfflineError),
    'silent half-way': (cut | dict(hang=9), OfflineError),
    'ill': (dict(status=503, html=True), OfflineError),
    'a wrong byte, and an md5': (dict(wrong=1_000_000), CorruptError),  # in what is left out: only the md5 tells
    'a wrong byte': (dict(wrong=0, no_md5=True), CorruptError),
    'cut, no length': (cut | dict(no_length=True), CorruptError),
    'cut, no length, no md5': (cut | dict(no_length=True, no_md5=True), CorruptError),
    'a page instead': (dict(body=sign_in), CorruptError),
    'an empty file': (dict(body=b''), CorruptError)}
passing = {  # of a download, at the first attempt only
    'cut in the first megabyte': dict(cut=1000), 'cut half-way': cut, 'cut, and the address expires': cut | dict(expires=True),
    'silent': dict(stall=9), 'silent half-way': cut | dict(hang=9), 'ill': dict(status=503)}


def test_kaggle_gives_tables_and_tiles_once(kaggle, little, tmp_path, capfd):
    "All parts arrive, one line each says what came from where; the next call touches neither network nor disk."
    folder = planet_data(tmp_path/'new', source='kaggle')
    assert folder == tmp_path/'new' and content(folder) == little
    assert visible(folder) == sorted({*layout, 'planet_data.json'} - {'train_classes.csv'})
    assert [entry['auth'] for entry in kaggle.log] == ['Bearer', 'Bearer', '']*2 + ['Bearer', '']
    said = capfd.readouterr().out
    assert 'notes.bin' in said and '24 labelled tiles' in said and len(said.splitlines()) == 2
    before, asked = snapshot(folder), len(kaggle.log)
    assert planet_data(folder, source='kaggle') == planet_data(folder) == folder
    assert snapshot(folder) == before and len(kaggle.log) == asked


doubled_name = 'train_v2.csv/train_v2.csv'


@pytest.mark.parametrize('name, form', [('train_v2.csv', bytes), ('train_v2.csv', zipped), ('train_v2.csv.zip', zipped),
                                        (doubled_name, bytes), (doubled_name, zipped), (f'{doubled_name}.zip', zipped)])
def test_tables_under_any_name(name, form, kaggle, little, tmp_path):
    "Kaggle serves some tables zipped, whether their name says so or not, and some under doubled names."
    table = little['train_v2.csv']
    kaggle.tables = {name: zipped({'train_v2.csv': table}) if form is zipped else table}
    assert content(planet_data(tmp_path/'new', source='kaggle')) == without_submission(little)


statuses = {400: DataError, 401: BadCredentialsError, 403: RulesNotAcceptedError, 404: FileGoneError, 429: RateLimitedError,
            500: OfflineError, 503: OfflineError}


@pytest.mark.parametrize('status, kind', statuses.items())
@pytest.mark.parametrize('call, html', [*((call, False) for call in api), ('DownloadDataset', True)])
def test_kaggle_refuses(call, html, status, kind, kaggle, little, fails, tmp_path):
    "By the status alone, whether the answer is JSON or a page. Tables that are gone stop nothing."
    kaggle.fault(call, dict(status=status, html=html))
    site, tables = 'https://www.kaggle.com', call != 'DownloadDataset'
    if status == 404 and tables:
        assert content(planet_data(tmp_path/'new', source='kaggle')) == wanted(little, 'mirror')
        return
    error = fails(kind, tmp_path/'new', planet_data, tmp_path/'new', source='kaggle')
    if status == 401: assert error.page == f'{site}/settings/api'
    if status == 403 and tables: assert error.page == f'{site}/competitions/{competition}/rules'
    if status == 404: assert error.page == f'{site}/datasets/nikitarom/planets-dataset'
    kaggle.faults.clear()
    assert content(planet_data(tmp_path/'new', source='kaggle')) == little


def test_tables_gone_the_mirrors_are_used(kaggle, little, tmp_path, capfd, monkeypatch):
    "The mirror's labels keep their name, and a line says so, unless their md5 is known."
    kaggle.tables.clear()
    folder = planet_data(tmp_path/'new', source='kaggle')
    said = capfd.readouterr().out
    assert content(folder) == wanted(little, 'mirror')
    assert 'train_v2.csv:' in said and 'sample_submission_v2.csv:' in said and 'train_classes.csv' in said
    monkeypatch.setitem(download._MD5, hashlib.md5(little['train_v2.csv']).hexdigest(), 'train_v2.csv')
    monkeypatch.setattr(download, '_COUNTS', {'train-jpg': 24, 'test-jpg': 12, 'test-jpg-additional': 6})
    assert content(planet_data(tmp_path/'known', source='kaggle')) == without_submission(little)
    assert 'train_classes.csv' not in capfd.readouterr().out


def test_slow_down(kaggle, little, fails, tmp_path, monkeypatch, waits):
    "429: as long as it asks for, if that is up to a minute; else as long as our own list says. Then no more."
    monkeypatch.setattr(download, '_WAITS', (1, 2, 4, 8))
    kaggle.fault('ListDataFiles', dict(status=429), {})
    kaggle.fault('DownloadDataset', *[dict(status=429, headers={'Retry-After': '7'})]*2, {})
    assert content(planet_data(tmp_path/'new', source='kaggle')) == little and waits == [1, 7, 7]
    for after, kept in (None, [1, 2, 4, 8]), ('3600', []), ('Fri, 31 Dec 2049 23:59:59 GMT', [1, 2, 4, 8]):
        waits.clear(), kaggle.log.clear()
        kaggle.fault('ListDataFiles', dict(status=429, headers={'Retry-After': after} if after else {}))
        fails(RateLimitedError, tmp_path/'other', planet_data, tmp_path/'other', source='kaggle')
        assert waits == kept and len(kaggle.log) == len(kept) + 1


@pytest.mark.parametrize('ill', [dict(stall=9), dict(body=sign_in)], ids=['silent', 'a page'])
@pytest.mark.parametrize('call', api)
def test_kaggle_talks_nonsense(call, ill, kaggle, little, fails, tmp_path, hurry):
    "Silence, and a page with status 200 as a hotel's network gives it: an error; afterwards the right bytes."
    kind = OfflineError if 'stall' in ill or call == 'ListDataFiles' else CorruptError
    kaggle.fault(call, ill), hurry(ill)
    fails(kind, tmp_path/'new', planet_data, tmp_path/'new', source='kaggle')
    kaggle.faults.clear(), hurry({})
    assert content(planet_data(tmp_path/'new', source='kaggle')) == little


@pytest.mark.parametrize('ill, kind', faults.values(), ids=faults)
def test_the_mirror_breaks(ill, kind, kaggle, little, fails, tmp_path, hurry):
    "At every attempt: an error. Once it is mended: the right bytes, and what had come is not fetched again."
    kaggle.fault('archive.zip', ill), hurry(ill)
    fails(kind, tmp_path/'new', planet_data, tmp_path/'new', source='kaggle')
    kaggle.faults.clear(), kaggle.log.clear(), hurry({})
    assert content(planet_data(tmp_path/'new', source='kaggle')) == little
    last = kaggle.asked('archive.zip')[-1]
    if kind is OfflineError and 'cut' in ill: assert last['range'] and last['sent'] < len(kaggle.mirror)
    else: assert not last['range']


@pytest.mark.parametrize('ill', passing.values(), ids=passing)
def test_the_mirror_breaks_once(ill, kaggle, little, tmp_path, hurry):
    "The second attempt has Kaggle sign a new address, and asks the store for the rest only."
    kaggle.fault('archive.zip', ill, {}), hurry(ill)
    assert content(planet_data(tmp_path/'new', source='kaggle')) == little
    last = kaggle.asked('archive.zip')[-1]
    assert len(kaggle.asked('DownloadDataset')) == 2
    assert bool(last['range']) == ('cut' in ill)
    if ill.get('cut', 0) > 1e6: assert last['sent'] < len(kaggle.mirror)/1.5


@pytest.mark.parametrize('status', [400, 403, 404, 410, 429])
def test_the_store_refuses_its_own_address(status, kaggle, little, fails, tmp_path):
    "After a cut no address works any more. That says nothing about token or rules, whatever its number; what came is kept."
    kaggle.fault('archive.zip', cut, dict(status=status, html=True))
    fails(OfflineError, tmp_path/'new', planet_data, tmp_path/'new', source='kaggle')
    kaggle.faults.clear(), kaggle.log.clear()
    assert content(planet_data(tmp_path/'new', source='kaggle')) == little
    assert kaggle.asked('archive.zip')[-1]['range']


table_faults = [(dict(cut=100), OfflineError), (dict(stall=9), OfflineError), (dict(wrong=30), CorruptError),
                (dict(wrong=0, no_md5=True), CorruptError), (dict(body=sign_in), CorruptError),
                (dict(cut=300, no_length=True, no_md5=True), CorruptError)]


@pytest.mark.parametrize('ill, kind', table_faults, ids=str)
def test_a_table_breaks(ill, kind, kaggle, little, fails, tmp_path, hurry):
    "Half a table without length and md5 looks whole: the tiles tell. It is not kept, or no run after that would succeed."
    kaggle.fault('train_v2.csv', ill), hurry(ill)
    fails(kind, tmp_path/'new', planet_data, tmp_path/'new', source='kaggle')
    kaggle.faults.clear(), hurry({})
    assert content(planet_data(tmp_path/'new', source='kaggle')) == little


def test_a_zipped_table_that_is_another(kaggle, little, tmp_path, capfd):
    "Kaggle's .zip has something else in it: left out, said, and the data set's own table is used."
    kaggle.tables['train_v2.csv/train_v2.csv'] = zipped({'other.txt': b'x'})
    planet_data(tmp_path/'new', source='kaggle')
    assert 'other.txt' in capfd.readouterr().out
    assert (tmp_path/'new'/'train_classes.csv').read_bytes() == little['train_v2.csv'] and not (tmp_path/'new'/'train_v2.csv').exists()


def test_a_mirror_that_lacks_a_tile(kaggle, little, fails, tmp_path):
    "It does not fit the tables: not kept, so that the next run can have a better one."
    good, lacks = kaggle.mirror, {n: little[n] for n in little if n != 'train-jpg/train_7.jpg'}
    kaggle.mirror = zipped(arranged(lacks, 'mirror'))
    fails(CorruptError, tmp_path/'new', planet_data, tmp_path/'new', source='kaggle')
    kaggle.mirror = good
    assert content(planet_data(tmp_path/'new', source='kaggle')) == little


@pytest.mark.parametrize('less', [['no_length'], ['no_length', 'no_md5'], ['no_mark'], ['no_range']], ids=str)
def test_a_store_that_says_less(less, kaggle, little, tmp_path):
    "No Content-Length, no md5, no ETag, no ranges: all goes well, also after a cut that can be noticed."
    ill = dict.fromkeys(less, True)
    kaggle.fault('train_v2.csv', ill)
    kaggle.fault('archive.zip', ill if 'no_length' in less else ill | cut, ill)
    assert content(planet_data(tmp_path/'new', source='kaggle')) == little


def test_nobody_there(kaggle, nobody, fails, tmp_path, monkeypatch):
    "Neither Kaggle nor its store: the error of the second has its address inside, and must not show it."
    kaggle.store = f'{nobody}/store'
    fails(OfflineError, tmp_path/'new', planet_data, tmp_path/'new', source='kaggle')
    send_kaggle_to(nobody, monkeypatch)
    fails(OfflineError, tmp_path/'new', planet_data, tmp_path/'new', source='kaggle')


def test_import_asks_nobody():
    "Importing the module imports no client; nor does any of them run or print."
    code = 'import sys, planet_course.get.download; print([name for name in sys.modules if name.startswith("kaggle")])'
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout.strip() == '[]'


def test_no_credentials(kaggle, fails, tmp_path, monkeypatch):
    "Nobody is asked; no help page, no SystemExit; how to get a token is said for each kind of machine."
    monkeypatch.delenv('KAGGLE_API_TOKEN')
    with contextlib.redirect_stdout(io.StringIO()) as out:
        error = fails(NoCredentialsError, tmp_path/'new', planet_data, tmp_path/'new', source='kaggle')
    assert not kaggle.log and not out.getvalue()
    assert all(word in str(error) for word in ('terminal', 'Colab', 'Kaggle notebook', 'https://www.kaggle.com/settings/api'))
    for nonsense in (b' ', b'{}', b'\xef\xbb\xbf', b'{"username": 5, "key": null}'):
        lay({'.kaggle/kaggle.json': nonsense, '.kaggle/access_token': b' '}, Path.home())
        fails(NoCredentialsError, tmp_path/'new', planet_data, tmp_path/'new', source='kaggle')


login = json.dumps(dict(username=user, key=key)).encode()
oauth = json.dumps(dict(refresh_token='r', access_token=token, access_token_expiration='2999-01-01T00:00:00+00:00')).encode()
places = {  # variables, files in the home folder
    'a token': (dict(KAGGLE_API_TOKEN=token), {}),
    'a file with it': (dict(KAGGLE_API_TOKEN='~/token'), {'token': token.encode()}),
    'access_token': ({}, {'.kaggle/access_token': token.encode() + b'\n'}),
    'access_token.txt': ({}, {'.kaggle/access_token.txt': token.encode()}),
    'a key': (dict(KAGGLE_USERNAME=user, KAGGLE_KEY=key), {}),
    'kaggle.json': ({}, {'.kaggle/kaggle.json': login}),
    'its own folder': (dict(KAGGLE_CONFIG_DIR='~/own'), {'own/kaggle.json': login}),
    '.config': ({}, {'.config/kaggle/kaggle.json': login}),
    'XDG_CONFIG_HOME': (dict(XDG_CONFIG_HOME='~/xdg'), {'xdg/kaggle/kaggle.json': login}),
    'half of it here, half there': (dict(KAGGLE_KEY=key), {'.kaggle/kaggle.json': json.dumps(dict(username=user)).encode()}),
    'a folder that is a file': (dict(KAGGLE_CONFIG_DIR='~/.kaggle/kaggle.json'), {'.kaggle/kaggle.json': login}),
    'kaggle auth login': ({}, {'.kaggle/credentials.json': oauth})}


@pytest.mark.parametrize('variables, files', places.values(), ids=places)
def test_credentials_are_found(variables, files, kaggle, little, tmp_path, monkeypatch):
    monkeypatch.delenv('KAGGLE_API_TOKEN')
    for name, value in variables.items(): monkeypatch.setenv(name, value.replace('~', str(Path.home())))
    lay(files, Path.home())
    assert content(planet_data(tmp_path/'new', source='kaggle')) == little
    basic = 'KAGGLE_KEY' in variables or any(name.endswith('kaggle.json') for name in files)
    assert {entry['auth'] for entry in kaggle.log if entry['method'] == 'POST'} == {'Basic' if basic else 'Bearer'}


@pytest.mark.parametrize('variables', [dict(KAGGLE_API_TOKEN='KGAT_old'), dict(KAGGLE_API_TOKEN=token*20),
                                       dict(KAGGLE_USERNAME=user, KAGGLE_KEY='old')], ids=['token', 'long token', 'key'])
def test_old_credentials(variables, kaggle, fails, tmp_path, monkeypatch):
    "Refused at once; also a token that is too long to be tried as the name of a file."
    monkeypatch.delenv('KAGGLE_API_TOKEN')
    for name, value in variables.items(): monkeypatch.setenv(name, value)
    fails(BadCredentialsError, tmp_path/'new', planet_data, tmp_path/'new', source='kaggle')
    assert len(kaggle.log) == 1


dirt = {'a line break': '{}\n', 'a byte order mark': '\ufeff{}', 'all of it': '\ufeff "{}" \r\n\0'}


@pytest.mark.parametrize('dirty', dirt.values(), ids=dirt)
@pytest.mark.parametrize('where', ['KAGGLE_API_TOKEN', 'KAGGLE_KEY', 'access_token', 'access_token in UTF-16', 'kaggle.json',
                                   'kaggle.json in UTF-16', 'a value in kaggle.json', 'a file that is named'])
def test_credentials_with_dirt_around_them(where, dirty, kaggle, tmp_path, monkeypatch):
    "Whatever an editor or a shell puts around a token or key is taken off: Kaggle is asked with the bare one."
    monkeypatch.delenv('KAGGLE_API_TOKEN')
    place, code, home = where.split(' in UTF')[0], 'utf-16' if where.endswith('16') else 'utf-8', Path.home()
    if place == 'KAGGLE_API_TOKEN': monkeypatch.setenv(place, dirty.replace('\0', '').format(token))
    if place == 'KAGGLE_KEY': monkeypatch.setenv(place, dirty.replace('\0', '').format(key)), monkeypatch.setenv('KAGGLE_USERNAME', f'{user}\n')
    if place == 'access_token': lay({'.kaggle/access_token': dirty.format(token).encode(code)}, home)
    if place == 'kaggle.json': lay({'.kaggle/kaggle.json': dirty.replace('"', ' ').format(login.decode()).encode(code)}, home)
    if place == 'a value in kaggle.json': lay({'.kaggle/kaggle.json': json.dumps(dict(username=user, key=dirty.format(key))).encode()}, home)
    if place == 'a file that is named':
        monkeypatch.setenv('KAGGLE_API_TOKEN', str(lay({'mine': dirty.format(token).encode()}, home)/'mine'))
    assert download._login() in (dict(api_token=token), dict(username=user, password=key))
    assert download._ask_kaggle(lambda k: len(kaggle.log)) == 0


useless = {  # variables, files in the home folder, what the error names
    'two words': (dict(KAGGLE_API_TOKEN='KGAT_secret two'), {}, 'KAGGLE_API_TOKEN'),
    'a broken mark': (dict(KAGGLE_API_TOKEN='ï»¿KGAT_secret'), {}, 'KAGGLE_API_TOKEN'),
    'an accent': (dict(KAGGLE_USERNAME='me', KAGGLE_KEY='secrét'), {}, 'KAGGLE_KEY'),
    'a user with an accent': (dict(KAGGLE_USERNAME='Zoë', KAGGLE_KEY='secret'), {}, 'KAGGLE_USERNAME'),
    'two lines': ({}, {'.kaggle/access_token': b'KGAT_secret\nKGAT_secret'}, '~/.kaggle/access_token'),
    'half of UTF-16': ({}, {'.kaggle/access_token': b'\xff\xfes'}, '~/.kaggle/access_token'),
    'Latin-1': ({}, {'.kaggle/kaggle.json': b'{"username": "Zo\xeb", "key": "secret"}'}, '~/.kaggle/kaggle.json'),
    'half of it': ({}, {'.kaggle/kaggle.json': b'{"username": "me", "key": "secret'}, '~/.kaggle/kaggle.json'),
    'a list': ({}, {'.kaggle/kaggle.json': b'["secret"]'}, '~/.kaggle/kaggle.json'),
    'only the token': ({}, {'.kaggle/kaggle.json': b'secret'}, '~/.kaggle/kaggle.json'),
    'a login of rubbish': ({}, {'.kaggle/credentials.json': b'{"refresh_token": "secret", "access_token_expiration": "soon"}'}, 'credentials.json'),
    'a login with a mark': ({}, {'.kaggle/credentials.json': b'\xef\xbb\xbf' + oauth}, 'credentials.json')}


@pytest.mark.parametrize('variables, files, named', useless.values(), ids=useless)
def test_credentials_that_cannot_be_any(variables, files, named, kaggle, fails, tmp_path, monkeypatch):
    "The error says where they stand, and not what they are; nobody is asked."
    monkeypatch.delenv('KAGGLE_API_TOKEN')
    for name, value in variables.items(): monkeypatch.setenv(name, value)
    lay(files, Path.home())
    error = fails(BadCredentialsError, tmp_path/'new', planet_data, tmp_path/'new', source='kaggle')
    assert named in error.what and 'secr' not in str(error) and not kaggle.log


# ---- plain downloads -------------------------------------------------------------------------------------------------

@pytest.fixture
def sample(server, little, noise, monkeypatch):
    "fast.ai's sample as `untar_data` finds it: a .tgz of 2.5 MB, with a picture that does not compress."
    server.sample = pack(arranged(little, 'fastai') | {'planet_sample/noise.png': noise}, '.tgz')
    monkeypatch.setattr(URLs, 'PLANET_SAMPLE', server.plain('planet_sample.tgz', server.sample))
    return server


def is_sample(folder, little, noise):
    found = {file.relative_to(folder.parent).as_posix(): file.read_bytes() for file in folder.rglob('*') if file.is_file()}
    alone = visible(folder.parent) == ['planet_sample'] and not list(folder.parent.glob('.*.part'))
    return alone and found == arranged(little, 'fastai') | {'planet_sample/noise.png': noise}


def test_where_data_goes(monkeypatch, tmp_path):
    assert Config.data_path() == tmp_path/'course'/'data'
    monkeypatch.delenv('PLANET_COURSE_HOME')
    assert Config.data_path() == tmp_path/'home'/'.planet_course'/'data'


def test_untar_data_downloads_once(sample, little, noise, tmp_path):
    folder = untar_data(URLs.PLANET_SAMPLE)
    assert folder == Config.data_path()/'planet_sample' and is_sample(folder, little, noise)
    before = snapshot(folder.parent)
    assert untar_data(URLs.PLANET_SAMPLE) == folder and snapshot(folder.parent) == before and len(sample.log) == 1
    assert is_sample(untar_data(URLs.PLANET_SAMPLE, tmp_path/'own'), little, noise)


more_faults = faults | {'cut half-way, no mark': (cut | dict(no_mark=True), OfflineError)}


@pytest.mark.parametrize('less', [{}, dict(no_range=True)], ids=['ranges', 'no ranges'])
@pytest.mark.parametrize('ill, kind', more_faults.values(), ids=more_faults)
def test_untar_data_breaks(ill, kind, less, sample, little, noise, fails, tmp_path, hurry):
    "As for Kaggle. Where the server cannot begin in the middle, the next call begins at the beginning."
    sample.fault('planet_sample.tgz', ill | less), hurry(ill)
    fails(kind, tmp_path/'new', untar_data, URLs.PLANET_SAMPLE, tmp_path/'new')
    sample.fault('planet_sample.tgz', less), hurry({})
    assert is_sample(untar_data(URLs.PLANET_SAMPLE, tmp_path/'new'), little, noise)
    last, kept = sample.log[-1], kind is OfflineError and 'cut' in ill and 'no_mark' not in ill
    assert bool(last['range']) == kept and (last['sent'] < len(sample.sample)) == (kept and not less)


@pytest.mark.parametrize('ill', passing.values(), ids=passing)
def test_untar_data_breaks_once(ill, sample, little, noise, tmp_path, hurry):
    sample.fault('planet_sample.tgz', ill, {}), hurry(ill)
    assert is_sample(untar_data(URLs.PLANET_SAMPLE, tmp_path/'new'), little, noise) and len(sample.log) == 2
    if ill.get('cut', 0) > 1e6: assert sample.log[-1]['range'] and sample.log[-1]['sent'] < len(sample.sample)/1.5


gone = dict.fromkeys((401, 403, 404, 410), FileGoneError)


@pytest.mark.parametrize('status, kind', (statuses | gone | {416: OfflineError}).items())
def test_untar_data_is_refused(status, kind, sample, little, noise, fails, tmp_path):
    sample.fault('planet_sample.tgz', dict(status=status, html=True))
    error = fails(kind, tmp_path/'new', untar_data, URLs.PLANET_SAMPLE, tmp_path/'new')
    assert error.page == URLs.PLANET_SAMPLE
    sample.faults.clear()
    assert is_sample(untar_data(URLs.PLANET_SAMPLE, tmp_path/'new'), little, noise)


def test_untar_data_checks_the_size(sample, little, noise, fails, tmp_path, monkeypatch):
    "Known sizes are those of the five addresses; another file under one of them is not taken."
    assert sorted(download._SIZES.values()) == [342_207, 801_038, 997_569, 2_314_212, 15_523_994]
    for size in (len(sample.sample) - 1, len(sample.sample) + 1):
        monkeypatch.setitem(download._SIZES, URLs.PLANET_SAMPLE, size)
        fails(CorruptError, tmp_path/'new', untar_data, URLs.PLANET_SAMPLE, tmp_path/'new')
    monkeypatch.setitem(download._SIZES, URLs.PLANET_SAMPLE, len(sample.sample))
    assert is_sample(untar_data(URLs.PLANET_SAMPLE, tmp_path/'new'), little, noise)


@pytest.mark.parametrize('any_range', [False, True], ids=['If-Range', 'no If-Range'])
@pytest.mark.parametrize('longer', [0, 400_000, -2_000_000])
def test_the_file_changes_between_two_calls(longer, any_range, sample, little, noise, fails, tmp_path):
    "Never half of one and half of the other, even where the server does not look at If-Range; and never stuck."
    pack_it = lambda noise: tar(arranged(little, 'fastai') | {'planet_sample/noise.png': noise})  # has no checksum of its own
    sample.files['planet_sample.tgz'] = pack_it(noise)
    sample.fault('planet_sample.tgz', cut)
    fails(OfflineError, tmp_path/'new', untar_data, URLs.PLANET_SAMPLE, tmp_path/'new')
    noise = (noise[::-1] + noise)[:len(noise) + longer]
    sample.files['planet_sample.tgz'] = pack_it(noise)
    sample.fault('planet_sample.tgz', dict(any_range=any_range))
    if any_range:  # the other length tells, or the md5
        with contextlib.suppress(CorruptError, OfflineError): untar_data(URLs.PLANET_SAMPLE, tmp_path/'new')
    assert is_sample(untar_data(URLs.PLANET_SAMPLE, tmp_path/'new'), little, noise)


def test_untar_data_offline(nobody, fails, tmp_path):
    fails(OfflineError, tmp_path/'new', untar_data, f'{nobody}/planet_sample.tgz', tmp_path/'new')


def test_planet_data_takes_the_sample(sample, little, tmp_path):
    "The lesson's `DATA=sample`: fast.ai's layout becomes ours, and is linked to, not copied."
    folder = planet_data(source='sample')
    assert folder == tmp_path/'course'/'data'/'planet_1000' and content(folder) == wanted(little, 'fastai')
    assert (folder/'train-jpg').is_symlink() and len(sample.log) == 1
    assert planet_data(source='sample') == folder and len(sample.log) == 1


def test_the_real_sample(real_sample, sample_tgz, server, monkeypatch):
    "Fast.ai's 1,000 tiles, packed as they were, through all of it."
    monkeypatch.setattr(URLs, 'PLANET_SAMPLE', server.plain('planet_sample.tgz', sample_tgz))
    folder = planet_data(source='sample')
    theirs = {f'train-jpg/{file.name}': file.read_bytes() for file in (real_sample/'train').iterdir()}
    assert content(folder) == theirs | {'train_v2.csv': (real_sample/'labels.csv').read_bytes()} and len(theirs) == 1000


# ---- a server's word -------------------------------------------------------------------------------------------------

@pytest.fixture
def plain(server, two, fails, tmp_path):
    "A small archive at `plain.url`; `plain.get()` fetches it, `plain.refused(kind)` fails to, and is none the worse for it."
    plain = SimpleNamespace(server=server, url=server.plain('x.tgz', pack(two, '.tgz')), folder=tmp_path/'new')
    plain.get = lambda: content(untar_data(plain.url, plain.folder))
    def refused(kind):
        error = fails(kind, plain.folder, untar_data, plain.url, plain.folder)
        server.faults.clear()
        assert plain.get() == two
        return error
    plain.refused = refused
    return plain


@pytest.mark.parametrize('length', ['abc', '-5', '', '\xb2', '9'*5000, '1e3', '0x10'])
def test_a_length_that_is_none(length, plain, two):
    "Taken as not said: the archive itself tells whether it is whole."
    plain.server.fault('x.tgz', dict(says={'Content-Length': length}))
    assert plain.get() == two


@pytest.mark.parametrize('length, kind', [(str(10**15), CorruptError), ('5, 7', DataError), ('1_0', CorruptError), ('+9', CorruptError)])
def test_a_length_that_is_another(length, kind, plain):
    plain.server.fault('x.tgz', dict(says={'Content-Length': length}))
    plain.refused(kind)


@pytest.mark.parametrize('after', ['-5', 'soon', '\xb2', '9'*5000, '', '1e3', '7 s'])
def test_a_time_to_wait_that_is_none(after, plain, waits, monkeypatch):
    monkeypatch.setattr(download, '_WAITS', (1, 2, 4, 8))
    plain.server.fault('x.tgz', dict(status=429, headers={'Retry-After': after}))
    plain.refused(RateLimitedError)
    assert waits == [1, 2, 4, 8]


astray = '', '?', '//', 'http://[::1', 'http://127.0.0.1:99999/', 'ftp://127.0.0.1/x', 'file:///etc/passwd', 'mailto:me', '\xff\xfe', \
    f'http://{"a"*300}/', 'http://', 'http://me:s3cret@[x/?X-Goog-Signature=s3cret', 'ftp://me:s3cret@x/?X-Goog-Signature=s3)cret s3cret'


@pytest.mark.parametrize('location', astray)
def test_led_astray(location, plain):
    "To nonsense, in a circle, to what is no web: refused at once, without showing what the address hides."
    plain.server.fault('x.tgz', dict(status=302, headers={'Location': location}))
    error = plain.refused(DataError)
    assert 's3' not in str(error) and 'cret' not in str(error)


@pytest.mark.parametrize('status', [204, 304, 300])
def test_a_status_that_brings_no_file(status, plain):
    plain.server.fault('x.tgz', dict(status=status))
    plain.refused(OfflineError)


@pytest.mark.parametrize('about', [None, 'bytes', 'bytes 0-1/2', 'bytes */*', '\xff', ''])
def test_a_part_that_says_odd_things(about, sample, little, noise, tmp_path, monkeypatch):
    "The third attempt begins anew."
    monkeypatch.setattr(download, '_WAITS', (0.01, 0.01))
    sample.fault('planet_sample.tgz', cut, dict(says={'Content-Range': about}), {})
    assert is_sample(untar_data(URLs.PLANET_SAMPLE, tmp_path/'new'), little, noise)
    assert [entry['range'] is None for entry in sample.log] == [True, False, True]


@pytest.mark.parametrize('about', [None, 'bytes 5-9/10'])
def test_a_part_that_nobody_asked_for(about, plain):
    plain.server.fault('x.tgz', dict(partly=True, says={'Content-Range': about}))
    plain.refused(OfflineError)


@pytest.mark.parametrize('mark', ['"\xe9"', '"a\tb"'])
def test_a_mark_that_cannot_be_sent_back(mark, sample, little, noise, tmp_path):
    "It is not sent back: the second attempt begins anew, and nothing is stuck."
    sample.fault('planet_sample.tgz', cut | dict(says=dict(ETag=mark)), dict(says=dict(ETag=mark)))
    assert is_sample(untar_data(URLs.PLANET_SAMPLE, tmp_path/'new'), little, noise)


@pytest.mark.parametrize('packed', ['gzip', 'GZIP, br'])
def test_packed_though_we_asked_for_it_as_it_is(packed, plain):
    "Nothing is unfolded: 30 kB would become 30 MB."
    data = plain.server.files['x.tgz']
    plain.server.files['x.tgz'] = gzip.compress(bytes(30_000_000))
    plain.server.fault('x.tgz', dict(says={'Content-Encoding': packed}))
    with pytest.raises(DataError, match='packs'): untar_data(plain.url, plain.folder)
    assert sum(file.stat().st_size for file in plain.folder.rglob('*')) < 10_000 and len(plain.server.log) == 1
    plain.server.files['x.tgz'] = data
    plain.refused(DataError)


@pytest.mark.parametrize('size', [None, 1000])
def test_a_body_without_end(size, plain, monkeypatch):
    "It stops at the length that is known, else at a bound."
    monkeypatch.setattr(download, '_UNSAID', 1 << 20, raising=False)
    if size: monkeypatch.setitem(download._SIZES, plain.url, size)
    plain.server.fault('x.tgz', dict(endless=True))
    with pytest.raises(CorruptError, match='more than 1,0'): untar_data(plain.url, plain.folder)
    assert plain.server.log[0]['sent'] < 1e7 and not visible(plain.folder)  # what the sockets hold among it
    download._SIZES.pop(plain.url, None)
    plain.refused(CorruptError)


def test_kaggle_without_end(kaggle, fails, tmp_path, monkeypatch):
    monkeypatch.setattr(download, '_ANSWER', 1 << 20, raising=False)
    kaggle.fault('ListDataFiles', dict(endless=True))
    fails(OfflineError, tmp_path/'new', planet_data, tmp_path/'new', source='kaggle')
    assert kaggle.log[0]['sent'] < 1e7


@pytest.mark.parametrize('says', [b'[]', b'5', b'{"files": 5}', b'{"files": [5]}', b'{"code": "x"}', b'{"code": 500}', b'['*99_999],
                         ids=lambda says: says[:9].decode())
def test_kaggle_lists_nonsense(says, kaggle, little, tmp_path):
    "An error of ours, or a list without the tables: those of the mirror are used."
    kaggle.fault('ListDataFiles', dict(body=says, json=True))
    with contextlib.suppress(DataError): assert content(planet_data(tmp_path/'new', source='kaggle')) == wanted(little, 'mirror')


@pytest.mark.parametrize('ill', [dict(drip=0.05), dict(slow_head=0.05)], ids=['body', 'head'])
def test_a_drip(ill, plain, monkeypatch):
    "A byte now and then keeps any time-out from firing: too slow is given up, what has come is kept."
    monkeypatch.setattr(download, '_SLOWEST', (1000, 0.2), raising=False)
    monkeypatch.setattr(download, '_PATIENCE', 0.3, raising=False)
    plain.server.fault('x.tgz', ill)
    start = time.monotonic()
    with pytest.raises(OfflineError): untar_data(plain.url, plain.folder)
    assert time.monotonic() - start < 5
    assert [entry['range'] is None for entry in plain.server.log] == [True, 'drip' not in ill]
    monkeypatch.setattr(download, '_PATIENCE', 30)
    plain.refused(OfflineError) if 'drip' in ill else plain.server.faults.clear()
    assert plain.get()


def test_from_https_to_http(two, fails, tmp_path, monkeypatch):
    "Refused; the other way round is fine."
    asked = []
    def send(adapter, request, **_):
        asked.append(request.url)
        answer = requests.Response()
        answer.url, answer.request, answer.raw = request.url, request, io.BytesIO(pack(two, '.tgz'))
        answer.status_code = 200 if len(asked) % 2 == 0 else 302
        if answer.status_code == 302: answer.headers['Location'] = f'{to}://example.org/x.tgz'
        return answer
    monkeypatch.setattr(requests.adapters.HTTPAdapter, 'send', send)
    to = 'https'
    for begin in ('http', 'https'): assert content(untar_data(f'{begin}://example.org/x.tgz', tmp_path/begin)) == two
    asked.clear()
    to = 'http'
    error = fails(DataError, tmp_path/'new', untar_data, 'https://example.org/x.tgz', tmp_path/'new')
    assert 'https' in error.what and asked == ['https://example.org/x.tgz']


def test_a_netrc_is_left_alone(kaggle, little, plain, two, tmp_path):
    "Passwords of other programs are sent to nobody, neither to the first address nor to where it leads."
    lines = '\n'.join(f'machine {host} login me password s3cret' for host in ('127.0.0.1', 'localhost'))
    lay({'.netrc': lines.encode(), '_netrc': lines.encode()}, Path.home())
    assert plain.get() == two and plain.server.log[-1]['auth'] == ''
    plain.server.fault('y.tgz', dict(status=302, headers={'Location': plain.url}))
    plain.server.plain('y.tgz', b'')
    assert content(untar_data(plain.url.replace('/x.', '/y.'), tmp_path/'y')) == two
    assert content(planet_data(tmp_path/'kaggle', source='kaggle')) == little
    assert {entry['auth'] for entry in kaggle.log if entry['method'] == 'GET'} == {''}


def test_a_proxy_is_used(server, two, tmp_path, monkeypatch):
    "One that the environment names, with its exceptions."
    server.plain('x.tgz', pack(two, '.tgz'))
    monkeypatch.setenv('http_proxy', server.url)
    monkeypatch.setenv('no_proxy', 'other.invalid')
    assert content(untar_data('http://nowhere.invalid/files/x.tgz', tmp_path/'new')) == two
    with pytest.raises(OfflineError): untar_data('http://other.invalid/files/x.tgz', tmp_path/'other')
    assert len(server.log) == 1


@pytest.mark.parametrize('status', [404, 418, 503, None])
def test_what_an_address_hides(status, plain, nobody, two):
    "User, password and signature are used, and never shown: not by an error, not on the way to it."
    secret = lambda url: url.replace('http://', 'http://me:s3cret@') + '?key=s3(c)ret'
    plain.url = secret(plain.url if status else f'{nobody}/x.tgz')
    if status:
        plain.server.fault('x.tgz', dict(status=status))
        error = plain.refused(DataError if status == 418 else FileGoneError if status == 404 else OfflineError)
        assert plain.server.log[-1]['auth'] == 'Basic'
    else:
        with pytest.raises(OfflineError) as e: untar_data(plain.url, plain.folder)
        error = e.value
    assert not [secret for secret in ('s3', 'cret', 'me:', 'key=') if secret in str(error) + error.page]


@pytest.mark.parametrize('end', ['..', '.', '', '..tgz', '..tar.7z', '.tgz', '...tgz', '.ssh', '.ssh.tgz', 'a\\b.tgz', '\0.tgz', 'x'*400, '\x1b.tgz'])
def test_an_address_that_names_nothing(end, tmp_path):
    "Such a name would lead to a folder that is there already, or out of where the new one goes."
    for folder in ('data', 'data/.ssh', 'data/b'): (tmp_path/folder).mkdir()
    before = snapshot(tmp_path)
    with pytest.raises(ValueError, match='name of an archive'): untar_data(f'http://127.0.0.1:9/files/{end}', tmp_path/'data')
    for url in ('', 'http://127.0.0.1:9', 'http://[::1/x.tgz'):
        with pytest.raises(ValueError, match='name of an archive'): untar_data(url, tmp_path/'data')
    assert snapshot(tmp_path) == before


# ---- archives --------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('kind', kinds)
@pytest.mark.parametrize('how', ['competition', 'mirror', 'fastai', 'flat'])
def test_good_archive(how, kind, planet, tmp_path, capfd):
    "Every kind, every arrangement; the second call reads what the first wrote down, and touches nothing."
    others = {'notes/read.me': b'', '__MACOSX/._train_0.jpg': b'x'}
    archive = put(tmp_path, f'planet{kind}', pack(arranged(planet, how) | others, kind))
    folder = planet_data(archive)
    said = capfd.readouterr().out
    assert folder.is_relative_to(Config.data_path()) and content(folder) == wanted(planet, how) and archive.exists()
    assert 'cannot be read' not in said
    assert said.count('notes/read.me') == 1 and ('train_classes.csv' in said) == (how == 'mirror')
    before = snapshot(folder)
    assert planet_data(archive) == planet_data(source=archive) == folder and snapshot(folder) == before


calls = {
    'file': lambda shelf: planet_data(shelf/'train-jpg.tar.7z'),
    'file as source': lambda shelf: planet_data(shelf.parent/'new', source=shelf/'train-jpg.tar.7z'),
    'folder as source': lambda shelf: planet_data(shelf.parent/'new', source=str(shelf)),
    'in place': lambda shelf: planet_data(shelf, 'archive'),
    'in place, auto': planet_data}


@pytest.mark.parametrize('call', calls.values(), ids=calls)
@pytest.mark.parametrize('end', ['.csv', '.csv.zip'])
def test_archives_as_the_browser_saved_them(end, call, planet, tmp_path):
    "The archives of the competition beside its table, which the site gives plain or zipped."
    table, shelf = planet['train_v2.csv'], tmp_path/'shelf'
    tiles = {name: data for name, data in planet.items() if name.startswith('train-jpg')}
    rest = {name: data for name, data in planet.items() if name.startswith('test-jpg/')}
    lay({'train-jpg.tar.7z': pack(tiles, '.tar.7z'), 'test-jpg.tar.7z': pack(rest, '.tar.7z'), 'notes.txt': b'',
         f'train_v2{end}': zipped({'train_v2.csv': table}) if end == '.csv.zip' else table}, shelf)
    folder = call(shelf)
    more = {} if call in (calls['file'], calls['file as source']) else rest
    assert content(folder) == tiles | {'train_v2.csv': table} | more and (shelf/'train-jpg.tar.7z').exists()


def test_two_archives_of_one_name(planet, few, tmp_path):
    "Each gets a folder of its own."
    one, other = (lay({'planet.zip': zipped(files)}, tmp_path/name)/'planet.zip' for name, files in dict(a=planet, b=few).items())
    assert content(planet_data(one)) == planet and content(planet_data(other)) == few and content(planet_data(one)) == planet


def test_an_archive_that_came_later(planet, tmp_path):
    "A second archive in the folder is unpacked by source='archive', and what is there stays as it is."
    tiles, rest = ({n: planet[n] for n in planet if n.startswith(start)} for start in ('train', 'test-jpg/'))
    folder = planet_data(lay({'train.zip': zipped(tiles)}, tmp_path/'new'))
    before = snapshot(folder/'train-jpg')
    lay({'test-jpg.tar.7z': pack(rest, '.tar.7z')}, folder)
    assert content(planet_data(folder, source='archive')) == tiles | rest and snapshot(folder/'train-jpg') == before


@pytest.mark.parametrize('kind', kinds)
def test_other_files_first(kind, few, tmp_path):
    notes = {f'notes/{i}.txt': b'x' for i in range(20)}
    assert content(planet_data(put(tmp_path, f'x{kind}', pack(notes | few, kind)))) == few


def out_of_its_folder(tmp_path):
    return ['../train_0.jpg', str(tmp_path/'train_0.jpg'), 'train-jpg/../../train_0.jpg', '//host/share/train_0.jpg',
            r'..\train_0.jpg', r'C:\train_0.jpg', 'C:train_0.jpg', r'\train_0.jpg']


def refused(kind, name, data, fails, tmp_path, server):
    "`planet_data` refuses this archive and leaves it where it is; `untar_data` too, and deletes what it fetched."
    archive = put(tmp_path, name, data)
    error = fails(kind, tmp_path/'new', planet_data, tmp_path/'new', source=archive)
    assert archive.read_bytes() == data and str(archive) in str(error)
    fails(kind, tmp_path/'untar', untar_data, server.plain(name, data), tmp_path/'untar')
    assert {p for p in tmp_path.rglob('*') if p.is_file() and p.suffix != '.lock'} == {archive}
    archive.unlink()
    return error


@pytest.mark.parametrize('kind', kinds)
@pytest.mark.parametrize('i', range(8))
def test_names_that_lead_out(i, kind, few, fails, tmp_path, server):
    name = out_of_its_folder(tmp_path)[i]
    refused(UnsafeArchiveError, f'evil{kind}', pack({name: few['train-jpg/train_0.jpg']} | few, kind), fails, tmp_path, server)


def special(kind, name='train-jpg/train_9.jpg'):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, '/etc/passwd'
    return info


@pytest.mark.parametrize('what', [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, b'Z'])
@pytest.mark.parametrize('kind', ['.tar', '.tgz', '.tar.7z'])
def test_links_and_devices(kind, what, few, fails, tmp_path, server):
    refused(UnsafeArchiveError, f'evil{kind}', pack(few, kind, special(what)), fails, tmp_path, server)


@pytest.mark.parametrize('what', [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO])
def test_links_and_devices_in_a_zip(what, few, fails, tmp_path, server):
    info = zipfile.ZipInfo('train-jpg/train_9.jpg')
    info.external_attr = (what | 0o644) << 16
    refused(UnsafeArchiveError, 'evil.zip', pack(few, '.zip', (info, b'/etc/passwd')), fails, tmp_path, server)


@pytest.mark.parametrize('kind', kinds)
def test_the_same_tile_twice(kind, few, fails, tmp_path):
    twice = {f'{above}/train_0.jpg': few['train-jpg/train_0.jpg'] for above in ('a', 'b')} | few
    archive = put(tmp_path, f'twice{kind}', pack(twice, kind))
    fails(UnsafeArchiveError, tmp_path/'new', planet_data, tmp_path/'new', source=archive)


huge = 70 << 20


def long_header(kind):
    info = tarfile.TarInfo('long')
    info.type, info.size = kind, huge
    return info


bombs = {
    'zeros in a .tar.7z': lambda few: ('.tar.7z', sevenzip(tar({'train-jpg/train_9.jpg': bytes(huge)}))),
    'zeros in a .7z': lambda few: ('.tar.7z', sevenzip(bytes(huge))),
    'zeros in a .tgz': lambda few: ('.tgz', pack({'train-jpg/train_9.jpg': bytes(huge)}, '.tgz')),
    'zeros in a .zip': lambda few: ('.zip', pack({'train-jpg/train_9.jpg': bytes(huge)}, '.zip')),
    'zeros that nobody wants': lambda few: ('.zip', pack(few | {'other.bin': bytes(huge)}, '.zip')),
    'zeros after the end': lambda few: ('.tgz', gzip.compress(tar(few) + bytes(huge), 1)),
    'a very long pax header': lambda few: ('.tgz', pack(few, '.tgz', long_header(tarfile.XHDTYPE))),
    'a very long name': lambda few: ('.tgz', pack(few, '.tgz', long_header(tarfile.GNUTYPE_LONGNAME)))}


@pytest.mark.parametrize('bomb', bombs.values(), ids=bombs)
def test_bombs(bomb, few, fails, tmp_path, server):
    "Small archives that unfold to 70 MB: refused, nothing of it stays."
    kind, data = bomb(few)
    assert len(data) < 1e6
    refused(UnsafeArchiveError, f'bomb{kind}', data, fails, tmp_path, server)


def test_very_many_entries(fails, tmp_path):
    "Folders only, 140,000 of them: given up after 64 MB."
    data = gzip.compress(special(tarfile.DIRTYPE, 'a').tobuf()*140_000, 1)
    fails(UnsafeArchiveError, tmp_path/'new', planet_data, tmp_path/'new', source=put(tmp_path, 'many.tgz', data))


def test_a_zip_that_lies_about_its_size(few, fails, tmp_path, server):
    "Its tile claims a thousand bytes and unfolds to 70 MB: it is read for a thousand, and the checksum is wrong."
    true, lie = (size.to_bytes(4, 'little') for size in (huge, 1000))
    data = pack({'train-jpg/train_9.jpg': bytes(huge)} | few, '.zip')
    refused(CorruptError, 'lie.zip', data.replace(true, lie), fails, tmp_path, server)


def flip(data, at, mask=0xff): return data[:at] + bytes([data[at]^mask]) + data[at + 1:]


broken = {
    'a page': lambda few, kind: sign_in,
    'empty': lambda few, kind: b'',
    'half': lambda few, kind: pack(few, kind)[:len(pack(few, kind))//2],
    'the beginning': lambda few, kind: pack(few, kind)[:600],
    'without its end': lambda few, kind: pack(few, kind).rstrip(b'\0')[:-1],
    'a text': lambda few, kind: b'7-Zip is the wrong program for this'}


@pytest.mark.parametrize('what', broken.values(), ids=broken)
@pytest.mark.parametrize('kind', kinds)
def test_broken_archive(kind, what, few, fails, tmp_path, server):
    refused(CorruptError, f'broken{kind}', what(few, kind), fails, tmp_path, server)


def test_a_tar_that_ends_between_two_entries(few, fails, tmp_path, server):
    data = tar(few)
    with tarfile.open(fileobj=io.BytesIO(data)) as t: ends = [info.offset for info in t.getmembers()][1:]
    for end in ends:
        refused(CorruptError, 'broken.tar', data[:end], fails, tmp_path, server)
        refused(CorruptError, 'broken.tgz', gzip.compress(data[:end], 1), fails, tmp_path, server)


@pytest.mark.parametrize('method, cause', [(lzma2, lzma.LZMAError), (copied, py7zr.exceptions.CrcError)], ids=['lzma', 'crc'])
def test_one_flipped_byte(method, cause, few, fails, tmp_path, server):
    "One that the decoder stumbles over, and one that only the checksum sees, after the tile was written."
    data = sevenzip(tar(few), method)
    at = 32 if cause is lzma.LZMAError else data.index(few['train-jpg/train_0.jpg']) + 300
    error = refused(CorruptError, 'flipped.tar.7z', flip(data, at), fails, tmp_path, server)
    assert isinstance(error.__cause__, cause)


@pytest.mark.parametrize('kind', ['.tar.7z', '.tgz', '.zip'])
def test_any_flipped_byte(kind, few, tmp_path):
    "All bytes of the headers and forty others: the right tiles or an error of ours, and nothing under a final name."
    data, rng = pack(few, kind), random.Random(5)
    places = {*range(40), *range(len(data) - 100, len(data)), *rng.sample(range(len(data)), 40)}
    outcomes = set()
    for at in sorted(places):
        for mask in (0xff, 1 << rng.randrange(8)):
            archive, target = put(tmp_path, f'x{kind}', flip(data, at, mask)), tmp_path/'new'
            try: planet_data(target, source=archive)
            except DataError as e: outcomes.add(type(e)), visible(target) and pytest.fail(f'byte {at}: {visible(target)}')
            except Exception as e: pytest.fail(f'byte {at} of {len(data)}, mask {mask:#x}: {type(e).__name__}: {e}')
            else: assert content(target) == few, f'byte {at}, mask {mask:#x}'
            shutil.rmtree(target)
    assert CorruptError in outcomes


def with_flags(data, flags=0, method=None):
    "A zip whose entries all claim other flags and another method, in both places where that is said."
    out = bytearray(data)
    for magic, at in (b'PK\3\4', 6), (b'PK\1\2', 8):
        start = -1
        while (start := data.find(magic, start + 1)) >= 0:
            out[start + at] |= flags
            if method is not None: out[start + at + 2] = method
    return bytes(out)


def claims_2_to_the_40():
    "A .7z of nothing but a header, which says that so many files follow."
    header = b'\1\5\xff' + (1 << 40).to_bytes(8, 'little') + b'\0\0'
    start = (0).to_bytes(8, 'little') + len(header).to_bytes(8, 'little') + zlib.crc32(header).to_bytes(4, 'little')
    return b'7z\xbc\xaf\x27\x1c\0\4' + zlib.crc32(start).to_bytes(4, 'little') + start + header


unusual = {
    'a .7z with a password': ('.tar.7z', lambda few: sevenzip(tar(few), copied, aes)),
    'a .zip with a password': ('.zip', lambda few: with_flags(pack(few, '.zip'), flags=1)),
    'Deflate64': ('.zip', lambda few: with_flags(pack(few, '.zip'), method=9)),
    'a .7z of a page': ('.7z', lambda few: sevenzip(sign_in)),
    'a .7z that claims 2**40 files': ('.7z', lambda few: claims_2_to_the_40())}


@pytest.mark.parametrize('kind, data', unusual.values(), ids=unusual)
def test_archives_that_we_cannot_read(kind, data, few, fails, tmp_path, server):
    refused(CorruptError, f'x{kind}', data(few), fails, tmp_path, server)


def test_a_7z_with_several_files(few, fails, tmp_path, server):
    out = io.BytesIO()
    with py7zr.SevenZipFile(out, 'w', filters=[copied]) as z:
        for name, data in few.items(): z.writestr(data, name)
    refused(CorruptError, 'x.7z', out.getvalue(), fails, tmp_path, server)


@pytest.mark.parametrize('kind', kinds)
def test_wrong_count(kind, planet, fails, tmp_path):
    "One training tile too few, one too many, and the same for the test tiles: all are compared with the tables."
    def check(files):
        archive = put(tmp_path, f'x{kind}', pack(files, kind))
        fails(CorruptError, tmp_path/'new', planet_data, tmp_path/'new', source=archive)
    for name in ('train-jpg/train_7.jpg', 'test-jpg/test_7.jpg', 'test-jpg-additional/file_3.jpg'):
        check({n: planet[n] for n in planet if n != name})
        check(planet | {name.replace('.jpg', '00.jpg'): planet[name]})


def test_the_official_count(planet, fails, tmp_path, monkeypatch):
    "With the table that has the md5 of the competition's, there must be 40,479 tiles."
    monkeypatch.setitem(download._MD5, hashlib.md5(planet['train_v2.csv']).hexdigest(), 'train_v2.csv')
    fails(CorruptError, tmp_path/'new', planet_data, tmp_path/'new', source=put(tmp_path, 'x.zip', pack(planet, '.zip')))


def much_too_large(jpeg):
    "The same picture, whose header claims 65,500 x 65,500 pixels."
    at = jpeg.index(b'\xff\xc0') + 5
    return jpeg[:at] + (65_500).to_bytes(2, 'big')*2 + jpeg[at + 4:]


endless_program = b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n{} loop\n'


@pytest.mark.parametrize('spoil', [lambda jpeg: b'', lambda jpeg: sign_in, lambda jpeg: jpeg[:len(jpeg)//2], much_too_large,
                                   lambda jpeg: endless_program],
                         ids=['empty', 'a page', 'half', 'much too large', 'a program'])
def test_a_tile_that_is_no_picture(spoil, few, fails, tmp_path):
    files = few | {'train-jpg/train_0.jpg': spoil(few['train-jpg/train_0.jpg'])}
    archive = put(tmp_path, 'x.tar.7z', pack(files, '.tar.7z'))
    error = fails(CorruptError, tmp_path/'new', planet_data, tmp_path/'new', source=archive)
    assert 'train_0.jpg' in str(error)


def test_a_program_is_not_run(tmp_path, monkeypatch):
    "PIL's reader of EPS, which starts Ghostscript, is never asked; nor is a pipe opened, which would wait for ever."
    from PIL import EpsImagePlugin
    monkeypatch.setattr(EpsImagePlugin.EpsImageFile, '_open', lambda *_: pytest.fail('PIL was to read a program'))
    with pytest.raises(Exception, match='cannot identify'): download._decode(put(tmp_path, 'train_0.jpg', endless_program))


def test_a_pipe_among_the_tiles(few, fails, tmp_path):
    folder = lay(few, tmp_path/'mine')
    (folder/'train-jpg'/'train_0.jpg').unlink()
    os.mkfifo(folder/'train-jpg'/'train_0.jpg')
    error = fails(CorruptError, folder, planet_data, folder)
    assert 'train_0.jpg' in error.what and 'no plain file' in error.what


@pytest.mark.parametrize('name', ['caf\udce9.txt', '\x1b[2J\r.txt'], ids=['Latin-1', 'control characters'])
@pytest.mark.parametrize('kind', ['.tar', '.tar.7z'])
def test_a_name_that_cannot_be_printed(kind, name, few, tmp_path, monkeypatch):
    "Left out, and the line that says so can be shown by a terminal that knows UTF-8 only."
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode='w', format=tarfile.GNU_FORMAT) as t: t.addfile(tarfile.TarInfo(name))
    whole = {'.tar': bytes, '.tar.7z': sevenzip}[kind](data.getvalue()[:512] + tar(few))
    monkeypatch.setattr(sys, 'stdout', io.TextIOWrapper(io.BytesIO(), encoding='utf-8', write_through=True))
    assert content(planet_data(put(tmp_path, f'x{kind}', whole))) == few
    said = sys.stdout.buffer.getvalue().decode()
    assert '.txt' in said and '\x1b' not in said


def nul():
    info = tarfile.TarInfo('x.jpg')
    info.pax_headers = dict(path='a\0b.jpg')
    return info


odd_names = {'very long': {'x'*300 + '.jpg': b'x'}, 'nothing we take': {'setup.py': b'x'}, 'nothing': {},
             'a file that is a folder': {'a.jpg': b'x', 'a.jpg/b.jpg': b'x'},
             'a folder that is a file': {'a.jpg/b.jpg': b'x', 'a.jpg': b'x'}}


@pytest.mark.parametrize('names', odd_names.values(), ids=odd_names)
@pytest.mark.parametrize('kind', kinds)
def test_untar_data_and_odd_names(kind, names, few, tmp_path, server):
    "Names that no disk takes, archives that would leave an empty folder behind: an error, and nothing that looks finished."
    url = server.plain(f'odd{kind}', pack(names, kind))
    with pytest.raises(DataError) as e: untar_data(url, tmp_path/'new')
    assert isinstance(e.value, (CorruptError, UnsafeArchiveError)) and not visible(tmp_path/'new')
    server.plain(f'odd{kind}', pack(few, kind))
    assert content(untar_data(url, tmp_path/'new')) == few, 'the odd one was kept'


sparse = {'a map of words': {'GNU.sparse.map': 'a,b'}, 'an odd map': {'GNU.sparse.map': '0,1,2'}, 'no map': {'GNU.sparse.size': '5'},
          'size': {'GNU.sparse.size': 'x', 'GNU.sparse.map': '0,1'}, 'real size': {'GNU.sparse.realsize': 'x', 'GNU.sparse.map': '0,1'},
          'below zero': {'GNU.sparse.realsize': '-5', 'GNU.sparse.map': '0,1'}, 'huge': {'GNU.sparse.map': '0,' + '9'*400},
          'version 1': {'GNU.sparse.major': '1', 'GNU.sparse.minor': '0'}, 'all right': {'GNU.sparse.size': '3', 'GNU.sparse.map': '0,3'},
          'version 1 of words': {'GNU.sparse.major': '1', 'GNU.sparse.minor': '0', 'GNU.sparse.realsize': 'x'}}


@pytest.mark.parametrize('headers', sparse.values(), ids=sparse)
def test_files_with_holes(headers, few, tmp_path):
    "tarfile trusts what a header says about holes; we take no such file, and rubbish there is damage."
    info = tarfile.TarInfo('train-jpg/train_9.jpg')
    info.size, info.pax_headers = 1024, headers
    archive = put(tmp_path, 'holes.tar', pack(few, '.tar', info))
    with pytest.raises((CorruptError, UnsafeArchiveError)): planet_data(tmp_path/'new', source=archive)
    assert not visible(tmp_path/'new')


def test_untar_data_and_a_name_with_a_zero(tmp_path, server):
    url = server.plain('odd.tar', tar({}, nul()))
    with pytest.raises(DataError): untar_data(url, tmp_path/'new')
    assert not visible(tmp_path/'new')


# ---- full disks, killed processes, two at a time ---------------------------------------------------------------------

def mounted(folder, *options):
    "Make `folder` a small disk of its own, or skip."
    folder.mkdir(exist_ok=True)
    run = subprocess.run(['mount', '-t', 'tmpfs', '-o', ','.join(options), 'tmpfs', folder], capture_output=True, text=True) \
        if shutil.which('mount') else SimpleNamespace(returncode=1, stderr='no mount here')
    if run.returncode: pytest.skip(f'no small disk may be mounted: {run.stderr.strip()}')


@pytest.fixture
def disk(tmp_path):
    "A disk of 600 kB."
    mounted(tmp_path/'disk', 'size=600k')
    yield tmp_path/'disk'
    subprocess.run(['umount', '-l', tmp_path/'disk'], check=True)


def enlarge(disk): subprocess.run(['mount', '-o', 'remount,size=20m', disk], check=True)


@pytest.mark.parametrize('kind', kinds)
def test_a_full_disk_while_unpacking(kind, planet, disk, fails, tmp_path):
    archive = put(tmp_path, f'x{kind}', pack(planet, kind))
    fails(DiskFullError, disk/'new', planet_data, disk/'new', source=archive)
    enlarge(disk)
    assert content(planet_data(disk/'new', source=archive)) == planet


@pytest.mark.parametrize('less', [{}, dict(no_length=True, no_mark=True)], ids=['length', 'no length'])
def test_a_full_disk_while_downloading(less, kaggle, little, disk, fails):
    "Where the length is said it is compared with the room before; where not, the disk says it. Room made: all goes well."
    kaggle.fault('archive.zip', less)
    fails(DiskFullError, disk/'new', planet_data, disk/'new', source='kaggle')
    enlarge(disk)
    assert content(planet_data(disk/'new', source='kaggle')) == little


@pytest.mark.parametrize('number', [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_while_drawing(number, fails, tmp_path, monkeypatch):
    def full(*args, **kwargs): raise OSError(number, os.strerror(number))
    with monkeypatch.context() as patch:
        patch.setattr(Path, 'write_bytes', full)
        error = fails(DiskFullError, tmp_path/'none', planet_data, tmp_path/'new', 'synthetic', n=3)
    assert str(tmp_path/'new') in error.what
    assert len(content(planet_data(tmp_path/'new', 'synthetic', n=3))) == 6


def test_too_little_room_is_known_before(sample, disk, fails):
    fails(DiskFullError, disk/'new', untar_data, URLs.PLANET_SAMPLE, disk/'new')
    assert not list((disk/'new').rglob('*.part/*.part')), 'it was begun'


mkdir = os.mkdir


class Steps:
    "Count what `download` does to a disk: open to write, write, make a folder, link, rename, remove. Before step `n` call `act`."
    def __init__(self, patch, n=0, act=None, also=()):
        self.n, self.act, self.done = n, act, 0
        patch.setattr(download, 'open', self.open, raising=False)
        for where, name in [*((os, name) for name in ('mkdir', 'symlink', 'replace', 'rename')), (Path, 'write_text'), *also]:
            patch.setattr(where, name, self.counted(getattr(where, name)))

    def counted(self, do):
        def step(*args, **kwargs):
            if do is not mkdir or not os.path.exists(args[0]):  # a folder that is there takes no room
                self.done += 1
                if self.done == self.n: self.act()
            return do(*args, **kwargs)
        return step

    def open(self, file, mode='r', **kwargs):
        if 'r' in mode: return open(file, mode, **kwargs)
        opened = self.counted(open)(file, mode, **kwargs)
        opened.write = self.counted(opened.write)
        return opened


def no_space(): raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
def die(): os.kill(os.getpid(), signal.SIGKILL)


def whole(folder, files):
    "What has a final name in `folder` is all right: the last renames happen one by one, and the labels come last."
    for name in visible(folder):
        if name == 'planet_data.json': continue
        found = {n: (folder/n).read_bytes() for n in files if n.split('/')[0] == name and (folder/n).exists()}
        assert found and found == {n: files[n] for n in files if n.split('/')[0] == name}
    if any(table in visible(folder) for table in layout[:2]): assert 'train-jpg' in visible(folder)


def numbers(call, **options):
    "The numbers of the steps that `call()` takes."
    with pytest.MonkeyPatch.context() as patch:
        steps = Steps(patch, **options)
        call()
    return range(1, steps.done + 1)


def test_no_space_at_any_step_of_unpacking(two, tmp_path):
    "Each write, folder and rename on the way from archive to layout, one after another, meets a full disk."
    tiles, table = ({name: two[name] for name in two if name.endswith(end)} for end in ('jpg', 'csv'))
    shelf = lay({'train-jpg.tar.7z': pack(tiles, '.tar.7z'), 'train_v2.csv.zip': zipped(table)}, tmp_path/'shelf')
    for n in numbers(lambda: planet_data(tmp_path/'0', source=shelf)):
        with pytest.MonkeyPatch.context() as patch:
            Steps(patch, n, no_space)
            with pytest.raises(DiskFullError): planet_data(tmp_path/str(n), source=shelf)
        whole(tmp_path/str(n), two)
        assert content(planet_data(tmp_path/str(n), source=shelf)) == two, f'after step {n}'


def test_no_space_at_any_step_from_kaggle(kaggle, two, tmp_path):
    kaggle.tables = {'train_v2.csv/train_v2.csv': two['train_v2.csv']}
    kaggle.mirror = zipped(arranged(two, 'mirror'))
    for n in numbers(lambda: planet_data(tmp_path/'0', source='kaggle')):
        with pytest.MonkeyPatch.context() as patch:
            Steps(patch, n, no_space)
            with pytest.raises(DiskFullError): planet_data(tmp_path/str(n), source='kaggle')
        whole(tmp_path/str(n), two)
        assert content(planet_data(tmp_path/str(n), source='kaggle')) == two, f'after step {n}'


def test_no_space_at_any_step_of_untar_data(server, two, tmp_path):
    url = server.plain('x.tgz', pack(two, '.tgz'))
    for n in numbers(lambda: untar_data(url, tmp_path/'0')):
        with pytest.MonkeyPatch.context() as patch:
            Steps(patch, n, no_space)
            with pytest.raises(DiskFullError): untar_data(url, tmp_path/str(n))
        assert not visible(tmp_path/str(n))
        assert content(untar_data(url, tmp_path/str(n))) == two and not list((tmp_path/str(n)).glob('.*.part'))


def test_no_space_for_the_lock(few, tmp_path, fails, monkeypatch):
    archive = put(tmp_path, 'x.zip', pack(few, '.zip'))
    monkeypatch.setattr(download.FileLock, 'acquire', lambda *args, **kwargs: no_space())
    fails(DiskFullError, tmp_path/'new', planet_data, tmp_path/'new', source=archive)


def killed(n, call):
    "Run `call` in a copy of this process that is killed before step `n`."
    if not (child := os.fork()):
        try: Steps(pytest.MonkeyPatch(), n, die, removing), call()
        finally: os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


removing = [(shutil, 'rmtree')]
forks = pytest.mark.skipif(not hasattr(os, 'fork'), reason='killed at any step: needs fork')


@forks
@pytest.mark.parametrize('kind', ['.tar.7z', '.zip'])
def test_killed_at_any_step_of_unpacking(kind, two, tmp_path):
    "SIGKILL before each write, folder, rename: nothing half-done has a final name; the next run ends the work, and tidies up."
    archive = put(tmp_path, f'x{kind}', pack(two, kind))
    for n in numbers(lambda: planet_data(tmp_path/'0', source=archive), also=removing):
        killed(n, lambda: planet_data(tmp_path/str(n), source=archive))
        whole(tmp_path/str(n), two)
        assert content(planet_data(tmp_path/str(n), source=archive)) == two, f'after step {n}'


@forks
def test_killed_at_any_step_from_kaggle(kaggle, two, tmp_path):
    "And what was killed at its very end is still known to be from Kaggle."
    kaggle.tables = {'train_v2.csv/train_v2.csv': two['train_v2.csv']}
    kaggle.mirror = zipped(arranged(two, 'mirror'))
    for n in numbers(lambda: planet_data(tmp_path/'0', source='kaggle'), also=removing):
        killed(n, lambda: planet_data(tmp_path/str(n), source='kaggle'))
        whole(tmp_path/str(n), two)
        assert content(planet_data(tmp_path/str(n), source='kaggle')) == two, f'after step {n}'


@forks
def test_killed_at_any_step_of_untar_data(server, two, tmp_path):
    url = server.plain('x.tgz', pack(two, '.tgz'))
    for n in numbers(lambda: untar_data(url, tmp_path/'0'), also=removing):
        killed(n, lambda: untar_data(url, tmp_path/str(n)))
        assert visible(tmp_path/str(n)) == [] or content(tmp_path/str(n)/'x') == two
        assert content(untar_data(url, tmp_path/str(n))) == two
        assert not list((tmp_path/str(n)).glob('.*.part')), f'left by a kill before step {n}'


def child(code, *args):
    "Start Python on `code`."
    code = 'import sys, time\nfrom planet_course.get import download as download\nfrom planet_course.get.download import *\n' + textwrap.dedent(code)
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return subprocess.Popen([sys.executable, '-c', code, *map(str, args)], text=True, **pipes)


def until(ready, run, secs=60):
    "Wait until `ready()`, as long as `run` runs."
    end = time.time() + secs
    while not ready():
        assert run.poll() is None and time.time() < end, run.stdout.read() if run.poll() is not None else 'too slow'
        time.sleep(0.02)


downloads = {
    'untar_data': ('planet_sample.tgz', 'untar_data(sys.argv[2], sys.argv[1])'),
    'kaggle': ('archive.zip', """
        from kagglesdk import kaggle_env
        kaggle_env._env_to_endpoint.update(dict.fromkeys(kaggle_env.KaggleEnv, sys.argv[3]))
        planet_data(sys.argv[1], source='kaggle')""")}


@pytest.mark.parametrize('file, code', downloads.values(), ids=downloads)
def test_killed_while_downloading(file, code, kaggle, sample, little, noise, tmp_path):
    "SIGKILL half-way through 2.5 MB: the next call fetches the rest."
    folder = tmp_path/'new'
    kaggle.fault(file, cut | dict(hang=99), {})
    with child(code, folder, URLs.PLANET_SAMPLE, kaggle.url) as run:
        try: until(lambda: any(part.stat().st_size > 1e6 for part in folder.glob('.*.part/*.part')), run)
        finally: run.kill()
    assert run.returncode == -signal.SIGKILL and not visible(folder)
    if file == 'archive.zip': assert content(planet_data(folder, source='kaggle')) == little
    else: assert is_sample(untar_data(URLs.PLANET_SAMPLE, folder), little, noise)
    assert kaggle.asked(file)[-1]['range'] and kaggle.asked(file)[-1]['sent'] < 2e6


def test_killed_while_unpacking(planet, tmp_path):
    "SIGKILL in the middle of a .tar.7z, while py7zr decodes in its thread; what was written is gone after the next call."
    archive, folder = put(tmp_path, 'x.tar.7z', pack(planet, '.tar.7z')), tmp_path/'new'
    code = """
        place, names = download._place, []
        def slow(name):
            names.append(name)
            if len(names) == 150: time.sleep(99)
            return place(name)
        download._place = slow
        planet_data(sys.argv[1], source=sys.argv[2])"""
    with child(code, folder, archive) as run:
        try: until(lambda: len(list(folder.glob('.*.part/work/*/*/*.jpg'))) > 100, run)
        finally: run.kill()
    assert run.returncode == -signal.SIGKILL and not visible(folder)
    assert content(planet_data(folder, source=archive)) == planet


def test_two_processes_at_a_time(sample, planet, little, noise, tmp_path):
    "Both fill the same folders, from an archive and from the network: both end well, and each file is downloaded once."
    archive, folder = put(tmp_path, 'x.tar.7z', pack(planet, '.tar.7z')), tmp_path/'new'
    sample.fault('planet_sample.tgz', dict(stall=0.5))
    code = """
        from planet_course.get import download as download
        unpack = download._unpack
        def told(archive, *rest):
            print('unpacking', archive.name)
            return unpack(archive, *rest)
        download._unpack = told
        print('READY', flush=True)
        sys.stdin.readline()
        print(planet_data(sys.argv[1], source=sys.argv[2]), untar_data(sys.argv[3], sys.argv[4]))"""
    runs = [child(code, folder, archive, URLs.PLANET_SAMPLE, tmp_path/'untar') for _ in range(2)]
    try:
        for run in runs: assert run.stdout.readline() == 'READY\n'
        for run in runs: print(file=run.stdin, flush=True)
        said = [run.communicate(timeout=60)[0] for run in runs]
    finally:
        for run in runs: run.kill(), run.wait()
    assert [run.returncode for run in runs] == [0, 0], said
    assert sum('unpacking x.tar.7z' in text for text in said) == 1, 'unpacked twice'
    assert all(f'{folder} {tmp_path/"untar"/"planet_sample"}' in text for text in said)
    assert content(folder) == planet and is_sample(tmp_path/'untar'/'planet_sample', little, noise) and len(sample.log) == 1


# ---- tiles that are there --------------------------------------------------------------------------------------------

def rearranged(files, table, tile):
    "`files` with tables and tiles under the names that these make of theirs."
    return {(tile if '/' in name else table)(name): data for name, data in files.items()}


def doubled(files): return rearranged(files, lambda table: f'{table}/{table}', str)  # as Kaggle's client lays them
def nested(files): return rearranged(files, str, lambda tile: f'{tile.split("/")[0]}/{tile}')
def tables_zipped(files):
    tiles, tables = ({name: data for name, data in files.items() if ('/' in name) == tile} for tile in (True, False))
    return tiles | {f'{name}.zip': zipped({name: data}) for name, data in tables.items()}


local = {**{how: partial(arranged, how=how) for how in ('competition', 'mirror', 'fastai', 'flat')},
         'tables zipped': tables_zipped, 'tables in folders': doubled, 'tiles in folders in folders': nested}


@pytest.mark.parametrize('in_place', [False, True], ids=['elsewhere', 'in place'])
@pytest.mark.parametrize('how', local)
def test_a_folder_of_tiles(how, in_place, planet, tmp_path):
    "Each arrangement becomes the layout, by links: no tile is copied, none of the folder's own files is touched."
    folder = lay(local[how](planet), tmp_path/'mine')
    theirs = {p: p.read_bytes() for p in folder.rglob('*') if p.is_file()}
    new = planet_data(folder) if in_place else planet_data(tmp_path/'new', source=folder)
    found, due = content(new), wanted(planet, how)
    assert {name: found.get(name) for name in due} == due
    assert how == 'flat' or found.keys() == due.keys()
    assert {p: p.read_bytes() for p in theirs} == theirs, 'their own files were changed'
    assert (new/'train-jpg').resolve() in {p.parent for p in theirs}, 'tiles were copied'
    before = snapshot(tmp_path)
    assert planet_data(folder if in_place else new) == new and snapshot(tmp_path) == before


def test_a_relative_folder(planet, tmp_path):
    lay(arranged(planet, 'fastai'), Path('mine'))
    assert content(planet_data('mine')) == content(planet_data('new', source='mine')) == wanted(planet, 'fastai')
    assert visible(tmp_path/'here') == ['mine', 'new']


@pytest.mark.parametrize('known', [False, True])
def test_old_labels_keep_their_name(known, planet, tmp_path, capfd, monkeypatch):
    "train_classes.csv is train_v2.csv where its md5 says so; else it keeps its name, and a line says so."
    if known: monkeypatch.setitem(download._MD5, hashlib.md5(planet['train_v2.csv']).hexdigest(), 'train_v2.csv')
    folder = planet_data(tmp_path/'new', source=lay(arranged(planet, 'mirror'), tmp_path/'mine'))
    assert ('train_v2.csv' in visible(folder)) == known != ('train_classes.csv' in visible(folder))
    assert ('train_classes.csv' in capfd.readouterr().out) == (not known)


def test_a_tile_is_missing_in_a_folder(planet, tmp_path, fails):
    files = {n: planet[n] for n in planet if n != 'train-jpg/train_7.jpg'}
    lay(arranged(files, 'fastai'), tmp_path/'mine')
    error = fails(CorruptError, tmp_path/'new', planet_data, tmp_path/'new', source=tmp_path/'mine')
    assert 'train_7' in str(error)


def test_half_of_the_tiles_in_the_way(planet, tmp_path, fails):
    "Somebody's own half-unpacked train-jpg is neither taken for the whole nor changed."
    some = {f'train-jpg/train_{i}.jpg': planet[f'train-jpg/train_{i}.jpg'] for i in range(9)}
    folder = lay(some | {'train-jpg.tar.7z': pack(planet, '.tar.7z')}, tmp_path/'mine')
    for source in ('auto', 'local', 'archive'):
        error = fails(CorruptError, folder, planet_data, folder, source)
        assert 'train-jpg' in error.what and 'move' in error.then, 'to get them again would not help'
    assert content(folder) == some


def test_nothing_there(tmp_path, fails, planet):
    "No folder, an empty one, only tiles, only a table: said with what was found. A typo is no source."
    for source in ('local', 'mount', 'archive'): fails(NoTilesError, tmp_path/'none', planet_data, tmp_path/'none', source)
    for i, name in enumerate(['notes.txt', 'train-jpg/train_0.jpg', 'train_v2.csv']):
        folder = lay({name: planet.get(name, b'')}, tmp_path/str(i))
        fails(NoTilesError, folder, planet_data, folder, 'local')
        fails(NoTilesError, tmp_path/'new', planet_data, tmp_path/'new', folder)
    only_tiles = put(tmp_path, 'train-jpg.zip', zipped({'train-jpg/train_0.jpg': b''}))
    fails(NoTilesError, tmp_path/'new', planet_data, tmp_path/'new', source=only_tiles)
    for source in ('kagle', tmp_path/'none', 'none.tar.7z'):
        with pytest.raises(ValueError, match='kaggle'): planet_data(tmp_path/'new', source)
    assert not (tmp_path/'new').exists() or not visible(tmp_path/'new')


mirrors, competitions = ('planets-dataset', 'datasets/nikitarom/planets-dataset'), (f'competitions/{competition}', competition)
mounts = [(place, None) for place in mirrors + competitions] + [(place, tables) for place in mirrors for tables in competitions]


@pytest.mark.parametrize('source', ['auto', 'mount'])
@pytest.mark.parametrize('place, tables', mounts)
def test_mount(place, tables, source, little, tmp_path, capfd):
    "The platform's folders, old and new, with and without the competition's own tables beside the mirror: linked to, not copied."
    old = {n: data.replace(b'primary', b'PRIMARY') if n == 'train_v2.csv' else data for n, data in little.items()}
    lay(arranged(old, 'mirror') if place in mirrors else little, tmp_path/'input'/place)
    if tables: lay(doubled({n: little[n] for n in little if '/' not in n}), tmp_path/'input'/tables)
    before = snapshot(tmp_path/'input')
    folder = planet_data(source=source)
    assert folder == Config.data_path()/'planet' and '(mount:' in capfd.readouterr().out
    assert content(folder) == (little if tables or place in competitions else wanted(old, 'mirror'))
    assert all((folder/name).is_symlink() for name in visible(folder) if name != 'planet_data.json')
    linked = snapshot(tmp_path/'course')
    assert planet_data(source=source) == folder and snapshot(tmp_path/'course') == linked and snapshot(tmp_path/'input') == before


def test_auto_takes_the_nearest(few, tmp_path, capfd, monkeypatch):
    "Local, mount, archive, synthetic: each when those before it are not there; nobody is asked for anything."
    monkeypatch.setattr(download, '_send', None)
    for gone, route in enumerate(('local', 'mount', 'archive', 'synthetic')):
        folder = lay({'train.tar.7z': pack(few, '.tar.7z')} if gone < 3 else {}, tmp_path/route)
        if gone < 2: lay(arranged(few, 'mirror'), tmp_path/'input'/'planets-dataset')
        else: shutil.rmtree(tmp_path/'input', ignore_errors=True)
        if gone < 1: lay(arranged(few, 'fastai'), folder)
        assert planet_data(folder, n=3) == folder and f'({route}:' in capfd.readouterr().out
        assert len(list((folder/'train-jpg').iterdir())) == (3 if route == 'synthetic' else 6)


def test_auto_without_anything(tmp_path, capfd):
    folder = planet_data(n=3)
    assert folder == tmp_path/'course'/'data'/'planet_synthetic_3' and '(synthetic:' in capfd.readouterr().out
    assert planet_data(source='synthetic', n=3) == folder


@pytest.mark.parametrize('name', ['train-jpg.tar.7z.crdownload', 'train-jpg.tar.7z.part', 'train_v2.csv.zip.crdownload'])
def test_what_the_browser_has_not_finished(name, few, fails, tmp_path, capfd):
    "It is no archive yet: left alone."
    folder = lay({name: pack(few, '.tar.7z')[:500]}, tmp_path/'mine')
    fails(NoTilesError, folder, planet_data, folder, 'archive')
    planet_data(folder, n=3)
    assert '(synthetic:' in capfd.readouterr().out


def test_auto_and_an_archive_of_other_things(tmp_path, capfd):
    "Somebody's own .zip beside is no reason to give up."
    folder = lay({'thesis.zip': zipped({'thesis.txt': b'x'})}, tmp_path/'mine')
    planet_data(folder, n=3)
    assert '(synthetic:' in capfd.readouterr().out


@pytest.mark.parametrize('source', ['sample', 'kaggle', 'synthetic'])
@pytest.mark.parametrize('how', ['layout', 'from an archive', 'tiles', 'table'])
def test_other_tiles_are_there(how, source, few, sample, kaggle, tmp_path):
    "Never mixed, never overwritten, nobody asked; also where there are only tiles, or only a table."
    start = {'tiles': 'train-jpg', 'table': 'train_v2'}.get(how, 'train')
    if how == 'from an archive': folder = planet_data(tmp_path/'mine', source=put(tmp_path, 'x.zip', pack(few, '.zip')))
    else: folder = lay({name: data for name, data in few.items() if name.startswith(start)}, tmp_path/'mine')
    before = snapshot(folder)
    with pytest.raises(FileExistsError): planet_data(folder, source, n=3)
    assert snapshot(folder) == before and not kaggle.log


@pytest.mark.parametrize('how', ['tiles', 'table'])
def test_mount_and_half_of_something_else(how, few, planet, tmp_path):
    "The mounted tiles are not given another table, nor the mounted table other tiles."
    lay(planet, tmp_path/'input'/competition)
    mine = {n: data for n, data in few.items() if (how == 'table') == (n == 'train_v2.csv')}
    folder = lay(mine, tmp_path/'mine')
    with pytest.raises((DataError, FileExistsError)): planet_data(folder, source='mount')
    assert content(folder) == mine


@pytest.mark.parametrize('how', ['competition', 'fastai', 'zip'])
def test_a_folder_that_cannot_be_written_to(how, planet, tmp_path, capfd):
    "A disk that is mounted read-only: taken as it is where it has the layout; else linked to, or unpacked, from elsewhere."
    mounted(disk := tmp_path/'disk', 'size=20m')
    try:
        lay({'planet.zip': zipped(planet)} if how == 'zip' else arranged(planet, how), disk/'mine')
        subprocess.run(['mount', '-o', 'remount,ro', disk], check=True)
        before = snapshot(disk)
        folder = planet_data(disk/'mine')
        assert content(folder) == wanted(planet, how) and snapshot(disk) == before
        elsewhere = folder.is_relative_to(Config.data_path()) and str(Config.data_path()) in capfd.readouterr().out
        assert folder == disk/'mine' if how == 'competition' else elsewhere
        again = snapshot(tmp_path/'course')
        assert planet_data(disk/'mine') == folder and snapshot(tmp_path/'course') == again
    finally: subprocess.run(['umount', '-l', disk], check=True)


def test_links_that_lead_back(few, tmp_path, capfd):
    "A link to itself, one to the folder above, a ring of two: each folder is looked at once, each archive unpacked once."
    folder = lay({'train.zip': zipped(few)}, tmp_path/'mine')
    for name, to in dict(itself='itself', above='..', here='.').items(): (folder/name).symlink_to(to)
    (folder/'sub').mkdir()
    (folder/'sub'/'back').symlink_to(folder)
    assert download._find(folder) == ({}, [folder/'train.zip'], [])
    assert content(planet_data(tmp_path/'new', source=folder)) == few


@pytest.mark.parametrize('what, source', [('lost+found', 'auto'), ('lost+found', 'local'), ('my.zip', 'archive'), ('sub/train_v2.csv', 'auto')])
def test_what_cannot_be_read_is_said(what, source, few, tmp_path, capfd, monkeypatch):
    "Left out, in one line; what can be read is used."
    folder = lay({'good/train.zip': zipped(few)}, tmp_path/'mine')
    if what == 'lost+found': (folder/what).mkdir()
    else: lay({what: b''}, folder)
    def refusing(do):
        def look(path='.', *args, **kwargs):
            if str(path) == str(folder/what): raise PermissionError(errno.EACCES, 'Permission denied', str(path))
            return do(path, *args, **kwargs)
        return look
    for name in ('scandir', 'listdir'): monkeypatch.setattr(os, name, refusing(getattr(os, name)))
    monkeypatch.setattr(download, 'open', refusing(open), raising=False)
    monkeypatch.setattr(Path, 'read_bytes', refusing(Path.read_bytes))
    assert content(planet_data(tmp_path/'new', source=folder) if source == 'auto' else planet_data(folder, source)) == few
    said = capfd.readouterr().out
    assert said.count('cannot be read') == 1 and f'{folder/what} (Permission denied)' in said


def test_names_that_a_terminal_would_obey(few, fails, tmp_path, capfd):
    "Of archives, folders and tiles: written out, in one line."
    name = 'a\x1b[2J\r\nb'
    folder = lay({f'{name}.zip': zipped(few | {'other': b''})}, tmp_path/name)
    assert content(planet_data(folder)) == few
    shown = capfd.readouterr().out
    assert r'a\x1b[2J\r\nb' in shown and '\x1b' not in shown and '\r' not in shown
    for call in (lambda: planet_data(folder/'none', 'archive'), lambda: planet_data(put(tmp_path, f'{name}.zip', b'x'))):
        with pytest.raises(DataError) as e: call()
        assert len(str(e.value).splitlines()) == 3 and all(line.isprintable() for line in str(e.value).splitlines())
    with pytest.raises(FileExistsError) as e: planet_data(folder, source='sample')
    assert str(e.value).isprintable()


@pytest.fixture
def nobody_at_home(monkeypatch):
    "A user whom the system does not know, as in many containers."
    pytest.importorskip('pwd')
    for name in ('HOME', 'PLANET_COURSE_HOME'): monkeypatch.delenv(name)
    monkeypatch.setattr(os, 'getuid', lambda: 54321)


def test_no_home(nobody_at_home, few, kaggle, fails, tmp_path, capfd, monkeypatch):
    "Folders that are named in full are used; where a home is needed, the error says what to set instead."
    folder = lay(few, tmp_path/'mine')
    assert planet_data(folder) == folder and str(folder) in capfd.readouterr().out
    assert content(planet_data(tmp_path/'new', source=folder)) == few
    monkeypatch.delenv('KAGGLE_API_TOKEN')
    fails(NoCredentialsError, tmp_path/'newer', planet_data, tmp_path/'newer', source='kaggle')
    for call in (planet_data, Config.data_path, lambda: planet_data(source='sample'), lambda: planet_data('~/mine')):
        with pytest.raises(ValueError, match='PLANET_COURSE_HOME|HOME'): call()
    with pytest.raises(ValueError, match='PLANET_COURSE_HOME'): planet_data(n=3)
    monkeypatch.setenv('PLANET_COURSE_HOME', str(tmp_path/'course'))
    assert planet_data(n=3) == tmp_path/'course'/'data'/'planet_synthetic_3'


@pytest.mark.parametrize('home, shown', [('/', '{tmp_path}/mine'), ('{tmp_path}', '~/mine'), ('{tmp_path}/mi', '{tmp_path}/mine')])
def test_home_is_shown_as_a_tilde(home, shown, few, tmp_path, capfd, monkeypatch):
    folder = lay(few, tmp_path/'mine')
    monkeypatch.setenv('HOME', home.format(tmp_path=tmp_path))
    planet_data(folder)
    assert f' tiles in {shown.format(tmp_path=tmp_path)} (' in capfd.readouterr().out


def test_a_broken_link_and_a_pipe_among_the_archives(few, tmp_path):
    "Neither stops us, nor makes us wait."
    folder = lay(arranged(few, 'fastai'), tmp_path/'mine')
    (folder/'gone.zip').symlink_to(tmp_path/'gone')
    os.mkfifo(folder/'pipe.7z')
    assert content(planet_data(tmp_path/'new', source=folder)) == few
