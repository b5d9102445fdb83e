"""Any picture in any form, any network and loss: the same labels from the learner and from its file."""
import io, os

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from small import bunch, little
from torch import nn
from torch.nn import functional as F
from torchvision import models

from planet_course import device
from planet_course.answers import export_model, predict, Predictor, predictor as predictor_module, submission, tta
from planet_course.data import ImageList
from planet_course.nets import create_cnn


# ---- a learner -------------------------------------------------------------------------------------------------------

def test_symmetric_average_of_oblong_tiles_and_of_one_label(tiles):
    "Four symmetries where tiles are no squares; softmax where each has one label."
    data = bunch(tiles, size=(32, 48))
    assert tta(little(data))[0].shape == (12, data.c)
    single = little(bunch(tiles, label_delim=None))
    assert torch.allclose(tta(single)[0].sum(1), torch.ones(12), atol=1e-5)
    assert len(predict(single, single.data.valid_ds.x.files[0]).labels) == 1


class Focal(nn.Module):
    "A loss that says nothing about its logits."
    def forward(self, logits, targs):
        ce = F.binary_cross_entropy_with_logits(logits, targs, reduction='none')
        return ((1 - torch.exp(-ce))**2*ce).mean()


@pytest.mark.parametrize('loss', [Focal(), lambda logits, targs: F.binary_cross_entropy(logits.sigmoid(), targs)], ids=['focal', 'function'])
def test_any_loss(tiles, tmp_path, loss):
    "Seventeen labels stay seventeen: the same probabilities everywhere, and thresholds that are used."
    learn = create_cnn(bunch(tiles), models.resnet18, pretrained=False, loss_func=loss, thresh=.5)
    file, dl = learn.data.valid_ds.x.files[0], learn.data.test_dl(ImageList.from_folder(tiles/'test-jpg'))
    wanted = learn.get_preds(logits=True)[0][0].sigmoid()
    given = {c for c, p in zip(learn.data.classes, wanted) if p > .5}
    made = Predictor(export_model(learn, tmp_path/'m.safetensors'), 'cpu')
    assert made.facts['activation'] == 'sigmoid' and made.thresh == .5
    for answer in (predict(learn, file), made(file)):
        assert torch.allclose(answer.probs, wanted, atol=1e-5) and set(answer.labels) == given
    probs, none = tta(learn, dl)
    assert none is None and 0 <= probs.min() and probs.max() <= 1
    tags = pd.read_csv(submission(learn, dl, path=tmp_path/'a.csv', get_probs=tta), keep_default_na=False).tags
    assert [set(t.split()) for t in tags] == [{c for c, x in zip(learn.data.classes, p) if x > .5} for p in probs]


def test_another_activation(tiles, tmp_path):
    "It is used wherever we predict; softmax over labels of which a tile has several is written down as such."
    learn = create_cnn(bunch(tiles), models.resnet18, pretrained=False, thresh=.1)
    learn.activation = 'softmax'
    file = learn.data.valid_ds.x.files[0]
    made = Predictor(export_model(learn, tmp_path/'m.safetensors'), 'cpu')
    wanted = {c for c, p in zip(learn.data.classes, learn.get_preds()[0][0]) if p > .1}
    assert set(predict(learn, file).labels) == set(made(file).labels) == wanted and made.facts['activation'] == 'softmax'
    learn.activation = lambda logits: logits.sigmoid()
    with pytest.raises(ValueError, match='names its activation'): export_model(learn, tmp_path/'m2.safetensors')
    learn.activation = 'none'
    learn.thresh = .5
    for call in (lambda: predict(learn, file), lambda: submission(learn, path=tmp_path/'b.csv', test_dls=learn.data.test_dl(ImageList.from_folder(tiles/'test-jpg')))):
        with pytest.raises(ValueError, match="are no probabilities.*learn.activation = 'sigmoid'"): call()
    assert not (tmp_path/'m2.safetensors').exists() and not (tmp_path/'b.csv').exists()


# ---- a file ----------------------------------------------------------------------------------------------------------

def test_four_bands_in_an_array_are_not_guessed(learn, model_file, tiles):
    "The competition's tiles are CMYK; taken as RGBA they would be other pictures."
    tile = next((tiles/'train-jpg').iterdir())
    bands = np.array(Image.open(tile))
    assert bands.shape[2] == 4
    for ask in (lambda picture: predict(learn, picture), Predictor(model_file, 'cpu')):
        for array in (bands, torch.from_numpy(bands).permute(2, 0, 1)):
            with pytest.raises(ValueError, match=r"RGBA or CMYK.*convert\('RGB'\)"): ask(array)
        assert torch.allclose(ask(np.array(Image.open(tile).convert('RGB'))).probs, ask(tile).probs, atol=1e-5)


@pytest.mark.parametrize('mode', ['RGB', 'RGBA', 'L', 'CMYK', 'P', 'I;16', '1'])
def test_any_mode_and_size(learn, model_file, tmp_path, mode):
    "Pillow's modes, at an odd size: from the file, its bytes and the open picture the same answer, and the learner's."
    picture = Image.fromarray(np.random.RandomState(0).randint(255, size=(70, 41, 3), dtype=np.uint8))
    picture = Image.fromarray(np.arange(70*41, dtype=np.uint16).reshape(70, 41)*20) if mode == 'I;16' else picture.convert(mode)
    file = tmp_path/('tile.jpg' if mode == 'CMYK' else 'tile.png')
    picture.save(file)
    with Image.open(file) as opened: answers = Predictor(model_file, 'cpu')([file, str(file), file.read_bytes(), opened])
    wanted = predict(learn, file).probs
    for answer in answers: assert torch.allclose(answer.probs, wanted, atol=1e-5)


def test_a_file_that_changes_under_a_predictor(learn, model_file, tmp_path):
    "Overwritten and cut short in place, as `cp` and a full disk do: what was loaded stays what it was."
    file, tile = tmp_path/'m.safetensors', learn.data.valid_ds.x.files[0]
    file.write_bytes(model_file.read_bytes())
    predictor = Predictor(file, 'cpu')
    before = predictor(tile).probs
    with open(file, 'r+b') as f: f.seek(100_000); f.write(bytes(1_000_000))
    assert torch.equal(predictor(tile).probs, before)
    os.truncate(file, 100)
    assert torch.equal(predictor(tile).probs, before)


def test_a_model_with_one_label_asks_for_no_threshold(tiles, tmp_path, capsys):
    learn = create_cnn(bunch(tiles, None), models.resnet18, pretrained=False)
    file = export_model(learn, tmp_path/'m.safetensors')
    for thresh in (None, .01, .99):
        assert len(Predictor(file, 'cpu', thresh)(learn.data.valid_ds.x.files[0]).labels) == 1
        assert ('thresh is not used' in capsys.readouterr().out) == (thresh is not None)


def test_a_picture_that_breaks_late_costs_only_itself(model_file, tiles):
    good = tiles/'test-jpg'/'test_0.jpg'
    cut = Image.open(io.BytesIO(good.read_bytes()[:500]))
    odd = [cut, Image.new('RGB', (0, 0)), np.zeros((0, 9, 3), np.uint8), torch.zeros(3, 9, 9, dtype=torch.bfloat16), torch.rand(3, 9, 9, requires_grad=True)]
    answers = [answer for _, answer in Predictor(model_file, 'cpu').stream([good, *odd, good], bs=2)]
    assert [isinstance(answer, ValueError) for answer in answers] == [False, *[True]*len(odd), False]
    assert Predictor(model_file, 'cpu')([]) == []


def test_batches_of_large_tiles_are_small(model_file, tiles, monkeypatch):
    made, seen = Predictor(model_file, 'cpu'), []
    monkeypatch.setattr(predictor_module, '_batch_px', 32*32*2 + 5)
    monkeypatch.setattr(made, 'forward', lambda batch: seen.append(len(batch)) or torch.full((len(batch), len(made.classes)), .5))
    assert len(made([tiles/'test-jpg'/'test_0.jpg']*5)) == 5 and seen == [2, 2, 1]


def test_a_predictor_leaves_the_process_alone(model_file, tiles, monkeypatch):
    "How memory is kept is the command's business: whoever opens a model and asks it never asks for the C library."
    def refuse(): raise AssertionError('nobody asked for this')
    monkeypatch.setattr(device, '_glibc', refuse)
    made = Predictor(model_file, 'cpu')
    assert made.device.type == 'cpu' and len(made(tiles/'test-jpg'/'test_0.jpg').probs) == len(made.classes)
