"What a score means: against which targets, of which probabilities, under which name. And what is refused instead."
import copy, pickle
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from planet_course.answers import tta
from planet_course.data import activations
from planet_course.core import imagenet_stats
from planet_course.data import Category, ImageList, MultiCategory
from planet_course.tiles import RGB
from planet_course.train import activation_of, Callback, Learner, suggest_bs
from planet_course.train import accuracy, accuracy_thresh, average_precision, constant_baselines, fbeta
from planet_course.train import lr_grid, one_cycle

other_stats = (.5, .5, .5), (.25, .25, .25)


def bunch(path, stats=imagenet_stats, size=32, bs=16, delim=' ', classes=None):
    split = ImageList.from_csv(path, 'train_v2.csv', folder='train-jpg', suffix='.jpg').split_by_rand_pct(0.2)
    data = split.label_from_df(label_delim=delim, classes=classes).transform(size=size).databunch(bs=bs, device='cpu')
    return data if stats is None else data.normalize(stats)


@pytest.fixture(scope='module')
def data(tiles): return bunch(tiles)


def net(c): return nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, c))


def learner(data, **settings): return Learner(data, net(data.c), **settings)


class Loader:
    "The batches of another loader, with what it says about them."
    def __init__(self, dl, with_targets=True, **says):
        self.dl, self.with_targets = dl, with_targets
        vars(self).update(says)

    def __len__(self): return len(self.dl)

    def __iter__(self): return ((xb, yb if self.with_targets else None) for xb, yb in self.dl)


class Focal:
    "A loss of a user's own, which says nothing about its logits."
    def __call__(self, logits, targs):
        p = logits.sigmoid()
        return (F.binary_cross_entropy_with_logits(logits, targs, reduction='none')*(1 - p)**2).mean()


class Kind:
    "What a target is, as far as probabilities go."
    def __init__(self, activation): self.activation = activation


# ---- which loader may be scored

def test_tiles_without_labels_are_predicted_and_not_scored(data):
    learn = learner(data, metrics=[fbeta])
    blank = Loader(data.valid_dl, False, has_targets=False, classes=data.classes)
    with pytest.raises(ValueError, match='no targets.*get_preds'): learn.validate(blank)
    probs, targs = learn.get_preds(blank)
    assert targs is None and torch.equal(probs, learn.get_preds()[0])
    silent = Loader(data.valid_dl, False)       # a loader that is not ours, and says nothing
    for metrics in ([fbeta], []):
        learn.metrics = metrics
        with pytest.raises(ValueError, match='no targets'): learn.validate(silent)


class Mixed(Loader):
    "A loader of ours in two halves: a batch with targets, and the same without."
    def __init__(self, dl, labelled_first): self.dl, self.labelled_first = dl, labelled_first

    def __len__(self): return 2*len(self.dl)

    def __iter__(self):
        for first in (True, False):
            yield from ((xb, yb if first == self.labelled_first else None) for xb, yb in self.dl)


@pytest.mark.parametrize('labelled_first, said', [(True, 'batch 1 has no targets, those before it have targets'), (False, 'batch 1 has targets, those before it have none')])
def test_a_loader_with_some_targets_is_neither_scored_nor_predicted(data, labelled_first, said):
    learn = learner(data)
    for call in (learn.validate, learn.get_preds, partial(tta, learn)):
        with pytest.raises(ValueError, match=said): call(Mixed(data.valid_dl, labelled_first))


@pytest.mark.parametrize('call', ['validate', 'get_preds'])
def test_a_loader_whose_columns_mean_something_else_is_refused(data, call):
    learn = learner(data)
    swapped = Loader(data.valid_dl, classes=data.classes[::-1])
    with pytest.raises(ValueError, match='classes=learn.data.classes'): getattr(learn, call)(swapped)
    dull = Loader(data.valid_dl, stats=None)
    with pytest.raises(ValueError, match=r'normalised not at all.*\.normalize\(imagenet_stats\)'): getattr(learn, call)(dull)
    with pytest.raises(TypeError, match="'valid' is no loader: give data.valid_dl"): getattr(learn, call)('valid')


def test_a_loader_of_another_kind_is_not_scored(data):
    with pytest.raises(ValueError, match='kind Category.*MultiCategory'): learner(data).validate(Loader(data.valid_dl, kind=Category))


def test_loaders_of_the_same_tiles_are_taken(data, tiles):
    learn, again = learner(data), bunch(tiles, size=64)
    assert learn.validate(data.valid_dl) == learn.validate() and learn.validate(again.valid_dl)['valid_loss'] > 0


def test_a_training_loader_is_neither_predicted_nor_scored(data):
    "Its tiles come in random order, augmented, and the last ones not at all; the loader that is named has them all."
    learn = learner(data)
    for call in (learn.validate, learn.get_preds, partial(tta, learn)):
        with pytest.raises(ValueError, match=r'random order.*data\.test_dl\(data\.train_ds\)'): call(data.train_dl)
    in_order = data.test_dl(data.train_ds)
    assert torch.equal(learn.get_preds(in_order)[1], data.train_ds.targets) and learn.validate(in_order) == learn.validate(in_order)
    assert in_order.files == list(data.train_ds.x.files)


# ---- data that a model cannot go on with

@pytest.mark.parametrize('ours, theirs, cure', [
    (imagenet_stats, None, r'\.normalize\(imagenet_stats\)'), (imagenet_stats, other_stats, r'\.normalize\(imagenet_stats\)'),
    (other_stats, imagenet_stats, r'\.normalize\(learn\.data\.stats\)'), (None, imagenet_stats, r'no \.normalize\(\)')])
def test_larger_tiles_must_be_normalised_alike(tiles, ours, theirs, cure):
    learn = learner(bunch(tiles, ours))
    with pytest.raises(ValueError, match=cure): learn.data = bunch(tiles, theirs, size=64)
    learn.data = bunch(tiles, ours, size=64)
    assert str(learn.data.size) == '64'


def test_other_kinds_and_channels_are_refused(data):
    learn, facts = learner(data), dict(classes=data.classes, stats=data.stats, device='cpu')
    with pytest.raises(ValueError, match='kind Category.*MultiCategory'): learn.data = SimpleNamespace(kind=Category, **facts)
    with pytest.raises(ValueError, match='4 channels'): learn.data = SimpleNamespace(kind=MultiCategory, format=RGB._replace(channels=4), **facts)
    assert learn.data is data


# ---- logits and probabilities

@pytest.mark.parametrize('loss, kind, given, name', [
    (nn.BCEWithLogitsLoss(), None, None, 'sigmoid'), (F.binary_cross_entropy_with_logits, None, None, 'sigmoid'),
    (partial(F.cross_entropy, label_smoothing=.1), None, None, 'softmax'), (nn.MSELoss(), Kind('sigmoid'), None, 'none'),
    (Focal(), Kind('sigmoid'), None, 'sigmoid'), (Focal(), Kind('softmax'), None, 'softmax'),
    (nn.BCELoss(), Kind('sigmoid'), None, 'none'), (nn.BCEWithLogitsLoss(), Kind('sigmoid'), 'none', 'none')])
def test_who_says_what_logits_mean(loss, kind, given, name):
    assert activation_of(loss, kind, given) is activations[name]


def test_a_loss_may_say_it_itself_and_nobody_is_named(capsys):
    loss = Focal()
    assert activation_of(loss) is activations['none'] and 'Focal does not say' in capsys.readouterr().out
    loss.activation = 'softmax'
    assert activation_of(loss, Kind('sigmoid')) is activations['softmax'] and not capsys.readouterr().out
    assert activation_of(loss, None, torch.tanh) is torch.tanh
    with pytest.raises(ValueError, match="'sigmiod'; give one of sigmoid, softmax, none"): activation_of(loss, None, 'sigmiod')


@pytest.mark.parametrize('loss', [Focal(), F.binary_cross_entropy_with_logits])
def test_probabilities_with_any_loss(data, loss):
    learn = learner(data, loss_func=loss, activation='sigmoid')
    learn.fit(1, .1)
    logits, _ = learn.get_preds(logits=True)
    assert torch.equal(learn.get_preds()[0], logits.sigmoid())
    learn.activation = lambda logits: logits.sigmoid()/2
    assert torch.equal(learn.get_preds()[0], logits.sigmoid()/2)
    with pytest.raises(ValueError, match='give one of'): learner(data, activation='logistic')


def test_a_metric_with_another_activation_than_the_learner_is_named(data, capsys):
    learner(data, activation='none', metrics=[fbeta])
    assert 'fbeta takes sigmoid of the logits, the learner as_they_are' in capsys.readouterr().out
    learner(data, activation='none', metrics=[partial(fbeta, activation='none')])
    learner(data, metrics=[fbeta])
    assert not capsys.readouterr().out
    learner(data, thresh=.3, metrics=[fbeta])       # its default
    assert 'fbeta uses thresh=0.2, the learner predicts at 0.3' in capsys.readouterr().out


def set_later(o, name, value):
    "On a learner, as a user does: an attribute, or one more metric."
    if name == 'append': o.metrics.append(value)
    else: setattr(o, name, value)


@pytest.mark.parametrize('name, value, said', [
    ('activation', 'softmax', 'fbeta takes sigmoid of the logits, the learner softmax'), ('thresh', .4, 'fbeta uses thresh=0.2, the learner predicts at 0.4'),
    ('metrics', [partial(fbeta, thresh=.5)], 'fbeta uses thresh=0.5'), ('metrics', partial(fbeta, thresh=.5), 'fbeta uses thresh=0.5'),
    ('append', partial(fbeta, thresh=.5), 'fbeta uses thresh=0.5'), ('loss_func', nn.CrossEntropyLoss(), 'CrossEntropyLoss is for one label a tile')])
@pytest.mark.parametrize('use', [lambda o: o.validate(), lambda o: o.get_preds(), lambda o: o.fit(1, 1e-3), lambda o: o.lr_find(num_it=2)], ids=['validate', 'get_preds', 'fit', 'lr_find'])
def test_what_is_set_later_is_looked_at_before_it_is_used(data, capsys, name, value, said, use):
    learn = learner(data, metrics=[fbeta])
    learn.validate()
    assert not capsys.readouterr().out
    set_later(learn, name, value)
    for times in (1, 0):        # named once, not in each epoch
        use(learn)
        assert capsys.readouterr().out.count(said) == times


@pytest.mark.parametrize('name, value, error, said', [('metrics', [.5], TypeError, '0.5 is no metric'), ('append', .5, TypeError, '0.5 is no metric'),
                                                      ('thresh', 40, ValueError, 'thresh=40 is no probability'), ('thresh', [.2, .3], ValueError, 'one for each of the')])
def test_what_is_wrong_is_refused_later_as_at_first(data, name, value, error, said):
    learn = learner(data)
    set_later(learn, name, value)
    for use in (learn.validate, partial(learn.fit, 1), learn.lr_find):
        with pytest.raises(error, match=said): use()
    assert not learn.recorder.records


# ---- metrics

def test_probabilities_where_logits_are_wanted_are_named_in_one_line(capsys):
    logits, targs = torch.tensor([[3., -3], [-3, 3]]), torch.tensor([[1., 0], [0, 1]])
    assert fbeta(logits, targs) == 1 and not capsys.readouterr().out
    assert fbeta(logits.sigmoid(), targs) < 1
    said = capsys.readouterr().out
    assert said.count('\n') == 1 and 'are they probabilities?' in said and 'logits=True' in said
    assert fbeta(logits.sigmoid(), targs, activation='none') == 1 and accuracy_thresh(logits.sigmoid(), targs, activation='none') == 1
    average_precision(logits.sigmoid(), targs)      # only the order counts
    assert not capsys.readouterr().out


@pytest.mark.parametrize('activation', ['sigmoid', torch.sigmoid, nn.Sigmoid(), lambda logits: 1/(1 + torch.exp(-logits))], ids=['name', 'torch', 'module', 'own'])
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_the_sigmoid_is_known_by_what_it_does(capsys, activation, dtype):
    probs, targs = torch.tensor([[.9, .1], [.2, .8]], dtype=dtype), torch.eye(2)
    for metric in (fbeta, accuracy_thresh):
        metric(10*probs - 5, targs, activation=activation)
        assert not capsys.readouterr().out
        metric(probs, targs, activation=activation)
        assert 'are they probabilities?' in capsys.readouterr().out


@pytest.mark.parametrize('activation', ['none', 'softmax', lambda probs: probs**.8, lambda probs: probs > .5], ids=['none', 'softmax', 'own', 'decided'])
def test_probabilities_for_another_function_than_the_sigmoid_are_nothing_odd(capsys, activation):
    fbeta(torch.tensor([[.9, .1], [.2, .8]]), torch.eye(2), activation=activation)
    fbeta(torch.eye(2, dtype=torch.bool), torch.eye(2), activation='none')
    assert not capsys.readouterr().out


def test_missing_targets_are_named():
    logits = torch.randn(4, 3)
    for call in (fbeta, accuracy_thresh, average_precision):
        with pytest.raises(ValueError, match='no targets'): call(logits, None)
    with pytest.raises(ValueError, match='one column a class'): constant_baselines(None, list('abc'))
    with pytest.raises(ValueError, match='one column a class'): constant_baselines(torch.ones(4, 3), list('abc'), torch.ones(4, 4))


def test_a_threshold_for_each_label():
    logits, targs = torch.randn(50, 3), (torch.rand(50, 3) > .5).float()
    alike = fbeta(logits, targs, .3)
    assert fbeta(logits, targs, [.3, .3, .3]) == fbeta(logits, targs, torch.full((3,), .3, dtype=torch.float64)) == alike
    for wrong in ([.3, .3], [.3, .3, 1.5], torch.full((50, 1), .3)):
        with pytest.raises(ValueError, match='thresh'): fbeta(logits, targs, wrong)


def test_thresholds_follow_the_logits():
    "What a GPU would show, on a device that computes nothing: a CPU vector is moved."
    logits = targs = torch.empty(50, 3, device='meta')
    assert fbeta(logits, targs, torch.full((3,), .3)).is_meta and accuracy_thresh(logits, targs, [.1, .2, .3]).is_meta


class Counting:
    "An object that counts, as in other libraries: it must be moved by hand."
    def __init__(self): self.n = torch.zeros(())

    def to(self, device): self.n = self.n.to(device)        # and gives nothing back

    def reset(self): self.n.zero_()

    def update(self, logits, targs): self.n += (logits.argmax(1) == targs.argmax(1)).sum()

    def compute(self): return self.n


def on(device, data):
    settings = dict(loss_func=nn.BCEWithLogitsLoss(pos_weight=torch.ones(data.c)), metrics=[Counting(), partial(fbeta, thresh=torch.full((data.c,), .2))])
    return Learner(data, net(data.c), thresh=[.2]*data.c, opt_func=partial(torch.optim.SGD, lr=.1), **settings)


def test_losses_and_metrics_move_to_the_device():
    learn = on('meta', SimpleNamespace(device='meta', classes=list('abc'), c=3, train_dl=[], valid_dl=None))
    assert learn.loss_func.pos_weight.is_meta and learn.metrics[0].n.is_meta and learn.metrics[1].keywords['thresh'].is_meta
    learn.loss_func = nn.BCEWithLogitsLoss(pos_weight=torch.ones(3))
    learn.metrics.append(Counting())
    with pytest.raises(ValueError, match='nothing to validate on'): learn.validate()
    assert learn.loss_func.pos_weight.is_meta and learn.metrics[2].n.is_meta


@pytest.mark.skipif(not torch.cuda.is_available(), reason='no GPU')
def test_losses_and_metrics_on_a_gpu(tiles):
    data = ImageList.from_csv(tiles, 'train_v2.csv', folder='train-jpg', suffix='.jpg').split_by_rand_pct(0.2)
    data = data.label_from_df(label_delim=' ').transform(size=32).databunch(bs=16, device='cuda').normalize(imagenet_stats)
    learn = on('cuda', data)
    learn.fit(1, 1e-2)
    assert set(learn.recorder.fits[-1].metrics[0]) == {'Counting', 'fbeta'}


def test_a_partial_keeps_the_name_that_it_was_given(data):
    f2 = partial(fbeta, thresh=torch.full((data.c,), .2))
    f2.__name__ = 'F2'
    assert learner(data, metrics=[f2]).metrics[0].__name__ == 'F2'


# ---- before the first epoch

def needs_three(a, b, c): return a

def of_every_label(logits, targs): return targs.sum(0)

def picky(logits, targs):
    if len(targs) < 5: raise ValueError('only one class is there')
    return targs.mean()


@pytest.mark.parametrize('metric, exc, name', [(needs_three, TypeError, 'needs_three'), (accuracy, ValueError, 'accuracy'), (of_every_label, ValueError, 'of_every_label')])
def test_a_wrong_metric_is_named_before_anything_is_trained(data, metric, exc, name):
    learn = learner(data, metrics=[fbeta, metric])
    before = {k: v.clone() for k, v in learn.model.state_dict().items()}
    with pytest.raises(exc) as e: learn.fit(1, 1e-2)
    notes = ''.join(e.value.__notes__)
    assert f'metric {name}' in str(e.value) + notes and 'tried on two training tiles' in notes and not learn.recorder.fits
    assert all(torch.equal(v, before[k]) for k, v in learn.model.state_dict().items())


def test_a_metric_may_want_more_than_two_tiles(data, capsys):
    learn = learner(data, metrics=[picky])
    learn.fit(1, 1e-2)
    assert 'metric picky was tried on two training tiles before the first step and said: only one' in capsys.readouterr().out
    assert 0 < learn.recorder.fits[-1].metrics[0]['picky'] < 1


def wants_text(logits, targs): raise ValueError("can't handle a mix of continuous and multilabel targets")

def wants_positives(logits, targs): return 1/(targs[:, 0] == targs.shape[1]).sum().item()

class Counts:
    def reset(self): self.n = 0
    def update(self, logits, targs): self.n += len(targs)
    def compute(self): raise IndexError('no row for the class haze')


@pytest.mark.parametrize('metric, exc, name', [(wants_text, ValueError, 'wants_text'), (wants_positives, ZeroDivisionError, 'wants_positives'),
                                               (Counts(), IndexError, 'Counts')])
def test_a_metric_of_another_library_that_cannot_work_is_named_before_anything_is_trained(data, metric, exc, name):
    "Two tiles may be too few for it; all validation tiles are not."
    learn = learner(data, metrics=[fbeta, metric])
    before = {k: v.clone() for k, v in learn.model.state_dict().items()}
    with pytest.raises(exc) as e: learn.fit(1, 1e-2)
    assert f'metric {name} raised this' in e.value.__notes__[0] and 'all validation tiles before the first step; nothing was trained' in e.value.__notes__[1]
    assert not learn.recorder.fits and all(torch.equal(v, before[k]) for k, v in learn.model.state_dict().items())


@pytest.mark.parametrize('odd', [lambda logits, targs: logits.max() < 3, lambda logits, targs: logits.max() > 3])
def test_a_metric_that_dislikes_a_networks_first_answers_is_not_refused(data, odd):
    "Or that dislikes random ones: it is refused when it has no answer for either."
    asked = []
    def fussy(logits, targs):
        asked.append(len(targs))
        if len(asked) < 4 and (len(targs) < 5 or odd(logits, targs)): raise RuntimeError('not these')
        return targs.mean()
    learn = learner(data, metrics=[fussy])
    learn.fit(1, 1e-2)
    assert learn.recorder.fits and asked[:2] == [2, len(data.valid_ds)]


def test_an_error_of_a_metric_after_an_epoch_is_named(data):
    asked = []
    def tires(logits, targs):
        asked.append(1)
        return targs.mean() if len(asked) < 2 else 1/0
    with pytest.raises(ZeroDivisionError) as e: learner(data, metrics=[tires]).fit(1, 1e-2)
    assert e.value.__notes__ == ['metric tires raised this.']


@pytest.mark.parametrize('metric', [fbeta, picky])
def test_trying_metrics_changes_no_loss(data, metric):
    def losses(**settings):
        torch.manual_seed(0)
        learn = learner(data, **settings)
        learn.fit(2, 1e-2)
        return learn.recorder.fits[-1].losses
    assert losses(metrics=[metric]) == losses()


def test_one_tile_in_a_batch(tiles):
    data = bunch(tiles, bs=1)
    model = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.BatchNorm1d(3), nn.Linear(3, data.c))
    for call in (lambda: Learner(data, model).fit(1, 1e-3), lambda: Learner(data, model).lr_find(num_it=3)):
        with pytest.raises(ValueError, match=r'^a batch of one tile.*databunch\(bs=2\).*drop_last=True'): call()


def test_a_loss_must_be_one_number(data):
    with pytest.raises(ValueError, match="reduction='mean'"): learner(data, loss_func=nn.BCEWithLogitsLoss(reduction='none'), activation='sigmoid').fit(1)


@pytest.mark.parametrize('call, text', [
    (lambda o: o.fit_one_cycle('2'), "epochs is '2'; it is a whole number"), (lambda o: o.fit(float('nan')), 'epochs is nan'),
    (lambda o: o.fit(1, wd='0.01'), "wd is '0.01'"), (lambda o: o.fit(1, wd=-1), 'wd is -1'), (lambda o: o.lr_find(wd=float('nan')), 'wd is nan'),
    (lambda o: o.fit_one_cycle(1, moms=.9), 'two numbers'), (lambda o: o.fit_one_cycle(1, moms=(.9,)), 'two numbers'),
    (lambda o: one_cycle(10, 1e-3, div_factor=float('nan')), 'div_factor=nan'), (lambda o: lr_grid(num_it=2.5), 'num_it=2.5')])
def test_numbers_that_are_none_are_named(data, call, text):
    learn = learner(data)
    with pytest.raises(ValueError, match=text): call(learn)
    assert not learn.recorder.fits


# ---- names

class Stop(Callback):
    def after_batch(self, learn): raise KeyboardInterrupt

class Broken(Callback):
    def before_fit(self, learn): raise RuntimeError('broken')


def test_a_stage_is_kept_under_its_name(data):
    learn = learner(data)
    learn.fit(1, 1e-2, stage='stage-1')
    learn.fit_one_cycle(2, 1e-2, stage='stage-2')
    learn.fit(1, 1e-2)
    first, second, _ = learn.recorder.fits
    assert learn.recorder.stages == {'stage-1': first, 'stage-2': second}
    with pytest.raises(KeyboardInterrupt): learn.fit(1, 1e-2, stage='stage-2', callbacks=[Stop()])
    assert list(learn.recorder.stages) == ['stage-1']       # the model is no longer the one of the finished stage
    learn.fit(1, 1e-2, stage='stage-2')
    assert learn.recorder.stages['stage-2'] is learn.recorder.fits[-1]
    assert len(learn.recorder.stages['stage-2'].valid_losses) == 1


def test_a_fit_that_took_no_step_hides_no_other(data):
    learn = learner(data)
    learn.fit(1, 1e-2)
    with pytest.raises(RuntimeError): learn.fit(1, 1e-2, callbacks=[Broken()])
    assert len(learn.recorder.plot_losses().lines[0].get_ydata()) == len(data.train_dl)
    assert len(learn.recorder.fits) == 1


@pytest.mark.parametrize('fails', [dict(callbacks=[Broken()]), dict(metrics=[needs_three])], ids=['callback', 'metric'])
def test_a_fit_that_took_no_step_leaves_the_finished_stage(data, fails):
    learn = learner(data)
    learn.fit(1, 1e-2, stage='s1')
    learn.metrics = fails.pop('metrics', [])
    with pytest.raises((RuntimeError, TypeError)): learn.fit(1, 1e-2, stage='s1', **fails)
    assert learn.recorder.stages == {'s1': learn.recorder.fits[0]}


def test_a_stage_is_named_by_text(data):
    learn = learner(data)
    for run in (learn.fit, learn.fit_one_cycle):
        for odd in (['a'], 1, None):
            with pytest.raises(ValueError, match="a fit's name is text, as 'stage-1-128'"): run(1, 1e-2, stage=odd)
    assert not learn.recorder.records and learn.recorder.stages == {}


def test_older_names_lead_to_todays(data):
    learn = learner(data, metrics=[fbeta])
    calls = dict(predict='predict(learn, tile)', export='export_model(learn, file)', to_fp16="precision='fp16'", TTA='tta(learn)', show_results='show_top_losses')
    for old, today in calls.items():
        with pytest.raises(AttributeError) as e: getattr(learn, old)
        assert today in str(e.value) and not hasattr(learn, old)
    with pytest.raises(AttributeError, match=r'today it is recorder.plot\(\)'): learn.recorder.plot_lr_find
    with pytest.raises(AttributeError, match="no attribute 'nonsense'.$"): learn.nonsense
    with pytest.raises(TypeError, match="data.test_dl()"): learn.get_preds(ds_type="test")
    for other in (copy.copy(learn), copy.deepcopy(learn), pickle.loads(pickle.dumps(learner(bunch(data.path))))): assert other.get_preds()[0].shape == (12, data.c)
    assert copy.deepcopy(learn.recorder).records == []


def test_a_learner_says_what_it_is(data):
    text = repr(learner(data, metrics=[fbeta], arch='resnet18'))
    assert all(word in text for word in ('resnet18', f'{data.c} classes', '3 training', '0.485', 'BCEWithLogitsLoss', 'fbeta', 'cpu', '0 fits'))


# ---- how many tiles fit

def test_no_batch_is_larger_than_the_tiles_there_are(data, capsys):
    assert suggest_bs(learner(data), memory=10**12) == 32       # of 48
    assert 'there are 48 training tiles' in capsys.readouterr().out


def test_free_memory_is_read_when_the_tiles_are_there(tiles, monkeypatch):
    data, seen = bunch(tiles), []
    def free(device):
        seen.append('tiles' in vars(data.source))
        return 10**9
    monkeypatch.setattr('planet_course.train.finder.free_memory', free)
    suggest_bs(learner(data))
    assert seen == [True]


def test_a_loss_for_one_label_is_named_where_tiles_have_several(capsys):
    facts = dict(device='cpu', classes=list('abc'), train_dl=[], valid_dl=None)
    Learner(SimpleNamespace(kind=Kind('sigmoid'), **facts), net(3), nn.CrossEntropyLoss())
    assert 'CrossEntropyLoss is for one label a tile' in capsys.readouterr().out
    Learner(SimpleNamespace(kind=Kind('softmax'), **facts), net(3), nn.CrossEntropyLoss())
    assert not capsys.readouterr().out


@pytest.mark.parametrize('given, said', [
    (dict(model='resnet18'), r"create_cnn\(data, 'resnet18'\)"), (dict(model=net), r'net makes a network, .*Learner\(data, net\(...\)\)'),
    (dict(model=nn.Linear), 'Linear makes a network'), (dict(model=None), 'a NoneType is no network'),
    (dict(metrics=nn.L1Loss), r'L1Loss is a class, and no metric yet: L1Loss\(\) makes one'), (dict(metrics=[fbeta, partial(nn.L1Loss)]), 'L1Loss is a class'),
    (dict(metrics='fbeta'), "'fbeta' is no metric"), (dict(metrics={'f2': fbeta}), 'is no metric'),
    (dict(loss_func='bce'), r"'bce' is no loss: .* such as nn.BCEWithLogitsLoss\(\)"), (dict(loss_func=nn.BCEWithLogitsLoss), r'BCEWithLogitsLoss\(\) makes one')])
def test_what_no_learner_can_be_made_of_is_named(data, given, said):
    with pytest.raises(TypeError, match=said): Learner(data, **{'model': net(data.c), **given})


def test_lists_that_give_no_batches_are_no_data(data):
    "For a learner, and as its new data."
    with pytest.raises(TypeError, match=r'this LabelLists gives no batches yet.*src.transform\(size=128\).databunch\(\)'): Learner(data.lists, net(data.c))
    with pytest.raises(TypeError, match=r'this Sequential is no data .*Learner\(data, net\)'): Learner(net(data.c), data)
    with pytest.raises(TypeError, match='LabelLists gives no batches yet'): learner(data).data = data.lists
    silent = SimpleNamespace(device='cpu', classes=list('abc'), train_dl=[], valid_dl=None)
    with pytest.raises(TypeError, match='None is no loss'): Learner(silent, net(3))


@pytest.mark.parametrize('targs, name', [(None, 'NoneType'), ((torch.zeros(2, 4), torch.zeros(2)), 'tuple')])
def test_targets_that_are_no_tensor_are_named(targs, name):
    learn = Learner(SimpleNamespace(device='cpu', classes=list('abc'), train_dl=[(torch.zeros(2, 3, 8, 8), targs)], valid_dl=None), net(3), Focal(), activation='sigmoid')
    with pytest.raises(TypeError, match=f'targets of a batch are a {name}'): learn.fit(1)
