"""Training: scores, rates, what happened, files to go on from, the loop."""
from .checkpoint import (body_of_state, check_digest, check_plain_tensor, differing_tensors, is_state_dict,
                         load_state, most_file_bytes, read_pickled, save_state, stage_state, state_digest,
                         tensor_form, tensors_with_nan)
from .finder import find_rate, kept_bytes, suggest_bs
from .learner import Learner, outputs_of
from .metrics import (Baseline, accuracy, accuracy_thresh, average_precision, check_multilabel, check_thresh,
                      constant_baselines, fbeta, fbeta_by_tile, probs_of)
from .optimizer import (HeldCtrlC, adamw, check_data, check_model, explained_errors, fresh_memory, memory_for,
                        model_summary, optimizer_memory, set_hypers, set_trainable)
from .recorder import FitRecord, Recorder, missing_name, too_few_points
from .schedule import LRSuggestion, lr_grid, lr_range, one_cycle, smooth, suggest_lr
from .scoring import (activation_of, check_data_fits, check_loader_fits, check_loss, check_metric,
                      check_stage_fits, evaluate, metric_columns, metric_name, scores_of, target_kind,
                      tell_activation, tile_facts, with_tensors_on)
from .steps import (Callback, TrainingStep, end_run, new_scaler, notify, run_fit, set_weight_decay,
                    train_step, try_metrics)

__all__ = [
    'Baseline', 'Callback', 'FitRecord', 'HeldCtrlC', 'LRSuggestion', 'Learner', 'Recorder', 'TrainingStep',
    'accuracy', 'accuracy_thresh', 'activation_of', 'adamw', 'average_precision', 'body_of_state',
    'check_data', 'check_data_fits', 'check_digest', 'check_loader_fits', 'check_loss', 'check_metric',
    'check_model', 'check_multilabel', 'check_plain_tensor', 'check_stage_fits', 'check_thresh',
    'constant_baselines', 'differing_tensors', 'end_run', 'evaluate', 'explained_errors', 'fbeta',
    'fbeta_by_tile', 'find_rate', 'fresh_memory', 'is_state_dict', 'kept_bytes', 'load_state', 'lr_grid',
    'lr_range', 'memory_for', 'metric_columns', 'metric_name', 'missing_name', 'model_summary',
    'most_file_bytes', 'new_scaler', 'notify', 'one_cycle', 'optimizer_memory', 'outputs_of', 'probs_of',
    'read_pickled', 'run_fit', 'save_state', 'scores_of', 'set_hypers', 'set_trainable', 'set_weight_decay',
    'smooth', 'stage_state', 'state_digest', 'suggest_bs', 'suggest_lr', 'target_kind', 'tell_activation',
    'tensor_form', 'tensors_with_nan', 'tile_facts', 'too_few_points', 'train_step', 'try_metrics',
    'with_tensors_on',
]
