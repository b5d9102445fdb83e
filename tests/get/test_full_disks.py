"""Full disks, processes that are killed, two processes at a time."""
import errno, os, shutil, signal, subprocess, sys, textwrap, time
from pathlib import Path

import pytest
from get_helpers import arranged, content, cut, is_sample, kinds, lay, pack, put, visible, whole, zipped

from planet_course.get import (archives as archives_module, DiskFullError, download as download_module, layout as layout_module, planet_data,
                               untar_data, URLs)

pytest_plugins = ['get_fixtures']
pytestmark = pytest.mark.usefixtures('machine')


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
    "Count what the part `get` does to a disk: open to write, write, make a folder, link, rename, remove. Before step `n` call `act`."
    def __init__(self, patch, n=0, act=None, also=()):
        self.n, self.act, self.done = n, act, 0
        for module in (archives_module, download_module, layout_module): patch.setattr(module, 'open', self.open, raising=False)
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
    monkeypatch.setattr(archives_module.FileLock, 'acquire', lambda *args, **kwargs: no_space())
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
    code = 'import sys, time\nfrom planet_course.get import *\nfrom planet_course.get import archives, planet\n' + textwrap.dedent(code)
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
        place, names = planet.place_of, []
        def slow(name):
            names.append(name)
            if len(names) == 150: time.sleep(99)
            return place(name)
        planet.place_of = slow
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
        unpack = archives.unpack
        def told(archive, *rest):
            print('unpacking', archive.name)
            return unpack(archive, *rest)
        archives.unpack = planet.unpack = told
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


@pytest.mark.skipif(not hasattr(os, 'sync'), reason='a system that cannot be asked')
@pytest.mark.parametrize('get, sign', [
    (lambda path, few: planet_data(path, 'synthetic', n=3), 'train_v2.csv'),
    (lambda path, few: planet_data(path, put(path.parent, 'x.tgz', pack(few, '.tgz'))), 'train-jpg'),
    (lambda path, few: untar_data(URLs.PLANET_SAMPLE, path), 'planet_sample')], ids=['drawn', 'archive', 'download'])
def test_tiles_are_on_the_disk_before_the_name_that_says_so(get, sign, few, sample, tmp_path, monkeypatch):
    "A power cut must not leave a folder that counts as done, and empty tiles in it."
    steps, replace = [], os.replace
    monkeypatch.setattr(os, 'sync', lambda: steps.append('sync'))
    monkeypatch.setattr(os, 'replace', lambda old, new: (steps.append(Path(new).name), replace(old, new)))
    get(tmp_path/'new', few)
    assert steps.count('sync') == 1 and steps.index('sync') < steps.index(sign, steps.index('sync'))
    assert not [name for name in steps[steps.index('sync'):] if name.endswith('.jpg')]
