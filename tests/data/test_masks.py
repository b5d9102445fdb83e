"""Masks where the chapter does not show them: odd types of number, odd files, what must be refused."""
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image as PILImage
from small import slowed

from planet_course.tiles import decode, get_transforms
from planet_course.device import seed_everything
from planet_course.data import SegmentationItemList
from planet_course.data import masks as masks_module
from planet_course.data.masks import _read_mask
from planet_course.tiles import image as image_module

codes = ['nothing', 'left', 'right']


def masks(path, bs=4, tfms=None, size=64, valid=2):
    lists = SegmentationItemList.from_folder(path/'images').split_by_idx(range(valid))
    return lists.label_from_func(lambda f: path/'masks'/f.name, classes=codes).transform(tfms, size, tfm_y=bool(tfms)).databunch(bs)


def test_mask_batches_repeat_with_the_seed_and_move_with_the_tile(scene):
    data = masks(scene[0], tfms=get_transforms(flip_vert=True, max_warp=0., max_lighting=0.))
    def batch():
        seed_everything(3)
        return data.one_batch()
    (xa, ya), (xb, yb) = batch(), batch()
    assert torch.equal(xa, xb) and torch.equal(ya, yb)
    for k in (0, 1): assert (ya[xa[:, k] > .999] == k + 1).all()
    assert not torch.equal(ya, masks(scene[0]).one_batch()[1])


def test_lists_keep_their_kind(scene):
    found = SegmentationItemList.from_folder(scene[0]/'images')
    assert type(found.add(found)) is type(found.split_none().train) is SegmentationItemList
    assert repr(found).startswith('SegmentationItemList (6 items)')


@pytest.mark.parametrize('value, dtype', [(257, np.uint16), (65536, np.int32), (-1, np.int32), (256., np.float32), (1.5, np.float32),
                                          (float('nan'), np.float32), (float('inf'), np.float32), (3, np.uint8)], ids=str)
def test_mask_values_are_neither_wrapped_nor_cut_off(scene, value, dtype):
    "One pixel that is no class number: whatever the type of the numbers, the error shows it."
    codes = np.ones((97, 131), dtype)
    codes[5, 7] = value
    mask = scene[0]/'odd.tif'
    PILImage.fromarray(codes).save(mask)
    with pytest.raises(ValueError, match=f'has the values {value}'): _read_mask(str(mask), str(scene[0]/'images/0.png'), None, 3)


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.int32, np.float32, bool])
def test_masks_of_any_type_of_number(scene, dtype):
    codes = np.eye(97, 131).astype(dtype)
    PILImage.fromarray(codes).save(scene[0]/'odd.tif')
    assert np.array_equal(_read_mask(str(scene[0]/'odd.tif'), str(scene[0]/'images/0.png'), None, 2), np.eye(97, 131))


@pytest.mark.parametrize('orientation', [1, 3, 6])
def test_a_mask_is_upright_as_its_picture(tmp_path, orientation):
    "A camera's picture lies on its side in the file; its mask was drawn upright, or has the same note."
    undone = {1: lambda a: a, 3: lambda a: np.rot90(a, 2), 6: lambda a: np.rot90(a)}[orientation]
    pixels, codes = np.zeros((40, 60, 3), np.uint8), np.zeros((40, 60), np.uint8)
    pixels[:20, :10], codes[:20, :10] = 255, 1
    exif = PILImage.Exif()
    exif[274] = orientation
    PILImage.fromarray(undone(pixels)).save(tmp_path/'picture.png', exif=exif)
    PILImage.fromarray(undone(codes)).save(tmp_path/'noted.png', exif=exif)
    PILImage.fromarray(codes).save(tmp_path/'drawn.png')
    tile = decode(tmp_path/'picture.png')
    for name in ('noted.png', 'drawn.png'):
        mask = _read_mask(str(tmp_path/name), str(tmp_path/'picture.png'), None, 2)
        assert torch.equal(mask == 1, tile[0] == 255) and mask.sum() == 200


def test_a_mask_that_is_no_picture(scene):
    "A PostScript program and a pipe are named, and neither is run nor waited for."
    (scene[0]/'program.png').write_bytes(b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n{} loop')
    os.mkfifo(scene[0]/'pipe.png')
    for name in ('program.png', 'pipe.png'):
        with pytest.raises(ValueError, match=name): _read_mask(str(scene[0]/name), str(scene[0]/'images/0.png'), 64, 3)


def test_masks_need_a_path_and_names(scene):
    split = SegmentationItemList.from_folder(scene[0]/'images').split_none()
    mask = lambda f: None if f.stem == '3' else scene[0]/'masks'/f.name
    with pytest.raises(ValueError, match='1 pictures were given no path of a mask: .*3.png'): split.label_from_func(mask, classes=codes)
    for bad, says in ((None, 'masks need'), ([], 'masks need'), ('left', 'a list of names'), (['left', 'left'], 'twice: left')):
        with pytest.raises(ValueError, match=says): split.label_from_func(lambda f: f, classes=bad)


def test_a_mask_is_no_jpeg(scene):
    "Its numbers would be others, and mostly in the range: a class 1 beside a 0 and a 2, where there is none."
    codes = np.kron(np.array([[0, 2]*8, [2, 0]*8]*6), np.ones((8, 8))).astype(np.uint8)
    file = scene[0]/'odd.png'
    PILImage.fromarray(codes).save(file, 'JPEG', quality=75)
    picture = scene[0]/'same.png'
    PILImage.fromarray(codes).convert('RGB').save(picture)
    with pytest.raises(ValueError, match='odd.png: it is a JPEG, which changes numbers'): _read_mask(str(file), str(picture), None, 256)


def test_pixels_of_the_masks_of_all_threads_together(tmp_path, monkeypatch):
    "Six threads, room for two: never more than two masks at once until they are scaled."
    PILImage.new('L', (40, 50)).save(tmp_path/'a.png')
    slow_resize, most = slowed(masks_module.resize)
    monkeypatch.setattr(masks_module, 'resize', slow_resize)
    monkeypatch.setattr(image_module, '_room', image_module._Room(2*(40*50 + 30*38)))
    with ThreadPoolExecutor(6) as pool: list(pool.map(lambda _: _read_mask(str(tmp_path/'a.png'), str(tmp_path/'a.png'), 30, 3), range(24)))
    assert max(most) == 2


def test_a_mask_that_scaling_makes_too_large(tmp_path):
    PILImage.new('L', (1, 2700)).save(tmp_path/'thin.png')
    with pytest.raises(ValueError, match='thin.png.*decompression bomb'): _read_mask(str(tmp_path/'thin.png'), str(tmp_path/'thin.png'), 3600, 3)


def test_a_picture_that_is_none_is_not_its_masks_fault(scene):
    (scene[0]/'cut.png').write_bytes((scene[0]/'images/0.png').read_bytes()[:20])
    with pytest.raises(ValueError, match='cannot read .*cut.png: the picture is cut short'): _read_mask(str(scene[0]/'masks/0.png'), str(scene[0]/'cut.png'), 64, 3)
