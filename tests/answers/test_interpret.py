"""Which tile it is, what a correction says and to whom, and reports that are given something else than they ask for."""
import csv, os

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

from planet_course.data import as_they_are
from planet_course.core import show_images
from planet_course.data import ImageList
from planet_course.answers import (add_correction, best_thresh, bootstrap_ci, co_occurrence, compare_rules, label_report, plot_co_occurrence,
                                   plot_matrices, plot_thresholds, read_corrections, show_top_losses, tag_delim, tiles_of, top_losses,
                                   with_corrections)
from planet_course.train import Learner


def flights(path, labels=('clear', 'haze', 'clear haze'), delim=' '):
    "Nine tiles: 1.jpg, 2.jpg and 3.jpg of three flights each; the same labels in each flight."
    names = [f'{flight}/{i}.jpg' for flight in (3, 7, 9) for i in (1, 2, 3)]
    for k, name in enumerate(names):
        (path/name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((40, 40, 3), 20*k, np.uint8)).save(path/name)
    df = pd.DataFrame(dict(name=names, tags=[*labels]*3))
    return ImageList.from_df(df, path).split_by_idx([0, 3, 4, 6, 7, 8]).label_from_df(label_delim=delim)


def little(lists, **more):
    data = lists.transform(size=32).databunch(bs=2, device='cpu')
    torch.manual_seed(0)
    return Learner(data, nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, data.c)), **more)


def fix(image_name, actual): return pd.DataFrame(dict(image_name=image_name, actual=actual))


def label_of(lists, tile): return lists.labels[lists.items.ids.index(tile)]


# ---- which tile ------------------------------------------------------------------------------------------------------

def test_a_correction_reaches_the_tile_that_is_meant(tmp_path):
    "Three tiles are called 1.jpg: one of them is relabelled and trained on, the others stay as they were."
    lists = flights(tmp_path)
    new = with_corrections(lists, fix(['3/1.jpg'], ['haze']), reviewed=['9/2.jpg'], mix=0.)
    assert [label_of(new, f'{flight}/1.jpg') for flight in (3, 7, 9)] == [('haze',), ('clear',), ('clear',)]
    assert new.train.x.ids == ['3/1.jpg'] and new.train.labels == (('haze',),)
    assert new.valid.x.ids == ['7/1.jpg', '7/2.jpg', '9/1.jpg', '9/3.jpg']


def test_a_name_that_fits_several_tiles_is_refused(tmp_path):
    "Corrected or reviewed; a bare name that one tile has will do."
    lists = flights(tmp_path)
    for args in ((fix(['1'], ['haze']),), (fix(['3/1.jpg'], ['haze']), ['2'])):
        with pytest.raises(ValueError, match=r'may be 3/.\.jpg or 7/.\.jpg or 9/.\.jpg'): with_corrections(lists, *args)
    one = flights(tmp_path).items._rows([0, 4, 8]).split_by_idx([0]).label_from_df(label_delim=' ')
    assert label_of(with_corrections(one, fix(['2'], ['clear'])), '7/2.jpg') == ('clear',)


def test_a_tile_that_is_named_in_two_ways(tmp_path):
    "In a file that is older than its last records: the last word counts, and the tile is trained on once."
    lists = flights(tmp_path).items._rows([0, 4, 8]).split_by_idx([0]).label_from_df(label_delim=' ')
    new = with_corrections(lists, fix(['2', '7/2.jpg', '1', '2'], ['haze', 'clear', 'haze', 'clear haze']), mix=0.)
    assert label_of(new, '7/2.jpg') == ('clear', 'haze') and sorted(new.train.x.ids) == ['3/1.jpg', '7/2.jpg']


def test_the_worst_tiles_are_named_by_their_path(tmp_path):
    "And found again by it, however the table was sorted, numbered or kept; tiles of other data are not."
    learn = little(flights(tmp_path/'a'))
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
    with pytest.raises(ValueError, match='no validation tiles'): tiles_of(learn.data, fix(['3/2.jpg'], ['clear']))


def test_predictions_of_other_tiles(tmp_path):
    "As many as there are validation tiles: their targets give them away."
    learn = little(flights(tmp_path))
    logits, targs = learn.get_preds(logits=True)
    with pytest.raises(ValueError, match='of other tiles'): top_losses(learn, (logits, targs.roll(1, 0)))


# ---- corrections -----------------------------------------------------------------------------------------------------

old_file = 'image_name,predicted,actual,when\n2,clear,haze,2024-05-01T10:00:00+00:00\n'


def test_a_file_of_four_columns(tmp_path):
    "It is read, and goes on with its columns; what it has no column for is refused, and nothing is written."
    file = tmp_path/'fixes.csv'
    file.write_text(old_file)
    add_correction(file, '7/1.jpg', 'clear', 'haze')
    before = file.read_bytes()
    for more in (dict(model='resnet18'), dict(note='a track')):
        with pytest.raises(ValueError, match=f'no column for {next(iter(more))}.*another file'): add_correction(file, '7/2.jpg', 'clear', 'haze', **more)
    fixes = read_corrections(file, ['clear', 'haze'])
    assert file.read_bytes() == before and fixes.columns.tolist() == ['image_name', 'predicted', 'actual', 'when', 'model', 'note']
    assert fixes.image_name.tolist() == ['2', '7/1.jpg'] and fixes.model.tolist() == fixes.note.tolist() == ['', '']


def test_model_and_note(tmp_path):
    add_correction(tmp_path/'fixes.csv', '7/1.jpg', 'clear', 'haze', 'resnet18, 128 px', 'smoke, "not" haze?')
    row, = read_corrections(tmp_path/'fixes.csv', ['clear', 'haze']).to_dict('records')
    assert (row['model'], row['note']) == ('resnet18, 128 px', 'smoke, "not" haze?')


@pytest.mark.parametrize('begun', [False, True])
def test_a_full_disk_leaves_no_half_record(tmp_path, monkeypatch, begun):
    file = tmp_path/'fixes.csv'
    if begun: add_correction(file, '7/1.jpg', 'clear', 'haze')
    before = file.read_bytes() if begun else b''
    def full(_): raise OSError(28, 'No space left on device')
    with monkeypatch.context() as m:
        m.setattr(os, 'fsync', full)
        with pytest.raises(OSError, match='No space'): add_correction(file, '7/2.jpg', 'clear', 'haze')
    assert file.read_bytes() == before
    add_correction(file, '7/3.jpg', 'clear', 'haze')
    assert read_corrections(file, ['clear', 'haze']).image_name.tolist() == ['7/1.jpg']*begun + ['7/3.jpg']


@pytest.mark.parametrize('text', ['a\rb', 'a\nb', 'a\x1b[2Jb', 'a\udcffb', 'a\u2028b', 'a\0b'])
def test_what_would_not_be_read_back_is_refused(tmp_path, text):
    for record in ((text, 'clear', 'clear'), ('7/1.jpg', 'clear', 'clear', '', text)):
        with pytest.raises(ValueError, match='do not show'): add_correction(tmp_path/'fixes.csv', *record)
    assert not (tmp_path/'fixes.csv').exists()


@pytest.mark.parametrize('text', ['=cmd|x', '-60.1_-3.2.jpg', '+1', '@sum', "it's", "'quoted'", 'ümläut', 'a,b', 'a"b'])
def test_what_a_spreadsheet_would_compute(tmp_path, text):
    "It stands in the file as text, and is read back as it was."
    add_correction(tmp_path/'fixes.csv', text, 'clear', 'clear', note=text)
    with open(tmp_path/'fixes.csv', newline='') as f: _, row = csv.reader(f)
    assert row[0][0] not in '=+-@' and row[5][0] not in '=+-@'
    fixes = read_corrections(tmp_path/'fixes.csv', ['clear'])
    assert (fixes.image_name[0], fixes.note[0]) == (text, text)


@pytest.mark.parametrize('actual, many', [('ships', True), ('', True), (None, True), (float('nan'), True), ('clear haze', False)])
def test_corrections_that_no_tile_can_have(tmp_path, actual, many):
    "Unknown, none, missing, two where a tile has one: refused, and the tile is named."
    lists = flights(tmp_path) if many else flights(tmp_path, ('clear', 'haze', 'haze'), None)
    with pytest.raises(ValueError, match='cannot be used: 3/1.jpg'): with_corrections(lists, fix(['3/1.jpg'], [actual]))


def test_old_tiles_that_are_not_there(tmp_path, capsys):
    lists = flights(tmp_path)
    new = with_corrections(lists, fix(['3/1.jpg'], ['haze']), mix=10.)
    assert len(new.train_idx) == 4 and 'asks for 10 old tiles; there are 3, ' in capsys.readouterr().out
    for mix in (-1, float('nan')):
        with pytest.raises(ValueError, match='mix is'): with_corrections(lists, fix(['3/1.jpg'], ['haze']), mix=mix)


def test_bytes_that_are_no_utf8_in_a_name(tmp_path, capsys):
    (tmp_path/'fixes.csv').write_bytes(old_file.encode() + 'tüle,clear,haze,now\n'.encode('cp1252'))
    assert len(read_corrections(tmp_path/'fixes.csv', ['clear', 'haze'])) == 1 and 'line 3: a name with bytes' in capsys.readouterr().out


def test_labels_with_blanks(tmp_path):
    "From the table of the worst tiles through a file of corrections to labels again; and in a plot."
    lists = flights(tmp_path, ('bare ground', 'haze', 'bare ground;haze'), ';')
    learn = little(lists)
    worst = top_losses(learn).set_index('image_name')
    assert worst.actual['3/1.jpg'] == 'bare ground' and worst.actual['9/3.jpg'] == 'bare ground;haze'
    add_correction(tmp_path/'fixes.csv', '3/1.jpg', worst.predicted['3/1.jpg'], worst.actual['9/3.jpg'])
    new = with_corrections(lists, read_corrections(tmp_path/'fixes.csv', lists.classes))
    assert label_of(new, '3/1.jpg') == ('bare ground', 'haze')
    titles = [ax.get_title().replace('\xa0', ' ') for ax in show_top_losses(learn.data, worst.reset_index()).flat]
    assert any('is: bare ground;haze' in title for title in titles)
    plt.close('all')
    one = flights(tmp_path, ('bare ground', 'haze', 'haze'), None)
    assert label_of(with_corrections(one, fix(['3/2.jpg'], ['bare ground'])), '3/2.jpg') == 'bare ground'
    assert tag_delim(['a b', 'c;d']) == '|'


# ---- reports ---------------------------------------------------------------------------------------------------------

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


class Focal(nn.Module):
    "A loss that nobody knows, with an activation of its own; one number for each tile if it is told so."
    def __init__(self, mean=True): super().__init__(); self.mean = mean
    def activation(self, logits): return (2*logits).sigmoid()
    def forward(self, logits, targs):
        loss = (self.activation(logits) - targs)**2
        return loss.mean() if self.mean else loss.mean(1)


def test_the_worst_tiles_of_any_loss(tmp_path):
    "Labels are predicted by the learner's activation; a loss without a mean, or with NaN, is refused."
    learn = little(flights(tmp_path), loss_func=Focal(), thresh=.5)
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


# ---- plots -----------------------------------------------------------------------------------------------------------

def test_dollars_in_labels_and_names(tmp_path):
    "Two of them are two of them, and no formula: not a broken one that ends the plot, nor one that changes the text."
    names, odd = ['a$b$', r'$\frac$', 'c'], r'$\x{_$'
    targs = torch.eye(3).repeat(5, 1)
    report, fig = label_report(torch.randn(15, 3), targs, names), plt.figure()
    axes = [plot_matrices(report)[0, 0], plot_co_occurrence(co_occurrence(targs, targs, names)), *show_images([torch.rand(3, 9, 9)], [odd]).flat]
    shown = [axes[0].title, axes[1].get_xticklabels()[1], axes[1].get_yticklabels()[1], axes[2].title]
    for text, wanted in zip(shown, (names[0], names[1], names[1], odd)):
        text.figure.draw_without_rendering()
        assert text._preprocess_math(text.get_text()) == (wanted, False)
    plt.close('all')
