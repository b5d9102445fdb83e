"""The data block: files and splits, targets, batches."""
from .loader import (Category, DataBunch, EmptyLabel, Image, ImageList, ItemLists, LabelList, LabelLists,
                     Loader, MultiCategory, activations, as_item_list, as_they_are, column_of, draw_params,
                     finish_batch, given_classes, label_name, read_table, softmax, stats_tensor, vocabulary)

__all__ = [
    'Category', 'DataBunch', 'EmptyLabel', 'Image', 'ImageList', 'ItemLists', 'LabelList', 'LabelLists',
    'Loader', 'MultiCategory', 'activations', 'as_item_list', 'as_they_are', 'column_of', 'draw_params',
    'finish_batch', 'given_classes', 'label_name', 'read_table', 'softmax', 'stats_tensor', 'vocabulary',
]
