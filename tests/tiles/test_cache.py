"""Tile caches that were killed, raced for, damaged, outdated or moved: never a wrong tile, never an error without a way on."""
import io, os, random, resource, shutil, signal, threading, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from filelock import FileLock

from planet_course.tiles import cache as cache_module, image as image_module
from planet_course.tiles import clear_cache, decode, RGB, tile_size, TileCache

size, repeat = 160, 4     # a build that takes some tenths of a second


@pytest.fixture
def files(tiles):
    "The sixty tiles, several times over."
    return [str(tiles/'train-jpg'/f'{name}.jpg') for name in pd.read_csv(tiles/'train_v2.csv').image_name]*repeat


def build(files, folder, started=None, max_bytes=None, answer=None):
    "What the processes run."
    if started: started.set()
    if max_bytes:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (max_bytes, max_bytes))
    try: TileCache(files, size, folder, workers=2).build(progress=False)
    except OSError as e: answer.put(str(e))


def check(files, folder):
    "Every row of the cache is the tile it should be."
    cache = TileCache(files, size, folder)
    for i, file in enumerate(files[:len(files)//repeat]):
        for row in (i, len(files) - len(files)//repeat + i): assert (cache[row] == decode(file, size)).all()


def test_killed_while_building(files, tmp_path, spawn):
    began = time.perf_counter()
    build(files, tmp_path/'quiet')
    whole, moments, half_done = time.perf_counter() - began, random.Random(0), 0
    for _ in range(6):
        started = spawn.Event()
        process = spawn.Process(target=build, args=(files, tmp_path/'killed', started))
        process.start()
        assert started.wait(60)
        time.sleep(moments.uniform(0.05, 0.9)*whole)
        process.kill()
        process.join()
        half_done += process.exitcode == -signal.SIGKILL and bool(list((tmp_path/'killed').glob('*.tmp')))
        for file in (tmp_path/'killed').glob('*.u8'): file.unlink()      # it came through: the next one starts anew
    assert half_done >= 2, f'only {half_done} of 6 were killed half way'
    check(files, tmp_path/'killed')
    assert not list((tmp_path/'killed').glob('*.tmp')), 'what the killed ones left is still there'


def test_two_processes_at_once(files, tmp_path, spawn):
    both = [spawn.Process(target=build, args=(files, tmp_path)) for _ in range(2)]
    for process in both: process.start()
    for process in both: process.join()
    assert [process.exitcode for process in both] == [0, 0]
    assert len(list(tmp_path.glob('*.u8'))) == 1 and not list(tmp_path.glob('*.tmp'))
    check(files, tmp_path)


def test_the_second_process_waits_for_the_first(files, tmp_path, monkeypatch):
    "It says so, finds the file that was made meanwhile, and decodes nothing."
    here, other, said = tmp_path/'here', tmp_path/'other', []
    build(files, other)
    here.mkdir()
    made, = other.glob('*.u8')
    marker, = other.glob('*.npz')
    with ThreadPoolExecutor(1) as pool, monkeypatch.context() as without:
        without.setattr(cache_module, 'decode', None)
        without.setattr(cache_module, 'print', said.append, raising=False)
        with FileLock(here/'.lock'):
            second = pool.submit(build, files, here)
            while not said and not second.done(): time.sleep(.01)
            marker.rename(here/marker.name)
            made.rename(here/made.name)
        second.result(timeout=60)
    assert 'waiting for it' in said[0]
    check(files, here)


def test_disk_full(files, tmp_path, spawn):
    "The system refuses to write half way: the error says so and what to do, and nothing is left behind."
    answer = spawn.Queue()
    process = spawn.Process(target=build, args=(files, tmp_path), kwargs=dict(max_bytes=5_000_000, answer=answer))
    process.start()
    error = answer.get(timeout=60)
    process.join()
    assert 'took no more' in error and f'clear_cache({str(tmp_path)!r})' in error
    assert not list(tmp_path.glob('*.u8*'))
    check(files, tmp_path)


def test_changed_file(files, tiles, tmp_path):
    own = [str(tmp_path/f'{i}.jpg') for i in range(3)]
    for target, source in zip(own, files): open(target, 'wb').write(open(source, 'rb').read())
    TileCache(own, size, tmp_path/'.tiles').build()
    open(own[1], 'wb').write(open(files[7], 'rb').read())
    assert (TileCache(own, size, tmp_path/'.tiles')[1] == decode(files[7], size)).all()
    assert TileCache(own, size + 32, tmp_path/'.tiles')[1].shape == (3, size + 32, size + 32)
    assert (TileCache(own, (size, size), tmp_path/'.tiles')[0] == decode(files[0], (size, size))).all()


def test_older_version_and_damaged_file(files, tmp_path, monkeypatch):
    monkeypatch.setattr(cache_module, '_version', cache_module._version - 1)
    TileCache(files, size, tmp_path).build()
    old, = tmp_path.glob('*.u8')
    old.write_bytes(bytes(old.stat().st_size))      # what another version may have had in it
    monkeypatch.undo()
    check(files, tmp_path)
    new, = set(tmp_path.glob('*.u8')) - {old}
    os.truncate(new, 1000)
    check(files, tmp_path)


def test_moved_data_folder(tiles, tmp_path, monkeypatch):
    shutil.copytree(tiles, tmp_path/'here', ignore=shutil.ignore_patterns('.tiles'))
    names = [p.name for p in sorted((tmp_path/'here'/'train-jpg').iterdir())]
    def at(place): return TileCache([tmp_path/place/'train-jpg'/name for name in names], 64)
    at('here').build()
    (tmp_path/'here').rename(tmp_path/'there')
    monkeypatch.setattr(cache_module, 'decode', None)       # nothing is decoded again
    moved = at('there')[:]
    monkeypatch.undo()
    assert (moved == torch.stack([decode(tmp_path/'there'/'train-jpg'/name, 64) for name in names])).all()


def alike(folder, files, names):
    "Copies that look the same from outside: one size, one date."
    folder.mkdir(parents=True, exist_ok=True)
    for name, file in zip(names, files):
        (folder/name).write_bytes(Path(file).read_bytes().ljust(100_000, b'\0'))
        os.utime(folder/name, ns=(0, 0))
    return [str(folder/name) for name in names]


def same(cache, files):
    return torch.equal(cache[:], torch.stack([decode(f, cache.size) for f in files]))


def test_files_of_the_same_size_and_date_change_places(files, tmp_path):
    a, b = alike(tmp_path/'x', files, ['a.jpg', 'b.jpg'])
    assert same(TileCache([a, b], 32, tmp_path/'.tiles'), files[:2])
    os.rename(a, tmp_path/'c')
    os.rename(b, a)
    os.rename(tmp_path/'c', b)
    assert same(TileCache([a, b], 32, tmp_path/'.tiles'), files[1::-1])


def test_the_same_names_elsewhere(files, tmp_path):
    "In another data folder that shares the place of the cache, and in another subfolder of the same."
    for i, place in enumerate(('one/x', 'two/x', 'one/y', 'one/x')):
        own = alike(tmp_path/place, files[i:], ['a.jpg', 'b.jpg'])
        assert same(TileCache(own, 32, tmp_path/'one'/'.tiles'), files[i:i + 2]), place


def test_zeros_of_the_right_size(files, tmp_path):
    TileCache(files[:3], 32, tmp_path).build()
    made, = tmp_path.glob('*.u8')
    date = made.stat().st_mtime_ns
    made.write_bytes(bytes(made.stat().st_size))
    os.utime(made, ns=(date, date))
    assert same(TileCache(files[:3], 32, tmp_path), files[:3])
    with open(made, 'r+b') as out: out.write(b'x')
    assert same(TileCache(files[:3], 32, tmp_path), files[:3])


def test_a_copied_data_folder(files, tmp_path, monkeypatch):
    "Other inodes and other times, the same bytes: nothing is decoded, and the next time nothing is read. Nor where no marker can be written."
    own = alike(tmp_path/'one'/'x', files, ['a.jpg', 'b.jpg'])
    TileCache(own, 32).build()
    for place in 'two', 'three': shutil.copytree(tmp_path/'one', tmp_path/place)
    moved = {place: [str(tmp_path/place/'x'/name) for name in ('a.jpg', 'b.jpg')] for place in ('two', 'three')}
    expected = torch.stack([decode(f, 32) for f in files[:2]])
    monkeypatch.setattr(cache_module, 'decode', None)
    monkeypatch.setattr(cache_module, '_forget_young', lambda stats: stats)
    assert torch.equal(TileCache(moved['two'], 32)[:], expected)
    def refuse(*_): raise PermissionError
    with monkeypatch.context() as nothing_read:
        for name in '_digest_of', '_digest_all': nothing_read.setattr(cache_module, name, refuse)
        assert torch.equal(TileCache(moved['two'], 32)[:], expected)
    monkeypatch.setattr(cache_module, '_mark', refuse)
    assert torch.equal(TileCache(moved['three'], 32)[:], expected)


def test_a_tile_is_replaced_while_its_cache_is_built_and_restored(files, tmp_path, monkeypatch):
    a, b = alike(tmp_path/'x', files, ['a.jpg', 'b.jpg'])
    read, swaps = cache_module._read, []
    def swapping(file):
        if file != b or swaps: return read(file)
        swaps.append(os.rename(b, tmp_path/'aside'))
        alike(tmp_path/'x', files[5:], ['b.jpg'])
        found = read(file)
        os.rename(tmp_path/'aside', b)
        return found
    monkeypatch.setattr(cache_module, '_read', swapping)
    assert same(TileCache([a, b], 32, tmp_path/'.tiles'), files[:2]) and swaps


def test_two_changes_in_one_tick_of_the_clock(files, tmp_path, monkeypatch):
    "The system says the same of both, and the bytes are asked all the same."
    a, = alike(tmp_path/'x', files, ['a.jpg'])
    tick = time.time_ns()
    monkeypatch.setattr(cache_module, '_stats', lambda s: [s.st_size, 0, tick, s.st_ino])
    TileCache([a], 32, tmp_path/'.tiles').build()
    alike(tmp_path/'x', files[1:], ['a.jpg'])
    assert same(TileCache([a], 32, tmp_path/'.tiles'), files[1:2])


def test_tiles_that_never_rest(files, tmp_path, monkeypatch):
    "The error says so, and no cache that was built from them is taken for one."
    a, = alike(tmp_path/'x', files, ['a.jpg'])
    read, turn = cache_module._read, iter(range(99))
    def changing(file):
        alike(tmp_path/'x', files[next(turn):], ['a.jpg'])
        return read(file)
    monkeypatch.setattr(cache_module, '_read', changing)
    with pytest.raises(OSError, match='change while they are read'): TileCache([a], 32, tmp_path/'.tiles').build()
    monkeypatch.undo()
    assert same(TileCache([a], 32, tmp_path/'.tiles'), [a])


def test_a_damaged_marker(files, tmp_path):
    TileCache(files[:3], 32, tmp_path).build()
    marker, = tmp_path.glob('*.npz')
    whole = marker.read_bytes()
    def other(**arrays):
        out = io.BytesIO()
        np.savez(out, **arrays)
        return out.getvalue()
    parts = dict(np.load(marker))
    object_array = np.array([{}], dtype=object)
    for damaged in (b'', whole[:-50], bytes(len(whole)), b'x', other(a=np.zeros(3)), other(**(parts | {'stats': parts['stats'][:1]})),
                    other(**(parts | {'digests': object_array})), other(**(parts | {'whole': parts['whole'][::-1], 'own': parts['own']*0}))):
        marker.write_bytes(damaged)
        assert same(TileCache(files[:3], 32, tmp_path), files[:3])
        marker.unlink()
        next(tmp_path.glob('*.u8')).write_bytes(bytes(3*3*32*32))


def test_clearing_beside_a_build(files, tmp_path, monkeypatch, capsys):
    "The build is left alone, and comes to its end."
    half, go_on = threading.Event(), threading.Event()
    def slow(*args):
        half.set()
        assert go_on.wait(60)
        return decode(*args)
    monkeypatch.setattr(cache_module, 'decode', slow)
    with ThreadPoolExecutor(1) as pool:
        building = pool.submit(TileCache(files[:3], 32, tmp_path/'.tiles', workers=1).build)
        assert half.wait(60)
        try: assert clear_cache(tmp_path) == 0
        finally: go_on.set()
        assert same(building.result(60), files[:3])
    assert 'nothing removed' in capsys.readouterr().out
    assert clear_cache(tmp_path) > 3*3*32*32 and os.listdir(tmp_path/'.tiles') == ['.lock']


def test_a_cache_folder_of_ones_own_is_cleared(files, tmp_path, capsys):
    "As `databunch(cache_folder=)` has it: it is the folder itself, no `.tiles` is looked for in it, and none is made."
    mine, data = tmp_path/'mine', tmp_path/'data'
    data.mkdir()
    TileCache(files[:3], 32, mine).build(progress=False)
    (mine/'notes.u8').touch()
    assert clear_cache(data) == 0 and 'cache_folder=' in capsys.readouterr().out and not list(data.iterdir())
    assert clear_cache(mine) > 3*3*32*32 and '1 cache file removed' in capsys.readouterr().out
    assert sorted(os.listdir(mine)) == ['.lock', 'notes.u8']
    with pytest.raises(FileNotFoundError): clear_cache(tmp_path/'gone')
    assert not (tmp_path/'gone').exists()


def test_what_stands_in_for_a_folder_is_cleared(files, tmp_path, monkeypatch, capsys):
    "And what cannot be removed is said, while the rest goes."
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path/'home'))
    for place in (tmp_path/'data'/'.tiles', cache_module.stand_in(tmp_path/'data'/'.tiles'), cache_module.stand_in(tmp_path/'data')):
        TileCache(files[:3], 32, place).build(progress=False)
    (tmp_path/'data'/'.tiles'/'.lock').unlink(missing_ok=True)
    (tmp_path/'data'/'.tiles'/'.lock').mkdir()      # as good as forbidden
    assert clear_cache(tmp_path/'data') > 2*3*3*32*32
    said = capsys.readouterr().out
    assert said.count('1 cache file removed') == 2 and said.count('nothing removed: it cannot be written to') == 1
    assert len(list(tmp_path.rglob('*.u8'))) == 1
    monkeypatch.setattr(cache_module, 'stand_in', fails_without_home)
    (tmp_path/'data'/'.tiles'/'.lock').rmdir()
    assert clear_cache(tmp_path/'data') > 3*3*32*32


def fails_without_home(folder): raise OSError('this user has no home folder')


def test_caches_of_older_versions_are_cleared(tmp_path):
    (tmp_path/'.tiles'/'128-0123456789abcdef.u8.0.tmp').mkdir(parents=True)
    (tmp_path/'.tiles'/'128-0123456789abcdef.u8.0.tmp'/'new').write_bytes(bytes(10))
    for name in '128-0123456789abcdef.u8', '96x64-0123456789abcdef.u8-' + 'ab'*16 + '.tmp', '32-0123456789abcdef.npz', 'mine.u8':
        (tmp_path/'.tiles'/name).write_bytes(bytes(10))
    assert clear_cache(tmp_path) >= 40 and sorted(os.listdir(tmp_path/'.tiles')) == ['.lock', 'mine.u8']


@pytest.mark.parametrize('error', [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried")])
def test_no_memory_is_not_a_damaged_picture(error, files, tmp_path, monkeypatch):
    def fails(picture): raise error
    monkeypatch.setattr(image_module, '_rgb', fails)
    with pytest.raises(MemoryError, match='too little memory for .*jpg'): decode(files[0])
    with pytest.raises(MemoryError): TileCache(files[:3], 32, tmp_path).build(progress=False)
    assert not list(tmp_path.glob('*.tmp'))


def test_keys_of_before_there_were_formats(tmp_path):
    "Caches of RGB tiles that are on disks already are found; another format is another file."
    key = cache_module._key(['a/train-jpg/1.jpg'], 'a', tile_size(128), RGB)
    assert key == '8c8731fdf9da41d3' and cache_module._key(['a/train-jpg/1.jpg'], 'a', tile_size((96, 128)), RGB) == 'ac8aae76700cfc67'
    assert len({key} | {cache_module._key(['a/train-jpg/1.jpg'], 'a', tile_size(128), f) for f in (RGB._replace(channels=4), RGB._replace(scale=1))}) == 3


def test_a_crop_that_is_no_square_has_a_file_of_its_own(files, tmp_path):
    crop = tile_size((40, 80))._replace(crop=True)
    caches = [TileCache(files[:4], s, tmp_path/'.tiles').build(progress=False) for s in ((40, 80), crop)]
    assert len(list((tmp_path/'.tiles').glob('40x80-*.u8'))) == 2 and not torch.equal(caches[0][:], caches[1][:])
    assert torch.equal(caches[1][3], decode(files[3], crop))
    assert clear_cache(tmp_path) > 0 and not list((tmp_path/'.tiles').glob('*.u8'))


def test_a_large_file_that_is_no_picture_is_not_read(tmp_path, monkeypatch):
    "Its first bytes are looked at before."
    asked = []
    monkeypatch.setattr(cache_module, '_read', lambda file: asked.append(file) or pytest.fail('it was read whole'))
    for i in range(3):
        with open(tmp_path/f'{i}.jpg', 'wb') as f: f.truncate(700_000_000)
    with pytest.raises(ValueError, match='3 of 3 tiles cannot be read(.|\n)*2.jpg: this is not a JPEG'):
        TileCache(sorted(tmp_path.iterdir()), 32, tmp_path/'.tiles', workers=3).build()
    assert not asked


def test_large_files_one_after_another(files, tmp_path, monkeypatch):
    "Read to be decoded, and read to be compared: never two in memory at once."
    now, most = [], []
    def slow(contents, *args):
        now.append(1)
        most.append(len(now))
        time.sleep(.002)
        now.pop()
        return made(contents, *args)
    for name in ('decode', '_digest'):
        made = getattr(cache_module, name)
        with monkeypatch.context() as m:
            m.setattr(cache_module, '_large_file', 100, raising=False)
            m.setattr(cache_module, name, slow)
            cached = TileCache(files[:20], 32, tmp_path/'.tiles', workers=6)
            assert torch.equal(cached[3], decode(files[3], 32)) and max(most) == 1
        for file in (tmp_path/'.tiles').glob('*.u8'): file.unlink()
