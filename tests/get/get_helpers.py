"""What the tests of getting tiles share: tiles in every arrangement, archives of every kind, faults of servers."""
import gzip, io, json, shutil, subprocess, tarfile, zipfile
from functools import partial
from types import SimpleNamespace

import py7zr
import pytest
from fake_kaggle import key, token, user

from planet_course.get import (BadCredentialsError, CorruptError, DataError, FileGoneError, OfflineError, planet_data, RateLimitedError,
                               RulesNotAcceptedError, untar_data)


layout = 'train_v2.csv', 'train_classes.csv', 'sample_submission_v2.csv', 'train-jpg', 'test-jpg', 'test-jpg-additional'
kinds = '.tar.7z', '.tar', '.tgz', '.zip'


def training(planet, n):
    "The first `n` training tiles and their table."
    files = {f'train-jpg/train_{i}.jpg': planet[f'train-jpg/train_{i}.jpg'] for i in range(n)}
    return files | {'train_v2.csv': b''.join(planet['train_v2.csv'].splitlines(True)[:n + 1])}


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


def send_kaggle_to(url, monkeypatch):
    from kagglesdk import kaggle_env
    for env in kaggle_env.KaggleEnv: monkeypatch.setitem(kaggle_env._env_to_endpoint, env, url)


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


statuses = {400: DataError, 401: BadCredentialsError, 403: RulesNotAcceptedError, 404: FileGoneError, 429: RateLimitedError,
            500: OfflineError, 503: OfflineError}


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


def is_sample(folder, little, noise):
    found = {file.relative_to(folder.parent).as_posix(): file.read_bytes() for file in folder.rglob('*') if file.is_file()}
    alone = visible(folder.parent) == ['planet_sample'] and not list(folder.parent.glob('.*.part'))
    return alone and found == arranged(little, 'fastai') | {'planet_sample/noise.png': noise}


gone = dict.fromkeys((401, 403, 404, 410), FileGoneError)


def refused(kind, name, data, fails, tmp_path, server):
    "`planet_data` refuses this archive and leaves it where it is; `untar_data` too, and deletes what it fetched."
    archive = put(tmp_path, name, data)
    error = fails(kind, tmp_path/'new', planet_data, tmp_path/'new', source=archive)
    assert archive.read_bytes() == data and str(archive) in str(error)
    fails(kind, tmp_path/'untar', untar_data, server.plain(name, data), tmp_path/'untar')
    assert {p for p in tmp_path.rglob('*') if p.is_file() and p.name[0] != '.'} == {archive}
    archive.unlink()
    return error


def mounted(folder, *options):
    "Make `folder` a small disk of its own, or skip."
    folder.mkdir(exist_ok=True)
    run = subprocess.run(['mount', '-t', 'tmpfs', '-o', ','.join(options), 'tmpfs', folder], capture_output=True, text=True) \
        if shutil.which('mount') else SimpleNamespace(returncode=1, stderr='no mount here')
    if run.returncode: pytest.skip(f'no small disk may be mounted: {run.stderr.strip()}')


def whole(folder, files):
    "What has a final name in `folder` is all right: the last renames happen one by one, and the labels come last."
    for name in visible(folder):
        if name == 'planet_data.json': continue
        found = {n: (folder/n).read_bytes() for n in files if n.split('/')[0] == name and (folder/n).exists()}
        assert found and found == {n: files[n] for n in files if n.split('/')[0] == name}
    if any(table in visible(folder) for table in layout[:2]): assert 'train-jpg' in visible(folder)
