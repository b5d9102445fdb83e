"""The command: names that would forge a table, pictures that cannot be read, and every way to end."""
import csv, io, json, os, pkgutil, re, signal, subprocess, sys, time
from pathlib import Path

import pytest
import torch
from conftest import root
from PIL import Image
from torchvision import models

from planet_course.answers import export_model, predict, submission
from planet_course.cli import main
from planet_course.data import ImageList
from planet_course.nets import create_cnn

command = [sys.executable, '-c', 'import sys; from planet_course.cli import main; sys.exit(main())']     # as the installed script does


def test_what_is_installed_is_this_command():
    name, where = re.search(r'^console_scripts = (\S+?)=(\S+)$', (root/'settings.ini').read_text(), flags=re.M).groups()
    assert name == 'planet-predict' and pkgutil.resolve_name(where) is main


def run(*args, **kwargs):
    done = subprocess.run([*command, *args], capture_output=True, text=True, **kwargs)
    assert 'Traceback' not in done.stderr, done.stderr
    return done


def test_a_folder_with_unreadable_files(learn, model_file, tiles, tmp_path):
    "The table has the good ones, standard error names the others, and the exit status says that there were some."
    for file in sorted((tiles/'test-jpg').glob('*.jpg')): (tmp_path/file.name).write_bytes(file.read_bytes())
    (tmp_path/'test_1.jpg').write_bytes(b'')
    (tmp_path/'test_2.jpg').write_bytes((tmp_path/'test_3.jpg').read_bytes()[:300])
    (tmp_path/'dir.jpg').mkdir()       # a folder like any other: it is searched
    (tmp_path/'empty').mkdir()
    done = run(model_file, tmp_path, tmp_path/'gone.jpg', tmp_path/'empty', '--bs', '2')
    rows = list(csv.DictReader(done.stdout.splitlines()))
    assert done.returncode == 1 and [row['image_name'] for row in rows] == ['test_0', 'test_3', 'test_4', 'test_5']
    for row in rows: assert row['tags'] == predict(learn, row['file']).tags
    for name, why in (('test_1.jpg', 'is empty'), ('test_2.jpg', 'cut short'), ('gone.jpg', 'no such file'), ('/empty', 'no pictures')):
        line, = (line for line in done.stderr.splitlines() if name in line and 'planet-predict:' in line)
        assert why in line
    assert main([str(model_file), str(tiles/'test-jpg')]) == 0


def test_a_picture_of_20000_pixels_a_side(model_file, tiles, tmp_path, capsys, monkeypatch):
    bomb = tmp_path/'bomb.png'
    Image.new('1', (20_000, 20_000)).save(bomb)
    tile = tiles/'test-jpg'/'test_0.jpg'
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', Image.MAX_IMAGE_PIXELS)      # --max-pixels changes it for the process
    assert main([*map(str, (model_file, bomb, tile))]) == 1
    out, err = capsys.readouterr()
    assert 'bomb' in err and '--max-pixels' in err and len(out.splitlines()) == 2
    assert main([*map(str, (model_file, tile)), '--max-pixels', '1000']) == 1
    assert 'more than 1,000 pixels' in capsys.readouterr().err


def test_the_command_without_a_model(model_file, tiles, tmp_path, capsys):
    tile = tiles/'test-jpg'/'test_0.jpg'
    torch.save({'weights': torch.zeros(1)}, tmp_path/'m.safetensors')
    for args, why in (((tmp_path/'m.safetensors', tile), 'is a pickle'), ((tmp_path/'none', tile), 'no model file'), ((tmp_path, tile), 'no model file'),
                      ((model_file, tile, '--thresh', '2'), 'strictly between'), ((model_file, tile, '--device', 'toaster'), 'toaster')):
        assert main([*map(str, args)]) == 2
        out, err = capsys.readouterr()
        assert out == '' and why in err
    done = run(model_file, tile, '--bs', '0')
    assert (done.returncode, done.stdout) == (2, '') and 'or more' in done.stderr


def test_names_that_would_forge_a_table(model_file, tiles, tmp_path, capsys):
    "A line break splits no row, `=cmd` is no formula, no escape sequence reaches the terminal; each good tile has one row."
    good = (tiles/'test-jpg'/'test_0.jpg').read_bytes()
    for name in ('a\rb.jpg', 'a\nb.jpg', '=cmd.jpg', 'c\x1b[2Jd.jpg', 'caf\udce9.jpg'): (tmp_path/name).write_bytes(good)
    for name in ('bad\x1b[2J\nplanet-predict: all is well.jpg', '%.jpg'): (tmp_path/name).write_bytes(b'%!PS\n{} loop')
    assert main([str(model_file), str(tmp_path)]) == 1
    out, err = capsys.readouterr()
    rows = list(csv.reader(io.StringIO(out, newline='')))
    assert len(rows) == 6 and all(len(row) == 3 for row in rows) and out.count('\n') == 6 and not {'\r', '\x1b'} & {*(out + err)}
    assert sorted(row[0] for row in rows[1:]) == ["'=cmd", 'a\\nb', 'a\\rb', 'c\\x1b[2Jd', 'caf\\udce9']
    assert err.count('planet-predict: cannot read') == 2 and not any(line.startswith('planet-predict: all is well') for line in err.splitlines())


def test_a_pipe_among_the_pictures(model_file, tiles, tmp_path, capsys):
    "Named, not waited for."
    os.mkfifo(tmp_path/'tile.jpg')
    assert main([*map(str, (model_file, tmp_path/'tile.jpg', tiles/'test-jpg'/'test_0.jpg'))]) == 1
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 2 and 'tile.jpg: this is no file' in err


def test_what_a_folder_leaves_out(model_file, tiles, capsys, monkeypatch):
    "What is printed about it is no row of the table, and the status is not 0; a folder that cannot be read costs only itself."
    whole = ImageList.from_folder
    def some(folder):
        print(f'left out 1 that cannot be read: {folder}/closed')
        if 'train' in folder: raise PermissionError(13, 'Permission denied', folder)
        return whole(folder)
    monkeypatch.setattr(ImageList, 'from_folder', some)
    assert main([*map(str, (model_file, tiles/'train-jpg', tiles/'test-jpg'))]) == 1
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 7 and 'left out' not in out
    assert err.count('planet-predict: left out 1 that') == 2 and 'Permission denied' in err


def test_links_that_lead_nowhere(model_file, tiles, tmp_path, capsys):
    "There might have been tiles behind them: the status is not 0."
    (tmp_path/'tile.jpg').write_bytes((tiles/'test-jpg'/'test_0.jpg').read_bytes())
    (tmp_path/'loop').symlink_to('loop')
    (tmp_path/'more').symlink_to(tmp_path/'gone')
    assert main([str(model_file), str(tmp_path)]) == 1
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 2 and 'left out 2 that cannot be read' in err and 'loop (Too many' in err and 'more (No such file' in err


def test_what_is_said_while_pictures_are_read_is_no_row(model_file, tmp_path, capsys):
    Image.effect_noise((64, 64), 40).convert('RGB').save(tmp_path/'a.png')
    alpha = Image.linear_gradient('L').resize((64, 64))
    faded = Image.open(tmp_path/'a.png')
    faded.putalpha(alpha)
    faded.save(tmp_path/'b.png')
    assert main([str(model_file), str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    assert [row.split(',')[0] for row in out.splitlines()] == ['image_name', 'a', 'b']
    assert 'fourth band' in err


def test_labels_with_blanks_in_the_table(tiles, tmp_path, capsys):
    "They can be read back; a submission, which Kaggle cuts at blanks, is refused."
    src = ImageList.from_csv(tiles, 'train_v2.csv', folder='train-jpg', suffix='.jpg').split_by_rand_pct(0.2)
    spaced = [[f'label of {tag}' for tag in tags.split()] for tags in src.items.df.tags]
    by_file = dict(zip(map(Path, src.items.files), spaced))
    data = src.label_from_func(by_file.get).transform(size=32).databunch(bs=16, device='cpu')
    learn = create_cnn(data, models.resnet18, pretrained=False, thresh=.5)
    file = tiles/'test-jpg'/'test_0.jpg'
    capsys.readouterr()
    assert main([*map(str, (export_model(learn, tmp_path/'m.safetensors'), file))]) == 0
    out, err = capsys.readouterr()
    row, = csv.DictReader(out.splitlines())
    answer = predict(learn, file)
    assert row['tags'] == answer.tags and row['tags'].split(';') == list(answer.labels) and set(answer.labels) <= set(data.classes)
    assert len(answer.labels) > 1 and '; stands between' in err
    with pytest.raises(ValueError, match='labels with spaces'): submission(learn, data.test_dl([file]), path=tmp_path/'a.csv')


endings = r"""
import gc, json, os, signal, sys, time, torch
from planet_course.answers import Predictor
from planet_course.cli import main

def begin(name, setup, args):
    pid = os.fork()
    if pid: return pid
    for stream, number in (('out', 1), ('err', 2)): os.dup2(os.open(f'{name}.{stream}', os.O_WRONLY | os.O_CREAT), number)
    exec(setup)
    if sys.stdout: sys.stdout = open(1, 'w', closefd=False)
    sys.exit(main(args))

def pipe_that_nobody_reads():
    there, here = os.pipe()
    os.close(there)
    return here

cases = json.load(open('cases.json'))
torch.set_num_threads(1)                # threads do not live on in a fork
Predictor(cases[0][2][0], 'cpu')        # what is loaded when first used: once for all
gc.freeze()                             # nor does a fork, as it ends, look through all that was there before it
pids = {name: begin(name, setup, args) for name, setup, args in cases}
while open('stop.out').read().count('\n') < 2: time.sleep(.01)
os.kill(pids['stop'], signal.SIGINT)
status = {name: os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for name, pid in pids.items()}
json.dump(status, open('status.json', 'w'))
"""


def test_how_the_command_ends(small_file, tiles, tmp_path):
    "Ctrl-C, a full disk, a reader that left, a closed stream: a status that is not 0, a line where one can be read, and no traceback."
    good, closed_err = str(tiles/'test-jpg'), 'os.close(2); sys.stderr = None'
    cases = dict(stop=('', [good]*20 + ['--bs', '1']), full=("os.dup2(os.open('/dev/full', os.O_WRONLY), 1)", [good]),
                 left=('os.dup2(pipe_that_nobody_reads(), 1)', [good]), no_out=('os.close(1); sys.stdout = None', [good]),
                 no_err=(closed_err, [good, 'gone.jpg']), broken_err=('os.dup2(pipe_that_nobody_reads(), 2)', ['gone.jpg', good]))
    for name in cases: (tmp_path/f'{name}.out').touch()
    (tmp_path/'cases.json').write_text(json.dumps([(name, setup, [str(small_file), *args]) for name, (setup, args) in cases.items()]))
    subprocess.run([sys.executable, '-c', endings], cwd=tmp_path, check=True, timeout=300)
    status = json.loads((tmp_path/'status.json').read_text())
    out, err = ({name: (tmp_path/f'{name}.{stream}').read_text() for name in cases} for stream in ('out', 'err'))
    assert status == dict(stop=130, full=1, left=1, no_out=2, no_err=1, broken_err=1)
    assert not [name for name in cases if 'Traceback' in err[name] or 'Exception ignored' in err[name]]
    for name, why in dict(stop='stopped by Ctrl-C', full='No space left', left='Broken pipe', no_out='standard output is closed').items(): assert why in err[name]
    assert out['stop'].endswith('\n') and all(len(row) == 3 for row in csv.reader(out['stop'].splitlines()))
    for name in ('no_err', 'broken_err'): assert len(out[name].splitlines()) == 7 and 'gone' not in out[name]


def started(*args):
    return subprocess.Popen([*command, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def stopped_in_a_line(process):
    "What it wrote, after status 130 and one line."
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130 and err.startswith('planet-predict: stopped by Ctrl-C') and err.count('\n') == 1, err
    return out


@pytest.mark.skipif(not os.path.exists('/proc/self/maps'), reason='here nothing tells which libraries a process has loaded')
def test_ctrl_c_while_pytorch_is_loaded():
    process = started('tags.safetensors', 'a.jpg')
    while 'libtorch' not in Path(f'/proc/{process.pid}/maps').read_text(): time.sleep(.001)
    process.send_signal(signal.SIGINT)
    assert stopped_in_a_line(process) == ''


def test_ctrl_c_twice_while_rows_come(small_file, tiles):
    "However fast: one line, and whole rows."
    process = started(small_file, *[tiles/'test-jpg']*20, '--bs', '1')
    first = process.stdout.readline() + process.stdout.readline()
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        time.sleep(.001)
    out = first + stopped_in_a_line(process)
    assert out.endswith('\n') and all(len(row) == 3 for row in csv.reader(out.splitlines()))


def test_the_command_is_there_before_anything_heavy():
    code = 'import sys, planet_course.cli; print([m for m in ("torch", "numpy", "pandas", "tqdm", "PIL") if m in sys.modules])'
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout.strip() == '[]'
