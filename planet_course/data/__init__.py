"""The data block: files and splits, targets, batches."""
from .boxes import Boxes, ObjectItemList, Points, PointsItemList, bb_pad_collate, get_annotations
from .bunch import DataBunch, later_step, make_bunch, shown_parts, step_lines
from .labelled import LabelLists
from .labels import (as_categories, given_classes, label_from, label_name, labels_in_column,
                     labels_in_columns, vocabulary)
from .lists import ImageList, ItemLists, as_item_list
from .loader import Loader, TileSource, draw_params, finish_batch, resident_targets, stats_tensor
from .masks import Mask, SegmentationItemList
from .onecall import ImageDataBunch
from .tables import (alike_on_disk, column_of, files_of_tiles, picture_endings, pictures_below, read_table,
                     truth_values)
from .targets import (Category, EmptyLabel, Image, Label, LabelList, MultiCategory, Target, activations,
                      as_they_are, softmax)

__all__ = [
    'Boxes', 'Category', 'DataBunch', 'EmptyLabel', 'Image', 'ImageDataBunch', 'ImageList', 'ItemLists',
    'Label', 'LabelList', 'LabelLists', 'Loader', 'Mask', 'MultiCategory', 'ObjectItemList', 'Points',
    'PointsItemList', 'SegmentationItemList', 'Target', 'TileSource', 'activations', 'alike_on_disk',
    'as_categories', 'as_item_list', 'as_they_are', 'bb_pad_collate', 'column_of', 'draw_params',
    'files_of_tiles', 'finish_batch', 'get_annotations', 'given_classes', 'label_from', 'label_name',
    'labels_in_column', 'labels_in_columns', 'later_step', 'make_bunch', 'picture_endings', 'pictures_below',
    'read_table', 'resident_targets', 'shown_parts', 'softmax', 'stats_tensor', 'step_lines', 'truth_values',
    'vocabulary',
]
