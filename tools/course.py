"""A short course that says, to the last digit, what the package computes. `tools/same.py` runs it on two trees.

    python tools/course.py TREE OUT.json          in an empty folder: what the package in TREE gives
    python tools/course.py TREE OUT.json --read   in the folder of such a run: what TREE makes of that run's files

It uses names that the package offers at the top, and finds the few others by their name, as modules may move.
"""
import argparse, hashlib, importlib, io, json, pkgutil, re, shutil, sys, traceback
from collections.abc import Callable, Iterator
from configparser import ConfigParser
from contextlib import redirect_stdout
from functools import cached_property, partial
from pathlib import Path

import matplotlib
matplotlib.use('Agg')
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from PIL import ExifTags, Image as PILImage
from torch import Tensor, nn
from torchvision import models

import planet_course
from planet_course import (Callback, Image, ImageList, Learner, Predictor, accuracy_thresh, average_precision,
                           best_thresh, clear_cache, compare_rules, constant_baselines, create_cnn, export_model, fbeta,
                           find_weights, get_annotations, get_transforms, imagenet_stats, label_report, planet_data,
                           planet_folder, planet_synthetic, predict, seed_everything, show_top_losses, submission,
                           suggest_bs, top_losses, tta, unet_learner)

rooms = {}      # name -> a function of the course that yields pairs: what it is, and what came out
reading = {}    # those of them that read files
codes = ['nothing', 'left', 'right']
lesson = get_transforms(flip_vert=True, max_lighting=0.1, max_zoom=1.05, max_warp=0.)


def room(visit:Callable) -> Callable:
    rooms[visit.__name__] = visit
    return visit


def reads_files(visit:Callable) -> Callable:
    "A room that reads what an earlier one, perhaps of another tree, has written."
    reading[visit.__name__] = visit
    return room(visit)


def named(name:str):
    "A public name that the package does not offer at the top: from the one module that defines it."
    for module in pkgutil.walk_packages(planet_course.__path__, 'planet_course.'):
        if module.name.endswith('.compat'): continue    # it has others of the same name
        found = vars(importlib.import_module(module.name)).get(name)
        if getattr(found, '__module__', '') == module.name: return found
    raise LookupError(f'no module of planet_course defines {name}')


# what came out, as text: equal texts are equal bits

def digest(content:bytes) -> str: return hashlib.sha256(content).hexdigest()[:16]


def exact(value) -> str:
    "Numbers with all their digits, which are read back as the same bits; of a tensor type, shape and a digest."
    if isinstance(value, Tensor):
        kind = str(value.dtype).removeprefix('torch.')
        return f'{kind} {tuple(value.shape)} {digest(value.detach().contiguous().numpy().tobytes())}'
    if isinstance(value, pd.DataFrame): return f'{" ".join(map(str, value.dtypes))}\n{value.to_csv()}'
    if isinstance(value, np.ndarray): return exact(torch.from_numpy(value))
    if isinstance(value, bytes): return digest(value)
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, dict): return ' '.join(f'{key}={exact(item)}' for key, item in value.items())
    if isinstance(value, list | tuple): return f'[{" ".join(map(exact, value))}]'
    return str(value)   # of a float, all digits that it has


def of_files(folder:Path) -> str:
    "A digest of all pictures and tables below a folder, with their names."
    found = sorted(f for f in folder.rglob('*.*') if f.suffix in ('.jpg', '.png', '.csv'))
    parts = [f.relative_to(folder).as_posix().encode() + b'\0' + f.read_bytes() for f in found]
    return f'{len(found)} files {digest(b"".join(parts))}'


def of_loader(dl) -> list:
    "All batches, each as the network gets it."
    return [[xb, yb] for xb, yb in dl]


def of_weights(learn) -> str: return exact(list(learn.model.state_dict().values()))


def of_figure() -> str:
    "A digest of the pixels of the figure that was drawn last."
    canvas = plt.gcf().canvas
    canvas.draw()
    return exact(np.array(canvas.buffer_rgba()))


def of_record(record) -> dict:
    "What a fit did, step by step and epoch by epoch."
    return {name: getattr(record, name) for name in ('losses', 'valid_losses', 'metrics', 'lrs', 'moms')}


def told(calls:dict[str, Callable]) -> Iterator:
    "What calls give, or what people are told who make them."
    for name, call in calls.items():
        try:
            yield name, f'let through: {exact(call())}'
        except Exception as e:
            yield name, f'{type(e).__name__}: {e}'


# what the rooms share

def draw_scene(path:Path) -> Path:
    "Eight oblong pictures of noise, wide and tall by turns, with two rectangles each, and a mask for each."
    random = np.random.default_rng(1)
    for folder in ('images', 'masks'):
        (path/folder).mkdir(parents=True, exist_ok=True)
    for i in range(8):
        shape = (131, 97) if i % 2 else (97, 131)
        pixels = random.integers(0, 200, (*shape, 3), np.uint8)
        mask = np.zeros(shape, np.uint8)
        for k, (top, left, bottom, right) in enumerate(boxes_of(Path(f'{i}.png'))[0]):
            pixels[top:bottom, left:right, k] = 255
            mask[top:bottom, left:right] = k + 1
        PILImage.fromarray(pixels).save(path/f'images/{i}.png')
        PILImage.fromarray(mask).save(path/f'masks/{i}.png')
    return path


def boxes_of(file:Path) -> tuple[list, list]:
    "The two rectangles in a picture of the scene: top, left, bottom, right."
    i = int(file.stem)
    return [[30 + i, 35, 60, 60 + i], [20, 70, 50 + 2*i, 95]], codes[1:]


def batches(lists, tfms=None, size=32, bs:int=8, **more):
    return lists.transform(tfms, size=size, **more).databunch(bs=bs)


def first_batch(data) -> tuple:
    seed_everything(7)
    return data.one_batch()


def network(data, arch=models.resnet18, **more):
    seed_everything(3)
    return create_cnn(data, arch, **({'pretrained': False, 'metrics': [accuracy_thresh, fbeta]} | more))


def draw_formats(path:Path) -> Path:
    "The same noise as files of several kinds; the last three cannot be read."
    path.mkdir()
    noise = np.random.default_rng(2).integers(0, 256, (50, 70, 4), np.uint8)
    picture = PILImage.fromarray(noise[..., :3])
    for mode, ending in (('L', 'png'), ('P', 'gif'), ('CMYK', 'jpg'), ('RGB', 'tif')):
        picture.convert(mode).save(path/f'{mode}.{ending}')
    PILImage.fromarray(noise).save(path/'RGBA.png')
    exif = PILImage.Exif()
    exif[ExifTags.Base.Orientation] = 6
    picture.save(path/'turned.jpg', exif=exif)
    deep = noise[..., 0].astype(np.uint16)
    PILImage.fromarray(deep*257).save(path/'16 bits.png')
    PILImage.fromarray(deep).save(path/'dim.png')
    (path/'empty.jpg').write_bytes(b'')
    (path/'short.png').write_bytes((path/'L.png').read_bytes()[:900])
    return path


class Course:
    "The tiles, and the network that is trained on them."
    home = Path.cwd()

    @cached_property
    def path(self) -> Path: return planet_data(source='synthetic', n=48)

    @cached_property
    def scene(self) -> Path: return draw_scene(self.home/'scene')

    @cached_property
    def items(self): return ImageList.from_csv(self.path, 'train_v2.csv', folder='train-jpg', suffix='.jpg')

    @cached_property
    def src(self):
        split = self.items.split_by_rand_pct(0.2, seed=42)
        return split.label_from_df(label_delim=' ').add_test_folder('test-jpg')

    @cached_property
    def data(self):
        with redirect_stdout(io.StringIO()):    # other rooms hear it; those that read files may be the first here
            return batches(self.src, lesson).normalize(imagenet_stats)

    @cached_property
    def learn(self): return network(self.data)

    @cached_property
    def files(self) -> list[Path]: return sorted((self.path/'test-jpg').glob('*.jpg'))


# the rooms

@room
def tiles(course) -> Iterator:
    yield 'folder', course.path.relative_to(course.home)
    yield 'layout', planet_folder(course.path)
    yield 'files', of_files(course.path)
    small = planet_synthetic(course.home/'small', n=6, n_test=2, size=40, seed=7, progress=False)
    yield 'another size and seed', of_files(small)
    packed = shutil.make_archive(str(course.home/'packed'), 'zip', small)
    yield 'from an archive', of_files(planet_data(course.home/'unpacked', source=packed))
    yield 'from a folder', planet_data(small)


@room
def splits(course) -> Iterator:
    df = pd.read_csv(course.path/'train_v2.csv')
    df['is_valid'] = df.index % 3 == 1
    with_column = ImageList.from_df(df, course.path, folder='train-jpg', suffix='.jpg')
    found = {
        'seed 42': course.items.split_by_rand_pct(),
        'seed 7': course.items.split_by_rand_pct(0.3, seed=7),
        'by numbers': course.items.split_by_idx([5, 2, 40]),
        'by a column': with_column.split_from_df(),
        'by folder': ImageList.from_folder(course.path).split_by_folder('train-jpg', 'test-jpg'),
        'none': course.items.split_none()}
    for name, split in found.items():
        yield name, [split.train.ids, split.valid.ids]


@room
def labels(course) -> Iterator:
    df = pd.read_csv(course.path/'train_v2.csv')
    df['lists'] = df.tags.str.split()
    df['first'] = df.tags.str.split().str[0]
    for name in ('clear', 'water'):
        df[name] = df.tags.str.contains(name).astype(int)
    split = ImageList.from_df(df, course.path, folder='train-jpg', suffix='.jpg').split_by_rand_pct(0.25)
    lists = {
        'a delimiter': split.label_from_df('tags', label_delim=' '),
        'collections': split.label_from_df('lists'),
        'one each': split.label_from_df('first'),
        'columns': split.label_from_df(['clear', 'water']),
        'folders': split.label_from_folder(),
        'a function': split.label_from_func(lambda f: f.stem[-1]),
        'classes given': split.label_from_df('first', classes=sorted({*df['first']})[::-1])}
    for name, labelled in lists.items():
        yield name, [labelled.classes, of_loader(batches(labelled).valid_dl)]
    in_one_call = partial(named('ImageDataBunch').from_csv, course.path, 'train-jpg', ' ', 'train_v2.csv')
    yield 'in one call', of_loader(in_one_call(suffix='.jpg', ds_tfms=lesson, size=32, bs=8).train_dl)


@room
def transforms(course) -> Iterator:
    still = dict(max_rotate=0., max_zoom=1., max_warp=0., max_lighting=0.)
    found = {
        'none': None,
        'lesson': lesson,
        'warp': get_transforms(),
        'never still': get_transforms(flip_vert=True, p_affine=1, p_lighting=1),
        'symmetries': get_transforms(flip_vert=True, **still),
        'mirror': get_transforms(**still),
        'turns': get_transforms(do_flip=False, **(still | {'max_rotate': 40.})),
        'light': get_transforms(do_flip=False, **(still | {'max_lighting': 0.4})),
        'one more': get_transforms(xtra_tfms=[torch.square]),
        'a function': (torch.sqrt, None)}
    for name, tfms in found.items():
        yield name, first_batch(batches(course.src, tfms))


@room
def sizes(course) -> Iterator:
    "Of square pictures, and of oblong ones: cut to a square, squished, as stored."
    for size in (48, (48, 48), (40, 64), None):
        data = batches(course.src, get_transforms(), size)
        yield f'square pictures, size {size}', [first_batch(data), data.one_batch('valid')]
    split = ImageList.from_folder(course.scene/'images').split_by_idx([0, 1])
    oblong = split.label_from_func(lambda f: codes[int(f.stem) % 3])
    for size in (48, (48, 48), (40, 64), (64, 40)):
        data = batches(oblong, get_transforms(), size, bs=6)
        yield f'oblong pictures, size {size}', [first_batch(data), data.one_batch('valid')]
    table = pd.DataFrame({'name': [*'0246'], 'label': [*'abab']})
    wide = ImageList.from_df(table, course.scene/'images', suffix='.png').split_none().label_from_df()
    yield 'wide pictures, as stored', first_batch(batches(wide, get_transforms(), None, bs=4))


@room
def formats(course) -> Iterator:
    def pixels(file): return [Image(file).shape, Image(file).px, Image(file, 48).px, Image(file, (40, 64)).px]
    files = sorted(draw_formats(course.home/'formats').iterdir())
    yield from told({file.name: partial(pixels, file) for file in files})


@room
def loaders(course) -> Iterator:
    data = batches(course.src, lesson, bs=7)
    seed_everything(1)
    yield 'two passes', [of_loader(data.train_dl), of_loader(data.train_dl)]
    yield 'validation', of_loader(data.valid_dl)
    yield 'test', of_loader(data.test_dl())
    yield 'other tiles', of_loader(data.test_dl(course.files[:2]))
    yield 'with labels', of_loader(data.test_dl(course.src.valid))
    seed_everything(2)
    measured = data.normalize()
    xb, _ = measured.one_batch('valid')
    yield 'measured', [measured.stats, xb, measured.denorm(xb)]
    def reversed_pairs(pairs): return [torch.stack(part) for part in zip(*pairs[::-1])]
    yield 'own collate', first_batch(course.src.transform(lesson, size=32).databunch(bs=8, collate_fn=reversed_pairs))
    yield 'channels last', xb.is_contiguous(memory_format=torch.channels_last)
    tile, label = course.data.train_ds[0]
    yield 'a tile', [tile.data, str(label), label.data]
    for found in (course.items, course.src, course.data, course.data.train_ds):
        print(found)


@room
def stages(course) -> Iterator:
    "The lesson in small: frozen, unfrozen, grown."
    learn = course.learn
    learn.freeze()
    yield 'suggested', learn.lr_find(num_it=40)
    yield 'lr_find', of_record(learn.recorder.records[-1])
    learn.fit_one_cycle(2, slice(1e-2), stage='frozen')
    yield 'frozen', of_record(learn.recorder.fits[-1])
    learn.save('stage-1')
    learn.unfreeze()
    learn.fit_one_cycle(2, slice(1e-5, 2e-3), stage='unfrozen')
    yield 'unfrozen', of_record(learn.recorder.fits[-1])
    learn.data = batches(course.src, lesson, 48).normalize(imagenet_stats)
    learn.freeze()
    learn.fit_one_cycle(1, slice(5e-3), stage='grown')
    yield 'grown', of_record(learn.recorder.stages['grown'])
    learn.fit(1, 1e-3, wd=0.1)
    yield 'at one rate', of_record(learn.recorder.fits[-1])
    yield 'weights', of_weights(learn)
    learn.save('stage-2')


@room
def scores(course) -> Iterator:
    learn = course.learn
    yield 'validate', learn.validate()
    yield 'on other tiles', learn.validate(learn.data.test_dl(course.src.train))
    yield 'probabilities', learn.get_preds()
    yield 'logits', learn.get_preds(logits=True)
    yield 'test tiles', learn.get_preds(learn.data.test_dl())
    yield 'tta', tta(learn)
    yield 'tta, sizes', tta(learn, sizes=(None, 40))
    grown = learn.data
    learn.data = batches(course.src, lesson, (40, 64)).normalize(imagenet_stats)
    yield 'tta, oblong', tta(learn)
    learn.data = grown


@room
def reports(course) -> Iterator:
    learn = course.learn
    random = torch.Generator().manual_seed(4)
    targs = (torch.rand(60, learn.data.c, generator=random) > .8).float()
    logits = torch.randn(targs.shape, generator=random) + 2*targs - 1
    yield 'label_report', label_report(logits, targs, learn.data.classes)
    yield 'compare_rules', compare_rules(logits, targs)
    yield 'best_thresh', [best_thresh(logits, targs), best_thresh(logits, targs, by_label=True)]
    yield 'metrics', [fbeta(logits, targs), accuracy_thresh(logits, targs), average_precision(logits, targs)]
    yield 'constant_baselines', list(constant_baselines(targs, learn.data.classes))
    yield 'top_losses', top_losses(learn)
    fixes = pd.DataFrame(dict(image_name=course.items.ids[:3], actual=['clear water', 'primary', 'road']))
    fixed = named('with_corrections')(course.src, fixes, reviewed=course.items.ids[3:6], mix=2.)
    yield 'with_corrections', [fixed.train.x.ids, fixed.valid.x.ids, first_batch(batches(fixed, bs=4))]


@room
def answers(course) -> Iterator:
    learn = course.learn
    file = course.files[0]
    picture = PILImage.open(file)
    tiles = {'path': file, 'bytes': file.read_bytes(), 'picture': picture, 'array': np.array(picture.convert('RGB'))}
    for name, tile in tiles.items():
        found = predict(learn, tile)
        yield f'predict, {name}', [found.labels, found.probs, found.tags]
    yield 'another threshold', predict(learn, file, thresh=0.01).labels
    yield 'submission', submission(learn).read_text()
    yield 'submission, tta', submission(learn, thresh=0.3, path=course.home/'tta.csv', get_probs=tta).read_text()
    export_model(learn, course.home/'model.safetensors')
    yield 'command', typed(course, 'model.safetensors', *course.files, '--thresh', '0.3')


def typed(course, *args) -> str:
    "What `planet-predict` gives: its exit status, and its table."
    ini = ConfigParser(delimiters=['='])
    ini.read(Path(planet_course.__file__).parents[1]/'settings.ini')
    module, main = re.search(r'planet-predict *= *([\w.]+):(\w+)', ini['DEFAULT']['console_scripts']).groups()
    command = getattr(importlib.import_module(module), main)
    with redirect_stdout(io.StringIO()) as table:
        status = command(list(map(str, args)))
    return f'{status}\n{table.getvalue()}'


@reads_files
def stage_file(course) -> Iterator:
    "A stage in a new network, which then goes on with the optimizer's memory."
    learn = network(course.data)
    learn.freeze()
    learn.load('stage-1')
    yield 'weights', of_weights(learn)
    yield 'validate', learn.validate()
    seed_everything(6)
    learn.fit_one_cycle(1, slice(1e-3))
    yield 'goes on', of_record(learn.recorder.fits[-1])
    learn.load('stage-2', with_opt=False)
    yield 'without the optimizer', learn.get_preds()
    file = next(course.path.rglob('stage-1.pth'))
    yield 'as pretrained weights', network(course.data, pretrained=True, weights=file).validate()


@reads_files
def model_file(course) -> Iterator:
    model = Predictor(course.home/'model.safetensors')
    found = model(course.files)
    yield 'probabilities', torch.stack([answer.probs for answer in found])
    yield 'labels', [answer.tags for answer in found]
    eager = Predictor(course.home/'model.safetensors', thresh=0.05)
    yield 'another threshold', eager(course.files[0].read_bytes()).labels
    yield 'facts', [model.classes, model.thresh, model.stats]


@reads_files
def cache_folder(course) -> Iterator:
    "`made anew` is how many caches were not used as they were found: that changes no tile."
    def caches(): return {(f, f.stat().st_mtime_ns) for f in course.path.rglob('*.u8')}
    before = caches()
    for size in (32, 48, (40, 64)):
        yield f'size {size}', of_loader(batches(course.src, None, size).valid_dl)
    yield 'made anew', len(caches() - before)


@room
def folders(course) -> Iterator:
    "A folder for each label: one label a tile."
    root = course.home/'folders'
    for i, file in enumerate(course.items.files[:24]):
        place = root/('valid' if i % 4 == 0 else 'train')/f'class {i % 3}'
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, place)
    lists = ImageList.from_folder(root).split_by_folder().label_from_folder()
    data = batches(lists, lesson).normalize(imagenet_stats)
    learn = network(data, metrics=None, ps=0.3, lin_ftrs=(64,), bn_final=True)
    learn.fit_one_cycle(2, 1e-3)
    yield 'fit', of_record(learn.recorder.fits[-1])
    yield 'tta', tta(learn)
    yield 'predict', predict(learn, course.files[0]).labels
    model = Predictor(export_model(learn, root/'model.safetensors'))
    yield 'model file', [[answer.labels, answer.probs, answer.tags] for answer in model(course.files)]


@room
def masks(course) -> Iterator:
    lists = named('SegmentationItemList').from_folder(course.scene/'images').split_by_idx([0, 1])
    lists = lists.label_from_func(lambda f: course.scene/'masks'/f.name, classes=codes)
    for size in (64, (50, 70)):
        yield f'size {size}', first_batch(batches(lists, None, size, bs=3))
    data = batches(lists, get_transforms(flip_vert=True), 64, bs=3, tfm_y=True).normalize(imagenet_stats)
    yield 'moved', first_batch(data)
    seed_everything(8)
    metrics = [named('PixelAccuracy')(), named('MeanIoU')(ignore=0)]
    learn = unet_learner(data, models.resnet18, pretrained=False, metrics=metrics)
    learn.fit_one_cycle(1, slice(1e-4, 1e-3))
    yield 'fit', of_record(learn.recorder.fits[-1])
    yield 'probabilities', learn.get_preds()
    data.show_batch(rows=1)
    yield 'picture', of_figure()


@room
def boxes(course) -> Iterator:
    lists = named('ObjectItemList').from_folder(course.scene/'images').split_by_idx([0, 1]).label_from_func(boxes_of)
    for size in (64, (50, 70)):
        yield f'size {size}', first_batch(batches(lists, None, size, bs=6))
    data = batches(lists, get_transforms(flip_vert=True, max_zoom=4., p_affine=1.), 64, bs=6, tfm_y=True)
    yield 'moved', first_batch(data)
    data.show_batch(rows=1)
    yield 'picture', of_figure()
    found = {'images': [{'id': 1, 'file_name': 'a.jpg'}], 'categories': [{'id': 5, 'name': 'left'}],
             'annotations': [{'image_id': 1, 'category_id': 5, 'bbox': [1, 2, 3.5, 4]}]}
    (course.home/'boxes.json').write_text(json.dumps(found))
    yield 'get_annotations', get_annotations(course.home/'boxes.json', 'train/')


@room
def points(course) -> Iterator:
    def corners(file): return [box[:2] for box in boxes_of(file)[0]]
    lists = named('PointsItemList').from_folder(course.scene/'images').split_by_idx([0, 1]).label_from_func(corners)
    for size in (64, (50, 70)):
        yield f'size {size}', first_batch(batches(lists, None, size, bs=3))
    data = batches(lists, get_transforms(), 64, bs=3, tfm_y=True)
    yield 'moved', first_batch(data)
    learn = network(data, metrics=())
    learn.fit_one_cycle(1, 1e-3)
    yield 'fit', of_record(learn.recorder.fits[-1])
    data.show_batch(rows=1)
    yield 'picture', of_figure()


class Notes(Callback):
    "Notes which events came, and how many losses were recorded by then; clips the gradients."
    def __init__(self):
        self.seen = []

    def note(self, learn, event:str):
        self.seen.append(f'{event} {learn.epoch}.{learn.step}, {len(learn.recorder.records[-1].losses)} losses')

    def before_fit(self, learn): self.note(learn, 'before_fit')
    def before_epoch(self, learn): self.note(learn, 'before_epoch')
    def before_batch(self, learn): self.note(learn, 'before_batch')
    def after_batch(self, learn): self.note(learn, f'after_batch {learn.loss.item()}')
    def before_validate(self, learn): self.note(learn, 'before_validate')
    def after_epoch(self, learn): self.note(learn, 'after_epoch')
    def after_fit(self, learn): self.note(learn, 'after_fit')

    def after_backward(self, learn):
        self.note(learn, 'after_backward')
        nn.utils.clip_grad_norm_(learn.model.parameters(), 0.1)


@room
def own_network(course) -> Iterator:
    "A network, an optimizer and a callback of one's own, in bf16."
    layers = nn.Conv2d(3, 8, 3, stride=4), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    model = nn.Sequential(*layers, nn.Linear(8, course.data.c))
    notes = Notes()
    learn = Learner(course.data, model, metrics=fbeta, callbacks=[notes], opt_func=partial(torch.optim.SGD, lr=0.1),
                    precision='bf16')
    learn.fit_one_cycle(2, 0.1, moms=(0.9, 0.8), div_factor=10., pct_start=0.5, final_div=100.)
    yield 'fit', of_record(learn.recorder.fits[-1])
    yield 'weights', of_weights(learn)
    yield 'events', notes.seen


@room
def other_bodies(course) -> Iterator:
    yield 'mobilenet_v2', network(course.data, 'mobilenet_v2').validate()
    yield 'cut by hand', network(course.data, 'shufflenet_v2_x0_5', cut=6, split=3).validate()
    yield 'find_weights', list(find_weights(models.resnet50))
    yield 'suggest_bs', suggest_bs(course.learn, memory=10**8)
    course.learn.summary()
    print(course.learn)


@room
def pictures(course) -> Iterator:
    learn = course.learn
    seed_everything(11)
    draws = {
        'show_batch': partial(learn.data.show_batch, rows=2),
        'show_batch, validation': partial(learn.data.show_batch, rows=1, ds_type='valid'),
        'show_top_losses': partial(show_top_losses, learn.data, top_losses(learn), n=2),
        'plot': partial(learn.recorder.plot, suggestion=True),
        'plot_losses': learn.recorder.plot_losses,
        'plot_lr': partial(learn.recorder.plot_lr, show_moms=True)}
    for name, draw in draws.items():
        draw()
        yield name, of_figure()
        plt.close('all')


notes_lists = [     # of three generations of notes
    """src = (ImageFileList.from_folder(path).label_from_csv('train_v2.csv', sep=' ', folder='train-jpg', suffix='.jpg')
       .random_split_by_pct(0.2).datasets(ImageMultiDataset))""",
    """src = (ImageItemList.from_csv(path, 'train_v2.csv', folder='train-jpg', suffix='.jpg')
       .random_split_by_pct(0.2).label_from_df(sep=' '))""",
    """src = (ImageList.from_csv(path, 'train_v2.csv', folder='train-jpg', suffix='.jpg')
       .split_by_rand_pct(0.2).label_from_df(label_delim=' ').add_test_folder('test-jpg'))"""]
notes_bunch = 'data = src.transform(get_transforms(), size=32).databunch(bs=8).normalize(imagenet_stats)'
notes_train = """learn = cnn_learner(data, models.resnet18, pretrained=False, metrics=[partial(fbeta, thresh=0.2)])
learn.fit_one_cycle(1, slice(1e-2))
preds = learn.get_preds(DatasetType.Valid)
learn.export()
loaded = load_learner(path, test=ImageList.from_folder(path/'test-jpg'))
answers = loaded.get_preds(ds_type=DatasetType.Test)"""


@room
def older_spellings(course) -> Iterator:
    cells = {'path': course.path}
    exec('from planet_course.compat import *', cells)
    for generation, lists in enumerate(notes_lists, 1):
        exec(f'{lists}\n{notes_bunch}', cells)
        yield f'generation {generation}', first_batch(cells['data'])
    exec(notes_train, cells)
    yield 'fit', of_record(cells['learn'].recorder.fits[-1])
    yield 'validation', cells['preds']
    yield 'test tiles', cells['answers']


@room
def refusals_of_data(course) -> Iterator:
    items = course.items
    src = course.src
    yield from told({
        'no source': lambda: planet_data(source='nowhere'),
        'no folder': lambda: ImageList.from_folder(course.home/'nothing'),
        'no column': lambda: items.split_none().label_from_df('nothing'),
        'no table': lambda: ImageList.from_csv(course.path, 'nothing.csv'),
        'no tile': lambda: ImageList.from_df(pd.DataFrame({'name': ['nothing']}), course.path),
        'twice in a list': lambda: items.add(items).split_none(),
        'too early': lambda: items.databunch(),
        'too late': lambda: course.data.transform(),
        'a small size': lambda: src.transform(size=16),
        'three sizes': lambda: src.transform(size=(64, 64, 64)),
        'one transform': lambda: src.transform(lesson[0]),
        'a large warp': lambda: get_transforms(max_warp=2.),
        'labels that move': lambda: src.transform(lesson, size=32, tfm_y=True),
        'no batch': lambda: batches(src, bs=0),
        'normalised twice': lambda: course.data.normalize(imagenet_stats)})
    yield 'clear_cache', clear_cache(course.scene/'images')


@room
def refusals_of_learner(course) -> Iterator:
    learn = course.learn
    file = course.files[0]
    yield from told({
        'no data': lambda: create_cnn(course.src, models.resnet18),
        'no weights': lambda: network(course.data, weights='nothing.pth'),
        'no cut': lambda: network(course.data, 'densenet121'),
        'no epochs': lambda: learn.fit(0),
        'wd below 0': lambda: learn.fit(1, wd=-1.),
        'no method': lambda: learn.fit_onecycle,
        'no event': lambda: type('Mine', (Callback,), {'on_epoch': 1}),
        'no loader': lambda: learn.get_preds('test'),
        'no targets': lambda: label_report(torch.zeros(2, 3), None, 'abc'),
        'no threshold': lambda: predict(learn, file, thresh=2.),
        'no picture': lambda: predict(learn, course.path/'train_v2.csv'),
        'no picture at all': lambda: predict(learn, 3),
        'no sample': lambda: submission(learn, sample='nothing.csv'),
        'no stage': lambda: learn.load('nothing'),
        'no model file': lambda: Predictor('nothing'),
        'a stage is no model file': lambda: Predictor(next(course.path.rglob('stage-1.pth')))})


# the walk

def visit(name:str, course:Course) -> dict[str, str]:
    "What a room yields, and what was printed in it; where it breaks off, where and why."
    held = {}
    seed_everything(42)
    with redirect_stdout(io.StringIO()) as said:
        try:
            for what, value in rooms[name](course):
                held[f'{name}: {what}'] = exact(value)
        except Exception as e:
            last = traceback.extract_tb(e.__traceback__)[-1]
            held[f'{name}: to its end'] = f'broke off: {type(e).__name__}: {e} ({last.filename}, line {last.lineno})'
    plt.close('all')
    held[f'{name}: printed'] = re.sub(r'\b\d\d:\d\d\b', 'mm:ss', said.getvalue())
    return held


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('tree', type=Path, help='where planet_course must come from')
    parser.add_argument('out', type=Path, help='the json to write')
    parser.add_argument('--read', action='store_true', help='only the rooms that read files')
    args = parser.parse_args()
    tree = Path(planet_course.__file__).parents[1]
    if not tree.samefile(args.tree):
        sys.exit(f'planet_course is that of {tree}, not of {args.tree}: set PYTHONPATH.')
    torch.set_num_threads(1)
    course = Course()
    held = {}
    for name in reading if args.read else rooms:
        held |= visit(name, course)
    args.out.write_text(json.dumps(held, indent=1), encoding='utf-8')


if __name__ == '__main__':
    main()
