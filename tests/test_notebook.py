"""Manners in a notebook and in a terminal: bars that vanish, nothing on standard error, documentation behind a question mark."""
import ast, importlib, inspect, json, os, pty, signal, subprocess, sys, termios, textwrap

import nbformat
import pytest
from conftest import root
from house import order

sys.path.insert(0, str(root/'tools'))
from export import Comments, described, documented
from run_notebook import LiveClient, execute, show, to_html

like_a_fit = '''
from time import sleep
from planet_course.core import LiveTable, progress
print('before')
table = LiveTable(['epoch', 'loss'])
for epoch in range(2):
    for _ in progress(range(3), desc='train', delay=0):
        for _ in progress(range(3), desc='inner', delay=0): sleep(.1)
    for _ in progress(range(2), desc='validate', delay=0): sleep(.21)
    table.add([epoch, .5])
print('after')
'''
breaks = '''
bar = progress(total=9, desc='breaks', delay=0)
sleep(.3)
bar.update()
raise KeyboardInterrupt
'''
goes_on = '''
with progress(total=2, desc='goes on', delay=0) as bar:
    sleep(.3)
    bar.update()
'''
writes = '''
from tqdm import tqdm
with progress(total=3, desc='writes', delay=0) as bar:
    sleep(.3)
    bar.update()
    tqdm.write('a line')
    with tqdm(total=1, desc='somebody else', file=open('/dev/null', 'w')): pass
    bar.reset()
'''


@pytest.fixture(scope='module')
def notebook():
    "A notebook with bars, run in a kernel; and all that was sent to its front end."
    cells = [nbformat.v4.new_code_cell(source) for source in (like_a_fit, breaks, goes_on, writes)]
    cells[1].metadata.tags = ['raises-exception']
    nb = nbformat.v4.new_notebook(cells=cells)
    sent = []
    with pytest.MonkeyPatch.context() as patch:
        def listen(client, msg, cell, index):
            sent.append((index, msg['msg_type'], msg['content']))
            return super(LiveClient, client).process_message(msg, cell, index)
        patch.setattr(LiveClient, 'process_message', listen)
        patch.setenv('PYTHONPATH', str(root))
        execute(nb, root)
    return nb, sent


def bars(sent, cell):
    "The HTML of all bars that a cell showed, in order."
    shown = [content['data'].get('text/html', '') for i, kind, content in sent if i == cell and 'display_data' in kind]
    return [html for html in shown if '<progress' in html]


def test_bars_are_shown_one_at_a_time_and_under_the_table(notebook):
    "Two bars an epoch, the inner one not, all in one place; and the table stands above them from the start."
    shown = bars(notebook[1], 0)
    assert len(shown) >= 6
    assert {html.split('> ')[1].split(':')[0] for html in shown} == {'train', 'validate'}
    made = [content for i, kind, content in notebook[1] if i == 0 and kind == 'display_data']
    assert ['<table>' in content['data']['text/html'] for content in made] == [True, False]


def test_nothing_of_a_bar_is_left(notebook):
    "Nor on standard error; also where a cell broke off, after which a next cell's bar shows again."
    nb, sent = notebook
    assert not [content for _, kind, content in sent if kind == 'stream' and content['name'] == 'stderr']
    assert len(bars(sent, 1)) >= 1 and len(bars(sent, 2)) >= 1
    assert [[out.output_type for out in cell.outputs] for cell in nb.cells] == [['stream', 'display_data'], ['error'], [], ['stream']]
    assert 'progress' not in json.dumps(nb.cells[0].outputs)
    last = [content['data'] for i, kind, content in sent if i == 1 and kind == 'update_display_data'][-1]
    assert not any(last.values())


def test_a_line_is_written_while_a_bar_is_open(notebook):
    "By `tqdm.write`, which clears all bars for it; another bar that closes does so too. The bar goes on."
    assert notebook[0].cells[3].outputs[0].text == 'a line\n' and len(bars(notebook[1], 3)) >= 2


def test_its_page_has_no_bar(notebook, tmp_path):
    to_html(notebook[0], tmp_path/'page.html')
    page = (tmp_path/'page.html').read_text()
    assert '<progress' not in page and '<th>epoch</th>' in page


def test_make_lesson_shows_bars_in_its_terminal(capsys, monkeypatch):
    "A bar stays in its line and is wiped; a table's new row has a line of its own. In a file there are no bars."
    events = [({'text/plain': 'epoch'}, 'display_data'), ({'text/plain': '\rtrain: 1/2'}, 'update_display_data'),
              ({'text/plain': '\r'}, 'update_display_data'), ({'text/plain': 'epoch\n0'}, 'update_display_data')]
    for event in events: show(*event)
    assert capsys.readouterr().out == 'epoch\n0\n'
    monkeypatch.setattr('sys.stdout.isatty', lambda: True)
    for event in events: show(*event)
    assert capsys.readouterr().out == 'epoch\n\rtrain: 1/2\x1b[K\r\x1b[K0\n'


script = '''
from time import sleep
from planet_course.core import progress
for _ in progress(range(3), desc='outer\\nx', delay=0):
    for _ in progress(range(3), desc='inner', delay=0): sleep(.1)
'''


def in_terminal(code):
    "What a script writes to standard error, when that is a terminal."
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    run = subprocess.Popen([sys.executable, '-c', code], cwd=root, stdout=subprocess.DEVNULL, stderr=theirs)
    os.close(theirs)
    text = b''
    try:
        while more := os.read(ours, 4096): text += more
    except OSError: pass    # so Linux says that the other end is closed
    assert run.wait() == 0
    os.close(ours)
    return text.decode()


def test_bars_in_a_terminal():
    "One line that is wiped in the end; a name in it cannot break it."
    text = in_terminal(script)
    assert r'outer\nx' in text and 'inner' not in text and '\n' not in text
    assert not text.rstrip('\r').rpartition('\r')[-1].strip()


def test_no_bars_in_a_file(capfd):
    exec(script, {})
    assert ''.join(capfd.readouterr()) == ''


@pytest.fixture
def cell(tmp_path, monkeypatch, capsys):
    "Runs a line in a notebook's shell, with these names; it must stop by Ctrl-C. Gives what is shown."
    monkeypatch.setenv('IPYTHONDIR', str(tmp_path/'ipython'))
    from IPython.core.interactiveshell import InteractiveShell
    def run(line, **names):
        shell = InteractiveShell()
        shell.push(names)
        capsys.readouterr()
        assert isinstance(shell.run_cell(line).error_in_exec, KeyboardInterrupt), 'Run all would go on'
        return capsys.readouterr().out
    return run


def pressing(function, at=1):
    "As `function`, but its `at`-th call has somebody press Ctrl-C."
    calls = []
    def press(*args, **kwargs):
        calls.append(args)
        if len(calls) == at: signal.raise_signal(signal.SIGINT)
        return function(*args, **kwargs)
    return press


def test_ctrl_c_while_tiles_are_drawn_is_one_line(cell, tmp_path, monkeypatch):
    from planet_course.get import planet_synthetic, sample
    monkeypatch.setattr(sample, 'render_tile', pressing(sample.render_tile, at=3))
    said = cell('planet_synthetic(path, n=5, n_test=1, size=32)', planet_synthetic=planet_synthetic, path=tmp_path/'set')
    assert said == f"stopped: 2 of 6 tiles are in {str(tmp_path/'set')!r}. The same line again goes on.\n"
    assert not (tmp_path/'set'/'train_v2.csv').exists()
    planet_synthetic(tmp_path/'set', n=5, n_test=1, size=32)


def test_ctrl_c_while_the_cache_is_made_is_one_line(cell, tiles, tmp_path, monkeypatch):
    from planet_course.tiles import cache as module, TileCache
    cache = TileCache(sorted((tiles/'train-jpg').iterdir()), 32, folder=tmp_path/'.tiles')
    decode = module.decode
    monkeypatch.setattr(module, 'decode', pressing(decode, at=9))
    said = cell('cache.build()', cache=cache)
    assert said.startswith('stopped: the tile cache is not done') and said.count('\n') == 1
    assert not [file for file in (tmp_path/'.tiles').iterdir() if file.name != '.lock']
    monkeypatch.setattr(module, 'decode', decode)
    assert len(cache.build().tensor) == 60


def test_ctrl_c_while_a_batch_is_measured_is_one_line(cell, learn, monkeypatch):
    from planet_course.train import suggest_bs
    monkeypatch.setattr(learn.model, 'forward', pressing(learn.model.forward))
    assert cell('suggest_bs(learn)', suggest_bs=suggest_bs, learn=learn).startswith('suggest_bs stopped: weights')


@pytest.mark.parametrize('step', ['fetch', 'unpack'])
def test_ctrl_c_while_something_is_downloaded_or_unpacked_is_one_line(step, cell, tmp_path, monkeypatch):
    from planet_course.get import archives, untar_data
    def arrives(get, file, *args):
        file.write_bytes(b'')
        return file
    monkeypatch.setattr(archives, 'fetch', arrives)
    monkeypatch.setattr(archives, step, pressing(arrives))
    said = cell("untar_data('http://127.0.0.1:9/planet_tiny.tgz', folder)", untar_data=untar_data, folder=tmp_path)
    assert said.startswith('stopped before planet_tiny was done') and said.count('\n') == 1


source = r'''
def f(
    a:int,      # how many, 1 or more
    b=dict(     # not this
        x=1),   # what goes on
                # below
    *, c:str='#', # a \n in """
    d=0) -> int: # a sum
    "Adds."

def bare(x): return x

def one(x:int) -> int: # twice x
    """Doubles.

    Raises `ValueError`.
    """
    return 2*x

def _own(x:int): # hidden
    "Ours."

class _Base:
    "Ours."
    def handed(self,
        n:int, # on, to public classes
    ):
        "Hands."

class Box(NamedTuple):
    "A box."
    top: int    # pixels
    _at: int    # hidden
    def __init__(self,
        size:int, # in pixels
    ):
        self.size = size

    def grow(self,
        by:int, # pixels
    ): # the box
        "Grow."
'''


def docs(text):
    nodes = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.FunctionDef | ast.ClassDef)]
    return {n.name: ast.get_docstring(n) for n in nodes}


def without_docs(text):
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node): node.body[0].value.value = ''
    return ast.dump(tree)


def test_docstrings_say_what_comments_say():
    "Of parameters, fields and the result; and the code stays as it is."
    text = documented(source)
    assert docs(text) == {
        'f': 'Adds.\n\nParameters:\n    a: how many, 1 or more\n    b: what goes on below\n    c: a \\n in """\n\nReturns:\n    a sum',
        'bare': None,
        'one': 'Doubles.\n\nRaises `ValueError`.\n\nReturns:\n    twice x',
        '_own': 'Ours.',
        '_Base': 'Ours.',
        'handed': 'Hands.\n\nParameters:\n    n: on, to public classes',
        'Box': 'A box.\n\nParameters:\n    size: in pixels\n\nAttributes:\n    top: pixels',
        '__init__': None,
        'grow': 'Grow.\n\nParameters:\n    by: pixels\n\nReturns:\n    the box'}
    assert without_docs(text) == without_docs(source)
    assert documented(text) == text


def shown_by(thing):
    "A public class or function, with the methods that a class offers: each with its name and what `?` reads."
    yield thing.__name__, thing
    if not isinstance(thing, type): return
    methods = inspect.getmembers(thing, inspect.isfunction)
    yield from ((f'{thing.__name__}.{name}', method) for name, method in methods
                if not name.startswith('_') and method.__module__.startswith('planet_course'))


def told_of(thing):
    "The parameters that have a comment in the source of a function, or of a class's `__init__`."
    text = textwrap.dedent(inspect.getsource(thing))
    node = ast.parse(text).body[0]
    if isinstance(node, ast.ClassDef):
        node = next((n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == '__init__'), None)
    return described(node, Comments(text))[0] if node else {}


@pytest.mark.parametrize('module', order)
def test_a_question_mark_shows_parameters(module):
    "All that have a comment, of all that a module exports, and of the methods, wherever a class has them from."
    room = importlib.import_module(f'planet_course.{module}')
    public = [getattr(room, name) for name in room.__all__]
    things = [pair for thing in public if inspect.isclass(thing) or inspect.isfunction(thing) for pair in shown_by(thing)]
    hidden = {name: word for name, thing in things for word in told_of(thing) if f'\n{word}: ' not in (inspect.getdoc(thing) or '').replace(' '*4, '')}
    assert not hidden


def untold(thing):
    "The parameters without a comment, of a function or of a class's `__init__`, and a class's own public fields without one."
    if not inspect.isclass(thing): return [name for name in inspect.signature(thing).parameters if name not in {'self', *told_of(thing)}]
    text = textwrap.dedent(inspect.getsource(thing))
    comments = Comments(text)
    fields = [n for n in ast.parse(text).body[0].body if isinstance(n, ast.AnnAssign) and not n.target.id.startswith('_')]
    made = vars(thing).get('__init__') if '__dataclass_fields__' not in vars(thing) else None
    return [n.target.id for n in fields if not comments.beside(n.end_lineno)] + (untold(made) if inspect.isfunction(made) else [])


@pytest.mark.parametrize('module', order)
def test_every_parameter_has_a_comment(module):
    "Of functions, classes and their methods, and every public field; but for events, which all receive the learner."
    room = importlib.import_module(f'planet_course.{module}')
    public = [getattr(room, name) for name in room.__all__]
    things = [pair for thing in public if inspect.isclass(thing) or inspect.isfunction(thing) for pair in shown_by(thing)]
    assert not {name: untold(thing) for name, thing in things if untold(thing) and not name.startswith('Callback.')}
