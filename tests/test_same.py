"""`tools/same.py` sees what differs. The course itself is run by hand: here only what judges it."""
import sys

import numpy as np
import pytest
import torch
from conftest import root

sys.path.insert(0, str(root/'tools'))
import same

old = {'stages: frozen': 'losses=[0.7 0.6931471805599453 0.5]', 'answers: submission': 'image_name,tags\ntest_0,clear\n'}


def test_equal_runs_are_the_same(capsys):
    found = same.compare(old, dict(old))
    assert found == {'stages: frozen': 'same', 'answers: submission': 'same'}
    assert same.show(found) == 0
    assert '2 things compared: 0 differ' in capsys.readouterr().out


def test_one_digit_is_seen(capsys):
    found = same.compare(old, old | {'stages: frozen': 'losses=[0.7 0.6931471805599454 0.5]'})
    assert found['answers: submission'] == 'same'
    assert '0.6931471805599453 0.5' in found['stages: frozen'] and '0.6931471805599454 0.5' in found['stages: frozen']
    assert same.show(found) == 1
    assert '1 differ: stages: frozen' in capsys.readouterr().out


def test_the_place_is_found_in_a_long_text():
    told = same.verdict('x'*10_000 + '1' + 'y'*10_000, 'x'*10_000 + '2' + 'y'*10_000)
    assert 'x1y' in told and 'x2y' in told and len(told) < 250
    assert same.verdict('a', 'ab').startswith('differs')


def test_names_that_went_or_came():
    found = same.compare(old, {'stages: frozen': old['stages: frozen'], 'scores: tta': '[0.5]'})
    assert found == {'stages: frozen': 'same', 'answers: submission': 'differs: is not there any more',
                     'scores: tta': "differs: was not there, '[0.5]' now"}


def test_what_broke_off_is_never_the_same():
    "Two runs that fail in the same way have shown nothing."
    failed = {'stages: to its end': 'broke off: TypeError: no (learner.py, line 3)'}
    assert same.show(same.compare(failed, failed)) == 1


def test_older_files_may_be_refused_with_words_of_ours(capsys):
    held = {'model_file: labels': '[clear]', 'cache_folder: size 32': '[float32 (9,) 12ab]', 'cache_folder: made anew': '0'}
    read = held | {'cache_folder: made anew': '3'}
    assert same.show(same.read_back(held, read)) == 0
    assert same.show(same.read_back(held, held | {'model_file: labels': '[cloudy]'})) == 1
    refused = {'model_file: to its end': 'broke off: ValueError: format 1 is older. Write it again. (a.py, line 3)'}
    assert same.show(same.read_back(held, refused)) == 0
    assert 'refused: ValueError: format 1 is older. Write it again.' in capsys.readouterr().out
    assert same.show(same.read_back(held, {'model_file: to its end': "broke off: KeyError: 'size' (a.py, line 3)"})) == 1


def test_a_commit_is_there_while_it_is_needed(tmp_path):
    if not (root/'.git').exists():
        pytest.skip('commits: no git repository here')
    commit = same.git('rev-parse', 'HEAD')
    with same.checked_out(commit, tmp_path/'older') as tree:
        assert (tree/'settings.ini').is_file()
    assert not (tmp_path/'older').exists() and str(tmp_path/'older') not in same.git('worktree', 'list')
    assert same.git('merge-base', 'HEAD', same.branching_point()) == same.branching_point()


def test_texts_are_exact():
    "Floats keep all digits; a tensor's text changes with one bit, its type and its shape."
    from course import exact
    x = torch.arange(6.)
    y = x.clone()
    y[3] = torch.nextafter(y[3], torch.tensor(9.))
    assert exact(x) == exact(x.clone())
    assert len({exact(t) for t in (x, y, x.double(), x.view(2, 3), x.flip(0))}) == 5
    turned = x.view(2, 3).T
    assert exact(turned) == exact(turned.contiguous()) != exact(x.view(2, 3))
    assert exact([0.1 + 0.2, 'a', None, np.float64(0.1)]) == '[0.30000000000000004 a None 0.1]'
    assert exact({'a': (1, True)}) == 'a=[1 True]'
