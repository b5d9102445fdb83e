"""Run a notebook top to bottom in a fresh kernel, show its progress in the terminal, keep the result.

    python tools/run_notebook.py nbs/10_planet.ipynb --out _run --html     an executed copy and its page, in _run/
    python tools/run_notebook.py nbs/04_augment.ipynb --inplace            store the outputs in the chapter itself
"""
import argparse, os, re, sys, time
from base64 import b64decode, b64encode
from io import BytesIO
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from PIL import Image


def settle(text:str) -> str:
    """What a terminal shows after `text`: of each line only what follows its last carriage return."""
    lines = text.replace('\r\n', '\n').split('\n')
    return '\n'.join(line.rstrip('\r').rsplit('\r', 1)[-1].rstrip() if '\r' in line else line for line in lines)


def lighten(data:dict, limit:int=100_000) -> None:
    "Store a large picture as JPEG: photographs as PNG take five times the room."
    png = data.get('image/png', '')
    if len(png) < limit: return
    out = BytesIO()
    Image.open(BytesIO(b64decode(png))).convert('RGB').save(out, 'jpeg', quality=88)
    if len(out.getvalue()) < len(png)/2: data['image/jpeg'], _ = b64encode(out.getvalue()).decode(), data.pop('image/png')


class LiveClient(NotebookClient):
    "A notebook client that also prints what each cell prints, while it prints it."

    def process_message(self, msg, cell, cell_index):
        kind, content = msg['msg_type'], msg['content']
        if kind == 'stream':
            print(content['text'], end='', flush=True, file=sys.stderr if content['name'] == 'stderr' else sys.stdout)
        elif kind in ('display_data', 'execute_result', 'update_display_data'):
            text = content['data'].get('text/plain', '')
            if kind == 'update_display_data': text = text.splitlines()[-1] if text else ''  # a growing table: its new row
            if text and 'image/png' not in content['data']: print(text, flush=True)
        return super().process_message(msg, cell, cell_index)


def execute(nb, cwd:Path, live:bool=True) -> None:
    """Run all cells of `nb` in place, but those that need the network or are only to be read.

    Outputs are settled and lightened, empty ones dropped, also when a cell fails.
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
                if out.output_type == 'stream': out.text = settle(out.text)
                lighten(out.get('data', {}))
            if 'outputs' in cell:
                cell.outputs = [o for o in cell.outputs if o.output_type != 'stream' or o.text.strip()]


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
