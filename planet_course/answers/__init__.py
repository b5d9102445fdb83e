"""Answers: where it is wrong, how sure, corrections; one tile, a folder, a file, a table."""
from .feedback import add_correction, read_corrections, with_corrections
from .predictor import (Prediction, Predictor, Score, export_model, export_onnx, main, predict, submission,
                        submit_to_kaggle, tta)
from .report import (check_preds, co_occurrence, label_report, plot_co_occurrence, plot_matrices,
                     rows_by_name, show_top_losses, split_tags, tag_delim, tiles_of, top_losses)
from .thresholds import (best_thresh, bootstrap_ci, check_label_targets, compare_rules, expected_fbeta_labels,
                         pick_thresh, plot_thresholds, thresh_for)

__all__ = [
    'Prediction', 'Predictor', 'Score', 'add_correction', 'best_thresh', 'bootstrap_ci',
    'check_label_targets', 'check_preds', 'co_occurrence', 'compare_rules', 'expected_fbeta_labels',
    'export_model', 'export_onnx', 'label_report', 'main', 'pick_thresh', 'plot_co_occurrence',
    'plot_matrices', 'plot_thresholds', 'predict', 'read_corrections', 'rows_by_name', 'show_top_losses',
    'split_tags', 'submission', 'submit_to_kaggle', 'tag_delim', 'thresh_for', 'tiles_of', 'top_losses',
    'tta', 'with_corrections',
]
