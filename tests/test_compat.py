"""People's old notes run: the lesson's cells of three generations, word by word, and what is printed about their names."""
import ast, inspect, json, re, shutil, subprocess, sys
from collections import Counter
from functools import partial
from types import SimpleNamespace

import matplotlib
matplotlib.use('Agg')
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch, torchvision
from conftest import root, shared
from small import bunch, little
from torch import nn
from torchvision.models import ResNet
from torchvision.models.resnet import BasicBlock

n, n_valid = 10, 2

first = ['''path.ls()''',
         '''df = pd.read_csv(path/'train_v2.csv'); df.head()''',
         '''tfms = get_transforms(flip_vert=True, max_lighting=0.1, max_zoom=1.05, max_warp=0.)''']

sources = {
    1: ['''np.random.seed(42)
src = (ImageFileList.from_folder(path)
       .label_from_csv('train_v2.csv', sep=' ', folder='train-jpg', suffix='.jpg')
       .random_split_by_pct(0.2))''',
        '''data = (src.datasets(ImageMultiDataset).transform(tfms, size=128).databunch().normalize(imagenet_stats))'''],
    2: ['''np.random.seed(42)
src = (ImageItemList.from_csv(path, 'train_v2.csv', folder='train-jpg', suffix='.jpg')
       .random_split_by_pct(0.2)
       .label_from_df(sep=' '))''',
        '''data = (src.transform(tfms, size=128).databunch().normalize(imagenet_stats))'''],
    3: ['''src = (ImageList.from_csv(path, 'train_v2.csv', folder='train-jpg', suffix='.jpg')
       .split_by_rand_pct(0.2)
       .label_from_df(label_delim=' '))''',
        '''data = (src.transform(tfms, size=128).databunch().normalize(imagenet_stats))'''],
    'mended': ['''np.random.seed(42)
src = (ImageList.from_folder(path)
       .label_from_csv('train_v2.csv', sep=' ', folder='train-jpg', suffix='.jpg')
       .random_split_by_pct(0.2))''',
               '''data = (src.datasets().transform(tfms, size=128).databunch().normalize(imagenet_stats))''']}


def train(gen):
    "From the picture grid to the last stage."
    make = 'cnn_learner' if gen == 3 else 'create_cnn'
    bunch = 'src.datasets(ImageMultiDataset)' if gen == 1 else 'src'
    rate = 'max_lr=slice(lr)' if gen == 1 else 'slice(lr)'
    return ['''data.show_batch(rows=3, figsize=(12,9))''',
            '''data.show_batch(rows=2, ds_type=DatasetType.Valid)''',
            '''arch = models.resnet50''',
            '''acc_02 = partial(accuracy_thresh, thresh=0.2)
f_score = partial(fbeta, thresh=0.2)''',
            f'''learn = {make}(data, arch, metrics=[acc_02, f_score])''',
            '''learn.lr_find()''',
            '''learn.recorder.plot()''',
            '''lr = 0.01''',
            f'''learn.fit_one_cycle(5, {rate})''',
            '''learn.save('stage-1-rn50')''',
            '''learn.unfreeze()''',
            '''learn.lr_find(); learn.recorder.plot()''',
            '''learn.fit_one_cycle(5, slice(1e-5, lr/5))''',
            '''learn.save('stage-2-rn50')''',
            f'''data = ({bunch}.transform(tfms, size=256).databunch().normalize(imagenet_stats))''',
            '''learn.data = data
data.train_ds[0][0].shape''',
            '''learn.freeze()''',
            '''learn.lr_find(); learn.recorder.plot()''',
            '''lr = 1e-2/2''',
            '''learn.fit_one_cycle(5, slice(lr))''',
            '''learn.save('stage-1-256-rn50')''',
            '''learn.unfreeze()''',
            '''learn.fit_one_cycle(5, slice(1e-5, lr/5))''',
            '''learn.recorder.plot_losses()''',
            '''learn.save('stage-2-256-rn50')''',
            '''valid_preds, valid_targs = learn.get_preds(DatasetType.Valid)''']


submit = ['''learn.export()''',
          '''test = ImageList.from_folder(path/'test-jpg').add(ImageList.from_folder(path/'test-jpg-additional'))
len(test)''',
          '''learn = load_learner(path, test=test)
preds, _ = learn.get_preds(ds_type=DatasetType.Test)''',
          '''thresh = 0.2
labelled_preds = [' '.join([learn.data.classes[i] for i,p in enumerate(pred) if p > thresh]) for pred in preds]''',
          '''labelled_preds[:5]''',
          '''fnames = [f.name[:-4] for f in learn.data.test_ds.items]''',
          '''df = pd.DataFrame({'image_name':fnames, 'tags':labelled_preds}, columns=['image_name', 'tags'])''',
          '''df.to_csv(path/'submission.csv', index=False)''']

speaks = {1: ['path.ls()', 'ImageFileList', 'label_from_csv', 'sep=', 'random_split_by_pct', 'datasets', 'ImageMultiDataset'],
          2: ['path.ls()', 'ImageItemList', 'random_split_by_pct', 'sep='],
          3: ['path.ls()', 'cnn_learner'],
          'mended': ['path.ls()', 'label_from_csv', 'sep=', 'random_split_by_pct', 'datasets']}


def run(cells, ns):
    "Run notebook cells in one namespace; an error says in which cell."
    for cell in cells:
        try: exec(cell, ns)
        except Exception as e:
            e.add_note(f'in the cell:\n{cell}')
            raise


@pytest.fixture(scope='module')
def drawn(tmp_path_factory):
    from planet_course.get import planet_synthetic
    return planet_synthetic(tmp_path_factory.mktemp('drawn')/'planet', n=n, n_test=4, progress=False)


@pytest.fixture
def notes(drawn, tmp_path, monkeypatch):
    "A namespace as it is after the notes' first cells, with tiles of its own; no old name has spoken."
    from planet_course import compat
    monkeypatch.setattr(compat, '_said', set())
    monkeypatch.setattr(compat.Path, 'ls', compat._ls)      # another library may have brought one
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '')
    monkeypatch.setattr('planet_course.data.bunch.default_device', lambda verbose=True: torch.device('cpu'))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)        # tiny networks: two threads would only wait for each other
    ns = {}
    exec('from planet_course.compat import *', ns)
    ns['path'] = shutil.copytree(drawn, tmp_path/'planet')
    yield ns
    torch.set_num_threads(threads)
    plt.close('all')


@pytest.fixture
def tiny_resnet50(monkeypatch):
    "In place of `models.resnet50` a ResNet of a few hundred weights: the notes' cells are what is tested, not a network."
    def layer(): return nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU())
    def resnet50():
        model = ResNet(BasicBlock, [1, 1, 1, 1], num_classes=10)
        model.conv1, model.bn1, model.maxpool = nn.Conv2d(3, 8, 8, stride=8), nn.BatchNorm2d(8), nn.Identity()
        for i in range(1, 5): setattr(model, f'layer{i}', layer())
        return model
    monkeypatch.setattr(torchvision.models, 'resnet50', resnet50)
    monkeypatch.setattr(torchvision.models, 'get_model', lambda name, weights: resnet50())      # by which a file becomes a model again


def old_names(text): return [line.split(' is called ')[0] for line in text.splitlines() if line.endswith(' today')]

def rows(ds): return [int(f.stem.split('_')[1]) for f in ds.items]


def add_second_test_folder(path):
    (path/'test-jpg-additional').mkdir()
    (path/'test-jpg'/'test_3.jpg').rename(path/'test-jpg-additional'/'file_3.jpg')


def check_submission(ns, trained):
    "The table has every test tile, with what the learner says of it; no pickle was written."
    path = ns['path']
    table = pd.read_csv(path/'submission.csv', keep_default_na=False)
    assert list(table.columns) == ['image_name', 'tags']
    assert table.image_name.tolist() == ['test_0', 'test_1', 'test_2', 'file_3']
    assert set(' '.join(table.tags).split()) <= set(ns['data'].classes)
    expected, _ = trained.get_preds(ns['data'].test_dl(ns['test']))
    assert torch.allclose(ns['preds'], expected, atol=1e-4)
    assert not list(path.glob('*.pkl')) and (path/'export.safetensors').exists()
    with pytest.raises(ValueError, match='no valid tiles'): ns['learn'].get_preds(ns['DatasetType'].Valid)


@pytest.mark.parametrize('gen', sources)
def test_the_lesson_runs(gen, notes, tiny_resnet50, capsys):
    "All cells of a note, in order."
    path = notes['path']
    add_second_test_folder(path)
    run([*first, *sources[gen], *train(gen), 'trained = learn', *submit], notes)
    data, learn = notes['data'], notes['trained']
    permutation = np.random.RandomState(42).permutation(n)
    assert rows(data.valid_ds) == permutation[:n_valid].tolist()
    assert rows(data.train_ds) == sorted(permutation[n_valid:].tolist())
    tags = pd.read_csv(path/'train_v2.csv').set_index('image_name').tags
    assert [set(labels) for labels in data.valid_ds.labels] == [set(tags[f.stem].split()) for f in data.valid_ds.items]
    assert str(data.size) == '256' and tuple(data.train_ds[0][0].shape) == (3, 256, 256)
    assert [r.kind for r in learn.recorder.records] == ['lr_find', 'fit', 'lr_find', 'fit', 'lr_find', 'fit', 'fit']
    assert all(len(r.valid_losses) == 5 and np.isfinite(r.losses).all() for r in learn.recorder.fits)
    assert learn.recorder.fits[1].lrs[0][0] < learn.recorder.fits[1].lrs[0][-1]
    saved = {f.stem for f in (path/'models').glob('*.pth')}
    assert saved == {f'stage-{i}{size}-rn50' for i in (1, 2) for size in ('', '-256')}
    assert notes['valid_preds'].shape == notes['valid_targs'].shape == (n_valid, data.c)
    assert torch.equal(notes['valid_targs'], data.valid_ds.targets)
    assert Counter(old_names(capsys.readouterr().out)) == Counter([*speaks[gen], 'get_preds(ds_type=...)', 'learn.export()', 'load_learner'])
    check_submission(notes, learn)


def test_a_real_network_is_exported_and_loaded(notes, tmp_path, monkeypatch, capsys):
    "A ResNet-18 whose 'ImageNet weights' are random numbers in PyTorch's cache."
    cache = tmp_path/'hub'/'checkpoints'
    cache.mkdir(parents=True)
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(cache.parent))
    torch.save(torchvision.models.resnet18().state_dict(), cache/'resnet18-f37072fd.pth')
    add_second_test_folder(notes['path'])
    run([*first, *(cell.replace('size=128', 'size=64') for cell in sources[1]),
         'learn = trained = create_cnn(data, models.resnet18, metrics=[partial(accuracy_thresh, thresh=0.2)])',
         'learn.fit_one_cycle(1, slice(0.01))', *submit], notes)
    assert 'body: resnet18, ImageNet weights' in capsys.readouterr().out
    check_submission(notes, notes['trained'])


def test_training_tiles_are_predicted_in_order(tiles, capsys):
    "All of them and twice the same, with the targets of each."
    from planet_course import compat
    learn = compat._Learner(little(bunch(tiles)))
    probs, targs = learn.get_preds(compat.DatasetType.Train)
    assert torch.equal(targs, learn.data.train_ds.targets) and len(probs) == len(learn.data.train_ds)
    assert torch.equal(probs, learn.get_preds(ds_type='train')[0])
    assert 'get_preds(data.test_dl(data.train_ds)) for the training tiles, in order' in capsys.readouterr().out


def test_load_learner_refuses_a_pickle(notes):
    torch.save({}, notes['path']/'export.pkl')
    with pytest.raises(ValueError, match='pickle'): notes['load_learner'](notes['path'], 'export.pkl')
    with pytest.raises(FileNotFoundError, match='no model file'): notes['load_learner'](notes['path'])
    with pytest.raises(FileNotFoundError): notes['load_learner'](notes['path']/'elsewhere')
    assert not (notes['path']/'elsewhere').exists()


@pytest.fixture
def folders(notes):
    "The tiles in train/ and valid/, each with odd/ and even/."
    new = notes['path'].parent/'folders'
    for f in (notes['path']/'train-jpg').iterdir():
        i = int(f.stem.split('_')[1])
        place = new/('valid' if i >= 7 else 'train')/('odd' if i % 2 else 'even')
        place.mkdir(parents=True, exist_ok=True)
        (place/f.name).write_bytes(f.read_bytes())
    return new


def test_labels_before_the_split(notes, folders):
    "Generation 1 on folders: three ways to label, three ways to split."
    files = notes['ImageFileList'].from_folder(folders)
    named = files.label_from_folder().split_by_folder().datasets(notes['ImageClassificationDataset'])
    assert named.classes == ['even', 'odd'] and (len(named.train), len(named.valid)) == (7, 3)
    assert all(i % 2 == y for i, y in zip(rows(named.valid), named.valid.targets.tolist()))
    assert sorted(rows(named.valid)) == list(range(7, 10))

    (folders/'test').mkdir()
    (folders/'test'/'new.jpg').write_bytes((folders.parent/'planet/train-jpg/train_0.jpg').read_bytes())
    tested = files.label_from_folder().split_by_folder().add_test_folder().datasets(notes['ImageClassificationDataset'])
    assert len(tested.test) == 1 and tested.classes == named.classes
    assert files.label_from_folder().split_none().datasets().classes == named.classes

    parity = files.label_from_func(lambda f: f.parent.name)
    by_idx = parity.split_by_idx([3, 1]).datasets()
    assert by_idx.valid_idx.tolist() == [3, 1] and by_idx.labels == named.labels
    at_random = parity.random_split_by_pct(0.25, seed=7).datasets()
    assert at_random.valid_idx.tolist() == np.random.RandomState(7).permutation(n)[:2].tolist()
    assert parity.random_split_by_pct().datasets(classes=['odd', 'even']).classes == ['odd', 'even']

    table = notes['ImageFileList'].from_csv(notes['path'], 'train_v2.csv', folder='train-jpg', suffix='.jpg')
    several = table.label_from_df(sep=' ').random_split_by_pct().datasets(notes['ImageMultiDataset'])
    today = notes['ImageList'].from_csv(notes['path'], 'train_v2.csv', folder='train-jpg', suffix='.jpg') \
        .split_by_rand_pct().label_from_df(label_delim=' ')
    assert several.labels == today.labels and several.valid_idx.tolist() == today.valid_idx.tolist()


def test_a_table_without_headings(notes):
    path = notes['path']
    lines = (path/'train_v2.csv').read_text().splitlines()
    (path/'bare.csv').write_text('\n'.join(lines[1:]) + '\n')
    src = notes['ImageFileList'].from_folder(path).label_from_csv('bare.csv', header=None, sep=' ', folder='train-jpg', suffix='.jpg')
    assert len(src) == n and len(src.random_split_by_pct().datasets().train) == n - n_valid


def test_what_is_missing_is_said(notes):
    path = notes['path']
    with pytest.raises(FileNotFoundError, match='no table at'):
        notes['ImageFileList'].from_folder(path).label_from_csv('none.csv')
    split = notes['ImageItemList'].from_folder(path/'train-jpg').random_split_by_pct()
    for step in ('datasets', 'add_test', 'add_test_folder'):
        with pytest.raises(AttributeError, match=f'{step} comes too early: ItemLists still needs the label step'): getattr(split, step)()
    with pytest.raises(TypeError, match='SegmentationDataset'): split.label_from_folder().datasets(classes=None, dataset=str)
    with pytest.raises(AttributeError, match='too early'): notes['ImageFileList'].from_folder(path).transform(None)


def test_labels_and_split_in_any_order(notes):
    "Before the split or after it, with `datasets`, without it, or with a class: one set of labels."
    listed = notes['ImageList'].from_csv(notes['path'], 'train_v2.csv', folder='train-jpg', suffix='.jpg')
    early, late = listed.label_from_df(sep=' ').split_by_rand_pct(), listed.random_split_by_pct().label_from_df(sep=' ')
    several = notes['ImageMultiDataset']
    made = [late, early.datasets(), early.datasets(several), late.datasets(), late.datasets(several), early.transform(size=64)]
    for lists in made:
        assert lists.labels == late.labels and lists.valid_idx.tolist() == late.valid_idx.tolist()
        assert torch.equal(lists.valid.targets, late.valid.targets)
    assert str(early.databunch(bs=4).size) == '(256, 256)'
    with pytest.raises(AttributeError, match='too early'): listed.split_by_rand_pct().transform(size=64)
    with pytest.raises(ValueError, match='two kinds of targets'):
        notes['SegmentationItemList'].from_folder(notes['path']/'train-jpg').label_from_folder().split_none().datasets(several)


chains = {
    'Mask': ['ImageFileList, label_from_func(mask, classes=codes), datasets(SegmentationDataset)',
             'ImageFileList, label_from_func(mask), datasets(SegmentationDataset, classes=codes)',
             'SegmentationItemList, label_from_func(mask), datasets(SegmentationDataset, classes=codes)',
             'SegmentationItemList, label_from_func(mask, classes=codes), transform()'],
    'Boxes': ['ImageFileList, label_from_func(box), datasets(ObjectDetectDataset)',
              'ObjectItemList, label_from_func(box), transform()']}


@pytest.mark.parametrize('kind', chains)
def test_the_data_set_class_may_come_after_the_labels(kind, notes, scene, capsys):
    "Before the split or after it, masks and boxes wait for `datasets`; no line takes them for names."
    path, boxes = scene
    notes |= dict(path=path/'images', mask=lambda f: path/'masks'/f.name, box=lambda f: boxes[f.name], codes=['nothing', 'left', 'right'])
    made = []
    for chain in chains[kind]:
        items, label, end = re.split(r', (?=label|datasets|transform)', chain)
        for order in (f'{label}.random_split_by_pct()', f'random_split_by_pct().{label}'):
            run([f'lists = {items}.from_folder(path).{order}.{end}'], notes)
            made.append(notes['lists'])
    assert all(lists.kind.__name__ == kind and lists.labels == made[-1].labels and lists.classes == made[-1].classes for lists in made)
    assert all(line.endswith(' today') for line in capsys.readouterr().out.splitlines())


def test_labels_are_made_once_when_they_are_needed(notes):
    asked = []
    def label(file):
        asked.append(file)
        return 'tile'
    src = notes['ImageList'].from_folder(notes['path']/'train-jpg').random_split_by_pct().label_from_func(label)
    assert not asked and len(src.items) == n and len(src.valid_idx) == n_valid and not asked
    assert src.classes == src.transform(size=64).classes == src.datasets().classes == ['tile'] and len(asked) == n


def test_labels_are_those_of_the_table_when_they_were_asked_for(notes):
    df = pd.read_csv(notes['path']/'train_v2.csv')
    listed = notes['ImageList'].from_df(df, notes['path'], folder='train-jpg', suffix='.jpg')
    made = [listed.label_from_df(sep=' ').split_none(), listed.split_none().label_from_df(sep=' ')]
    tags = [tuple(o.split()) for o in df.tags]
    df['tags'] = df.tags.to_numpy()[::-1]
    assert all(list(lists.labels) == tags and list(lists.datasets().labels) == tags for lists in made)


def test_a_split_list_can_be_asked_again(notes):
    "The last way to label counts, and test tiles stay."
    listed = notes['ImageList'].from_csv(notes['path'], 'train_v2.csv', folder='train-jpg', suffix='.jpg')
    src = listed.label_from_folder().random_split_by_pct().add_test_folder('test-jpg').label_from_df(sep=' ')
    assert src.kind.__name__ == 'MultiCategory' and len(src.test) == len(src.datasets().test) == 4


def test_test_tiles_may_come_before_datasets(notes):
    listed = notes['ImageFileList'].from_csv(notes['path'], 'train_v2.csv', folder='train-jpg', suffix='.jpg')
    tiles = sorted((notes['path']/'test-jpg').iterdir())
    for src in (listed.label_from_df(sep=' ').random_split_by_pct(), listed.random_split_by_pct().label_from_df(sep=' ')):
        for tested in (src.add_test(tiles), src.add_test_folder('test-jpg')):
            made = tested.datasets(notes['ImageMultiDataset'])
            assert made.test.items == tested.transform(size=64).test.items == tiles and made.kind.__name__ == 'MultiCategory'


def test_test_tiles_in_place_of_others_are_told(notes, capsys):
    src = notes['ImageFileList'].from_folder(notes['path']/'train-jpg').label_from_folder().random_split_by_pct()
    tile = notes['path']/'test-jpg'/'test_0.jpg'
    assert src.add_test([tile]*2).add_test([tile]).datasets().test.items == [tile]
    assert '1 test tiles take the place of 2' in capsys.readouterr().out
    with pytest.raises(TypeError, match='test tiles are picture files'): src.add_test([1])
    with pytest.raises(FileNotFoundError, match='no such folder'): src.add_test_folder()


def test_a_data_set_class_that_contradicts_the_labels_is_refused(notes):
    "Without `sep` a row's tags would be one class; with it, one label a tile is not what the tiles have."
    listed = notes['ImageFileList'].from_csv(notes['path'], 'train_v2.csv', folder='train-jpg', suffix='.jpg')
    one, several = notes['ImageClassificationDataset'], notes['ImageMultiDataset']
    for early in (True, False):
        def asked(sep): return listed.label_from_df(sep=sep).split_none() if early else listed.split_none().label_from_df(sep=sep)
        with pytest.raises(ValueError, match=r"has one label, as '.+ .+'. Give sep=' ' .* datasets\(ImageClassificationDataset\)"):
            asked(None).datasets(several)
        with pytest.raises(ValueError, match=r"has several, as .* Write datasets\(ImageMultiDataset\); .* leave sep= out"):
            asked(' ').datasets(one)


def test_label_from_csv_knows_both_spellings(notes, capsys):
    files = notes['ImageList'].from_folder(notes['path'])
    ask = partial(files.label_from_csv, 'train_v2.csv', folder='train-jpg', suffix='.jpg')
    made = [ask(**words).random_split_by_pct() for words in (dict(sep=' '), dict(label_delim=' '), dict(sep=' ', label_delim=' '))]
    assert all(lists.labels == made[0].labels and lists.kind.__name__ == 'MultiCategory' for lists in made)
    assert old_names(capsys.readouterr().out).count('sep=') == 1
    with pytest.raises(ValueError, match='two names of one thing'): ask(sep=' ', label_delim=';')


def test_a_table_with_an_index_in_front(notes):
    "What an error tells to pass can be passed to the call that failed."
    path = notes['path']
    pd.read_csv(path/'train_v2.csv').to_csv(path/'index.csv')
    files = notes['ImageFileList'].from_folder(path)
    ask = partial(files.label_from_csv, 'index.csv', sep=' ', folder='train-jpg', suffix='.jpg')
    with pytest.raises(ValueError, match="cols='image_name'"): ask()
    for word in ('cols', 'fn_col'):
        with pytest.raises(ValueError, match=r"holds the tiles' names, not labels: give label_col=, one of \[.*'tags'\]"): ask(**{word: 'image_name'})
        assert len(ask(label_col='tags', **{word: 'image_name'}).random_split_by_pct().classes) > 2
    with pytest.raises(ValueError, match='two names of one thing'): ask(cols='image_name', fn_col='tags')


def test_a_question_mark_shows_what_can_be_given():
    "Of every function and method that the module has, also of those that objects bring: each parameter with a word on it."
    from planet_course import compat
    own = [getattr(compat, name) for name in compat.__all__ if getattr(getattr(compat, name), '__module__', '') == 'planet_course.compat']
    found = [o for o in own if inspect.isfunction(o)]
    for thing in [*(o for o in own if inspect.isclass(o)), compat._Learner, compat._Loaded]:
        named = [(name, o) for home in thing.__mro__ if home.__module__ == 'planet_course.compat' for name, o in vars(home).items()]
        found += [getattr(o, '__func__', o) for name, o in named if not name.startswith('_')]
    found = [o for o in found if inspect.isfunction(o)]
    assert {'create_cnn', 'cnn_learner', 'load_learner', 'label_from_csv', 'label_from_df', 'from_csv', 'get_preds'} <= {o.__code__.co_name for o in found}
    for f in found:
        names = [name for name in inspect.signature(f).parameters if name not in ('self', 'cls')]
        dumb = [name for name in names if f'\n    {name}: ' not in inspect.getdoc(f)]
        assert not dumb, f'{f.__qualname__}? says nothing of {dumb}'
    assert 'Returns' not in inspect.getdoc(compat.ImageDataBunch.from_csv)


def test_the_lists_class_says_the_kind_before_the_split_too(notes, scene):
    path, _ = scene
    masks = notes['SegmentationItemList'].from_folder(path/'images').label_from_func(
        lambda f: path/'masks'/f.name, classes=['nothing', 'left', 'right']).random_split_by_pct()
    for lists in (masks.datasets(), masks.datasets(notes['SegmentationDataset']), masks.transform(size=64)):
        assert lists.valid.targets.shape[1:] == ((64, 64) if lists.size else (97, 131))


coco = ['''images, lbl_bbox = get_annotations(path/'train.json')''',
        '''img2bbox = dict(zip(images, lbl_bbox))''',
        '''get_y_func = lambda o: img2bbox[o.name]''',
        '''data = (ImageFileList.from_folder(path)
        .label_from_func(get_y_func)
        .random_split_by_pct()
        .datasets(ObjectDetectDataset)
        .databunch(bs=16, collate_fn=bb_pad_collate))''',
        '''data.show_batch(rows=3, ds_type=DatasetType.Valid, figsize=(8,7))''']


def test_the_coco_cells(notes, scene, tmp_path):
    "No transform at all: tiles as they are stored, and a batch of boxes. On the notes' own pictures where they are, else on drawn ones."
    folder = shared/'data'/'coco_tiny'
    notes['path'] = tmp_path/'coco_tiny'
    notes['path'].mkdir()
    if folder.is_dir():
        for name in ('train', 'train.json'): (notes['path']/name).symlink_to(folder/name)
    else: draw_coco(notes['path'], *scene)
    run(coco, notes)
    data, boxes = notes['data'], notes['img2bbox']
    assert len(data.valid_ds) == len(boxes)//5 and str(data.size) == ('(128, 128)' if folder.is_dir() else '(97, 131)')
    xb, (found, labels) = data.one_batch('valid')
    first = boxes[data.valid_ds.items[0].name]
    assert labels[0][labels[0] > 0].tolist() == [data.classes.index(name) for name in first[1]]
    side = torch.tensor([data.size.h, data.size.w]*2)
    assert torch.allclose((found[0][labels[0] > 0] + 1)/2*side, torch.tensor(first[0], dtype=torch.float), atol=1e-3)


def draw_coco(path, drawn, boxes):
    "The pictures of `scene` with a json of their boxes."
    (path/'train').symlink_to(drawn/'images')
    ids = {name: i for i, name in enumerate(boxes)}
    notes = [dict(image_id=ids[name], category_id=1, bbox=[left, top, right - left, bottom - top])
             for name, (found, _) in boxes.items() for top, left, bottom, right in found]
    (path/'train.json').write_text(json.dumps(dict(categories=[dict(id=1, name='thing')], annotations=notes,
                                                   images=[dict(id=i, file_name=name) for name, i in ids.items()])))


@pytest.mark.parametrize('old, today', [('SegmentationDataset', 'SegmentationItemList'), ('ObjectDetectDataset', 'ObjectItemList')])
def test_a_data_set_class_says_the_list_class(old, today, notes, monkeypatch, capsys):
    "Which list class the files become, and what the labelling is given; that its targets are right is for tests/data to say."
    from planet_course import data
    from planet_course.data import lists as home
    asked = []
    def label(lists, found, classes):
        asked.append((lists, found, classes))
        return SimpleNamespace(kind=lists.items.kind)
    monkeypatch.setattr(home, '_label', label)
    codes, func = ['a', 'b'], lambda f: f.with_suffix('.png')
    notes['ImageFileList'].from_folder(notes['path']/'train-jpg').label_from_func(func) \
        .random_split_by_pct().datasets(notes[old], classes=codes)
    (lists, found, classes), = asked
    assert type(lists.items) is getattr(data, today) and classes == codes and len(found) == n
    assert f'{old} is called {today} today' in capsys.readouterr().out


@pytest.mark.parametrize('name', ['SegmentationItemList', 'ObjectItemList', 'PointsItemList'])
def test_todays_lists_know_the_old_methods(name, notes):
    from planet_course import data
    split = notes[name].from_folder(notes['path']/'train-jpg').random_split_by_pct()
    assert isinstance(split.items, getattr(data, name)) and split.items.kind is getattr(data, name).kind
    assert split.valid_idx.tolist() == np.random.RandomState(42).permutation(n)[:n_valid].tolist()
    assert isinstance(split.train, notes[name])


def test_a_data_bunch_in_one_call(notes, capsys):
    notes['planet'] = notes['path']
    (notes['path']/'train_v2.csv').rename(notes['path']/'labels.csv')
    (notes['path']/'train-jpg').rename(notes['path']/'train')
    run([first[2], '''data = ImageDataBunch.from_csv(planet, folder='train', sep=' ', suffix='.jpg', ds_tfms=tfms, size=128)''',
         '''today = ImageDataBunch.from_csv(planet, folder='train', label_delim=' ', suffix='.jpg', ds_tfms=tfms, size=128)'''], notes)
    old, today = notes['data'], notes['today']
    assert str(old.size) == '128' and rows(old.valid_ds) == rows(today.valid_ds)
    assert torch.equal(old.train_ds.targets, today.train_ds.targets) and old.train_ds.targets.ndim == 2
    assert old_names(capsys.readouterr().out) == ['sep=']


def test_only_compat_patches_path():
    code = ('import planet_course.answers.predictor, planet_course.answers.report, planet_course.nets.unet; from pathlib import Path; print(hasattr(Path, "ls")); '
            'import planet_course.compat; print(hasattr(Path, "ls"))')
    said = subprocess.run([sys.executable, '-c', code], cwd=root, capture_output=True, text=True, check=True).stdout.split()
    assert said == ['False', 'True']


def test_nobody_imports_compat():
    for file in (root/'planet_course').rglob('*.py'):
        if file.stem in ('compat', '_modidx'): continue
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import): names = [a.name for a in node.names]
            elif isinstance(node, ast.ImportFrom): names = [node.module or '', *(a.name for a in node.names)]
            else: continue
            assert not any(name.split('.')[-1] == 'compat' for name in names), f'{file.name} imports compat'


def test_everything_handed_on_is_there():
    from planet_course import compat
    wanted = {'np', 'pd', 'plt', 'torch', 'nn', 'Path', 'partial', 'models', 'imagenet_stats', 'seed_everything', 'untar_data', 'URLs',
              'Config', 'get_transforms', 'ImageList', 'accuracy', 'accuracy_thresh', 'fbeta', 'Learner', 'unet_learner',
              'get_annotations', 'bb_pad_collate', 'DatasetType', 'create_cnn', 'cnn_learner', 'load_learner', 'ImageDataBunch'}
    assert wanted <= set(compat.__all__) and len(set(compat.__all__)) == len(compat.__all__)
    assert all(hasattr(compat, name) for name in compat.__all__)


targets = {
    ('masks', 1): "(ImageFileList.from_folder(path_img).label_from_func(get_y_fn).random_split_by_pct()"
                  ".datasets(SegmentationDataset, classes=codes).transform(get_transforms(), size=128, tfm_y=True).databunch())",
    ('masks', 2): "(SegmentationItemList.from_folder(path_img).random_split_by_pct().label_from_func(get_y_fn, classes=codes)"
                  ".transform(get_transforms(), tfm_y=True, size=128).databunch())",
    ('masks', 3): "(SegmentationItemList.from_folder(path_img).split_by_rand_pct().label_from_func(get_y_fn, classes=codes)"
                  ".transform(get_transforms(), tfm_y=True, size=128).databunch())",
    ('boxes', 1): "(ImageFileList.from_folder(path_img).label_from_func(get_y_func).random_split_by_pct().datasets(ObjectDetectDataset)"
                  ".transform(get_transforms(), tfm_y=True).databunch(bs=16, collate_fn=bb_pad_collate))",
    ('boxes', 2): "(ObjectItemList.from_folder(path_img).random_split_by_pct().label_from_func(get_y_func)"
                  ".transform(get_transforms(), tfm_y=True).databunch(bs=16, collate_fn=bb_pad_collate))",
    ('boxes', 3): "(ObjectItemList.from_folder(path_img).split_by_rand_pct().label_from_func(get_y_func)"
                  ".transform(get_transforms(), tfm_y=True).databunch(bs=16, collate_fn=bb_pad_collate))"}


@pytest.mark.parametrize('kind, gen', targets)
def test_masks_and_boxes_in_three_generations(kind, gen, notes, scene, capsys):
    "The cells of the other sets: the same targets as today's line gives, in every spelling."
    path, boxes = scene
    notes |= dict(path_img=path/'images', get_y_fn=lambda f: path/'masks'/f.name, get_y_func=lambda o: boxes[o.name],
                  codes=np.array(['nothing', 'left', 'right']))
    run([f'data = {targets[kind, gen]}', 'data.show_batch(rows=2, figsize=(7,7))', f'today = {targets[kind, 3]}'], notes)
    (xa, ya), (xb, yb) = (notes[name].one_batch('valid') for name in ('data', 'today'))
    same = torch.equal if kind == 'masks' else lambda a, b: all(map(torch.equal, a, b))
    assert torch.equal(xa, xb) and same(ya, yb) and (ya if kind == 'masks' else ya[1]).any()
    assert ('random_split_by_pct' in old_names(capsys.readouterr().out)) == (gen < 3)
