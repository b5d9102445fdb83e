"""Kaggle: the real client against a server with faults; credentials; refusals."""
import contextlib, hashlib, io, json, os, subprocess, sys
from pathlib import Path

import pytest
from fake_kaggle import competition, key, token, user
from get_helpers import (arranged, content, cut, faults, lay, layout, login, oauth, passing, places, send_kaggle_to, sign_in, snapshot,
                         statuses, visible, wanted, without_submission, zipped)

from planet_course.get import (BadCredentialsError, CorruptError, download as download_module, kaggle as kaggle_module, layout as layout_module,
                               NoCredentialsError, OfflineError, planet_data, RateLimitedError)

pytest_plugins = ['get_fixtures']
pytestmark = pytest.mark.usefixtures('machine')


api = 'ListDataFiles', 'DownloadDataFile', 'DownloadDataset'


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
    monkeypatch.setitem(layout_module._MD5, hashlib.md5(little['train_v2.csv']).hexdigest(), 'train_v2.csv')
    monkeypatch.setattr(layout_module, 'TILE_COUNTS', {'train-jpg': 24, 'test-jpg': 12, 'test-jpg-additional': 6})
    assert content(planet_data(tmp_path/'known', source='kaggle')) == without_submission(little)
    assert 'train_classes.csv' not in capfd.readouterr().out


def test_slow_down(kaggle, little, fails, tmp_path, monkeypatch, waits):
    "429: as long as it asks for, if that is up to a minute; else as long as our own list says. Then no more."
    monkeypatch.setattr(download_module, '_WAITS', (1, 2, 4, 8))
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
    assert kaggle_module._login() in (dict(api_token=token), dict(username=user, password=key))
    assert kaggle_module._ask_kaggle(lambda k: len(kaggle.log)) == 0


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


@pytest.mark.parametrize('name', ['kaggle.json', 'access_token'])
def test_a_pipe_with_credentials_is_not_waited_for(name, tmp_path, fails):
    (Path.home()/'.kaggle').mkdir(parents=True)
    os.mkfifo(Path.home()/'.kaggle'/name)
    error = fails(BadCredentialsError, tmp_path/'new', planet_data, tmp_path/'new', source='kaggle')
    assert f'~/.kaggle/{name} is a pipe' in error.what
