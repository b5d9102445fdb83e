# What `planet_course.NAME` and `from planet_course import NAME` find; __init__.py reads this file.
from . import answers as answers, cli as cli, compat as compat, core as core, data as data, device as device
from . import files as files, get as get, nets as nets, tiles as tiles, train as train
from .answers import Predictor as Predictor, best_thresh as best_thresh, compare_rules as compare_rules
from .answers import export_model as export_model, export_onnx as export_onnx, label_report as label_report
from .answers import predict as predict, show_top_losses as show_top_losses, submission as submission
from .answers import submit_to_kaggle as submit_to_kaggle, top_losses as top_losses, tta as tta
from .core import imagenet_stats as imagenet_stats, show_images as show_images
from .data import DataBunch as DataBunch, Image as Image, ImageList as ImageList
from .data import get_annotations as get_annotations
from .device import default_device as default_device, keep_freed_memory as keep_freed_memory
from .device import seed_everything as seed_everything
from .files import planet_folder as planet_folder, writable_folder as writable_folder
from .get import planet_data as planet_data, planet_synthetic as planet_synthetic, untar_data as untar_data
from .nets import create_cnn as create_cnn, fetch_weights as fetch_weights, find_weights as find_weights
from .nets import unet_learner as unet_learner
from .tiles import clear_cache as clear_cache, get_transforms as get_transforms
from .train import Callback as Callback, Learner as Learner, accuracy as accuracy
from .train import accuracy_thresh as accuracy_thresh, average_precision as average_precision
from .train import constant_baselines as constant_baselines, fbeta as fbeta, suggest_bs as suggest_bs

__version__: str
