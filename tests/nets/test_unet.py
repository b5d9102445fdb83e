"""A U-Net is a learner like the lesson's; what is for labels refuses it."""
from functools import partial

import pytest
import torch
from torchvision import models

from planet_course.device import seed_everything
from planet_course.data import SegmentationItemList
from planet_course.answers import export_model, predict, tta
from planet_course.nets import MeanIoU, PixelAccuracy, unet_learner

codes = ['nothing', 'left', 'right']


def masks(path, bs=4, tfms=None, size=64, valid=2):
    lists = SegmentationItemList.from_folder(path/'images').split_by_idx(range(valid))
    return lists.label_from_func(lambda f: path/'masks'/f.name, classes=codes).transform(tfms, size, tfm_y=bool(tfms)).databunch(bs)


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


def test_no_masks_no_score():
    with pytest.raises(ValueError, match='targs is None'): PixelAccuracy().update(torch.zeros(1, 3, 4, 4), None)
