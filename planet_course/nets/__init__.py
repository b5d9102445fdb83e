"""Networks: where weights come from; body and head; masks."""
from .cnn import (AdaptiveConcatPool2d, Body, build_body, count_features, create_body, create_cnn,
                  create_head, grouped_learner)
from .unet import MeanIoU, PixelAccuracy, UNet, unet_learner
from .weights import arch_function, arch_name, fetch_weights, find_weights, load_file, load_imagenet

__all__ = [
    'AdaptiveConcatPool2d', 'Body', 'MeanIoU', 'PixelAccuracy', 'UNet', 'arch_function', 'arch_name',
    'build_body', 'count_features', 'create_body', 'create_cnn', 'create_head', 'fetch_weights',
    'find_weights', 'grouped_learner', 'load_file', 'load_imagenet', 'unet_learner',
]
