"""Write README.md from nbs/index.ipynb: its markdown cells as they are, its code cells as fenced blocks.

    python tools/readme.py            write README.md
    python tools/readme.py --check    exit 1 if README.md is not what the notebook says
"""
import json, re, sys
from pathlib import Path

root = Path(__file__).parents[1]


def readme(notebook:Path) -> str:
    "The README's text, for `index.ipynb`. Cells that begin with `#| hide` are left out."
    parts = []
    for cell in json.loads(notebook.read_text(encoding='utf-8'))['cells']:
        source = ''.join(cell['source']).strip()
        if not source or source.startswith('#| hide'): continue
        source = re.sub(r'^#\| .*\n', '', source, flags=re.M)   # words to nbdev
        source = re.sub(r'\]\(([\w/]+\.ipynb)', r'](nbs/\1', source)  # links are relative to nbs/ there, to the root here
        parts.append(source if cell['cell_type'] == 'markdown' else f'``` python\n{source}\n```')
    return '<!-- Made by tools/readme.py from nbs/index.ipynb: edit that. -->\n\n' + '\n\n'.join(parts) + '\n'


def main() -> int:
    text, file = readme(root/'nbs'/'index.ipynb'), root/'README.md'
    if '--check' not in sys.argv: file.write_text(text, encoding='utf-8')
    elif file.read_text(encoding='utf-8') != text:
        print('README.md is not what nbs/index.ipynb says; run: make export', file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__': sys.exit(main())
