"""Loaders know what their targets mean and whether there are any; what is omitted stays; what is wrong is said."""
import numpy as np
import pytest
import torch
from PIL import Image as PILImage

from planet_course.data import Category, EmptyLabel, ImageList, Loader, MultiCategory


@pytest.fixture
def colours(tmp_path):
    "Eight plain tiles of 40 px in folders red/ and blue/."
    for i in range(8):
        file = tmp_path/('red' if i % 2 else 'blue')/f'{i}.png'
        file.parent.mkdir(exist_ok=True)
        PILImage.new('RGB', (40, 40), (25*i, 0, 255 - 25*i)).save(file)
    return tmp_path


def labelled(path, valid=(0, 1, 4), **kwargs):
    return ImageList.from_folder(path).split_by_idx(list(valid)).label_from_folder(**kwargs)


def bunch(path, **kwargs): return labelled(path).transform(size=40).databunch(bs=2, device='cpu', **kwargs)


def test_loaders_know_their_classes_and_whether_they_have_targets(colours):
    data = bunch(colours)
    for dl in (data.train_dl, data.valid_dl):
        assert dl.has_targets and list(dl.classes) == ['blue', 'red'] == list(data.classes)
    assert data.kind is data.lists.kind is Category and data.channels == 3 and data.stats is None
    assert (Category.activation, MultiCategory.activation) == ('softmax', 'sigmoid')
    assert Loader(None, torch.arange(3), torch.zeros(3), 2).classes is None


def test_a_tile_without_labels_has_no_target(colours, capsys):
    "Not zeros: against those every score is wrong, and none is missing."
    data = bunch(colours)
    files = sorted(colours.rglob('*.png'))[:3]
    for dl in (data.test_dl(files), labelled(colours).add_test(files).transform(size=40).databunch(bs=2, device='cpu').test_dl()):
        assert not dl.has_targets and dl.targs is None and list(dl.classes) == ['blue', 'red']
        batches = list(dl)
        assert [len(xb) for xb, _ in batches] == [2, 1] and all(yb is None for _, yb in batches)
    tested = data.lists.add_test(files)
    assert tested.test.targets is None and tested.test[0][1].data is None and str(tested.test[0][1]) == ''
    assert tested.test.kind is EmptyLabel
    axes = tested.databunch(bs=2, device='cpu').show_batch(1, ds_type='test')
    assert axes[0, 0].get_title() == ''


def test_tiles_whose_labels_are_known_come_with_targets(colours):
    data = bunch(colours).normalize(((.4,)*3, (.3,)*3))
    dl = data.test_dl(data.valid_ds)
    assert dl.has_targets and dl.files == data.valid_dl.files
    for (xa, ya), (xb, yb) in zip(dl, data.valid_dl, strict=True): assert torch.equal(xa, xb) and torch.equal(ya, yb)
    larger = labelled(colours).transform(size=64).valid      # its own size is not the network's
    assert next(iter(data.test_dl(larger)))[0].shape == (2, 3, 40, 40)
    with pytest.raises(ValueError, match='blue, red.*classes=data.classes'):
        data.test_dl(labelled(colours, classes=['red', 'blue']).valid)
    several = ImageList.from_folder(colours).split_none().label_from_func(lambda f: [f.parent.name])
    with pytest.raises(ValueError, match='MultiCategory'): data.test_dl(several.train)
    assert not data.test_dl(several.train.x).has_targets
    assert not data.test_dl(data.lists.add_test(larger.x).test).has_targets


def test_a_collate_function_gets_no_invented_targets(colours):
    def half(pairs): return torch.stack([x[:, ::2, ::2] for x, _ in pairs]), torch.tensor([y for _, y in pairs])
    def careful(pairs): return half([(x, 0) for x, _ in pairs])[0], None if pairs[0][1] is None else torch.tensor([y for _, y in pairs])
    files = sorted(colours.rglob('*.png'))[:2]
    xb, yb = next(iter(bunch(colours, collate_fn=careful).test_dl(files)))
    assert xb.shape == (2, 3, 20, 20) and yb is None
    data = bunch(colours, collate_fn=half)
    assert data.one_batch()[1].shape == (2,)
    with pytest.raises(Exception) as e: next(iter(data.test_dl(files)))
    assert 'pairs (tile, None)' in e.value.__notes__[0]
