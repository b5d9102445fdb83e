"""Tiles that are there: folders in any arrangement, mounts, what is left alone."""
import errno, hashlib, os, shutil, subprocess
from functools import partial
from pathlib import Path

import pytest
from fake_kaggle import competition
from get_helpers import arranged, content, lay, mounted, pack, put, snapshot, visible, wanted, zipped

from planet_course.get import (Config, CorruptError, DataError, download as download_module, kaggle as kaggle_module, layout as layout_module,
                               NoCredentialsError, NoTilesError, planet_data)

pytest_plugins = ['get_fixtures']
pytestmark = pytest.mark.usefixtures('machine')


def rearranged(files, table, tile):
    "`files` with tables and tiles under the names that these make of theirs."
    return {(tile if '/' in name else table)(name): data for name, data in files.items()}


def doubled(files): return rearranged(files, lambda table: f'{table}/{table}', str)  # as Kaggle's client lays them
def nested(files): return rearranged(files, str, lambda tile: f'{tile.split("/")[0]}/{tile}')
def tables_zipped(files):
    tiles, tables = ({name: data for name, data in files.items() if ('/' in name) == tile} for tile in (True, False))
    return tiles | {f'{name}.zip': zipped({name: data}) for name, data in tables.items()}


local = {**{how: partial(arranged, how=how) for how in ('competition', 'mirror', 'fastai', 'flat')},
         'tables zipped': tables_zipped, 'tables in folders': doubled, 'tiles in folders in folders': nested}


@pytest.mark.parametrize('in_place', [False, True], ids=['elsewhere', 'in place'])
@pytest.mark.parametrize('how', local)
def test_a_folder_of_tiles(how, in_place, planet, tmp_path):
    "Each arrangement becomes the layout, by links: no tile is copied, none of the folder's own files is touched."
    folder = lay(local[how](planet), tmp_path/'mine')
    theirs = {p: p.read_bytes() for p in folder.rglob('*') if p.is_file()}
    new = planet_data(folder) if in_place else planet_data(tmp_path/'new', source=folder)
    found, due = content(new), wanted(planet, how)
    assert {name: found.get(name) for name in due} == due
    assert how == 'flat' or found.keys() == due.keys()
    assert {p: p.read_bytes() for p in theirs} == theirs, 'their own files were changed'
    assert (new/'train-jpg').resolve() in {p.parent for p in theirs}, 'tiles were copied'
    before = snapshot(tmp_path)
    assert planet_data(folder if in_place else new) == new and snapshot(tmp_path) == before


def test_a_relative_folder(planet, tmp_path):
    lay(arranged(planet, 'fastai'), Path('mine'))
    assert content(planet_data('mine')) == content(planet_data('new', source='mine')) == wanted(planet, 'fastai')
    assert visible(tmp_path/'here') == ['mine', 'new']


@pytest.mark.parametrize('known', [False, True])
def test_old_labels_keep_their_name(known, planet, tmp_path, capfd, monkeypatch):
    "train_classes.csv is train_v2.csv where its md5 says so; else it keeps its name, and a line says so."
    if known: monkeypatch.setitem(layout_module._MD5, hashlib.md5(planet['train_v2.csv']).hexdigest(), 'train_v2.csv')
    folder = planet_data(tmp_path/'new', source=lay(arranged(planet, 'mirror'), tmp_path/'mine'))
    assert ('train_v2.csv' in visible(folder)) == known != ('train_classes.csv' in visible(folder))
    assert ('train_classes.csv' in capfd.readouterr().out) == (not known)


def test_a_tile_is_missing_in_a_folder(planet, tmp_path, fails):
    files = {n: planet[n] for n in planet if n != 'train-jpg/train_7.jpg'}
    lay(arranged(files, 'fastai'), tmp_path/'mine')
    error = fails(CorruptError, tmp_path/'new', planet_data, tmp_path/'new', source=tmp_path/'mine')
    assert 'train_7' in str(error)


def test_half_of_the_tiles_in_the_way(planet, tmp_path, fails):
    "Somebody's own half-unpacked train-jpg is neither taken for the whole nor changed."
    some = {f'train-jpg/train_{i}.jpg': planet[f'train-jpg/train_{i}.jpg'] for i in range(9)}
    folder = lay(some | {'train-jpg.tar.7z': pack(planet, '.tar.7z')}, tmp_path/'mine')
    for source in ('auto', 'local', 'archive'):
        error = fails(CorruptError, folder, planet_data, folder, source)
        assert 'train-jpg' in error.what and 'move' in error.then, 'to get them again would not help'
    assert content(folder) == some


def test_nothing_there(tmp_path, fails, planet):
    "No folder, an empty one, only tiles, only a table: said with what was found. A typo is no source."
    for source in ('local', 'mount', 'archive'): fails(NoTilesError, tmp_path/'none', planet_data, tmp_path/'none', source)
    for i, name in enumerate(['notes.txt', 'train-jpg/train_0.jpg', 'train_v2.csv']):
        folder = lay({name: planet.get(name, b'')}, tmp_path/str(i))
        fails(NoTilesError, folder, planet_data, folder, 'local')
        fails(NoTilesError, tmp_path/'new', planet_data, tmp_path/'new', folder)
    only_tiles = put(tmp_path, 'train-jpg.zip', zipped({'train-jpg/train_0.jpg': b''}))
    fails(NoTilesError, tmp_path/'new', planet_data, tmp_path/'new', source=only_tiles)
    for source in ('kagle', tmp_path/'none', 'none.tar.7z'):
        with pytest.raises(ValueError, match='kaggle'): planet_data(tmp_path/'new', source)
    assert not (tmp_path/'new').exists() or not visible(tmp_path/'new')


mirrors, competitions = ('planets-dataset', 'datasets/nikitarom/planets-dataset'), (f'competitions/{competition}', competition)
mounts = [(place, None) for place in mirrors + competitions] + [(place, tables) for place in mirrors for tables in competitions]


@pytest.mark.parametrize('source', ['auto', 'mount'])
@pytest.mark.parametrize('place, tables', mounts)
def test_mount(place, tables, source, little, tmp_path, capfd):
    "The platform's folders, old and new, with and without the competition's own tables beside the mirror: linked to, not copied."
    old = {n: data.replace(b'primary', b'PRIMARY') if n == 'train_v2.csv' else data for n, data in little.items()}
    lay(arranged(old, 'mirror') if place in mirrors else little, tmp_path/'input'/place)
    if tables: lay(doubled({n: little[n] for n in little if '/' not in n}), tmp_path/'input'/tables)
    before = snapshot(tmp_path/'input')
    folder = planet_data(source=source)
    assert folder == Config.data_path()/'planet' and '(mount:' in capfd.readouterr().out
    assert content(folder) == (little if tables or place in competitions else wanted(old, 'mirror'))
    assert all((folder/name).is_symlink() for name in visible(folder) if name != 'planet_data.json')
    linked = snapshot(tmp_path/'course')
    assert planet_data(source=source) == folder and snapshot(tmp_path/'course') == linked and snapshot(tmp_path/'input') == before


def test_auto_takes_the_nearest(few, tmp_path, capfd, monkeypatch):
    "Local, mount, archive, synthetic: each when those before it are not there; nobody is asked for anything."
    monkeypatch.setattr(download_module, 'send_safely', None)
    monkeypatch.setattr(kaggle_module, 'send_safely', None)
    for gone, route in enumerate(('local', 'mount', 'archive', 'synthetic')):
        folder = lay({'train.tar.7z': pack(few, '.tar.7z')} if gone < 3 else {}, tmp_path/route)
        if gone < 2: lay(arranged(few, 'mirror'), tmp_path/'input'/'planets-dataset')
        else: shutil.rmtree(tmp_path/'input', ignore_errors=True)
        if gone < 1: lay(arranged(few, 'fastai'), folder)
        assert planet_data(folder, n=3) == folder and f'({route}:' in capfd.readouterr().out
        assert len(list((folder/'train-jpg').iterdir())) == (3 if route == 'synthetic' else 6)


def test_auto_without_anything(tmp_path, capfd):
    folder = planet_data(n=3)
    assert folder == tmp_path/'course'/'data'/'planet_synthetic_3' and '(synthetic:' in capfd.readouterr().out
    assert planet_data(source='synthetic', n=3) == folder


@pytest.mark.parametrize('name', ['train-jpg.tar.7z.crdownload', 'train-jpg.tar.7z.part', 'train_v2.csv.zip.crdownload'])
def test_what_the_browser_has_not_finished(name, few, fails, tmp_path, capfd):
    "It is no archive yet: left alone."
    folder = lay({name: pack(few, '.tar.7z')[:500]}, tmp_path/'mine')
    fails(NoTilesError, folder, planet_data, folder, 'archive')
    planet_data(folder, n=3)
    assert '(synthetic:' in capfd.readouterr().out


def test_auto_and_an_archive_of_other_things(tmp_path, capfd):
    "Somebody's own .zip beside is no reason to give up."
    folder = lay({'thesis.zip': zipped({'thesis.txt': b'x'})}, tmp_path/'mine')
    planet_data(folder, n=3)
    assert '(synthetic:' in capfd.readouterr().out


@pytest.mark.parametrize('source', ['sample', 'kaggle', 'synthetic'])
@pytest.mark.parametrize('how', ['layout', 'from an archive', 'tiles', 'table'])
def test_other_tiles_are_there(how, source, few, sample, kaggle, tmp_path):
    "Never mixed, never overwritten, nobody asked; also where there are only tiles, or only a table."
    start = {'tiles': 'train-jpg', 'table': 'train_v2'}.get(how, 'train')
    if how == 'from an archive': folder = planet_data(tmp_path/'mine', source=put(tmp_path, 'x.zip', pack(few, '.zip')))
    else: folder = lay({name: data for name, data in few.items() if name.startswith(start)}, tmp_path/'mine')
    before = snapshot(folder)
    with pytest.raises(FileExistsError): planet_data(folder, source, n=3)
    assert snapshot(folder) == before and not kaggle.log


@pytest.mark.parametrize('how', ['tiles', 'table'])
def test_mount_and_half_of_something_else(how, few, planet, tmp_path):
    "The mounted tiles are not given another table, nor the mounted table other tiles."
    lay(planet, tmp_path/'input'/competition)
    mine = {n: data for n, data in few.items() if (how == 'table') == (n == 'train_v2.csv')}
    folder = lay(mine, tmp_path/'mine')
    with pytest.raises((DataError, FileExistsError)): planet_data(folder, source='mount')
    assert content(folder) == mine


@pytest.mark.parametrize('how', ['competition', 'fastai', 'zip'])
def test_a_folder_that_cannot_be_written_to(how, planet, tmp_path, capfd):
    "A disk that is mounted read-only: taken as it is where it has the layout; else linked to, or unpacked, from elsewhere."
    mounted(disk := tmp_path/'disk', 'size=20m')
    try:
        lay({'planet.zip': zipped(planet)} if how == 'zip' else arranged(planet, how), disk/'mine')
        subprocess.run(['mount', '-o', 'remount,ro', disk], check=True)
        before = snapshot(disk)
        folder = planet_data(disk/'mine')
        assert content(folder) == wanted(planet, how) and snapshot(disk) == before
        elsewhere = folder.is_relative_to(Config.data_path()) and str(Config.data_path()) in capfd.readouterr().out
        assert folder == disk/'mine' if how == 'competition' else elsewhere
        again = snapshot(tmp_path/'course')
        assert planet_data(disk/'mine') == folder and snapshot(tmp_path/'course') == again
    finally: subprocess.run(['umount', '-l', disk], check=True)


def test_links_that_lead_back(few, tmp_path, capfd):
    "One to the folder above, a ring of two: each folder is looked at once, each archive unpacked once. To itself: said, and left out."
    folder = lay({'train.zip': zipped(few)}, tmp_path/'mine')
    for name, to in dict(itself='itself', above='..', here='.').items(): (folder/name).symlink_to(to)
    (folder/'sub').mkdir()
    (folder/'sub'/'back').symlink_to(folder)
    (folder/'gone').symlink_to(tmp_path/'other')
    closed = [f'{folder}/gone (No such file or directory)', f'{folder}/itself (Too many levels of symbolic links)']
    assert layout_module.find_tiles(folder) == ({}, [folder/'train.zip'], closed)
    assert content(planet_data(tmp_path/'new', source=folder)) == few
    assert f'left out 2 that cannot be read, like {closed[0]}' in capfd.readouterr().out


@pytest.mark.parametrize('what, source', [('lost+found', 'auto'), ('lost+found', 'local'), ('my.zip', 'archive'), ('sub/train_v2.csv', 'auto')])
def test_what_cannot_be_read_is_said(what, source, few, tmp_path, capfd, monkeypatch):
    "Left out, in one line; what can be read is used."
    folder = lay({'good/train.zip': zipped(few)}, tmp_path/'mine')
    if what == 'lost+found': (folder/what).mkdir()
    else: lay({what: b''}, folder)
    def refusing(do):
        def look(path='.', *args, **kwargs):
            if str(path) == str(folder/what): raise PermissionError(errno.EACCES, 'Permission denied', str(path))
            return do(path, *args, **kwargs)
        return look
    for name in ('scandir', 'listdir'): monkeypatch.setattr(os, name, refusing(getattr(os, name)))
    monkeypatch.setattr(layout_module, 'open', refusing(open), raising=False)
    monkeypatch.setattr(Path, 'read_bytes', refusing(Path.read_bytes))
    assert content(planet_data(tmp_path/'new', source=folder) if source == 'auto' else planet_data(folder, source)) == few
    said = capfd.readouterr().out
    assert said.count('cannot be read') == 1 and f'{folder/what} (Permission denied)' in said


def test_names_that_a_terminal_would_obey(few, fails, tmp_path, capfd):
    "Of archives, folders and tiles: written out, in one line."
    name = 'a\x1b[2J\r\nb'
    folder = lay({f'{name}.zip': zipped(few | {'other': b''})}, tmp_path/name)
    assert content(planet_data(folder)) == few
    shown = capfd.readouterr().out
    assert r'a\x1b[2J\r\nb' in shown and '\x1b' not in shown and '\r' not in shown
    for call in (lambda: planet_data(folder/'none', 'archive'), lambda: planet_data(put(tmp_path, f'{name}.zip', b'x'))):
        with pytest.raises(DataError) as e: call()
        assert len(str(e.value).splitlines()) == 3 and all(line.isprintable() for line in str(e.value).splitlines())
    with pytest.raises(FileExistsError) as e: planet_data(folder, source='sample')
    assert str(e.value).isprintable()
    assert str(DataError(name, name, 'a\x1b\r\nb')).splitlines()[2:] == [r'  Then: a\x1b\r', 'b']     # what to type may be several lines


@pytest.fixture
def nobody_at_home(monkeypatch):
    "A user whom the system does not know, as in many containers."
    pytest.importorskip('pwd')
    for name in ('HOME', 'PLANET_COURSE_HOME'): monkeypatch.delenv(name)
    monkeypatch.setattr(os, 'getuid', lambda: 54321)


def test_no_home(nobody_at_home, few, kaggle, fails, tmp_path, capfd, monkeypatch):
    "Folders that are named in full are used; where a home is needed, the error says what to set instead."
    folder = lay(few, tmp_path/'mine')
    assert planet_data(folder) == folder and str(folder) in capfd.readouterr().out
    assert content(planet_data(tmp_path/'new', source=folder)) == few
    monkeypatch.delenv('KAGGLE_API_TOKEN')
    fails(NoCredentialsError, tmp_path/'newer', planet_data, tmp_path/'newer', source='kaggle')
    for call in (planet_data, Config.data_path, lambda: planet_data(source='sample'), lambda: planet_data('~/mine')):
        with pytest.raises(ValueError, match='PLANET_COURSE_HOME|HOME'): call()
    with pytest.raises(ValueError, match='PLANET_COURSE_HOME'): planet_data(n=3)
    monkeypatch.setenv('PLANET_COURSE_HOME', str(tmp_path/'course'))
    assert planet_data(n=3) == tmp_path/'course'/'data'/'planet_synthetic_3'


@pytest.mark.parametrize('home, shown', [('/', '{tmp_path}/mine'), ('{tmp_path}', '~/mine'), ('{tmp_path}/mi', '{tmp_path}/mine')])
def test_home_is_shown_as_a_tilde(home, shown, few, tmp_path, capfd, monkeypatch):
    folder = lay(few, tmp_path/'mine')
    monkeypatch.setenv('HOME', home.format(tmp_path=tmp_path))
    planet_data(folder)
    assert f' tiles in {shown.format(tmp_path=tmp_path)} (' in capfd.readouterr().out


def test_a_broken_link_and_a_pipe_among_the_archives(few, tmp_path):
    "Neither stops us, nor makes us wait."
    folder = lay(arranged(few, 'fastai'), tmp_path/'mine')
    (folder/'gone.zip').symlink_to(tmp_path/'gone')
    os.mkfifo(folder/'pipe.7z')
    assert content(planet_data(tmp_path/'new', source=folder)) == few


@pytest.mark.parametrize('name', ['planet_data.json', 'synthetic.json', 'train_v2.csv'])
def test_a_pipe_for_a_note_or_a_table(name, few, tmp_path):
    "It is none, and nobody waits for it."
    folder = lay({old.replace('v2', 'classes') if name == 'train_v2.csv' else old: data for old, data in few.items()}, tmp_path/'mine')
    os.mkfifo(folder/name)
    assert planet_data(folder) == folder
    with pytest.raises(FileExistsError): planet_data(folder, 'synthetic', n=3)
