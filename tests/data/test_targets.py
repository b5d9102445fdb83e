"""A label and what is done with targets of its kind are two things, and a kind is both."""
import pytest
import torch
from torch import nn

from planet_course.data import activations, Category, EmptyLabel, Label, MultiCategory, Target


@pytest.mark.parametrize('kind', [Category, MultiCategory, EmptyLabel])
def test_a_kind_is_a_label_and_a_target(kind):
    assert issubclass(kind, Label) and issubclass(kind, Target) and kind.activation in activations
    yb = torch.zeros(2)
    assert kind.batch(yb, None, 64, 64) is yb and kind.moves is False and kind.collate_fn is None


def test_labels_print_and_compare_as_what_they_are():
    one = Category('haze', ['clear', 'haze'], 'a.jpg', 64)
    several = MultiCategory(('haze', 'haze'), ['clear', 'haze'])
    assert (str(one), repr(one), str(several)) == ('haze', 'Category haze', 'haze;haze')
    assert one == Category('haze', ['clear', 'haze'], 'a.jpg', 64) != Category('haze', ['clear', 'haze'], 'b.jpg', 64)
    assert one.data == 1 and several.data.tolist() == [0, 1] and EmptyLabel('', []).data is None
    with pytest.raises(AttributeError): one.obj = 'clear'


def test_a_target_needs_no_label():
    "What a loader asks of a kind, the bare protocol has; what differs from kind to kind must be said."
    assert Target.loss_func is nn.CrossEntropyLoss and Target.batch(None, None, 1, 1) is None
    with pytest.raises(NotImplementedError, match='encode'): Target.encode([], [], [], None)
    with pytest.raises(NotImplementedError, match='draw'): Target.draw(None, None, [])
