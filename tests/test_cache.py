"""Tile caches that were killed, raced for, damaged, outdated or moved: never a wrong tile, never an error without a way on."""
import io, multiprocessing, os, random, resource, shutil, signal, struct, time, zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
import torch
from filelock import FileLock
from PIL import ExifTags, Image

from planet_course import cache as cache_module
from planet_course.cache import TileCache, decode, open_picture, stored_size

size, repeat = 160, 8     # a build that takes some tenths of a second


@pytest.fixture
def files(tiles):
    "The sixty tiles, several times over."
    return [str(tiles/'train-jpg'/f'{name}.jpg') for name in pd.read_csv(tiles/'train_v2.csv').image_name]*repeat


@pytest.fixture(scope='module')
def spawn():
    "Starts processes that have the module loaded already, so that they build at once."
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload(['planet_course.cache'])
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
    for _ in range(10):
        started = spawn.Event()
        process = spawn.Process(target=build, args=(files, tmp_path/'killed', started))
        process.start()
        assert started.wait(60)
        time.sleep(moments.uniform(0.05, 0.9)*whole)
        process.kill()
        process.join()
        half_done += process.exitcode == -signal.SIGKILL and bool(list((tmp_path/'killed').glob('*.tmp')))
        for file in (tmp_path/'killed').glob('*.u8'): file.unlink()      # it came through: the next one starts anew
    assert half_done >= 3, f'only {half_done} of 10 were killed half way'
    check(files, tmp_path/'killed')
    assert not list((tmp_path/'killed').glob('*.tmp')), 'what the killed ones left is still there'


def test_two_processes_at_once(files, tmp_path, spawn):
    both = [spawn.Process(target=build, args=(files, tmp_path)) for _ in range(2)]
    for process in both: process.start()
    for process in both: process.join()
    assert [process.exitcode for process in both] == [0, 0]
    assert len(list(tmp_path.glob('*.u8'))) == 1 and not list(tmp_path.glob('*.tmp'))
    check(files, tmp_path)


def test_the_second_process_waits_for_the_first(files, tmp_path, monkeypatch, capsys):
    "It says so, finds the file that was made meanwhile, and decodes nothing."
    here, other, said = tmp_path/'here', tmp_path/'other', ''
    build(files, other)
    here.mkdir()
    made, = other.glob('*.u8')
    with ThreadPoolExecutor(1) as pool, monkeypatch.context() as without:
        without.setattr(cache_module, 'decode', None)
        with FileLock(here/'.lock'):
            second = pool.submit(build, files, here)
            while 'waiting for it' not in said and not second.done(): said += capsys.readouterr().out
            made.rename(here/made.name)
        second.result(timeout=60)
    assert 'waiting for it' in said
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
