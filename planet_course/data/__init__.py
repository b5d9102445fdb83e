"""The data block: files and splits, targets, batches."""
from .boxes import Boxes, ObjectItemList, Points, PointsItemList, bb_pad_collate, get_annotations
from .loader import (Category, DataBunch, EmptyLabel, Image, ImageList, ItemLists, LabelList, LabelLists,
                     Loader, MultiCategory, activations, as_item_list, as_they_are, column_of, draw_params,
                     finish_batch, given_classes, label_name, read_table, softmax, stats_tensor, vocabulary)
from .masks import Mask, SegmentationItemList
from .onecall import ImageDataBunch

__all__ = [
    'Boxes', 'Category', 'DataBunch', 'EmptyLabel', 'Image', 'ImageDataBunch', 'ImageList', 'ItemLists',
    'LabelList', 'LabelLists', 'Loader', 'Mask', 'MultiCategory', 'ObjectItemList', 'Points',
    'PointsItemList', 'SegmentationItemList', 'activations', 'as_item_list', 'as_they_are', 'bb_pad_collate',
    'column_of', 'draw_params', 'finish_batch', 'get_annotations', 'given_classes', 'label_name',
    'read_table', 'softmax', 'stats_tensor', 'vocabulary',
]
