"""Pictures that are no picture, no bytes, sideways or too large: upright RGB, or an error that names the file and says why."""
import io, os, struct, zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image, TiffImagePlugin

from conftest import shared
from small import slowed
from planet_course.tiles import image as image_module
from planet_course.tiles import decode, fit_window, open_picture, resize, stored_size, tile_size, TileSize


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


def test_sixteen_bits_that_stay_dark_are_told_once_a_folder(tmp_path, capsys):
    "Sentinel-2's white is 10,000: it came out as 38 of 255, without a word. What the line tells to write gives the right picture."
    values = np.linspace(0, 10_000, 64).reshape(8, 8).astype('uint16')
    for form in 'tiff', 'png':
        (tmp_path/form).mkdir()
        for name in 'ab':
            file = tmp_path/form/f'{name}.{form}'
            Image.fromarray(values).save(file)
            assert decode(file).max() == 38
        said = capsys.readouterr().out
        assert said.count('\n') == 1 and str(tmp_path/form) in said and 'taken as 0 to 65,535; the brightest pixel of one is 10,000' in said
    (tmp_path/'rgb.png').write_bytes(png16(2, 3, 10_000))
    (tmp_path/'alpha.png').write_bytes(png16(6, 4, 10_000))
    for name in 'rgb', 'alpha': assert decode(tmp_path/f'{name}.png').max() == 39
    said = capsys.readouterr().out
    assert said.count('\n') == 1 and 'upper bytes taken as 0 to 255; the brightest pixel of one is 39' in said
    high = 10_000
    low = 0
    a = np.asarray(Image.open(file)).astype(float)
    assert 'np.uint8(255*np.clip((a - low)/(high - low), 0, 1))' in said
    assert decode(Image.fromarray(np.uint8(255*np.clip((a - low)/(high - low), 0, 1)))).max() == 255
    image_module._told.discard(('memory', '16 bits'))
    for _ in range(2): decode(Image.fromarray(values))
    assert capsys.readouterr().out.count('pictures in memory have 16 bits') == 1
    for i, picture in enumerate((png16(0, 1, 0), png16(0, 1, 32_896), png16(2, 3, 32_896), png16(2, 3, 65_535))):   # black, half of the range, white
        (tmp_path/f'{i}').mkdir()
        (tmp_path/f'{i}'/'a.png').write_bytes(picture)
        decode(tmp_path/f'{i}'/'a.png')
    assert capsys.readouterr().out == ''


def test_the_range_of_dark_colours_is_that_of_the_array(capsys):
    "Pillow gives upper bytes, and low and high are to be typed as the array has them."
    with pytest.raises(ValueError, match='from 11 to 11, in the upper bytes of 16 bits'): decode(png16(2, 3, 3000))
    assert np.asarray(Image.open(io.BytesIO(png16(2, 3, 3000)))).max() == 11


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
    picture, size = Image.new('RGB', (40, 50)), 30
    monkeypatch.setattr(image_module, '_room', image_module._Room(2*(40*50 + 30*38)))
    slow_rgb, most = slowed(image_module._rgb)
    monkeypatch.setattr(image_module, '_rgb', slow_rgb)
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda _: decode(picture.copy(), size), range(24)))
        assert max(most) == 2
        most.clear()
        list(pool.map(lambda _: decode(Image.new('RGB', (1000, 20))), range(6)))
        assert max(most) == 1
    with open_picture(Image.new('L', (1000, 9))), open_picture(Image.new('L', (1000, 9))): pass   # does not wait for itself


def test_sizes_of_all_threads_together(tmp_path, monkeypatch):
    "A PNG may have to be decoded for its size: six threads, room for two."
    Image.new('RGB', (40, 50)).save(tmp_path/'a.png')
    slow_orientation, most = slowed(image_module._orientation)
    monkeypatch.setattr(image_module, '_orientation', slow_orientation)
    monkeypatch.setattr(image_module, '_room', image_module._Room(2*40*50))
    with ThreadPoolExecutor(6) as pool: assert {*pool.map(stored_size, [tmp_path/'a.png']*24)} == {(50, 40)}
    assert max(most) == 2


def test_freed_memory_goes_back_after_a_large_picture(monkeypatch):
    "And not after a tile, since giving it back takes time."
    said = []
    monkeypatch.setattr(image_module, 'trim_memory', lambda: said.append(1), raising=False)
    decode(Image.new('RGB', (256, 256)), 128)
    assert not said
    with open_picture(Image.new('1', (4097, 4096))): pass
    assert said == [1]


def test_a_size_that_is_none(tiles, tmp_path):
    "Is refused before a file is opened, and nobody is told that the picture was at fault."
    for size in (0, -1, 64., '64', (64,), (64, 0), (64, 64, 64), (None, 64)):
        for use in (tile_size, lambda s: decode(tmp_path/'no.jpg', s), lambda s: fit_window(9, 9, s), lambda s: resize(torch.zeros(3, 9, 9), s)):
            with pytest.raises(ValueError, match='^size is .*; give the pixels of a side'): use(size)
        with pytest.raises(ValueError, match='^size is .*; give the pixels of a side'):
            with open_picture(tmp_path/'no.jpg', size): pass


def test_sizes_of_numpy_are_sizes():
    assert tile_size(np.int64(64)) == tile_size(64) and repr(tile_size([np.int32(8), 9])) == 'TileSize(h=8, w=9, crop=False)'


def test_cropping_to_what_is_no_square(tiles):
    "Neither an int nor a pair says so; what is kept is the centre, in its proportions."
    file = next((tiles/'train-jpg').iterdir())
    whole = decode(file)
    assert torch.equal(decode(file, TileSize(128, 256, crop=True)), whole[:, 64:192])
    assert torch.equal(decode(file, TileSize(256, 100, crop=True)), whole[:, :, 78:178])
