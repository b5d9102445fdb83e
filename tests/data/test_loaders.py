"""Loaders know what their targets mean and whether there are any; what is omitted stays; what is wrong is said."""
import pytest
import torch
from PIL import Image as PILImage
from small import little
from torchvision import models

from planet_course import device
from planet_course.data import Category, EmptyLabel, ImageList, Loader, MultiCategory, TileSource
from planet_course.nets import create_cnn
from planet_course.tiles import tile_size


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


def test_what_is_not_given_to_transform_stays(colours):
    turn, blur = (lambda xb: xb.flip(-1)), (lambda xb: xb/2)
    lists = labelled(colours).transform((turn, blur), size=64)
    assert lists.transform(size=96).tfms == (turn, blur) and lists.transform(size=96).size == tile_size(96)
    assert lists.transform((None, blur)).size == tile_size(64) and lists.transform().tfms == (turn, blur)
    assert lists.transform(None).tfms == (None, None) and lists.transform(None).size == tile_size(64)      # None is 'none'
    assert lists.transform(size=None).size == tile_size((40, 40)) and lists.transform(size=None).tfms == (turn, blur)
    assert labelled(colours).transform().tfms == (None, None) and labelled(colours).transform().size == tile_size((40, 40))
    assert lists.databunch(bs=2).lists.transform(size=96).databunch(bs=2).lists.tfms == (turn, blur)


def test_databunch_without_a_transform_step(colours, capsys):
    "The stored size, where there is one, and one line; else an error that names a file of each size."
    data = labelled(colours).databunch(bs=2, device='cpu')
    assert data.size == tile_size((40, 40)) and data.lists.tfms == (None, None) and data.one_batch()[0].shape == (2, 3, 40, 40)
    said = capsys.readouterr().out.splitlines()
    assert len([line for line in said if 'no transform step' in line and '(40, 40)' in line]) == 1
    PILImage.new('RGB', (50, 40)).save(colours/'red'/'wide.png')
    with pytest.raises(ValueError, match=r'(?s)\(40, 40\).*wide.png is \(40, 50\).*\.transform\(tfms, size=128\)'):
        labelled(colours).databunch(bs=2)
    split = ImageList.from_folder(colours).split_none()
    with pytest.raises(AttributeError, match='still needs the label step'): split.databunch()


@pytest.mark.parametrize('bad', [dict(bs=0), dict(bs=2, val_bs=0), dict(bs='16'), dict(bs=2.5), dict(bs=2, val_bs=-1)], ids=str)
def test_batches_of_no_size(colours, bad):
    with pytest.raises(ValueError, match='whole number of tiles, 1 or more'): labelled(colours).transform(size=40).databunch(**bad)


@pytest.mark.parametrize('step', ['transform', 'databunch', 'add_test', 'add_test_folder'])
def test_steps_asked_of_the_bunch_name_the_line(colours, step):
    with pytest.raises(AttributeError, match=rf'{step} comes too late.*Write: data\.lists\.{step}\('): getattr(bunch(colours), step)


@pytest.mark.parametrize('stats', [((.5,)*3, (float('nan'),)*3), ((float('inf'),)*3, (1.,)*3), 'imagenet', .5, ((.5,)*3,), (.5, .2)], ids=str)
def test_statistics_that_are_none(colours, stats):
    with pytest.raises(ValueError, match='three means and three standard deviations'): bunch(colours).normalize(stats)


def test_statistics_of_bytes_are_said(colours, capsys):
    bunch(colours).normalize(((124., 116., 104.), (58., 57., 57.)))
    assert 'divide by 255' in capsys.readouterr().out
    bunch(colours).normalize(((.5,)*3, (.2,)*3))
    assert 'divide' not in capsys.readouterr().out


def test_test_tiles_that_are_no_files(colours):
    import pandas as pd
    data = bunch(colours)
    for bad in (colours/'red', [colours/'red'], pd.DataFrame({'image_name': ['0']}), [data.valid_ds[0]], [None]):
        with pytest.raises(TypeError, match='Give paths or an ImageList'): data.test_dl(bad)
    one = data.test_dl(colours/'blue'/'0.png')
    assert one.files == [str(colours/'blue'/'0.png')] and len(one) == 1


def test_names_of_others_are_shown_and_do_nothing_else(colours):
    "`$x_1$` in a title is not a formula, and an escape sequence in a label does not reach the terminal."
    import matplotlib.pyplot as plt
    odd = ['$x_{1$ 5', 'red\x1b[2J\rgone']
    lists = ImageList.from_folder(colours).split_none().label_from_func(lambda f: odd[int(f.stem) % 2])
    data = lists.transform(size=40).databunch(bs=8, device='cpu')
    axes = data.show_batch(2)
    axes[0, 0].figure.canvas.draw()         # a formula that is none fails here
    assert {ax.get_title() for ax in axes.flat} <= {r'\$x_{1\$ 5', odd[1]}
    plt.close('all')
    for text in (repr(data.train_ds), repr(data.train_ds[1]), repr(data)): assert '\x1b' not in text and '\r' not in text
    assert r'red\x1b[2J\rgone' in repr(data.train_ds)


def test_no_constructor_changes_malloc(colours, monkeypatch):
    "Neither batches nor a learner or a network ask for the C library: how memory is kept is the process's business."
    def refuse(): raise AssertionError('nobody asked for this')
    monkeypatch.setattr(device, '_glibc', refuse)
    data = bunch(colours)
    little(data)
    create_cnn(data, models.resnet18, pretrained=False)


def test_test_tiles_that_are_replaced_are_said(colours, capsys):
    files = sorted(colours.rglob('*.png'))
    lists = labelled(colours).add_test(files[:5])
    assert capsys.readouterr().out == ''
    assert len(lists.add_test(files[:2]).test) == 2
    assert '2 test tiles take the place of 5' in capsys.readouterr().out
    data = lists.transform(size=40).databunch(bs=2, device='cpu')
    assert len(data.test_dl(files[:3]).files) == 3 and len(data.test_dl().files) == 5
    assert 'take the place' not in capsys.readouterr().out


def test_a_channel_without_spread_cannot_be_measured(colours):
    "The green of these tiles is 0 everywhere."
    with pytest.raises(ValueError, match='as measured on one training batch'): bunch(colours).normalize()


@pytest.mark.skipif(not torch.cuda.is_available(), reason='a GPU')
@pytest.mark.parametrize('cache', ['disk', 'device'])
def test_tiles_without_labels_on_a_gpu(colours, cache):
    data = labelled(colours).transform(size=40).databunch(bs=2, device='cuda', cache=cache)
    batches = list(data.test_dl(sorted(colours.rglob('*.png'))[:3]))
    assert all(xb.is_cuda and yb is None for xb, yb in batches) and len(batches) == 2
    assert all(yb.is_cuda for _, yb in data.test_dl(data.valid_ds))


def test_the_cache_lies_where_it_is_told(colours, tmp_path):
    "By all loaders of a bunch, and of those made of it; nothing is left below the data set's folder."
    data = bunch(colours, cache_folder=tmp_path/'elsewhere').normalize(((.5,)*3, (.2,)*3))
    for _ in data.train_dl: pass
    files = sorted(colours.rglob('*.png'))
    next(iter(data.test_dl(files[:2])))
    assert list((tmp_path/'elsewhere').iterdir()) and not (colours/'.tiles').exists()
    usual = bunch(colours)
    assert torch.allclose(usual.one_batch('valid')[0], data.denorm(data.one_batch('valid')[0]), atol=1e-5)
    assert (colours/'.tiles').is_dir() and usual.cache_folder == colours/'.tiles'


def test_a_source_of_tiles_that_were_made():
    source = TileSource(None, torch.device('cpu'))
    source.tiles = torch.arange(4, dtype=torch.uint8).view(4, 1, 1, 1).expand(4, 3, 8, 8).contiguous()
    xb, yb = next(iter(Loader(source, torch.tensor([3, 1]), None, 2)))
    assert yb is None and torch.equal((xb[:, 0, 0, 0]*255).round(), torch.tensor([3., 1.]))
