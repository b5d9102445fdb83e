"""Tile caches that were killed, raced for, damaged, outdated or moved: never a wrong tile, never an error without a way on."""
import io, multiprocessing, os, random, resource, shutil, signal, struct, threading, time, zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from filelock import FileLock
from PIL import ExifTags, Image, TiffImagePlugin

from conftest import shared
from planet_course.tiles import cache as cache_module, image as image_module
from planet_course.tiles import clear_cache, decode, open_picture, stored_size, TileCache

size, repeat = 160, 4     # a build that takes some tenths of a second


@pytest.fixture
def files(tiles):
    "The sixty tiles, several times over."
    return [str(tiles/'train-jpg'/f'{name}.jpg') for name in pd.read_csv(tiles/'train_v2.csv').image_name]*repeat


@pytest.fixture(scope='module')
def spawn():
    "Starts processes that have the module loaded already, so that they build at once."
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload(['planet_course.tiles.cache', 'planet_course.get.sample', 'pandas', 'pytest'])
    return context


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
    assert 'took no more' in error and str(tmp_path) in error and 'clear_cache' in error
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


def test_caches_of_older_versions_are_cleared(tmp_path):
    (tmp_path/'.tiles'/'128-0123456789abcdef.u8.0.tmp').mkdir(parents=True)
    (tmp_path/'.tiles'/'128-0123456789abcdef.u8.0.tmp'/'new').write_bytes(bytes(10))
    for name in '128-0123456789abcdef.u8', '96x64-0123456789abcdef.u8-' + 'ab'*16 + '.tmp', '32-0123456789abcdef.npz', 'mine.u8':
        (tmp_path/'.tiles'/name).write_bytes(bytes(10))
    assert clear_cache(tmp_path) >= 40 and sorted(os.listdir(tmp_path/'.tiles')) == ['.lock', 'mine.u8']


def oriented(picture, turn):
    "A JPEG's bytes, with an EXIF orientation."
    exif, out = Image.Exif(), io.BytesIO()
    exif[ExifTags.Base.Orientation] = turn
    picture.save(out, 'jpeg', exif=exif, quality=100, subsampling=0)
    return out.getvalue()


def test_a_program_is_no_picture(tmp_path):
    "PostScript under a picture's name is not run, and the formats are named."
    (tmp_path/'tile.jpg').write_bytes(b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n')
    for read in (decode, stored_size):
        with pytest.raises(ValueError, match='tile.jpg.*JPEG, PNG, WebP, GIF, BMP or TIFF'): read(tmp_path/'tile.jpg')


@pytest.mark.skipif(not hasattr(os, 'mkfifo'), reason='this system has no named pipes')
def test_a_pipe_is_no_picture(tmp_path, spawn):
    "Nobody waits for it; a process of its own, so that a hanging one can be ended."
    os.mkfifo(tmp_path/'pipe.jpg')
    answer = spawn.Queue()
    process = spawn.Process(target=say_why, args=(tmp_path/'pipe.jpg', answer))
    process.start()
    try: assert answer.get(timeout=20).endswith('pipe.jpg: this is no file.')
    finally: process.kill()


def say_why(file, answer):
    try: stored_size(file)
    except ValueError as e: answer.put(str(e))


def test_every_orientation():
    "A gradient that a camera stored in each of the eight ways comes out the same."
    upright = np.zeros((24, 40, 3), np.uint8)
    upright[..., 0], upright[..., 1] = np.arange(24)[:, None]*10, np.arange(40)*6
    undo = {1: lambda a: a, 2: np.fliplr, 3: lambda a: np.rot90(a, 2), 4: np.flipud, 5: lambda a: a.swapaxes(0, 1),
            6: np.rot90, 7: lambda a: np.rot90(a, 2).swapaxes(0, 1), 8: lambda a: np.rot90(a, -1)}
    for turn, stored in undo.items():
        data = oriented(Image.fromarray(np.ascontiguousarray(stored(upright))), turn)
        off = (decode(data).permute(1, 2, 0).int() - torch.from_numpy(upright).int()).abs()
        assert off.shape == (24, 40, 3) and off.max() < 8, turn
        assert stored_size(data) == (24, 40), turn
        with open_picture(Image.open(io.BytesIO(data))) as picture: assert picture.size == (40, 24)


def test_orientation_behind_the_pixels_of_a_png(tmp_path):
    "Some programs write it there."
    out = io.BytesIO()
    Image.new('RGB', (40, 24)).save(out, 'png')
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    body = b'eXIf' + exif.tobytes()[6:]
    chunk = struct.pack('>I', len(body) - 4) + body + struct.pack('>I', zlib.crc32(body))
    (tmp_path/'a.png').write_bytes(out.getvalue()[:-12] + chunk + out.getvalue()[-12:])
    assert stored_size(tmp_path/'a.png') == (40, 24) and decode(tmp_path/'a.png').shape == (3, 40, 24)


def test_broken_exif_is_none(tiles, tmp_path):
    file = next((tiles/'train-jpg').iterdir())
    data = file.read_bytes()
    broken = data[:2] + b'\xff\xe1' + struct.pack('>H', 14) + b'Exif\0\0MM\0*\xff\xff' + data[2:]
    assert (decode(broken) == decode(file)).all()


def png16(colour, bands, value):
    "A PNG of 16 bits a band, all of one value, as Pillow does not write it."
    def chunk(kind, data): return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))
    rows = (b'\0' + struct.pack('>H', value)*4*bands)*3
    return (b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', struct.pack('>IIBBBBB', 4, 3, 16, colour, 0, 0, 0))
            + chunk(b'IDAT', zlib.compress(rows)) + chunk(b'IEND', b''))


@pytest.mark.parametrize('dtype, low, high', [('float32', 0, 1), ('int32', 0, 100_000), ('uint16', 0, 4095)])
def test_another_range_is_refused(dtype, low, high, tmp_path):
    "They came out black, or wrapped. The error has the range; what it tells to write then gives the right picture."
    values = np.linspace(low, high, 64).reshape(8, 8).astype(dtype)
    for form in 'tiff', 'png':
        if form == 'png' and dtype != 'uint16': continue
        file = tmp_path/f'a.{form}'
        Image.fromarray(values).save(file)
        with pytest.raises(ValueError, match=rf'a.{form}: its pixels go from {low} to {high:,}'): decode(file)
    a = np.asarray(Image.open(file)).astype(float)
    said = Image.fromarray(np.uint8(255*np.clip((a - low)/(high - low), 0, 1)))
    assert decode(said)[0, 0, 0] == 0 and decode(said)[0, 7, 7] == 255


def test_sixteen_bits():
    "From 0 to 65,535, as PNG has it; in RGB too, where Pillow keeps the upper byte."
    for colour, bands in ((0, 1), (2, 3), (4, 2), (6, 4)):
        assert (decode(png16(colour, bands, 65535)) == 255).all() and (decode(png16(colour, bands, 30840)) == 120).all()
        with pytest.raises(ValueError, match='16 bits'): decode(png16(colour, bands, 3000))
    assert (decode(png16(0, 1, 0)) == 0).all()
    twice = Image.open(io.BytesIO(png16(2, 3, 3000)))
    for _ in range(2):
        with pytest.raises(ValueError, match='16 bits'): decode(twice)


def test_a_fourth_band_is_mentioned_once_a_folder(tiles, tmp_path, capsys):
    picture = Image.new('RGBA', (8, 8), (1, 2, 3, 255))
    picture.save(tmp_path/'opaque.png')
    decode(tmp_path/'opaque.png')
    decode(next((tiles/'train-jpg').iterdir()))     # CMYK
    assert capsys.readouterr().out == ''
    picture.putpixel((0, 0), (1, 2, 3, 0))
    picture.save(tmp_path/'a.png')
    picture.quantize().save(tmp_path/'b.png')
    for name in 'a', 'b', 'a': decode(tmp_path/f'{name}.png')
    said = capsys.readouterr().out
    assert said.count('\n') == 1 and str(tmp_path) in said and 'fourth band' in said


def test_four_bands_of_sixteen_bits(tmp_path):
    "The competition's other tiles: Pillow does not open them."
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    for tag, value in {256: 4, 257: 4, 258: (16,)*4, 259: 1, 262: 2, 277: 4, 278: 4, 338: 1, 339: 1}.items(): tags[tag] = value
    tags[273], tags[279] = 0, 128
    (tmp_path/'t.tif').write_bytes(b'II*\0\x08\0\0\0' + tags.tobytes(8) + bytes(128))
    with pytest.raises(ValueError, match='4 bands of 16 bits.*gdal_translate'): decode(tmp_path/'t.tif')
    for file in sorted((shared/'data'/'planet_tif'/'train-tif-v2').glob('*.tif'))[:1]:
        with pytest.raises(ValueError, match='4 bands of 16 bits'): decode(file)


def test_pixels_of_all_threads_together(monkeypatch):
    "Six threads, room for two: never more than two pictures at once, before and after scaling; one too large goes alone."
    picture, size, inside, most = Image.new('RGB', (40, 50)), 30, [], []
    monkeypatch.setattr(image_module, '_room', image_module._Room(2*(40*50 + 30*38)))
    rgb = image_module._rgb
    def slow_rgb(picture):
        inside.append(1)
        most.append(len(inside))
        time.sleep(.005)
        inside.pop()
        return rgb(picture)
    monkeypatch.setattr(image_module, '_rgb', slow_rgb)
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda _: decode(picture.copy(), size), range(24)))
        assert max(most) == 2
        most.clear()
        list(pool.map(lambda _: decode(Image.new('RGB', (1000, 20))), range(6)))
        assert max(most) == 1
    with open_picture(Image.new('L', (1000, 9))), open_picture(Image.new('L', (1000, 9))): pass   # does not wait for itself


@pytest.mark.parametrize('error', [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried")])
def test_no_memory_is_not_a_damaged_picture(error, files, tmp_path, monkeypatch):
    def fails(picture): raise error
    monkeypatch.setattr(image_module, '_rgb', fails)
    with pytest.raises(MemoryError, match='too little memory for .*jpg'): decode(files[0])
    with pytest.raises(MemoryError): TileCache(files[:3], 32, tmp_path).build(progress=False)
    assert not list(tmp_path.glob('*.tmp'))
