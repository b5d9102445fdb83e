"""Synthetic tiles where something goes wrong: full disks, cut tiles, killed processes, two at a time, no home."""
import errno, json, os, signal, subprocess, sys, threading
from pathlib import Path

import pytest
from conftest import root

from planet_course.get import sample as sample
from planet_course.get import planet_synthetic

small = dict(n=3, n_test=1, size=32, workers=1, progress=False)


@pytest.fixture(scope='module')
def good(tmp_path_factory):
    "The files of a small set, name -> bytes."
    return content(planet_synthetic(tmp_path_factory.mktemp('good')/'set', **small))


def content(folder): return {f.relative_to(folder).as_posix(): f.read_bytes() for f in folder.rglob('[!.]*') if f.is_file()}


def forked(work):
    "Run `work` in a copy of this process: its exit status, and what it returned, as text."
    if not hasattr(os, 'fork'): pytest.skip('no fork here')
    out, into = os.pipe()
    if not (child := os.fork()):
        try: os.write(into, str(work()).encode())
        finally: os._exit(0)
    os.close(into)
    with open(out, encoding='utf-8') as f: text = f.read()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), text


def test_a_disk_that_takes_half_a_tile(good, tmp_path):
    "A write that is cut short is an error that says where; nothing cut gets a final name, and the next call completes the set."
    resource = pytest.importorskip('resource')
    limit = min(len(data) for name, data in good.items() if name.endswith('.jpg')) - 100
    def draw():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        try: return planet_synthetic(tmp_path/'set', **small)
        except OSError as e: return f'{e.errno} {e}'
    said = forked(draw)[1]
    assert said.startswith(str(errno.EFBIG)) and str(tmp_path/'set') in said and 'room' in said
    assert set(content(tmp_path/'set')) == {'synthetic.json'}
    assert content(planet_synthetic(tmp_path/'set', **small)) == good


@pytest.mark.parametrize('step', ['write_bytes', 'write_text'])
def test_a_full_disk_says_where(step, good, tmp_path, monkeypatch):
    "At the first tile, and at the first text."
    def full(*args, **kwargs): raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with monkeypatch.context() as patch:
        patch.setattr(Path, step, full)
        with pytest.raises(OSError, match='no room for all tiles.*same line again') as e: planet_synthetic(tmp_path/'set', **small)
    assert e.value.errno == errno.ENOSPC and e.value.filename == str(tmp_path/'set')
    assert content(planet_synthetic(tmp_path/'set', **small)) == good


@pytest.mark.parametrize('spoil', [lambda file: os.truncate(file, 200), lambda file: os.truncate(file, 0),
                                   lambda file: file.write_bytes(bytes(file.stat().st_size))], ids=['cut', 'empty', 'zeros'])
@pytest.mark.parametrize('finished', [True, False])
def test_a_tile_that_is_not_whole_is_drawn_anew(finished, spoil, good, tmp_path):
    folder = planet_synthetic(tmp_path/'set', **small)
    spoil(folder/'train-jpg'/'train_1.jpg')
    if not finished: (folder/'train_v2.csv').unlink()
    assert content(planet_synthetic(folder, **small)) == good


def test_what_a_killed_process_left_goes(good, tmp_path):
    "SIGKILL between writing and renaming, of a tile and of a text: the next call tidies up, and leaves the user's own files alone."
    replace, done = os.replace, []
    def die(*args):
        done.append(args)
        if len(done) == n: os.kill(os.getpid(), signal.SIGKILL)
        replace(*args)
    def draw():
        os.replace = die
        planet_synthetic(tmp_path/'set', **small)
    for n in (1, 2):
        assert forked(draw)[0] == -signal.SIGKILL and len(list((tmp_path/'set').rglob('*.tmp'))) == 1
    (tmp_path/'set'/'mine.tmp').write_bytes(b'mine')
    assert content(planet_synthetic(tmp_path/'set', **small)) == good | {'mine.tmp': b'mine'}


def test_two_at_a_time(good, tmp_path, monkeypatch):
    "The second waits, says so, and finds all done."
    save, begun, go_on, drawn = sample._save, threading.Event(), threading.Event(), []
    def slow(job):
        begun.set(), drawn.append(job)
        assert go_on.wait(30)
        save(job)
    def told(text, *args):
        if 'another process' in text: go_on.set()
    monkeypatch.setattr(sample, '_save', slow)
    monkeypatch.setattr(sample, 'print', told, raising=False)
    first = threading.Thread(target=planet_synthetic, args=(tmp_path/'set',), kwargs=small)
    first.start()
    try:
        assert begun.wait(30)
        planet_synthetic(tmp_path/'set', **small)
        assert go_on.is_set()
    finally: go_on.set(), first.join()
    assert content(tmp_path/'set') == good and len(drawn) == 4


def test_a_folder_of_somebody_else_gets_nothing(tmp_path):
    "Not even a lock; and a note that cannot be read does not make it ours."
    (tmp_path/'real').mkdir()
    (tmp_path/'real'/'train_v2.csv').write_text('image_name,tags\n')
    for note in (None, '{"recipe": ', '[1]', '\0'):
        if note: (tmp_path/'real'/'synthetic.json').write_text(note)
        before = sorted(tmp_path.rglob('*'))
        with pytest.raises(FileExistsError, match='Nothing was changed'): planet_synthetic(tmp_path/'real', **small)
        assert sorted(tmp_path.rglob('*')) == before


def test_a_name_that_moves_the_cursor(tmp_path):
    (tmp_path/'a\x1b[2Jb'/'train-jpg').mkdir(parents=True)
    with pytest.raises(FileExistsError) as e: planet_synthetic(tmp_path/'a\x1b[2Jb', **small)
    assert str(e.value).isprintable() and r'\x1b' in str(e.value)


def test_no_home(tmp_path, monkeypatch):
    "Whoever names the folder in full needs none; with ~ the error says what to write instead."
    pytest.importorskip('pwd')
    monkeypatch.delenv('HOME')
    monkeypatch.setattr(os, 'getuid', lambda: 54321)  # of nobody
    assert json.loads((planet_synthetic(tmp_path/'set', **small)/'synthetic.json').read_text())['n'] == 3
    with pytest.raises(ValueError, match='~/set.*HOME'): planet_synthetic('~/set', **small)


def test_a_script_without_a_guard_does_not_wait_for_itself(tmp_path):
    "Its workers run the script again, and would wait for the lock of who waits for them."
    (tmp_path/'draw.py').write_text(
        f'from planet_course.get.sample import planet_synthetic\nplanet_synthetic({str(tmp_path/"tiles")!r}, n=3, size=32, workers=2)\n')
    run = subprocess.run([sys.executable, tmp_path/'draw.py'], cwd=root, capture_output=True, text=True, timeout=120, check=True)
    assert 'going on in this process alone' in run.stdout
    assert len([*(tmp_path/'tiles'/'train-jpg').glob('*.jpg')]) == 3


def test_ctrl_c_stops_all_workers_without_a_word_of_theirs(tmp_path):
    "A terminal sends it to all of them. The script ends as after any Ctrl-C, and the next call goes on."
    code = f"if __name__ == '__main__':\n    from planet_course.get import planet_synthetic\n    planet_synthetic({str(tmp_path/'set')!r}, n=4000, size=64, workers=2)"
    (tmp_path/'draw.py').write_text(code)
    run = subprocess.Popen([sys.executable, 'draw.py'], cwd=tmp_path, env={**os.environ, 'PYTHONPATH': str(root)}, stderr=subprocess.PIPE,
                           text=True, start_new_session=True)
    while not list(tmp_path.glob('set/train-jpg/*.jpg')): assert run.poll() is None
    os.killpg(run.pid, signal.SIGINT)
    said = run.communicate(timeout=60)[1]
    assert run.returncode == -signal.SIGINT and said.count('Traceback') == 1, said
    assert 'of 4,000 tiles are in' in said.splitlines()[-1]


def test_ctrl_c_while_workers_are_started_begins_no_further_tile(tmp_path, monkeypatch):
    "It waits until they are started; the jobs that wait for them are dropped then."
    class Pressing(sample.ProcessPoolExecutor):
        def map(self, *args, **kwargs):
            done = super().map(*args, **kwargs)
            signal.raise_signal(signal.SIGINT)
            return done
    monkeypatch.setattr(sample, 'ProcessPoolExecutor', Pressing)
    with pytest.raises(KeyboardInterrupt, match='of 400 tiles'): planet_synthetic(tmp_path/'set', **small | dict(n=400, n_test=0, workers=2))
    assert len(list((tmp_path/'set'/'train-jpg').iterdir())) < 100
