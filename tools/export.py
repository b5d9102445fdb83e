"""Write the module and README.md from the notebooks: what `make export` runs.

    nbdev-export     the cells, as modules
    versioned        the package's version, from settings.ini
    documented       each docstring says what the comments beside parameters, fields and the result say
    nbdev-clean      the notebooks, without what changes from run to run
    readme           README.md from nbs/index.ipynb

A comment is read where the code is; `?`, Shift+Tab, help() and editors show docstrings. So the comment is written, and the docstring copied from it.
"""
import ast, io, re, subprocess, sys, tokenize
from configparser import ConfigParser
from pathlib import Path

import readme

root = Path(__file__).parents[1]
Function = ast.FunctionDef | ast.AsyncFunctionDef


class Comments:
    "The comments of a file: at the end of a line, with those that go on below it in lines of their own."
    def __init__(self, text:str):
        self.at, self.alone = {}, set()
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type != tokenize.COMMENT: continue
            line = token.start[0]
            self.at[line] = token.string.lstrip('#').strip()
            if token.line.strip().startswith('#'): self.alone.add(line)

    def beside(self, line:int) -> str:
        parts = [self.at.get(line, '')]
        while parts[0] and line + 1 in self.alone:
            line += 1
            parts.append(self.at[line])
        return ' '.join(parts)


def last_lines(args:ast.arguments) -> dict[str, int]:
    "For each parameter the line where it ends, with its default."
    plain = args.posonlyargs + args.args
    defaults = [None]*(len(plain) - len(args.defaults)) + args.defaults
    pairs = [*zip(plain, defaults), *zip(args.kwonlyargs, args.kw_defaults)]
    if args.vararg: pairs.append((args.vararg, None))
    return {arg.arg: (default or arg).end_lineno for arg, default in pairs}


def described(node:Function, comments:Comments) -> tuple[dict[str, str], str]:
    "What the comments in a signature say of each parameter, and of the result."
    end = node.body[0].lineno - 1
    while end in comments.alone: end -= 1
    lines = last_lines(node.args)
    own = [name for name, line in lines.items() if line < end and list(lines.values()).count(line) == 1]
    told = {name: comments.beside(lines[name]) for name in own}
    return {name: text for name, text in told.items() if text}, comments.beside(end)


def sections(node:Function|ast.ClassDef, comments:Comments) -> dict[str, dict|str]:
    "What belongs below a docstring, under which heading. The parameters of `__init__` stand in the class's."
    if isinstance(node, Function):
        parameters, result = described(node, comments)
        return {'Parameters': parameters, 'Returns': result}
    fields = {n.target.id: comments.beside(n.end_lineno) for n in node.body if isinstance(n, ast.AnnAssign)}
    shown = {name: text for name, text in fields.items() if text and not name.startswith('_')}
    start = next((n for n in node.body if isinstance(n, Function) and n.name == '__init__'), None)
    return {'Parameters': described(start, comments)[0] if start else {}, 'Attributes': shown}


def written(parts:dict[str, dict|str], indent:str) -> list[str]:
    "The sections as lines."
    lines = []
    for heading, content in parts.items():
        if not content: continue
        told = [f'{name}: {text}' for name, text in content.items()] if isinstance(content, dict) else [content]
        lines += ['', f'{indent}{heading}:', *(f'{indent}    {line}' for line in told)]
    return lines


def public(tree:ast.Module):
    "Functions, classes and methods with a docstring in lines of its own; none with an underscore, but what such a class hands on."
    for node in tree.body:
        inner = node.body if isinstance(node, ast.ClassDef) else []
        for n in [node, *inner]:
            if not isinstance(n, Function|ast.ClassDef) or n.name.startswith('_'): continue
            if ast.get_docstring(n) is not None and n.body[0].lineno > n.lineno: yield n


def documented(text:str) -> str:
    "A module's source with the sections in its docstrings. What has some already stays as it is."
    comments = Comments(text)
    lines = text.splitlines()
    for node in sorted(public(ast.parse(text)), key=lambda n: -n.body[0].lineno):
        doc = node.body[0].value
        indent = ' '*doc.col_offset
        new = written(sections(node, comments), indent)
        source = '\n'.join(lines[doc.lineno - 1:doc.end_lineno]).strip()
        if not new or '\n'.join(new[1:2]) in source: continue
        mark = '"""' if source.startswith('"""') else source[0]
        body = source.removeprefix(mark).removesuffix(mark).rstrip()
        escaped = [line.replace('\\', r'\\').replace('"""', r'\"\"\"') for line in new]
        lines[doc.lineno - 1:doc.end_lineno] = [f'{indent}"""{body}', *escaped, f'{indent}"""']
    return '\n'.join(lines) + '\n'


def versioned(text:str) -> str:
    "The package's `__init__.py` with the version of settings.ini, which nbdev does not read."
    ini = ConfigParser(delimiters=['='])
    ini.read(root/'settings.ini', encoding='utf-8')
    new, found = re.subn(r'^__version__ = .*', f'__version__ = "{ini["DEFAULT"]["version"]}"', text, flags=re.M)
    if found != 1: raise ValueError(f'planet_course/__init__.py has {found} lines that begin with `__version__ = `; write one.')
    return new


def run(command:str) -> None:
    subprocess.run([Path(sys.executable).with_name(command)], cwd=root, check=True)


def main() -> None:
    run('nbdev-export')
    init = root/'planet_course'/'__init__.py'
    init.write_text(versioned(init.read_text(encoding='utf-8')), encoding='utf-8')
    for file in sorted((root/'planet_course').rglob('*.py')):
        if not file.name.startswith('_'): file.write_text(documented(file.read_text(encoding='utf-8')), encoding='utf-8')
    run('nbdev-clean')
    readme.main()


if __name__ == '__main__': main()
