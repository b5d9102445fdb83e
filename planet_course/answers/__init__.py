"""Answers: where it is wrong, how sure, corrections; one tile, a folder, a file, a table."""
from .export import export_model, export_onnx, load_model
from .feedback import add_correction, read_corrections, with_corrections
from .predictor import Prediction, Predictor, choose_labels, predict, tta
from .report import (check_preds, co_occurrence, label_report, plot_co_occurrence, plot_matrices,
                     rows_by_name, show_top_losses, split_tags, tag_delim, tiles_of, top_losses)
from .submit import Score, submission, submit_to_kaggle
from .thresholds import (best_thresh, bootstrap_ci, check_label_targets, compare_rules, expected_fbeta_labels,
                         pick_thresh, plot_thresholds, thresh_for)

__all__ = [
    'Prediction', 'Predictor', 'Score', 'add_correction', 'best_thresh', 'bootstrap_ci',
    'check_label_targets', 'check_preds', 'choose_labels', 'co_occurrence', 'compare_rules',
    'expected_fbeta_labels', 'export_model', 'export_onnx', 'label_report', 'load_model', 'pick_thresh',
    'plot_co_occurrence', 'plot_matrices', 'plot_thresholds', 'predict', 'read_corrections', 'rows_by_name',
    'show_top_losses', 'split_tags', 'submission', 'submit_to_kaggle', 'tag_delim', 'thresh_for', 'tiles_of',
    'top_losses', 'tta', 'with_corrections',
]
