"""Training: scores, rates, what happened, files to go on from, the loop."""
from .learner import (Callback, FitRecord, Learner, Recorder, activation_of, body_of_state, check_digest,
                      check_tensor, differing_tensors, evaluate, is_state, load_state, metric_name,
                      model_summary, most_bytes, read_pickled, save_state, set_hypers, set_trainable,
                      state_digest, suggest_bs, target_kind, tensors_with_nan)
from .metrics import (Baseline, accuracy, accuracy_thresh, average_precision, check_multi, check_thresh,
                      constant_baselines, fbeta, fbeta_by_tile)
from .schedule import LRSuggestion, lr_grid, lr_range, one_cycle, smooth, suggest_lr

__all__ = [
    'Baseline', 'Callback', 'FitRecord', 'LRSuggestion', 'Learner', 'Recorder', 'accuracy', 'accuracy_thresh',
    'activation_of', 'average_precision', 'body_of_state', 'check_digest', 'check_multi', 'check_tensor',
    'check_thresh', 'constant_baselines', 'differing_tensors', 'evaluate', 'fbeta', 'fbeta_by_tile',
    'is_state', 'load_state', 'lr_grid', 'lr_range', 'metric_name', 'model_summary', 'most_bytes',
    'one_cycle', 'read_pickled', 'save_state', 'set_hypers', 'set_trainable', 'smooth', 'state_digest',
    'suggest_bs', 'suggest_lr', 'target_kind', 'tensors_with_nan',
]
