"""Answers: where it is wrong, how sure, corrections; one tile, a folder, a file, a table."""
from .predictor import (Prediction, Predictor, Score, export_model, export_onnx, main, predict, submission,
                        submit_to_kaggle, tta)
from .report import (add_correction, best_thresh, bootstrap_ci, co_occurrence, compare_rules,
                     expected_fbeta_labels, label_report, plot_co_occurrence, plot_matrices, plot_thresholds,
                     read_corrections, show_top_losses, tag_delim, tiles_of, top_losses, with_corrections)

__all__ = [
    'Prediction', 'Predictor', 'Score', 'add_correction', 'best_thresh', 'bootstrap_ci', 'co_occurrence',
    'compare_rules', 'expected_fbeta_labels', 'export_model', 'export_onnx', 'label_report', 'main',
    'plot_co_occurrence', 'plot_matrices', 'plot_thresholds', 'predict', 'read_corrections',
    'show_top_losses', 'submission', 'submit_to_kaggle', 'tag_delim', 'tiles_of', 'top_losses', 'tta',
    'with_corrections',
]
