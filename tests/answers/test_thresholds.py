"""Thresholds and intervals that are asked of something else than predictions with targets."""
import matplotlib.pyplot as plt
import pytest
import torch

from planet_course.answers import best_thresh, bootstrap_ci, co_occurrence, compare_rules, label_report, plot_thresholds


reports = {'label_report': lambda logits, targs: label_report(logits, targs, 'abc'), 'plot_thresholds': plot_thresholds, 'best_thresh': best_thresh,
           'compare_rules': compare_rules, 'co_occurrence': lambda logits, targs: co_occurrence(logits > 0, targs, 'abc')}


@pytest.mark.parametrize('report', reports.values(), ids=reports)
def test_targets_that_are_none(report):
    "Tiles without labels have no targets; and -1 for 'not known' is not a 1."
    logits = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match='(?i)none|without'): report(logits, None)
    with pytest.raises(ValueError, match='0 or 1|0 and 1'): report(logits, -torch.ones(20, 3))
    plt.close('all')


def test_one_word_about_probabilities(capsys):
    "However often the rules are tuned."
    g = torch.Generator().manual_seed(0)
    compare_rules(torch.rand(20, 3, generator=g), torch.randint(2, (20, 3), generator=g).float())
    assert capsys.readouterr().out.count('probabilities?') == 1


def test_scores_that_are_no_numbers():
    for scores in (torch.tensor([.5, float('nan')]), torch.rand(3, 2), torch.rand(0)):
        with pytest.raises(ValueError, match='scores'): bootstrap_ci(scores)
