"""Multi-label classification of satellite tiles with plain PyTorch: a course whose notebooks are the library.

A tour, from tiles to labels (`planet_course.NAME?` says more of each name):

    from planet_course import ImageList, create_cnn, fbeta, get_transforms, imagenet_stats, planet_data, predict
    from torchvision import models

    path = planet_data(source='sample')     # 1,000 real tiles; 'synthetic' draws some
    src = (ImageList.from_csv(path, 'labels.csv', folder='train', suffix='.jpg')
           .split_by_rand_pct(0.2)
           .label_from_df(label_delim=' '))
    data = src.transform(get_transforms(flip_vert=True), size=128).databunch(bs=64).normalize(imagenet_stats)
    learn = create_cnn(data, models.resnet50, metrics=fbeta)
    learn.fit_one_cycle(5, slice(1e-2))
    predict(learn, path/'train'/'train_10001.jpg').labels

The modules, each built by a chapter in `nbs/`:

    core        seeds, device, picture grids, a live table, progress bars
    sample      synthetic tiles in the competition's layout
    download    the real tiles, from wherever they are
    cache       JPEG to bytes, once per size
    augment     random transforms of a whole batch
    data        from a list of files to batches
    metrics     F2, accuracy, average precision
    schedule    one cycle, rates for layer groups, where to read a rate off
    learner     the training loop, callbacks, the finder, save and load
    vision      pretrained body, new head, layer groups
    interpret   worst tiles, label report, thresholds, corrections
    predictor   one tile or a folder, the submission, one safe file, a command
    tasks       digits in folders, masks and a U-Net, boxes, points
    compat      older spellings, running, and what they are called today

A name is loaded when it is first used, so that importing the package costs next to nothing.
"""
__version__ = "0.1.0"

import lazy_loader

# the names stand in __init__.pyi, where editors and type checkers look for them too
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
