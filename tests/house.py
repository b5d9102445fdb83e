"""The house: parts are folders of chapters, and each chapter is a module of the sub-package of that name."""
import json, re
from pathlib import Path

root = Path(__file__).parents[1]
parts = ['', 'tiles', 'get', 'data', 'train', 'nets', 'answers', 'closer']     # a part imports from itself and from parts before it
last = ['cli', 'compat']                                                            # chapters at the top that come after all parts
chapters = sorted(p for p in (root/'nbs').rglob('*.ipynb') if '.ipynb_checkpoints' not in p.parts)
modules = sorted(p for p in (root/'planet_course').rglob('*.py') if not p.name.startswith('_'))


def cells(file):
    return json.loads(file.read_text(encoding='utf-8'))['cells']


def exported(file):
    "The sources of a chapter's export cells, without the word to nbdev."
    code = [''.join(cell['source']) for cell in cells(file) if cell['cell_type'] == 'code']
    return [source.partition('\n')[2] for source in code if source.startswith('#| export')]


def module_of(chapter):
    "Its name below the package, as `tiles.cache`; None for a chapter that exports nothing."
    found = re.search(r'^#\| default_exp ([\w.]+)', '\n'.join(''.join(cell['source']) for cell in cells(chapter)), flags=re.M)
    return found and found[1]


def place(chapter):
    "What a chapter may import from: everything that has a smaller place."
    folder, name = chapter.parent.name if chapter.parent.name != 'nbs' else '', chapter.stem
    return (len(parts), name) if name[3:] in last else (parts.index(folder), name)


order = [module_of(file) for file in sorted(chapters, key=place) if module_of(file)]
