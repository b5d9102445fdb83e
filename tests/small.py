"""Small data and small networks that several tests use, and a function that counts how often it runs at once."""
import time

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import nn

from planet_course.core import imagenet_stats
from planet_course.data import ImageList
from planet_course.train import Learner


def bunch(path, label_delim=' ', size=32):
    src = ImageList.from_csv(path, 'train_v2.csv', folder='train-jpg', suffix='.jpg').split_by_rand_pct(0.2)
    return src.label_from_df(label_delim=label_delim).transform(size=size).databunch(bs=16, device='cpu').normalize(imagenet_stats)


def little(data, **more):
    "The mean colour of a tile, and a linear layer."
    torch.manual_seed(0)
    return Learner(data, nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, data.c)), **more)


def flights(path, labels=('clear', 'haze', 'clear haze'), delim=' '):
    "Nine tiles: 1.jpg, 2.jpg and 3.jpg of three flights each; the same labels in each flight."
    names = [f'{flight}/{i}.jpg' for flight in (3, 7, 9) for i in (1, 2, 3)]
    for k, name in enumerate(names):
        (path/name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((40, 40, 3), 20*k, np.uint8)).save(path/name)
    df = pd.DataFrame(dict(name=names, tags=[*labels]*3))
    return ImageList.from_df(df, path).split_by_idx([0, 3, 4, 6, 7, 8]).label_from_df(label_delim=delim)


def little_of(lists, **more): return little(lists.transform(size=32).databunch(bs=2, device='cpu'), **more)


def slowed(function):
    "`function`, a little slower, and a list: how many of its calls were running when each of them began."
    inside, at_once = [], []
    def slow(*args):
        inside.append(1)
        at_once.append(len(inside))
        time.sleep(.005)
        inside.pop()
        return function(*args)
    return slow, at_once
