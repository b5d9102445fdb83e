"""Masks, boxes and points where the chapter does not show them: odd sizes, test tiles, what must be refused."""
import json, os
from functools import partial

import numpy as np
import pytest
import torch
from conftest import shared
from PIL import Image as PILImage
from torchvision import models

from planet_course.tiles import get_transforms
from planet_course.tiles import decode
from planet_course.device import seed_everything
from planet_course.data import ImageList
from planet_course.answers import export_model, predict, tta
from planet_course.nets import (bb_pad_collate, Boxes, get_annotations, Mask, MeanIoU, ObjectItemList, PixelAccuracy, Points, PointsItemList,
                                SegmentationItemList, unet_learner)
from planet_course.nets.unet import _on_tile, _read_mask

codes = ['nothing', 'left', 'right']


def masks(path, bs=4, tfms=None, size=64, valid=2):
    lists = SegmentationItemList.from_folder(path/'images').split_by_idx(range(valid))
    return lists.label_from_func(lambda f: path/'masks'/f.name, classes=codes).transform(tfms, size, tfm_y=bool(tfms)).databunch(bs)


@pytest.mark.parametrize('size', [64, 97, 150, (50, 70)], ids=str)
def test_targets_are_scaled_and_cut_as_the_picture(scene, size):
    "Whatever the size: where the scaled picture is clearly one thing the mask says so, and boxes are where the colour is."
    path, boxes = scene
    for name, (found, _) in boxes.items():
        file = str(path/'images'/name)
        tile, mask = decode(file, size), _read_mask(str(path/'masks'/name), file, size, 3)
        h, w = mask.shape
        assert tile.shape[1:] == (h, w)
        for k in (0, 1):
            assert (mask[tile[k] == 255] == k + 1).all() and not (mask[(tile[k] == 0)] == k + 1).any()
            edges = ((_on_tile(torch.tensor(found[k]).view(2, 2).float(), (97, 131), size) + 1)/2*torch.tensor([h, w])).flatten()
            rows, cols = (tile[k] > 127).any(1).nonzero(), (tile[k] > 127).any(0).nonzero()
            seen = torch.stack([rows[0], cols[0], rows[-1] + 1, cols[-1] + 1]).flatten()
            assert (seen - edges).abs().max() < 1.01, (name, k, seen, edges)


def test_mask_batches_repeat_with_the_seed_and_move_with_the_tile(scene):
    data = masks(scene[0], tfms=get_transforms(flip_vert=True, max_warp=0., max_lighting=0.))
    def batch():
        seed_everything(3)
        return data.one_batch()
    (xa, ya), (xb, yb) = batch(), batch()
    assert torch.equal(xa, xb) and torch.equal(ya, yb)
    for k in (0, 1): assert (ya[xa[:, k] > .999] == k + 1).all()
    assert not torch.equal(ya, masks(scene[0]).one_batch()[1])


def test_boxes_leave_with_their_labels(scene):
    "Zoomed in hard, some boxes leave the tile; those that stay are inside, the rest is filled up in front."
    path, boxes = scene
    lists = ObjectItemList.from_folder(path/'images').split_none().label_from_func(lambda f: boxes[f.name])
    data = lists.transform(get_transforms(max_zoom=6., p_affine=1.), 64, tfm_y=True).databunch(6)
    seed_everything(1)
    counts = set()
    for _ in range(8):
        _, (box, label) = data.one_batch()
        real = label > 0
        assert (box[real].abs() <= 1).all() and (box[real][:, 2:] > box[real][:, :2]).all()
        assert not box[~real].any() and (real.int().diff(dim=1) >= 0).all()
        counts |= set(real.sum(1).tolist())
    assert len(counts) > 1, 'no box ever left, so nothing was tested'


def test_a_batch_without_boxes():
    _, (boxes, labels) = bb_pad_collate([(torch.zeros(3, 4, 4), (torch.zeros(0, 4), torch.zeros(0, dtype=torch.long)))]*2)
    assert boxes.shape == (2, 0, 4) and labels.shape == (2, 0)


def test_test_tiles_have_no_target(scene):
    "A collate function for boxes has nothing to fill up where nothing is known."
    path, boxes = scene
    lists = ObjectItemList.from_folder(path/'images').split_none().label_from_func(lambda f: boxes[f.name])
    data = lists.add_test([path/'images/0.png']).transform(size=64).databunch(2, collate_fn=bb_pad_collate)
    xb, yb = data.one_batch('test')
    assert xb.shape == (1, 3, 64, 64) and yb is None
    assert data.show_batch(1, ds_type='test').shape == (1, 1)
    assert [str(y) for _, y in data.test_ds] == ['']


def test_each_kind_names_its_activation():
    from planet_course.data import activations
    named = {kind.__name__: kind.activation for kind in (Mask, Points, Boxes)}
    assert named == {'Mask': 'softmax', 'Points': 'none', 'Boxes': 'none'} and activations.keys() >= set(named.values())


def test_lists_keep_their_kind(scene):
    found = SegmentationItemList.from_folder(scene[0]/'images')
    assert type(found.add(found)) is type(found.split_none().train) is SegmentationItemList
    assert repr(found).startswith('SegmentationItemList (6 items)')


def test_boxes_and_points_that_are_none(scene):
    split = ObjectItemList.from_folder(scene[0]/'images').split_none()
    with pytest.raises(ValueError, match=r'a name for each: .*0.png'): split.label_from_func(lambda f: ([[1, 2, 3]], ['left']))
    with pytest.raises(ValueError, match=r'a name for each: .*5.png'): split.label_from_func(lambda f: None)
    with pytest.raises(ValueError, match=r'not in classes=\[.right.\]: left'):
        split.label_from_func(lambda f: scene[1][f.name], classes=['background', 'right'])
    points = PointsItemList.from_folder(scene[0]/'images').split_none()
    with pytest.raises(ValueError, match=r'not 1 points of finite numbers y, x, as others have: .*3.png'):
        points.label_from_func(lambda f: (1., float('nan')) if f.stem == '3' else (1., 2.))


def test_what_is_for_labels_refuses_masks(scene):
    "Averaging the masks of eight symmetries without turning them back would be wrong, and look right."
    learn = unet_learner(masks(scene[0]), models.resnet18, pretrained=False)
    for call in (partial(tta, learn), partial(predict, learn, scene[0]/'images/0.png'), partial(export_model, learn, scene[0]/'net')):
        with pytest.raises(ValueError, match='is for labels, these targets are Mask'): call()


def test_unet_learner_is_the_lessons_learner(scene, tmp_path):
    "Frozen, only the way up and batch norms learn; a stage is saved and loaded; both scores are columns."
    seed_everything(0)
    file = tmp_path/'resnet18.pth'
    torch.save(models.resnet18().state_dict(), file)
    learn = unet_learner(masks(scene[0]), models.resnet18, weights=file, metrics=[PixelAccuracy(0), MeanIoU(0)])
    before = {k: v.clone() for k, v in learn.model.state_dict().items()}
    learn.fit_one_cycle(1, slice(1e-3))
    moved = {k for k, v in learn.model.state_dict().items() if not torch.equal(v, before[k])}
    convs = {k for k, v in before.items() if v.ndim == 4}
    assert {k.split('.')[0] for k in moved & convs} == {'decoder'}
    assert learn.recorder.fits[0].lrs[-1][0]*10 == pytest.approx(learn.recorder.fits[0].lrs[-1][2])
    assert learn.recorder.fits[0].metrics[0].keys() == {'PixelAccuracy', 'MeanIoU'}
    learn.save('street')
    scores = learn.validate()
    learn.unfreeze()
    learn.fit(1, 1e-3)
    assert learn.load('street').validate() == scores


def test_accuracy_is_chosen_by_the_data(scene):
    "One label a tile: accuracy; a point: none; a metric of one's own: that."
    from planet_course.nets import create_cnn
    split = ImageList.from_folder(scene[0]/'images').split_by_idx([0, 1])
    data = split.label_from_func(lambda f: int(f.stem) % 2).transform(size=64).databunch(4)
    assert create_cnn(data, models.resnet18, pretrained=False).validate().keys() == {'valid_loss', 'accuracy'}
    assert create_cnn(data, models.resnet18, pretrained=False, metrics=()).metrics == []
    points = PointsItemList.from_folder(scene[0]/'images').split_by_idx([0, 1]).label_from_func(lambda f: (48.5, 65.5))
    learn = create_cnn(points.transform(size=64).databunch(4), models.resnet18, pretrained=False)
    assert learn.metrics == [] and learn.get_preds()[0].shape == (2, 2)
    assert learn.data.one_batch()[1].abs().max() < 1e-6      # the middle of the picture is the middle of the tile


def test_boxes_have_no_loss_of_ours():
    with pytest.raises(ValueError, match='boxes have no loss here'): Boxes.loss_func()


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
    with pytest.raises(ValueError, match='targs is None'): PixelAccuracy().update(torch.zeros(1, 3, 4, 4), None)


@pytest.mark.parametrize('bad', [([[0, 0, 9, float('nan')]], ['left']), ([[0, 0, 9, 9]]*2, 'ab'), ([[0, 0, 9, 9]], [None]),
                                 ([[0, 0, 9, 9]], [float('nan')]), ([[0, 0, 9, 'x']], ['left']), 7], ids=str)
def test_boxes_with_a_hole(scene, bad):
    split = ObjectItemList.from_folder(scene[0]/'images').split_none()
    with pytest.raises(ValueError, match='a name for each: .*2.png'):
        split.label_from_func(lambda f: bad if f.stem == '2' else scene[1][f.name])


def test_points_that_are_words_are_named(scene):
    split = PointsItemList.from_folder(scene[0]/'images').split_none()
    for bad in ('left', None, {'y': 1}):
        with pytest.raises(ValueError, match='not 1 points .*4.png'): split.label_from_func(lambda f: bad if f.stem == '4' else (1, 2))


def test_points_have_no_classes(scene):
    split = PointsItemList.from_folder(scene[0]/'images').split_none()
    with pytest.raises(ValueError, match='points have no classes'): split.label_from_func(lambda f: (1, 2), classes=['y', 'x'])


def test_boxes_that_a_set_loses_are_counted_in_one_line(scene, capsys):
    path, boxes = scene
    lists = ObjectItemList.from_folder(path/'images').split_by_idx([0]).label_from_func(
        lambda f: ([*boxes[f.name][0], [40, 0, 60, 9], [0, 200, 9, 210]], [*boxes[f.name][1], 'left', 'left']))
    lists.transform(size=(97, 131)).databunch(2).one_batch()
    out = capsys.readouterr().out
    assert out.count('without area in their picture, dropped: 6, of') == 1 and 'beside' not in out
    _, (_, labels) = lists.transform(size=64).databunch(6).one_batch('valid')
    out = capsys.readouterr().out
    assert out.count('beside the square that is cut out, dropped: 6, of') == 1 and (labels > 0).sum() == 2


@pytest.mark.parametrize('encoding', ['utf-8', 'utf-8-sig', 'utf-16'])
def test_annotations_are_read_as_they_are_written(tmp_path, encoding, monkeypatch):
    "Whatever the locale: json says by its first bytes how it is written."
    import locale
    monkeypatch.setattr(locale, 'getencoding', lambda: 'cp1252')
    found = dict(images=[dict(id=1, file_name='été.png')], categories=[dict(id=1, name='höhle')],
                 annotations=[dict(image_id=1, category_id=1, bbox=[1, 2, 3, 4])])
    (tmp_path/'a.json').write_bytes(json.dumps(found, ensure_ascii=False).encode(encoding))
    assert get_annotations(tmp_path/'a.json') == (['été.png'], [[[[2, 1, 6, 4]], ['höhle']]])
    found['annotations'][0]['bbox'] = ['1', 'b', '3', '4']
    (tmp_path/'a.json').write_text(json.dumps(found))
    with pytest.raises(ValueError, match='a.json'): get_annotations(tmp_path/'a.json')


def test_the_coco_cell_without_a_transform_step():
    "As the notes have it, in today's words: all pictures are 128 x 128."
    path = shared/'data'/'coco_tiny'
    if not path.is_dir(): pytest.skip('COCO: no ../shared/data/coco_tiny')
    img2bbox = dict(zip(*get_annotations(path/'train.json')))
    lists = ObjectItemList.from_folder(path/'train').split_by_rand_pct().label_from_func(lambda o: img2bbox[o.name])
    data = lists.databunch(bs=16, collate_fn=bb_pad_collate)
    assert (data.size, len(data.train_ds), len(data.valid_ds)) == ((128, 128), 160, 40)
    boxes, labels = bb_pad_collate([(x, y) for x, y in (data.valid_ds[i] for i in range(3))])[1]
    assert labels.shape[0] == 3 and boxes.shape == (*labels.shape, 4) and (labels > 0).any()


def test_a_name_with_dollars_is_drawn_over_its_box(scene):
    import matplotlib.pyplot as plt
    lists = ObjectItemList.from_folder(scene[0]/'images').split_none().label_from_func(lambda f: (scene[1][f.name][0], ['$x_{1$', 'b']))
    ax, = lists.transform(size=(97, 131)).databunch(1).show_batch(1).flat
    ax.figure.canvas.draw()
    assert {t.get_text() for t in ax.texts} == {r'\$x_{1\$', 'b'}
    plt.close('all')


def test_a_mask_is_no_jpeg(scene):
    "Its numbers would be others, and mostly in the range: a class 1 beside a 0 and a 2, where there is none."
    codes = np.kron(np.array([[0, 2]*8, [2, 0]*8]*6), np.ones((8, 8))).astype(np.uint8)
    file = scene[0]/'odd.png'
    PILImage.fromarray(codes).save(file, 'JPEG', quality=75)
    picture = scene[0]/'same.png'
    PILImage.fromarray(codes).convert('RGB').save(picture)
    with pytest.raises(ValueError, match='odd.png is a JPEG, which changes numbers'): _read_mask(str(file), str(picture), None, 256)
