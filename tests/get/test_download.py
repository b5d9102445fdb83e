"""Plain downloads from a server with faults, and what a server may say: attempts, resume, checks, odd headers, proxies."""
import contextlib, gzip, io, time
from pathlib import Path
from types import SimpleNamespace

import pytest
import requests
from get_helpers import (arranged, content, cut, faults, gone, is_sample, lay, pack, passing, snapshot, statuses, tar, visible,
                         wanted)

from planet_course.get import (Config, CorruptError, DataError, download as download_module, errors as errors_module, FileGoneError,
                               kaggle as kaggle_module, OfflineError, planet_data, RateLimitedError, untar_data, URLs)

pytest_plugins = ['get_fixtures']
pytestmark = pytest.mark.usefixtures('machine')


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


@pytest.mark.parametrize('status, kind', (statuses | gone | {416: OfflineError}).items())
def test_untar_data_is_refused(status, kind, sample, little, noise, fails, tmp_path):
    sample.fault('planet_sample.tgz', dict(status=status, html=True))
    error = fails(kind, tmp_path/'new', untar_data, URLs.PLANET_SAMPLE, tmp_path/'new')
    assert error.page == URLs.PLANET_SAMPLE
    sample.faults.clear()
    assert is_sample(untar_data(URLs.PLANET_SAMPLE, tmp_path/'new'), little, noise)


def test_untar_data_checks_the_size(sample, little, noise, fails, tmp_path, monkeypatch):
    "Known sizes are those of the five addresses; another file under one of them is not taken."
    assert sorted(errors_module.ARCHIVE_SIZES.values()) == [342_207, 801_038, 997_569, 2_314_212, 15_523_994]
    for size in (len(sample.sample) - 1, len(sample.sample) + 1):
        monkeypatch.setitem(errors_module.ARCHIVE_SIZES, URLs.PLANET_SAMPLE, size)
        fails(CorruptError, tmp_path/'new', untar_data, URLs.PLANET_SAMPLE, tmp_path/'new')
    monkeypatch.setitem(errors_module.ARCHIVE_SIZES, URLs.PLANET_SAMPLE, len(sample.sample))
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
    monkeypatch.setattr(download_module, '_WAITS', (1, 2, 4, 8))
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
    monkeypatch.setattr(download_module, '_WAITS', (0.01, 0.01))
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
    monkeypatch.setattr(download_module, '_UNSAID', 1 << 20, raising=False)
    if size: monkeypatch.setitem(errors_module.ARCHIVE_SIZES, plain.url, size)
    plain.server.fault('x.tgz', dict(endless=True))
    with pytest.raises(CorruptError, match='more than 1,0'): untar_data(plain.url, plain.folder)
    assert plain.server.log[0]['sent'] < 1e7 and not visible(plain.folder)  # what the sockets hold among it
    errors_module.ARCHIVE_SIZES.pop(plain.url, None)
    plain.refused(CorruptError)


def test_kaggle_without_end(kaggle, fails, tmp_path, monkeypatch):
    monkeypatch.setattr(kaggle_module, '_ANSWER', 1 << 20, raising=False)
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
    monkeypatch.setattr(download_module, '_SLOWEST', (1000, 0.2), raising=False)
    monkeypatch.setattr(download_module, '_PATIENCE', 0.3, raising=False)
    plain.server.fault('x.tgz', ill)
    start = time.monotonic()
    with pytest.raises(OfflineError): untar_data(plain.url, plain.folder)
    assert time.monotonic() - start < 5
    assert [entry['range'] is None for entry in plain.server.log] == [True, 'drip' not in ill]
    monkeypatch.setattr(download_module, '_PATIENCE', 30)
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
