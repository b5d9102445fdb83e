"""The worst tiles are those that are meant, and reports that are given something else than they ask for."""
import matplotlib.pyplot as plt
import pandas as pd
import pytest
import torch
from small import flights, little_of
from torch import nn

from planet_course.answers import (best_thresh, co_occurrence, compare_rules, label_report, plot_co_occurrence, plot_matrices, plot_thresholds,
                                   show_top_losses, thresholds, tiles_of, top_losses)
from planet_course.core import show_images
from planet_course.data import as_they_are
from planet_course.train import fbeta


# ---- which tile ------------------------------------------------------------------------------------------------------

def test_the_worst_tiles_are_named_by_their_path(tmp_path):
    "And found again by it, however the table was sorted, numbered or kept; tiles of other data are not."
    learn = little_of(flights(tmp_path/'a'))
    worst = top_losses(learn)
    assert set(worst.image_name) == {'3/1.jpg', '7/1.jpg', '7/2.jpg', '9/1.jpg', '9/2.jpg', '9/3.jpg'}
    worst.to_csv(tmp_path/'worst.csv', index=False)
    for table in (worst, worst.reset_index(drop=True), pd.read_csv(tmp_path/'worst.csv'), worst.sort_values('image_name')):
        assert tiles_of(learn.data, table.head(4)).ids == table.image_name.tolist()[:4]
    shown = show_top_losses(learn.data, pd.read_csv(tmp_path/'worst.csv'), n=3)
    for ax, name in zip(shown.flat, worst.image_name):
        grey = ax.images[0].get_array()[0, 0, 0]
        assert ax.get_title().startswith(name) and abs(grey - 20*[f'{f}/{i}.jpg' for f in (3, 7, 9) for i in (1, 2, 3)].index(name)) < 3
    plt.close('all')
    with pytest.raises(ValueError, match='no validation tiles'): tiles_of(learn.data, pd.DataFrame(dict(image_name=['3/2.jpg'], actual=['clear'])))


def test_predictions_of_other_tiles(tmp_path):
    "As many as there are validation tiles: their targets give them away."
    learn = little_of(flights(tmp_path))
    logits, targs = learn.get_preds(logits=True)
    with pytest.raises(ValueError, match='of other tiles'): top_losses(learn, (logits, targs.roll(1, 0)))


# ---- reports ---------------------------------------------------------------------------------------------------------

class Focal(nn.Module):
    "A loss that nobody knows, with an activation of its own; one number for each tile if it is told so."
    def __init__(self, mean=True): super().__init__(); self.mean = mean
    def activation(self, logits): return (2*logits).sigmoid()
    def forward(self, logits, targs):
        loss = (self.activation(logits) - targs)**2
        return loss.mean() if self.mean else loss.mean(1)


def test_the_worst_tiles_of_any_loss(tmp_path):
    "Labels are predicted by the learner's activation; a loss without a mean, or with NaN, is refused."
    learn = little_of(flights(tmp_path), loss_func=Focal(), thresh=.5)
    logits, targs = learn.get_preds(logits=True)
    worst = top_losses(learn).sort_index()
    wanted = (2*logits).sigmoid()
    assert [f'{wanted[i, 0]:.2f}' in worst.probabilities[i] for i in range(6) if targs[i, 0]] == [True]*4
    assert worst.loss.mean() == pytest.approx(learn.validate()['valid_loss'], abs=1e-6)
    learn.loss_func = Focal(mean=False)
    with pytest.raises(ValueError, match='one number'): top_losses(learn, (logits, targs))
    learn.loss_func = lambda logits, targs: (logits.sum()*0 + float('nan'))
    learn.activation = as_they_are
    with pytest.raises(ValueError, match='loss is NaN'): top_losses(learn, (logits, targs))


def flat(logits): return (logits/20 + 1).sigmoid()


@pytest.mark.parametrize('activation', [flat, 'softmax', 'none'])
def test_a_report_counts_what_the_learner_predicts(tmp_path, activation, capsys, monkeypatch):
    "Whatever makes probabilities of its logits; who takes them is told what to type, and it is true."
    learn = little_of(flights(tmp_path), activation=activation)
    if activation == 'none': learn.model.append(nn.Sigmoid())
    logits, targs = learn.get_preds(logits=True)
    assert capsys.readouterr().out.count('activation=learn.activation') == 1
    probs = learn.activation(logits)
    thresh = round(probs.median().item(), 3)
    def given(**how):
        report = label_report(logits, targs, learn.data.classes, thresh, **how)
        return (report.tp + report.fp).sum()
    assert given(activation=activation) == given(activation=learn.activation) == (probs > thresh).sum() != given()
    recall = plot_thresholds(logits, targs, activation=learn.activation).lines[1].get_ydata()
    plt.close('all')
    assert recall[19] == pytest.approx((probs > .2)[targs.bool()].float().mean().item())
    def score(thresh): return fbeta(probs, targs, thresh, activation='none').item()
    assert score(best_thresh(logits, targs, activation=learn.activation)) == max(score(i/100) for i in range(1, 100))
    monkeypatch.setattr(thresholds, 'bootstrap_ci', lambda scores: (0., 1.))     # seconds
    assert compare_rules(logits, targs, folds=2, activation=learn.activation).same_tiles['0.2'] == pytest.approx(score(.2))


def test_the_order_that_counts_is_that_of_the_probabilities():
    "A tile's softmax looks at its other labels, so tiles stand in another order."
    logits, targs = torch.tensor([[3., 9.], [2., -9.]]), torch.tensor([[0., 1.], [1., 0.]])
    assert label_report(logits, targs, 'ab').average_precision['a'] == .5
    assert label_report(logits, targs, 'ab', activation='softmax').average_precision['a'] == 1


def test_a_word_about_probabilities_only_where_the_sigmoid_is_taken(tmp_path, capsys):
    "By name, by function and by default; not of a network that ends with a sigmoid of its own, and says so."
    learn = little_of(flights(tmp_path), loss_func=nn.BCELoss())
    learn.model.append(nn.Sigmoid())
    capsys.readouterr()
    top_losses(learn)
    outputs, targs = learn.get_preds()
    top_losses(learn, (outputs, targs))
    for activation in ('none', learn.activation): label_report(outputs, targs, learn.data.classes, activation=activation)
    assert not capsys.readouterr().out
    for activation in ('sigmoid', torch.sigmoid):
        label_report(outputs, targs, learn.data.classes, activation=activation)
        assert "activation='none' where the network gives probabilities" in capsys.readouterr().out
    with pytest.raises(ValueError, match="'sigmiod'; give one of sigmoid, softmax, none"): label_report(outputs, targs, learn.data.classes, activation='sigmiod')


# ---- plots -----------------------------------------------------------------------------------------------------------

def test_dollars_in_labels_and_names(tmp_path):
    "Two of them are two of them, and no formula: not a broken one that ends the plot, nor one that changes the text."
    names, odd = ['a$b$', r'$\frac$', 'c'], r'$\x{_$'
    targs = torch.eye(3).repeat(5, 1)
    report = label_report(torch.randn(15, 3), targs, names)
    plt.figure()
    axes = [plot_matrices(report)[0, 0], plot_co_occurrence(co_occurrence(targs, targs, names)), *show_images([torch.rand(3, 9, 9)], [odd]).flat]
    shown = [axes[0].title, axes[1].get_xticklabels()[1], axes[1].get_yticklabels()[1], axes[2].title]
    for text, wanted in zip(shown, (names[0], names[1], names[1], odd)):
        text.figure.draw_without_rendering()
        assert text._preprocess_math(text.get_text()) == (wanted, False)
    plt.close('all')
