"""Files that are whole or not there, whoever is killed on the way; a place to write."""
import contextlib, errno, io, os, resource, signal, stat
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from planet_course import files
from planet_course.files import files_below, staged, writable_folder


def write_half(file, began, go_on):
    "Half a file, then wait for ever, or for a word."
    with staged(file) as temp:
        temp.write_text('half')
        began.set()
        go_on.wait()
        temp.write_text('other')


def half_written(spawn, file):
    began, go_on = spawn.Event(), spawn.Event()
    process = spawn.Process(target=write_half, args=(file, began, go_on))
    process.start()
    assert began.wait(60)
    return process, go_on


def test_the_dead_are_removed_and_the_living_left_alone(tmp_path, spawn):
    file = tmp_path/'a [1].pth'
    living, go_on = half_written(spawn, file)
    dead = [half_written(spawn, file)[0] for _ in range(2)]
    assert len(os.listdir(tmp_path)) == 3
    for process in dead:
        process.kill()
        process.join()
    with staged(file) as temp:
        assert len(os.listdir(tmp_path)) == 2       # the living one's and ours
        temp.write_text('mine')
    assert file.read_text() == 'mine' and len(os.listdir(tmp_path)) == 2
    go_on.set()
    living.join(60)
    assert living.exitcode == 0 and file.read_text() == 'other' and os.listdir(tmp_path) == [file.name]


def test_the_dead_that_wrote_another_file(tmp_path, spawn):
    "They are removed too; the living stay, and so do folders of such a name with other things in them, or behind a link."
    living, go_on = half_written(spawn, tmp_path/'stage-0.pth')
    dead, _ = half_written(spawn, tmp_path/'stage-1.pth')
    dead.kill()
    dead.join()
    for name in ('mine.0.tmp', 'more.1.tmp', 'elsewhere'): (tmp_path/name).mkdir()
    for name in ('mine.0.tmp/new', 'mine.0.tmp/notes', 'elsewhere/new', 'file.0.tmp'): (tmp_path/name).touch()
    (tmp_path/'link.0.tmp').symlink_to(tmp_path/'elsewhere')
    with staged(tmp_path/'stage-2.pth') as temp: temp.write_text('whole')
    assert sorted(os.listdir(tmp_path)) == ['elsewhere', 'file.0.tmp', 'link.0.tmp', 'mine.0.tmp', 'more.1.tmp', 'stage-0.pth.0.tmp', 'stage-2.pth']
    assert sorted(os.listdir(tmp_path/'mine.0.tmp')) == ['new', 'notes'] and os.listdir(tmp_path/'elsewhere') == ['new']
    go_on.set()
    living.join(60)
    assert living.exitcode == 0 and (tmp_path/'stage-0.pth').read_text() == 'other'


def test_many_writers_of_one_file(tmp_path):
    "They look for the dead all the time, and never take one another for dead."
    def write(i):
        with staged(tmp_path/'a') as temp: temp.write_bytes(bytes([i])*1000)
    with ThreadPoolExecutor(16) as pool: list(pool.map(write, range(200)))
    found = (tmp_path/'a').read_bytes()
    assert os.listdir(tmp_path) == ['a'] and len(found) == 1000 and len(set(found)) == 1


def test_many_writers_of_many_files(tmp_path):
    def write(i):
        with staged(tmp_path/str(i)) as temp: temp.write_bytes(bytes([i])*1000)
    with ThreadPoolExecutor(16) as pool: list(pool.map(write, range(200)))
    assert sorted(os.listdir(tmp_path)) == sorted(map(str, range(200)))
    assert all((tmp_path/str(i)).read_bytes() == bytes([i])*1000 for i in range(200))


def test_a_library_may_write_another_file_under_the_name(tmp_path):
    "As safetensors does: the lock must not be on the file that goes."
    with staged(tmp_path/'a') as temp:
        other = temp.with_name('other')
        other.write_text('whole')
        other.chmod(0o600)
        os.replace(other, temp)
        with staged(tmp_path/'a') as second: second.write_text('second')
    assert (tmp_path/'a').read_text() == 'whole' and os.listdir(tmp_path) == ['a']
    assert stat.S_IMODE((tmp_path/'a').stat().st_mode) != 0o600


def test_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    done = []
    def fsync(handle): done.append('folder' if stat.S_ISDIR(os.fstat(handle).st_mode) else 'file')
    def replace(old, new, replace=os.replace): done.append('name') or replace(old, new)
    monkeypatch.setattr(os, 'fsync', fsync)
    monkeypatch.setattr(os, 'replace', replace)
    with staged(tmp_path/'a') as temp: temp.write_text('x')
    assert done == ['file', 'name', 'folder']


def test_links_and_modes(tmp_path):
    (tmp_path/'there').mkdir()
    target, link = tmp_path/'there'/'a', tmp_path/'link'
    link.symlink_to(target)
    for text in 'first', 'second':      # the first time the link leads nowhere yet
        with staged(link) as temp: temp.write_text(text)
        assert link.is_symlink() and target.read_text() == text
        target.chmod(0o640)
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    target.chmod(0o440)
    for name in target, link:
        with pytest.raises(PermissionError, match='read-only.*chmod u.w'):
            with staged(name) as temp: temp.write_text('third')
    assert target.read_text() == 'second' and os.listdir(tmp_path/'there') == ['a']
    os.mkfifo(tmp_path/'pipe')
    with pytest.raises(FileExistsError, match='no plain file'):
        with staged(tmp_path/'pipe'): pass


def test_a_full_disk(tmp_path, monkeypatch):
    "The file's own size limit stands in for it; the old file stays, and the error has place, cause and number."
    file = tmp_path/'a'
    file.write_text('old')
    before = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[0][1]))
    try:
        with pytest.raises(OSError, match=f'no room for {file}.*Free some space in {tmp_path}') as told:
            with staged(file) as temp: temp.write_bytes(bytes(20_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before[0])
        signal.signal(signal.SIGXFSZ, before[1])
    assert told.value.errno == errno.EFBIG and file.read_text() == 'old' and os.listdir(tmp_path) == ['a']
    def full(handle): raise OSError(errno.ENOSPC, 'No space left on device')
    monkeypatch.setattr(os, 'fsync', full)          # some disks say so only then
    with pytest.raises(OSError, match='no room for'):
        with staged(file) as temp: temp.write_text('new')
    assert file.read_text() == 'old' and os.listdir(tmp_path) == ['a']


def test_a_system_without_locks_for_folders(tmp_path, monkeypatch):
    "Nothing is removed then, for nobody knows who lives."
    monkeypatch.setattr(files, 'fcntl', None)
    (tmp_path/'a.0.tmp').mkdir()
    with staged(tmp_path/'a') as temp: temp.write_text('x')
    assert sorted(os.listdir(tmp_path)) == ['a', 'a.0.tmp'] and (tmp_path/'a').read_text() == 'x'


def test_no_home_and_no_such_user(tmp_path, monkeypatch):
    import pwd
    def unknown(uid): raise KeyError(f'getpwuid(): uid not found: {uid}')
    (tmp_path/'file').touch()
    for name in 'HOME', 'XDG_CACHE_HOME': monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, 'getpwuid', unknown)
    assert writable_folder(tmp_path/'here') == tmp_path/'here'
    with pytest.raises(OSError, match='models cannot be written to.*XDG_CACHE_HOME'): writable_folder(tmp_path/'file'/'models')
    monkeypatch.setenv('HOME', str(tmp_path/'file'))
    with pytest.raises(OSError, match='models cannot be written to.*XDG_CACHE_HOME'): writable_folder(tmp_path/'file'/'models')
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path/'cache'))
    assert writable_folder(tmp_path/'file'/'models').parent == tmp_path/'cache'/'planet_course'


def test_a_tilde_that_nobody_knows_is_refused_with_what_to_write(monkeypatch):
    "Wherever a path is given: the folder with the tiles, a file of weights."
    pytest.importorskip('pwd')
    from planet_course.nets import create_cnn
    monkeypatch.delenv('HOME')
    monkeypatch.setattr(os, 'getuid', lambda: 54321)    # of nobody
    data = SimpleNamespace(c=3, device='cpu', loss_func=None, classes=list('abc'))
    for call in (lambda: files.planet_folder('~/planet'), lambda: create_cnn(data, 'resnet18', weights='~/w.pth')):
        with pytest.raises(ValueError, match="'~/.*Write the folder in full, or set the environment variable HOME"): call()


def test_what_cannot_be_looked_at_is_told(tmp_path, capsys, monkeypatch):
    "A link to itself, a link to a disk that is gone, and a folder that may be listed and not entered: there may be tiles behind each."
    (tmp_path/'tile.jpg').touch()
    (tmp_path/'loop').symlink_to('loop')
    (tmp_path/'more').symlink_to('/mnt/gone')
    (tmp_path/'listed'/'sub').mkdir(parents=True)
    whole = os.stat
    def refused(path, *args, **kwargs):     # root may enter everything
        if str(path).endswith('listed/sub'): raise PermissionError(errno.EACCES, 'Permission denied', str(path))
        return whole(path, *args, **kwargs)
    monkeypatch.setattr(os, 'stat', refused)
    for depth, closed in (None, ['listed/sub (Permission denied)', 'loop (Too many levels', 'more (No such file']), (1, ['loop', 'more']):
        assert files_below(tmp_path, depth) == [tmp_path/'tile.jpg']
        said = capsys.readouterr().out
        assert f'left out {len(closed)} that cannot be read' in said and said.count('\n') == 1 and all(f'{tmp_path}/{what}' in said for what in closed)


forged = 'a\r\nall is well\x1b[2J'


def calls_that_name_a_folder(folder):
    "Each tells of a folder or file, in a line or an error."
    from PIL import Image
    from planet_course.answers import export, feedback, submit_to_kaggle
    from planet_course.tiles import cache, clear_cache, decode, stored_size, TileCache
    (folder/'file').touch()
    (folder/'other.csv').write_text('x\n')
    Image.linear_gradient('L').convert('RGB').save(folder/'whole.png')
    faded = Image.open(folder/'whole.png')
    faded.putalpha(Image.linear_gradient('L'))
    faded.save(folder/'faded.png')
    yield from [lambda: files.planet_folder(folder), lambda: writable_folder(folder/'file'/'models'), lambda: staged(folder).__enter__(),
                lambda: staged(folder/'no'/'no').__enter__(), lambda: decode(folder/'file'), lambda: decode(folder/'faded.png'),
                lambda: stored_size(folder/'file'), lambda: TileCache([folder/'file'], 8, folder/'c').build(), lambda: clear_cache(folder),
                lambda: clear_cache(folder/'c'), lambda: clear_cache(folder/'no'), lambda: cache._check_room(folder, 1 << 60),
                lambda: export.load_model(folder/'file'), lambda: export.load_model(folder/'no'), lambda: submit_to_kaggle(folder/'no', 'x'),
                lambda: submit_to_kaggle(folder/'file', 'x'), lambda: feedback.add_correction(folder/'other.csv', 'a', 'b', 'c'),
                lambda: feedback.read_corrections(folder/'other.csv', ['c'])]


def test_names_that_would_forge_a_line(tmp_path, monkeypatch):
    "No line break and no escape of a folder's name reaches the terminal."
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path/'cache'))
    folder = tmp_path/forged
    folder.mkdir()
    for i, call in enumerate(calls_that_name_a_folder(folder)):
        with contextlib.redirect_stdout(io.StringIO()) as out:
            try: call()
            except (OSError, ValueError) as e: print(e)
        said = out.getvalue()
        assert 'all is well' in said and not {'\r', '\x1b'} & {*said} and '\nall' not in said, (i, said)
