"""Does the working tree compute what an older commit computes, to the last digit?

    python tools/same.py            against the commit where this branch left main; on main, against its last one
    python tools/same.py v0.1.0     against any commit, branch or tag

Runs `tools/course.py`, as it is in this tree, on both, one after the other; then this tree reads the files that the
older one wrote. It takes a minute or two, and exits with 1 if anything differs.
"""
import argparse, json, os, re, subprocess, sys, tempfile, time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

root = Path(__file__).resolve().parents[1]
broke_off = 'broke off: '               # how the text of a room begins that did not come to its end
may_differ = 'cache_folder: made anew'  # a cache that cannot be used as it was found is made again


def git(*args:str) -> str:
    run = subprocess.run(['git', *args], cwd=root, capture_output=True, text=True)
    if run.returncode: raise LookupError(f'git {" ".join(args)}: {run.stderr.strip()}')
    return run.stdout.strip()


def branching_point() -> str:
    "The commit where this branch left main; the last one where there is no main."
    for main_branch in ('main', 'origin/main'):
        try:
            return git('merge-base', 'HEAD', main_branch)
        except LookupError: pass
    return git('rev-parse', 'HEAD')


@contextmanager
def checked_out(commit:str, folder:Path) -> Iterator[Path]:
    "A commit's files, in a worktree of their own that is removed afterwards."
    git('worktree', 'add', '--detach', str(folder), commit)
    try:
        yield folder
    finally:
        git('worktree', 'remove', '--force', str(folder))


def attend(tree:Path, home:Path, *flags:str) -> dict[str, str]:
    "Run the course on a tree, with `home` for all that it writes. Ends the program if it breaks down."
    home.mkdir(exist_ok=True)
    out = home/'course.json'
    env = {**os.environ, 'PYTHONPATH': str(tree), 'PYTHONHASHSEED': '0', 'OMP_NUM_THREADS': '1',
           'CUDA_VISIBLE_DEVICES': '', 'PLANET_COURSE_HOME': str(home), 'XDG_CACHE_HOME': str(home/'cache')}
    command = [sys.executable, root/'tools'/'course.py', tree, out, *flags]
    began = time.monotonic()
    run = subprocess.run(command, cwd=home, env=env, capture_output=True, text=True, errors='replace')
    if run.returncode:
        sys.exit(f'{run.stderr[-4000:]}\nthe course breaks down on {tree}: see above.')
    print(f'{" ".join(["course", *flags])} on {tree}: {time.monotonic() - began:.0f} s', flush=True)
    return json.loads(out.read_text(encoding='utf-8'))


def where_they_part(old:str, new:str) -> str:
    "The first place where two texts differ, with what is around it."
    start = max(0, len(os.path.commonprefix([old, new])) - 30)
    return f'{old[start:start + 80]!r} before, {new[start:start + 80]!r} now'


def verdict(old:str|None, new:str|None) -> str:
    "'same', or 'differs' and how. A room that broke off holds nothing, so that differs even from itself."
    if new is None: return 'differs: is not there any more'
    if old is None: return f'differs: was not there, {new[:200]!r} now'
    failed = new.startswith(broke_off) or old.startswith(broke_off)
    if failed: return f'differs: {old[:300]!r} before, {new[:300]!r} now'
    return 'same' if old == new else f'differs: {where_they_part(old, new)}'


def compare(old:dict[str, str], new:dict[str, str]) -> dict[str, str]:
    return {name: verdict(old.get(name), new.get(name)) for name in {**old, **new}}


def read_back(old:dict[str, str], read:dict[str, str]) -> dict[str, str]:
    "As `compare`, for files of the older commit. They may be refused, with an error that says what to do."
    found = {}
    for name, what in compare({name: old.get(name) for name in read}, read).items():
        refusal = re.match(f'{broke_off}((ValueError|FileNotFoundError): .+)', read[name], flags=re.DOTALL)
        if refusal:
            what = f'refused: {refusal[1]}'
        elif name == may_differ:
            what = f'{read[name]} caches, the tiles are those above'
        found[f'older files, {name}'] = what
    return found


def show(found:dict[str, str]) -> int:
    "Print the table; gives the exit status."
    width = max(map(len, found))
    for name, what in found.items():
        print(f'{name:{width}} | {what}')
    differ = [name for name, what in found.items() if what.startswith('differs')]
    print(f'\n{len(found)} things compared: {len(differ)} differ{": " if differ else ""}{", ".join(differ)}')
    return int(bool(differ))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('commit', nargs='?', help='the older commit; by default where this branch left main')
    args = parser.parse_args()
    commit = git('rev-parse', '--verify', f'{args.commit or branching_point()}^{{commit}}')
    chosen = '' if args.commit else ', where this branch left main'
    print(f'older commit: {git("log", "-1", "--format=%h %s", commit)}{chosen}', flush=True)
    with tempfile.TemporaryDirectory() as temp:
        temp = Path(temp).resolve()
        home = temp/'home'      # one path for all, as messages name it; a folder is moved aside when it is done
        with checked_out(commit, temp/'older') as tree:
            old = attend(tree, home)
        home.rename(temp/'older home')
        new = attend(root, home)
        home.rename(temp/'newer home')
        (temp/'older home').rename(home)
        read = attend(root, home, '--read')
    return show(compare(old, new) | read_back(old, read))


if __name__ == '__main__':
    sys.exit(main())
