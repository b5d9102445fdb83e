"""The repository keeps its own rules: notebooks, module, README and packaging agree."""
import ast, importlib, json, os, re, shutil, subprocess, sys, tomllib
from configparser import ConfigParser

import pytest
from conftest import root
from house import cells, chapters, module_of, modules, order, parts, place

def settings():
    ini = ConfigParser(delimiters=['='])
    ini.read(root/'settings.ini')
    return ini['DEFAULT']


def sources(base):
    "Text of every notebook and module below `base`."
    files = [*(base/'nbs').rglob('*.ipynb'), *(base/'planet_course').rglob('*.py')]
    return {str(p.relative_to(base)): p.read_text(encoding='utf-8') for p in files if '.ipynb_checkpoints' not in p.parts}


def test_module_is_what_the_notebooks_export(tmp_path):
    "`make export` changes nothing: run on a copy, and compare."
    for name in ('settings.ini', 'setup.py', 'pyproject.toml'): shutil.copy(root/name, tmp_path/name)
    for name in ('planet_course', 'nbs', 'tools'):
        shutil.copytree(root/name, tmp_path/name, ignore=shutil.ignore_patterns('__pycache__', '.ipynb_checkpoints'))
    run = subprocess.run([sys.executable, tmp_path/'tools'/'export.py'], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert 'Failed' not in run.stdout + run.stderr, run.stdout + run.stderr
    ours, theirs = sources(root), sources(tmp_path)
    assert ours.keys() == theirs.keys() and len(ours) > 2*len(order)
    differ = [name for name in ours if ours[name] != theirs[name]]
    assert not differ, f'{differ} differ; run: make export'


def test_chapters_and_modules_are_the_same_house():
    "Each module has its chapter in the folder of its name, each part a hand-written `__init__`, and git holds all of it and nothing else."
    assert len(chapters) >= 18 and set(parts) >= {p.parent.name for p in chapters} - {'nbs'}
    expected = {f'planet_course/{module.replace(".", "/")}.py' for module in order}
    expected |= {f'planet_course/{part}/__init__.py' for part in {module.rpartition('.')[0] for module in order} - {''}}
    expected |= {'planet_course/__init__.py', 'planet_course/__init__.pyi', 'planet_course/_modidx.py'}
    expected |= {str(p.relative_to(root)) for p in chapters}
    for chapter in chapters:
        module = module_of(chapter)
        assert module is None or module.rpartition('.')[0] == (chapter.parent.name if chapter.parent.name != 'nbs' else ''), chapter
    if not (root/'.git').exists(): pytest.skip('no git here, whose list of files would be compared')
    listed = subprocess.run(['git', 'ls-files', 'planet_course', 'nbs/*.ipynb'], cwd=root, capture_output=True, text=True, check=True).stdout
    assert set(listed.split()) == expected


@pytest.mark.parametrize('part', [part for part in parts if (root/'planet_course'/part/'__init__.py').is_file() and part])
def test_a_part_offers_what_its_modules_export(part):
    "Explicitly, and all of it."
    whole = importlib.import_module(f'planet_course.{part}')
    names = {name for m in order if m.startswith(f'{part}.') for name in importlib.import_module(f'planet_course.{m}').__all__}
    assert set(whole.__all__) == names
    assert all(hasattr(whole, name) for name in names)


def test_readme_is_what_the_index_says():
    subprocess.run([sys.executable, root/'tools'/'readme.py', '--check'], check=True)


def test_the_tour_in_the_readme_does_what_it_says(tmp_path):
    "Typed into a file and run: it prints a table and three tiles, and learns about what the README says."
    text = (root/'README.md').read_text(encoding='utf-8')
    code = re.search(r'``` python\n(.+?)```', text, flags=re.S)[1]
    says, constant = (float(x) for x in re.search(r'an F2 of about ([\d.]+).+?scores ([\d.]+)', text, flags=re.S).groups())
    (tmp_path/'tour.py').write_text(code)
    env = {**os.environ, 'PYTHONPATH': str(root), 'CUDA_VISIBLE_DEVICES': ''}
    run = subprocess.run([sys.executable, 'tour.py'], cwd=tmp_path, env=env, capture_output=True, text=True, check=True)
    assert 'it/s' not in run.stderr     # no bars in a file
    rows = [line.split() for line in run.stdout.splitlines() if re.match(r'\d+ +[\d.]+ +[\d.]+ ', line)]
    valid_loss, f2 = float(rows[-1][2]), float(rows[-1][3])
    assert abs(f2 - says) < 0.05 and f2 > constant + 0.05 and valid_loss < 0.3
    tiles = [line.split(', predicted: ') for line in run.stdout.splitlines() if ', predicted: ' in line]
    assert len(tiles) == 3
    assert all(set(truth.split()) & set(predicted.split()) for truth, predicted in tiles)


def test_environment_agrees_with_settings():
    "environment.yml installs this package with its dev extra, and names nothing that settings.ini does not."
    lines = [line.strip()[2:] for line in (root/'environment.yml').read_text().splitlines() if line.strip().startswith('- ')]
    python, = (line for line in lines if line.startswith('python='))
    packages = [line for line in lines if line not in ('conda-forge', 'pip', 'pip:', '-e .[dev]', python)]
    known = settings()['requirements'].split() + settings()['dev_requirements'].split()
    assert '-e .[dev]' in lines and not set(packages) - set(known)
    assert float(python[9:]) >= float(settings()['min_python'][2:])


def test_nothing_is_said_twice():
    "Name, version and what is needed are in settings.ini alone; pyproject.toml is for pip and nbdev, nbs/nbdev.yml for the site."
    told = tomllib.loads((root/'pyproject.toml').read_text(encoding='utf-8'))
    assert told.keys() == {'build-system', 'tool'} and told['tool'].keys() == {'nbdev'}
    assert told['build-system'].keys() == {'requires', 'build-backend'}
    assert not set(told['tool']['nbdev']) & {*settings(), 'name', 'dependencies'}
    assert told['tool']['nbdev']['lib_path'] == settings()['lib_name']      # the folder, which bears the name
    site = dict(re.findall(r'^  ([\w-]+): "?(.+?)"?$', (root/'nbs'/'nbdev.yml').read_text(encoding='utf-8'), flags=re.M))
    said = {'title': settings()['lib_name'], 'description': settings()['description'], 'repo-url': settings()['git_url']}
    assert {key: site[key] for key in said} == said


def test_pythons_that_are_tried_are_those_that_are_named():
    "By setup.py's classifiers, and by the runs that somebody's push starts."
    named = re.findall(r"'(3\.\d+)'", (root/'setup.py').read_text(encoding='utf-8'))
    matrix = re.search(r'python: \[(.+)\]', (root/'.github'/'workflows'/'test.yaml').read_text(encoding='utf-8'))[1]
    assert re.findall(r"'(3\.\d+)'", matrix) == named and named[0] == settings()['min_python']


def test_install_gives_the_module(tmp_path):
    "`pip install .` puts the importable module, with its version, where Python finds it."
    source = tmp_path/'source'
    shutil.copytree(root, source, ignore=shutil.ignore_patterns('.git', '.venv*', '_*n', 'bench', '*.egg-info', '__pycache__'))
    subprocess.run([sys.executable, '-m', 'pip', 'install', '--quiet', '--no-deps', '--no-build-isolation', '--target', tmp_path/'site', source],
                   check=True)
    found = subprocess.run([sys.executable, '-c', 'import planet_course; print(planet_course.__file__, planet_course.__version__)'],
                           cwd=tmp_path, env={'PYTHONPATH': str(tmp_path/'site'), 'PATH': ''}, capture_output=True, text=True, check=True).stdout
    assert str(tmp_path/'site') in found and found.split()[-1] == settings()['version']


def imported(file):
    "The modules or parts of ours that a module imports, below the package."
    here = file.relative_to(root/'planet_course').with_suffix('').parts
    for node in ast.walk(ast.parse(file.read_text(encoding='utf-8'))):
        if isinstance(node, ast.Import): yield from (a.name.partition('.')[2] for a in node.names if a.name.startswith('planet_course.'))
        if not isinstance(node, ast.ImportFrom) or not (node.level or node.module.startswith('planet_course')): continue
        assert not any(a.name == '*' for a in node.names), f'{file.name} imports * from {node.module}'
        base = '.'.join([*here[:len(here) - node.level], *([node.module] if node.module else [])]) if node.level else node.module.partition('.')[2]
        yield from [base] if base else (a.name for a in node.names if a.name != '__version__')


@pytest.mark.parametrize('file', modules, ids=lambda p: p.stem)
def test_imports_go_one_way(file):
    "A module imports only from chapters before it in its part, and from parts before that; another part by the part's name."
    mine = '.'.join(file.relative_to(root/'planet_course').with_suffix('').parts)
    for name in imported(file):
        if name in parts:
            last_of_part = max(order.index(m) for m in order if m.startswith(f'{name}.'))
            assert last_of_part < order.index(mine), f'{mine} imports {name}, which comes later'
        else:
            assert order.index(name) < order.index(mine), f'{mine} imports {name}, which comes later'
            assert name.rpartition('.')[0] in ('', mine.rpartition('.')[0]), f'{mine} imports {name}, not the part'


def test_import_is_light():
    "Importing what a training server needs loads no plotting, no download client, no archive library."
    code = 'import sys, planet_course.train.learner, planet_course.nets.cnn; print([m for m in ("matplotlib", "kaggle", "py7zr", "IPython") if m in sys.modules])'
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout.strip() == '[]'


def in_python(code):
    "What a fresh Python prints that runs `code`."
    return subprocess.run([sys.executable, '-c', code], cwd=root, capture_output=True, text=True, check=True).stdout.strip()


def test_importing_the_package_loads_nothing():
    "Until a name is used; then that name is what its module exports."
    heavy = '("torch", "numpy", "pandas", "tqdm", "PIL")'
    assert in_python(f'import planet_course, sys; print([m for m in {heavy} if m in sys.modules])') == '[]'
    code = 'from planet_course import ImageList; import planet_course.data.lists as d; print(ImageList is d.ImageList)'
    assert in_python(code) == 'True'


def test_the_package_has_the_modules_and_the_names_it_lists():
    "Its `__init__.pyi` is the list; its docstring names every module, and a tour that can be typed."
    import planet_course
    rooms = list(dict.fromkeys(m.partition('.')[0] for m in order))      # parts, and chapters at the top
    assert set(planet_course.__all__) == set(dir(planet_course)) >= set(rooms)
    for name in set(planet_course.__all__) - set(rooms):
        thing = getattr(planet_course, name)
        homes = [importlib.import_module(f'planet_course.{m}') for m in order if m != 'compat']
        assert any(name in home.__all__ and getattr(home, name) is thing for home in homes), name
    assert re.findall(r'^    (\w+)  +\w', planet_course.__doc__, flags=re.M) == rooms
    tour = re.search(r'from planet_course import (.+)', planet_course.__doc__)[1].split(', ')
    assert set(tour) <= set(planet_course.__all__)
    with pytest.raises(AttributeError, match='no_such_name'): planet_course.no_such_name


def test_no_module_bears_a_name_that_the_package_exports():
    "`planet_course.predict` would be the function before `planet_course.predict` is imported and a module after it."
    exported = {name for m in order for name in importlib.import_module(f'planet_course.{m}').__all__}
    assert not exported & ({file.stem for file in modules} | set(parts))


@pytest.mark.parametrize('file', modules, ids=lambda p: p.stem)
def test_public_functions_are_documented(file):
    "Everything a module exports says what it is; and nothing takes **kwargs, which would hide what can be given."
    module = importlib.import_module('.'.join(file.relative_to(root).with_suffix('').parts))
    for name in module.__all__:
        thing = getattr(module, name)
        if callable(thing): assert thing.__doc__, f'{file.stem}.{name} has no docstring'
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.FunctionDef): assert node.args.kwarg is None, f'{file.name}: {node.name} takes **{node.args.kwarg.arg}'


@pytest.mark.parametrize('file', chapters, ids=lambda p: p.stem)
def test_chapter_is_fit_to_read(file):
    "A chapter begins with title and subtitle, stores no error and no path of somebody's machine, and never runs on without prose."
    first = ''.join(cells(file)[0]['source'])
    assert cells(file)[0]['cell_type'] == 'markdown' and re.match(r'# .+\n\n> .+', first), 'no title with a quoted subtitle'
    run = 0
    for i, cell in enumerate(cells(file)):
        run = run + 1 if cell['cell_type'] == 'code' else 0
        assert run <= 3, f'cell {i}: more than three code cells without prose'
        outputs = json.dumps(cell.get('outputs', []))
        assert '"output_type": "error"' not in outputs, f'cell {i} stores an error'
        assert not re.search(r'/(home|root|tmp|work|Users)/\w', outputs), f'cell {i} stores a path of one machine'
        assert 'Warning' not in outputs, f'cell {i} stores a warning'
        long = [line for line in ''.join(cell['source']).splitlines() if len(line) > 110]
        assert cell['cell_type'] == 'markdown' or not long, f'cell {i} has a very long line of code: {long}'


def test_links_between_chapters_lead_somewhere():
    for file in [*chapters, root/'README.md', root/'CONTRIBUTING.md']:
        text = file.read_text(encoding='utf-8') if file.suffix == '.md' else '\n'.join(
            ''.join(c['source']) for c in cells(file) if c['cell_type'] == 'markdown')
        broken = [m for m in re.findall(r'\]\(([\w./]+\.ipynb)', text) if not (file.parent/m).is_file()]
        assert not broken, f'{file.name} links to {broken}'


def test_chapters_that_are_named_are_there():
    "By whatever speaks of one: a chapter that moves takes its name along."
    stems = {file.stem for file in chapters}
    listed = subprocess.run(['git', 'ls-files'], cwd=root, capture_output=True, text=True, check=True).stdout.split() if (root/'.git').exists() else []
    texts = [root/name for name in listed if name.endswith(('.md', '.ipynb', '.yml', '.yaml', '.ini', 'Makefile')) or name.startswith('tools/')]
    for file in texts or [root/'README.md', *chapters]:
        text = file.read_text(encoding='utf-8')
        named = re.findall(r'([\w-]+)\.ipynb\b', text) + re.findall(r'_run/(\w+)\.html', text) + re.findall(r'\b(\d\d_[a-z]+\w*)', text)
        gone = {name for name in named if not name.isupper()} - stems
        assert not gone, f'{file.relative_to(root)} names {gone}'


def test_the_sidebar_lists_every_chapter_in_the_order_of_the_house():
    sidebar = re.findall(r'([\w/]+\.ipynb)', (root/'nbs'/'sidebar.yml').read_text(encoding='utf-8'))
    assert sorted(sidebar) == sorted(str(p.relative_to(root/'nbs')) for p in chapters)
    assert [name for name in sidebar if module_of(root/'nbs'/name)] == [name for name in sorted(sidebar, key=lambda n: place(root/'nbs'/n))
                                                                          if module_of(root/'nbs'/name)]
