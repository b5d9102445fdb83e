"""How the code reads: one idea a line, functions that fit on a screen, no private name across a module's wall."""
import ast, subprocess, sys

import pytest
from house import chapters, exported, modules, root

FUNCTION, MODULE = 25, 320      # lines at most
Function = ast.FunctionDef | ast.AsyncFunctionDef


def places(file, found):
    assert not found, '\n'.join(f'{file.relative_to(root)}:{line}: {what}' for line, what in sorted(found))


def length(node):
    "Lines of code in a function: the signature is one, however many parameters it documents; no docstring, comment or blank line counts."
    doc = ast.get_docstring(node) is not None
    inner = {line for n in node.body[doc:] for part in ast.walk(n) if hasattr(part, 'lineno') for line in range(part.lineno, part.end_lineno + 1)}
    return 1 + len(inner)


@pytest.mark.parametrize('file', modules, ids=lambda p: p.stem)
def test_functions_fit_on_a_screen(file):
    functions = [n for n in ast.walk(ast.parse(file.read_text())) if isinstance(n, Function)]
    places(file, [(n.lineno, f'{n.name} has {length(n)} lines') for n in functions if length(n) > FUNCTION])


@pytest.mark.parametrize('file', chapters, ids=lambda p: p.stem)
def test_a_chapter_is_no_book(file):
    lines = sum(len(source.splitlines()) for source in exported(file))
    assert lines <= MODULE, f'{lines} exported lines: two chapters'


def weight(node):
    "Lines of code of a top-level statement: of a class those of its methods, and its fields."
    if isinstance(node, Function): return length(node)
    if not isinstance(node, ast.ClassDef): return node.end_lineno - node.lineno + 1
    doc = ast.get_docstring(node) is not None
    return 1 + sum(map(weight, node.body[doc:]))


@pytest.mark.parametrize('file', chapters, ids=lambda p: p.stem)
def test_a_long_cell_is_one_thing(file):
    "Several functions in a cell fit on a screen together, or prose stands between them."
    for source in exported(file):
        nodes = ast.parse(source).body
        things = [node.name for node in nodes if isinstance(node, Function | ast.ClassDef)]
        lines = sum(map(weight, nodes))
        assert lines <= FUNCTION or len(things) < 2, f'{", ".join(things)}: {lines} lines in one cell'


def may_share(node, block):
    "`if x: return y` in one line; a function or class whose body is one expression."
    jump = isinstance(block[0], ast.Return | ast.Raise | ast.Continue | ast.Break | ast.Pass)
    if isinstance(node, ast.If | ast.ExceptHandler): return jump
    return isinstance(node, Function | ast.ClassDef) and (jump or isinstance(block[0], ast.Expr))


def crowded(text):
    "Lines with more than one statement."
    lines = text.splitlines()
    for node in ast.walk(ast.parse(text)):
        for name in ('body', 'orelse', 'finalbody', 'handlers'):
            block = getattr(node, name, None)
            if not isinstance(block, list): continue
            for first, second in zip(block, block[1:]):
                if first.end_lineno == second.lineno: yield second.lineno, 'two statements'
            if block and isinstance(block[0], ast.stmt) and not may_share(node, block):
                before = lines[block[0].lineno - 1].encode()[:block[0].col_offset].decode()
                if before.rstrip().endswith(':'): yield block[0].lineno, f'{type(node).__name__} and what it does'


@pytest.mark.parametrize('file', modules, ids=lambda p: p.stem)
def test_one_statement_a_line(file):
    places(file, list(crowded(file.read_text())))


def unrelated(node):
    "Is it `a, b = f(x), g(y)`? A swap is one idea, and so is what one call gives."
    if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.Tuple): return False
    target = node.targets[0]
    if not isinstance(target, ast.Tuple): return False
    names = {ast.unparse(n) for n in target.elts}
    return not names & {ast.unparse(n) for n in ast.walk(node.value) if isinstance(n, ast.Name | ast.Attribute | ast.Subscript)}


@pytest.mark.parametrize('file', modules, ids=lambda p: p.stem)
def test_one_idea_a_line(file):
    nodes = list(ast.walk(ast.parse(file.read_text())))
    found = [(n.lineno, f'unpacks unrelated things: {ast.unparse(n)[:90]}') for n in nodes if unrelated(n)]
    found += [(n.lineno, 'a lambda with a name: def') for n in nodes if isinstance(n, ast.Assign) and isinstance(n.value, ast.Lambda)]
    places(file, found)


@pytest.mark.parametrize('file', modules, ids=lambda p: p.stem)
def test_no_private_name_crosses_a_wall(file):
    imports = [n for n in ast.walk(ast.parse(file.read_text())) if isinstance(n, ast.ImportFrom) and (n.level or n.module.startswith('planet_course'))]
    places(file, [(n.lineno, f'imports {a.name}') for n in imports for a in n.names if a.name.startswith('_') and a.name != '__version__'])


only_shown = '_quoted', '_tell_where_from', '_saved'     # a ~ that nobody knows stays one there: in a line to print, or a file that is not there


@pytest.mark.parametrize('file', modules, ids=lambda p: p.stem)
def test_one_function_knows_what_a_tilde_is(file):
    "`full_path`, whose error says what to write; `expanduser` alone ends in one of Python's, or in a folder called ~."
    functions = [n for n in ast.parse(file.read_text()).body if getattr(n, 'name', None) not in ('full_path', *only_shown)]
    found = [n for function in functions for n in ast.walk(function) if isinstance(n, ast.Attribute | ast.Name) and ast.unparse(n).endswith('expanduser')]
    places(file, [(n.lineno, 'expanduser: full_path') for n in found])


def test_ruff_finds_no_fault():
    "By the rules in ruff.toml."
    command = [sys.executable, '-m', 'ruff', 'check', '--no-cache', 'planet_course', 'tests', 'bench', 'tools']
    run = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
