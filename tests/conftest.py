"""What all tests share: where things are, and the closing line."""
import multiprocessing, os, signal, tarfile
from collections import Counter
from pathlib import Path

import pytest

root = Path(__file__).parents[1]
shared = root.parent/'shared'
knobs = ('DATA', 'ARCH', 'SIZES', 'EPOCHS', 'BS', 'LR_STEPS', 'N_TILES', 'WEIGHTS', 'PRETRAINED', 'IN_TEST')  # of the lesson
# Two workers (pytest.ini) share the cores: PyTorch's threads of two processes on one core wait for each other, and take ten times as long.
os.environ['OMP_NUM_THREADS'] = str(max(1, (os.cpu_count() or 1)//int(os.environ.get('PYTEST_XDIST_WORKER_COUNT', '1'))))
# A shell's job in the background ignores Ctrl-C, and so does all that it starts; some tests press it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN: signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope='session')
def tiles(tmp_path_factory):
    "Sixty synthetic tiles, made once for all tests."
    from planet_course.get import planet_synthetic
    return planet_synthetic(tmp_path_factory.mktemp('tiles')/'planet', n=60, n_test=6, progress=False)


@pytest.fixture(scope='session')
def learn(tiles):
    "A network that has seen an epoch: its running averages are not those it began with. For tests that leave it as it is."
    import torch
    from planet_course.nets import create_cnn
    from small import bunch
    from torchvision import models
    torch.manual_seed(0)
    learn = create_cnn(bunch(tiles), models.resnet18, pretrained=False)
    learn.fit_one_cycle(1, 1e-3)
    return learn


@pytest.fixture(scope='session')
def model_file(learn, tmp_path_factory):
    "Its export."
    from planet_course.answers import export_model
    return export_model(learn, tmp_path_factory.mktemp('model')/'model.safetensors')


@pytest.fixture(scope='session')
def small_file(learn, tmp_path_factory):
    "A fifth of it, for what reads a file many times."
    from planet_course.answers import export_model
    from planet_course.nets import create_cnn
    from torchvision import models
    small = create_cnn(learn.data, models.mobilenet_v2, pretrained=False, lin_ftrs=(16,))
    return export_model(small, tmp_path_factory.mktemp('small')/'model.safetensors')


@pytest.fixture(scope='session')
def spawn():
    "Starts processes that have the modules loaded already."
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload(['planet_course.tiles', 'pytest'])
    return context


@pytest.fixture
def scene(tmp_path):
    "Six oblong pictures with two rectangles each, their masks, and the boxes (top, left, bottom, right) in pixels."
    import numpy as np
    from PIL import Image as PILImage
    boxes = {}
    for folder in ('images', 'masks'): (tmp_path/folder).mkdir()
    for i in range(6):
        pixels, mask = np.zeros((97, 131, 3), np.uint8), np.zeros((97, 131), np.uint8)
        found = [[30 + i, 35, 60, 60 + i], [20, 70, 50 + 2*i, 95]]
        for k, (top, left, bottom, right) in enumerate(found):
            pixels[top:bottom, left:right, k] = 255
            mask[top:bottom, left:right] = k + 1
        PILImage.fromarray(pixels).save(tmp_path/f'images/{i}.png')
        PILImage.fromarray(mask).save(tmp_path/f'masks/{i}.png')
        boxes[f'{i}.png'] = found, ['left', 'right']
    return tmp_path, boxes


@pytest.fixture(scope='session')
def real_sample():
    "The 1,000 real tiles, where they lie beside the project."
    if not (shared/'data'/'planet_sample').is_dir(): pytest.skip('real tiles: no ../shared/data/planet_sample')
    return shared/'data'/'planet_sample'


@pytest.fixture(scope='session')
def sample_tgz(real_sample, tmp_path_factory):
    "The real tiles as fast.ai serves them, without the caches that somebody's run may have left among them."
    file = tmp_path_factory.mktemp('sample')/'planet_sample.tgz'
    with tarfile.open(file, 'w:gz', compresslevel=1) as t:
        for name in ('labels.csv', 'train'): t.add(real_sample/name, f'planet_sample/{name}')
    return file.read_bytes()


def pytest_collection_modifyitems(items):
    "The lesson first: one worker has it for half of the time, and nobody shall wait for it at the end."
    items.sort(key=lambda item: item.path.name != 'test_lesson.py')


def pytest_unconfigure(config):
    "One closing line that a person or a program can read."
    reporter = config.pluginmanager.get_plugin('terminalreporter')
    if reporter is None: return
    count = lambda *kinds: sum(len(reporter.stats.get(kind, ())) for kind in kinds)
    if not (shared/'data').is_dir(): print('data cells skipped: no ../shared/data')
    reasons = Counter(report.longrepr[2].removeprefix('Skipped: ') for report in reporter.stats.get('skipped', ()))
    for reason, n in reasons.items(): print(f'{n} skipped: {reason}')
    print(f'{count("passed")} passed, {count("failed", "error")} failed', flush=True)
