"""Networks: where weights come from; body and head; masks."""
from .cnn import (AdaptiveConcatPool2d, Body, build_body, check_data, count_features, create_body, create_cnn,
                  create_head, find_weights, grouped_learner)
from .unet import (Boxes, ImageDataBunch, Mask, MeanIoU, ObjectItemList, PixelAccuracy, Points,
                   PointsItemList, SegmentationItemList, UNet, bb_pad_collate, get_annotations, unet_learner)

__all__ = [
    'AdaptiveConcatPool2d', 'Body', 'Boxes', 'ImageDataBunch', 'Mask', 'MeanIoU', 'ObjectItemList',
    'PixelAccuracy', 'Points', 'PointsItemList', 'SegmentationItemList', 'UNet', 'bb_pad_collate',
    'build_body', 'check_data', 'count_features', 'create_body', 'create_cnn', 'create_head', 'find_weights',
    'get_annotations', 'grouped_learner', 'unet_learner',
]
