"""Masks, boxes and points where the chapter does not show them: odd sizes, test tiles, what must be refused."""
from functools import partial

import pytest
import torch
from torchvision import models

from planet_course.augment import get_transforms
from planet_course.cache import decode
from planet_course.core import seed_everything
from planet_course.data import ImageList
from planet_course.predictor import export_model, predict, tta
from planet_course.tasks import (Boxes, Mask, MeanIoU, ObjectItemList, PixelAccuracy, Points, PointsItemList, SegmentationItemList,
                                 _on_tile, _read_mask, bb_pad_collate, unet_learner)

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
    from planet_course.core import activations
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
    from planet_course.vision import create_cnn
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
