# What `planet_course.NAME` and `from planet_course import NAME` find; __init__.py reads this file.
from . import augment as augment, cache as cache, compat as compat, core as core, data as data, download as download
from . import interpret as interpret, learner as learner, metrics as metrics, predictor as predictor, sample as sample
from . import schedule as schedule, tasks as tasks, vision as vision
from .augment import get_transforms as get_transforms
from .cache import clear_cache as clear_cache
from .core import default_device as default_device, imagenet_stats as imagenet_stats
from .core import keep_freed_memory as keep_freed_memory, planet_folder as planet_folder
from .core import seed_everything as seed_everything, show_images as show_images, writable_folder as writable_folder
from .data import DataBunch as DataBunch, Image as Image, ImageList as ImageList
from .download import planet_data as planet_data, untar_data as untar_data
from .interpret import best_thresh as best_thresh, compare_rules as compare_rules, label_report as label_report
from .interpret import show_top_losses as show_top_losses, top_losses as top_losses
from .learner import Callback as Callback, Learner as Learner, suggest_bs as suggest_bs
from .metrics import accuracy as accuracy, accuracy_thresh as accuracy_thresh, fbeta as fbeta
from .metrics import average_precision as average_precision, constant_baselines as constant_baselines
from .predictor import Predictor as Predictor, export_model as export_model, export_onnx as export_onnx
from .predictor import predict as predict, submission as submission, submit_to_kaggle as submit_to_kaggle, tta as tta
from .sample import planet_synthetic as planet_synthetic
from .tasks import get_annotations as get_annotations, unet_learner as unet_learner
from .vision import create_cnn as create_cnn, find_weights as find_weights

__version__: str
