"""On the 1,000 real tiles, where they lie beside the project: the layout is found, the labels are right, a network learns."""
import pytest
import torch
from torchvision import models
from conftest import shared

from planet_course.tiles import get_transforms
from planet_course.core import imagenet_stats
from planet_course.device import seed_everything
from planet_course.files import planet_folder
from planet_course.data import ImageList
from planet_course.answers import compare_rules, label_report
from planet_course.train import constant_baselines, fbeta
from planet_course.answers import export_model, Predictor
from planet_course.nets import create_cnn


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


@pytest.fixture(scope='module')
def learn(src):
    "A MobileNetV2 from ImageNet, its head trained for three epochs at 64 px."
    weights = shared/'weights'/'mobilenet_v2-b0353104.pth'
    if not weights.exists(): pytest.skip('ImageNet weights: no ../shared/weights')
    seed_everything(0)
    data = src.transform(get_transforms(flip_vert=True, max_warp=0.), size=64).databunch(bs=64, device='cpu').normalize(imagenet_stats)
    learn = create_cnn(data, models.mobilenet_v2, weights=weights, metrics=fbeta)
    learn.fit_one_cycle(3, slice(1e-2))
    return learn


def test_a_pretrained_body_learns(learn):
    no_skill = constant_baselines(learn.data.valid_ds.targets, learn.data.classes, learn.data.train_ds.targets)
    assert learn.validate()['fbeta'] > max(b.score for b in no_skill) + 0.05


def test_thresholds_flatter_themselves_on_real_tiles(learn):
    logits, targs = learn.get_preds(logits=True)
    rules = compare_rules(logits, targs)
    assert rules.loc['0.2', 'nested'] == pytest.approx(learn.validate()['fbeta'], abs=1e-6)
    by_label = rules.loc['a threshold for each label']
    assert by_label.same_tiles > by_label.nested and (rules.low < rules.nested).all() and (rules.nested < rules.high).all()
    assert label_report(logits, targs, learn.data.classes).positives.sum() == targs.sum()


def test_a_model_file_labels_four_component_jpegs(learn, tmp_path):
    "The same probabilities as the learner's, from the files."
    file = export_model(learn, tmp_path/'model.safetensors')
    made, (probs, _) = Predictor(file, 'cpu')(learn.data.valid_ds.x), learn.get_preds()
    assert torch.allclose(torch.stack([p.probs for p in made]), probs, atol=1e-5)
