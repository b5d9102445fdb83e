"""What the benchmarks share: the tiles, the machine's line, timing, memory, tables."""
import gc, hashlib, os, platform, shutil, statistics, sys, threading, time
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from planet_course.tiles import get_transforms
from planet_course.core import imagenet_stats
from planet_course.device import keep_freed_memory
from planet_course.files import planet_folder
from planet_course.data import ImageList
from planet_course.get import planet_synthetic

work = Path(os.environ.get('BENCH_DATA') or Path(__file__).parent/'data')   # tiles and their caches
tfms = get_transforms(flip_vert=True, max_lighting=0.1, max_zoom=1.05, max_warp=0.)   # the lesson's


def add_data_args(parser, tiles:int):
    "The two arguments that nearly every benchmark takes."
    parser.add_argument('--data', help='a folder of tiles with their table; by default 1,000 synthetic tiles, drawn once')
    parser.add_argument('--tiles', type=int, default=tiles, help='how many; the set is repeated until there are enough')


def tile_table(data:str|None, n:int) -> tuple[pd.DataFrame, Path]:
    """A table of n rows, `file` and `tags`, and the folder of the files.

    The files are hard links in `bench/data` (or `$BENCH_DATA`), or copies where that is another disk: the tiles may be somebody else's, and caches go beside them.
    A smaller set is there several times.
    """
    folder = planet_folder(data or planet_synthetic(work/'synthetic'))
    df = pd.read_csv(folder.path/folder.csv)
    df = df.iloc[np.arange(n) % len(df)].reset_index(drop=True)
    key = hashlib.sha256(os.path.abspath(folder.path).encode()).hexdigest()[:8]
    path = work/f'tiles-{n}-{key}'
    path.mkdir(parents=True, exist_ok=True)
    files = [f'{i}-{name}{folder.suffix}' for i, name in enumerate(df.iloc[:, 0])]
    for file, name in zip(files, df.iloc[:, 0]):
        tile = os.path.realpath(folder.path/folder.folder/f'{name}{folder.suffix}')
        if (path/file).exists(): continue
        try: os.link(tile, path/file)
        except OSError: shutil.copyfile(tile, path/file)
    return pd.DataFrame(dict(file=files, tags=df.iloc[:, 1])), path


def label_lists(df:pd.DataFrame, path:Path):
    "Ours, split and labelled; a fifth is for validation, always the same fifth."
    return ImageList.from_df(df, path).split_by_rand_pct(0.2, seed=42).label_from_df(label_delim=' ')


def our_data(df:pd.DataFrame, path:Path, size:int, bs:int=64, **databunch_args):
    "Our loaders, in a process that keeps freed memory, both as in the lesson."
    keep_freed_memory()
    return label_lists(df, path).transform(tfms, size=size).databunch(bs=bs, **databunch_args).normalize(imagenet_stats)


def machine(*packages:str) -> str:
    "Date, processor or GPU, threads, and versions of what was used."
    cpu = platform.processor() or platform.machine()
    if os.path.exists('/proc/cpuinfo'):
        cpu = next((line.split(':')[1].strip() for line in open('/proc/cpuinfo') if line.startswith('model name')), cpu)
    gpu = f'{torch.cuda.get_device_name()}, ' if torch.cuda.is_available() else ''
    def one(name):
        try: return f'{name} {version(name)}'
        except PackageNotFoundError: return f'no {name}'
    known = ', '.join(map(one, ('torch', 'torchvision', 'planet_course', *packages)))
    return (f'{date.today()}; {gpu}{cpu}, {os.cpu_count()} CPUs, {torch.backends.cpu.get_cpu_capability()}, '
            f'{torch.get_num_threads()} threads; Python {platform.python_version()}, {known}')


def secs(f) -> float:
    "Seconds that `f` takes, the device's work included."
    gc.collect()
    if torch.cuda.is_available(): torch.cuda.synchronize()
    start = time.perf_counter()
    f()
    if torch.cuda.is_available(): torch.cuda.synchronize()
    return time.perf_counter() - start


def spread(values, digits:int=0) -> str:
    "Median, and the smallest and largest value."
    values = list(values)
    return f'{statistics.median(values):,.{digits}f} ({min(values):,.{digits}f} to {max(values):,.{digits}f})'


def _memory_of(pid:int) -> tuple[int, int]:
    "Private memory of a process in kB: what it wrote itself, and what it alone maps from files."
    fields = dict(line.split(':') for line in open(f'/proc/{pid}/smaps_rollup').read().splitlines()[1:])
    return tuple(int(fields[k].split()[0]) for k in ('Private_Dirty', 'Private_Clean'))


def _family(pid:int) -> list[int]:
    "A process and all below it."
    below = [int(p) for t in Path(f'/proc/{pid}/task').iterdir() for p in (t/'children').read_text().split()]
    return [pid, *(q for p in below for q in _family(p))]


def peak_private_mb(f) -> tuple[float, float]:
    "The most MB that this process and its children had to themselves while `f` ran: written, and mapped from files."
    peak, done = [(0, 0)], threading.Event()
    def look():
        try: peak.append(tuple(map(sum, zip(*map(_memory_of, _family(os.getpid()))))))
        except (FileNotFoundError, ProcessLookupError): pass     # a worker ended while we looked
    def watch():
        look()
        while not done.wait(0.2): look()
    thread = threading.Thread(target=watch)
    thread.start()
    try: f()
    finally: done.set(); thread.join()
    return tuple(max(column)/1e3 for column in zip(*peak))


def table(header:list, rows:list) -> str:
    "A Markdown table."
    lines = [header, ['---']*len(header), *rows]
    return '\n'.join('| ' + ' | '.join(map(str, row)) + ' |' for row in lines)


def report(title:str, text:str, *packages:str):
    "Print a section for RESULTS.md."
    print(f'## {title}\n\n{machine(*packages)}\n\n`{" ".join(["python", "bench/" + Path(sys.argv[0]).name, *sys.argv[1:]])}`\n\n{text}\n', flush=True)
