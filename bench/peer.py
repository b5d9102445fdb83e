"""What our figures are held against: fastai 2, set up for the same tiles, split, transforms and network."""
import warnings
from pathlib import Path

import numpy as np
import pandas as pd

warnings.filterwarnings('ignore')


def fastai_data(df:pd.DataFrame, path:Path, size:int, bs:int=64, workers:int=2):
    "fastai's loaders for the table that `common.tile_table` makes: the same validation tiles, the lesson's transforms."
    from fastai.vision.all import (ColReader, DataBlock, ImageBlock, IndexSplitter, MultiCategoryBlock, Normalize, Resize,
                                   aug_transforms, imagenet_stats)
    valid = np.random.RandomState(42).permutation(len(df))[:len(df)//5]
    vocab = sorted({label for tags in df.tags for label in tags.split()})
    augment = aug_transforms(flip_vert=True, max_lighting=0.1, max_zoom=1.05, max_warp=0.)
    block = DataBlock(blocks=(ImageBlock, MultiCategoryBlock(vocab=vocab)), splitter=IndexSplitter(valid),
                      get_x=ColReader('file', pref=f'{path}/'), get_y=ColReader('tags', label_delim=' '),
                      item_tfms=Resize(size), batch_tfms=[*augment, Normalize.from_stats(*imagenet_stats)])
    return block.dataloaders(df, bs=bs, num_workers=workers)


def fastai_learner(data, arch, state:dict|None=None):
    "fastai's learner with the same network, the same two metrics, and `state` as the network's weights, if given."
    from functools import partial
    from fastai.vision.all import FBetaMulti, accuracy_multi, vision_learner
    def build(pretrained=False, weights=None, **_):
        model = arch(weights=None)
        if state: model.load_state_dict(state)
        return model
    build.__name__ = arch.__name__
    metrics = [partial(accuracy_multi, thresh=0.2), FBetaMulti(beta=2, average='samples', thresh=0.2)]
    split = lambda model: [list(part.parameters()) for part in (model[0][:6], model[0][6:], model[1])]
    return vision_learner(data, build, normalize=False, metrics=metrics, cut=-2, splitter=split)
