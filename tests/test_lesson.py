"""The lesson, with the knobs that a newcomer's CPU gets: it runs in a fresh kernel, and its network learned."""
import json, os, sys

import nbformat
import pytest
from conftest import root

sys.path.insert(0, str(root/'tools'))
from run_notebook import execute, to_html

facts = '''
import json
print(json.dumps(dict(n_valid=len(data.valid_ds), f2=f2, best_constant=best_constant, fits=len(learn.recorder.fits),
                      label={k: list(map(float, by_label.loc[k])) for k in ('water', 'road', 'agriculture')},
                      saved=[(learn._file(f'stage-{i}-{size}')).exists() for i in (1, 2) for size in SIZES])))
'''


@pytest.fixture(scope='module')
def lesson():
    "The executed notebook, and what its variables say at the end."
    for knob in ('DATA', 'ARCH', 'SIZES', 'EPOCHS', 'BS', 'LR_STEPS', 'WEIGHTS', 'N_TILES', 'IN_TEST'): os.environ.pop(knob, None)
    nb = nbformat.read(root/'nbs'/'10_planet.ipynb', as_version=4)
    nb.cells.append(nbformat.v4.new_code_cell(facts))
    execute(nb, root/'nbs', live=False)
    return nb, json.loads(nb.cells[-1].outputs[-1].text)


def test_all_stages_ran_and_were_saved(lesson):
    assert lesson[1]['fits'] == 4 and all(lesson[1]['saved'])


def test_it_learned(lesson):
    "On 200 or more validation tiles, clearly better than any answer without a network; and on labels that have to be seen."
    told = lesson[1]
    assert told['n_valid'] >= 200
    assert told['f2'] >= told['best_constant'] + 0.10, told
    for label, (prevalence, precision) in told['label'].items():
        assert precision >= 2 * prevalence, f'{label}: average precision {precision:.3f}, prevalence {prevalence:.3f}'


def test_its_page_shows_tables_and_pictures(lesson, tmp_path):
    to_html(lesson[0], tmp_path/'page.html')
    page = (tmp_path/'page.html').read_text()
    assert page.count('data:image/png') >= 6 and '<th>train_loss</th>' in page
