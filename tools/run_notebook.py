"""Run a notebook top to bottom in a fresh kernel, show its progress in the terminal, keep the result.

    python tools/run_notebook.py nbs/lesson.ipynb --out _run --html     an executed copy and its page, in _run/
    python tools/run_notebook.py nbs/tiles/03_augment.ipynb --inplace      store the outputs in the chapter itself
"""
import argparse, os, re, sys, time
from base64 import b64decode, b64encode
from io import BytesIO
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from PIL import Image


def lighten(data:dict, limit:int=100_000) -> None:
    "Store a large picture as JPEG: photographs as PNG take five times the room."
    png = data.get('image/png', '')
    if len(png) < limit: return
    out = BytesIO()
    Image.open(BytesIO(b64decode(png))).convert('RGB').save(out, 'jpeg', quality=88)
    if len(out.getvalue()) < len(png)/2: data['image/jpeg'], _ = b64encode(out.getvalue()).decode(), data.pop('image/png')


def show(data:dict, kind:str) -> None:
    "Print what a terminal can show of an output: text, the new row of a growing table, a bar in its line."
    text = data.get('text/plain', '')
    if text.startswith('\r'): # a bar
        if sys.stdout.isatty(): print(f'{text}\x1b[K', end='', flush=True)
        return
    if kind == 'update_display_data': text = text.rpartition('\n')[-1]
    if text and 'image/png' not in data: print(text, flush=True)


def is_empty(output) -> bool:
    "Does an output show nothing? So the place of a bar that is done, and a line that was wiped."
    if output.output_type == 'stream': return not output.text.strip()
    return output.output_type == 'display_data' and not any(output.data.values())


class LiveClient(NotebookClient):
    "A notebook client that also prints what each cell prints, while it prints it."

    def process_message(self, msg, cell, cell_index):
        kind, content = msg['msg_type'], msg['content']
        if kind == 'stream':
            print(content['text'], end='', flush=True, file=sys.stderr if content['name'] == 'stderr' else sys.stdout)
        elif kind in ('display_data', 'execute_result', 'update_display_data'):
            show(content['data'], kind)
        return super().process_message(msg, cell, cell_index)


def execute(nb, cwd:Path, live:bool=True) -> None:
    """Run all cells of `nb` in place, but those that need the network or are only to be read.

    Large pictures become lighter, empty outputs are dropped, also when a cell fails.
    """
    client = (LiveClient if live else NotebookClient)(nb, timeout=None, kernel_name='python3', coalesce_streams=True,
                                                      resources={'metadata': {'path': str(cwd)}})
    if live:
        code = [i for i, c in enumerate(nb.cells) if c.cell_type == 'code']
        def announce(cell, cell_index, **_):
            if cell_index in code and cell.source.strip():
                first = next(line for line in cell.source.splitlines() if line.strip())
                print(f'[{code.index(cell_index) + 1}/{len(code)}] {first[:96]}', flush=True)
        client.on_cell_start = announce
    skipped = [cell for cell in nb.cells if cell.source.startswith(('#| network', '#| eval: false'))]
    for cell in skipped: cell.metadata.tags = [client.skip_cells_with_tag]
    try: client.execute()
    finally:
        for cell in skipped: del cell.metadata['tags']
        for cell in nb.cells:
            for out in cell.get('outputs', []):
                lighten(out.get('data', {}))
            if 'outputs' in cell:
                cell.outputs = [o for o in cell.outputs if not is_empty(o)]


def to_html(nb, file:Path) -> None:
    "Write `nb` as one page with its pictures inside."
    from nbconvert import HTMLExporter
    file.write_text(HTMLExporter(template_name='lab').from_notebook_node(nb)[0], encoding='utf-8')


def main() -> int:
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument('notebook', type=Path)
    ap.add_argument('--out', type=Path, default=Path('_run'), help='folder for the executed copy')
    ap.add_argument('--html', action='store_true', help='write an HTML page beside it')
    ap.add_argument('--inplace', action='store_true', help='store the outputs in the notebook itself')
    args = ap.parse_args()
    for knob in ('DATA', 'WEIGHTS'):  # paths are relative to where the command was typed, the notebook runs in its own folder
        if os.path.exists(os.environ.get(knob, '')): os.environ[knob] = os.path.abspath(os.environ[knob])
    nb, start = nbformat.read(args.notebook, as_version=4), time.monotonic()
    target = args.notebook if args.inplace else args.out/args.notebook.name
    target.parent.mkdir(parents=True, exist_ok=True)
    failed = None
    try: execute(nb, args.notebook.parent)
    except CellExecutionError as e: failed = e
    if not (failed and args.inplace): nbformat.write(nb, target)
    page = target.with_suffix('.html')
    if args.html: to_html(nb, page)
    if failed:
        print(re.sub(r'\x1b\[[0-9;]*m', '', str(failed)), file=sys.stderr)
        return 1
    print(f'\n{args.notebook.name}: {time.monotonic() - start:.0f} s. Notebook: {target}' +
          (f'. Page: {page}' if args.html else ''))
    return 0


if __name__ == '__main__': sys.exit(main())
