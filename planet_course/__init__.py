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

The parts, each a folder of chapters in `nbs/`; `from planet_course.data import ImageList` takes a name from its part:

    core        names in messages, picture grids, a live table, bars
    files       the tiles in a folder, files that are whole or not there
    device      seeds, device, precision, memory
    tiles       from a picture to pixels, once a size; random transforms of a batch
    get         synthetic tiles, and every route to the real ones
    data        the data block: files and splits, targets, batches
    train       scores, rates, the training loop, stages to go on from
    nets        pretrained body, new head, layer groups; masks
    answers     where it is wrong, how sure, corrections; a tile, a folder, a file, a table
    cli         the command that labels pictures from a terminal
    compat      older spellings, running, and what they are called today

A name is loaded when it is first used, so that importing the package costs next to nothing.
"""
__version__ = "0.1.0"

import lazy_loader

# the names stand in __init__.pyi, where editors and type checkers look for them too
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
