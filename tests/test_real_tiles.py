"""On the 1,000 real tiles, where they lie beside the project: the layout is found, the labels are right, a network learns."""
import pytest
from torchvision import models
from conftest import shared

from planet_course.augment import get_transforms
from planet_course.core import imagenet_stats, planet_folder, seed_everything
from planet_course.data import ImageList
from planet_course.metrics import constant_baselines, fbeta
from planet_course.vision import create_cnn


@pytest.fixture(scope='module')
def src(real_sample, tmp_path_factory):
    "The sample's labels and tiles through links, so that caches are written elsewhere."
    folder = tmp_path_factory.mktemp('real')
    for name in ('labels.csv', 'train'): (folder/name).symlink_to(real_sample/name)
    found = planet_folder(folder)
    items = ImageList.from_csv(found.path, found.csv, folder=found.folder, suffix=found.suffix)
    return items.split_by_rand_pct(0.2, seed=42).label_from_df(label_delim=' ')


def test_split_and_classes(src):
    assert (len(src.train), len(src.valid), len(src.classes)) == (800, 200, 17)


def test_a_pretrained_body_learns(src):
    weights = shared/'weights'/'mobilenet_v2-b0353104.pth'
    if not weights.exists(): pytest.skip('ImageNet weights: no ../shared/weights')
    seed_everything(0)
    data = src.transform(get_transforms(flip_vert=True, max_warp=0.), size=64).databunch(bs=64, device='cpu').normalize(imagenet_stats)
    learn = create_cnn(data, models.mobilenet_v2, weights=weights, metrics=fbeta)
    learn.fit_one_cycle(3, slice(1e-2))
    no_skill = constant_baselines(data.valid_ds.targets, data.classes, data.train_ds.targets)
    assert learn.validate()['fbeta'] > max(b.score for b in no_skill) + 0.05
