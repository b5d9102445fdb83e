"""What a correction says and to whom; files of corrections that many write, people edit and disks cut short."""
import csv, os, resource, signal, subprocess, sys

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from small import bunch, flights, little_of

from planet_course.answers import add_correction, read_corrections, show_top_losses, tag_delim, top_losses, with_corrections


def fix(image_name, actual): return pd.DataFrame(dict(image_name=image_name, actual=actual))


def label_of(lists, tile): return lists.labels[lists.items.ids.index(tile)]


# ---- which tile ------------------------------------------------------------------------------------------------------

def test_a_correction_reaches_the_tile_that_is_meant(tmp_path):
    "Three tiles are called 1.jpg: one of them is relabelled and trained on, the others stay as they were."
    lists = flights(tmp_path)
    new = with_corrections(lists, fix(['3/1.jpg'], ['haze']), reviewed=['9/2.jpg'], mix=0.)
    assert [label_of(new, f'{flight}/1.jpg') for flight in (3, 7, 9)] == [('haze',), ('clear',), ('clear',)]
    assert new.train.x.ids == ['3/1.jpg'] and new.train.labels == (('haze',),)
    assert new.valid.x.ids == ['7/1.jpg', '7/2.jpg', '9/1.jpg', '9/3.jpg']


def test_a_name_that_fits_several_tiles_is_refused(tmp_path):
    "Corrected or reviewed; a bare name that one tile has will do."
    lists = flights(tmp_path)
    for args in ((fix(['1'], ['haze']),), (fix(['3/1.jpg'], ['haze']), ['2'])):
        with pytest.raises(ValueError, match=r'may be 3/.\.jpg or 7/.\.jpg or 9/.\.jpg'): with_corrections(lists, *args)
    one = flights(tmp_path).items.take([0, 4, 8]).split_by_idx([0]).label_from_df(label_delim=' ')
    assert label_of(with_corrections(one, fix(['2'], ['clear'])), '7/2.jpg') == ('clear',)


def test_a_tile_that_is_named_in_two_ways(tmp_path):
    "In a file that is older than its last records: the last word counts, and the tile is trained on once."
    lists = flights(tmp_path).items.take([0, 4, 8]).split_by_idx([0]).label_from_df(label_delim=' ')
    new = with_corrections(lists, fix(['2', '7/2.jpg', '1', '2'], ['haze', 'clear', 'haze', 'clear haze']), mix=0.)
    assert label_of(new, '7/2.jpg') == ('clear', 'haze') and sorted(new.train.x.ids) == ['3/1.jpg', '7/2.jpg']


# ---- the file --------------------------------------------------------------------------------------------------------

old_file = 'image_name,predicted,actual,when\n2,clear,haze,2024-05-01T10:00:00+00:00\n'


def test_a_file_of_four_columns(tmp_path):
    "It is read, and goes on with its columns; what it has no column for is refused, and nothing is written."
    file = tmp_path/'fixes.csv'
    file.write_text(old_file)
    add_correction(file, '7/1.jpg', 'clear', 'haze')
    before = file.read_bytes()
    for more in (dict(model='resnet18'), dict(note='a track')):
        with pytest.raises(ValueError, match=f'no column for {next(iter(more))}.*another file'): add_correction(file, '7/2.jpg', 'clear', 'haze', **more)
    fixes = read_corrections(file, ['clear', 'haze'])
    assert file.read_bytes() == before and fixes.columns.tolist() == ['image_name', 'predicted', 'actual', 'when', 'model', 'note']
    assert fixes.image_name.tolist() == ['2', '7/1.jpg'] and fixes.model.tolist() == fixes.note.tolist() == ['', '']


def test_model_and_note(tmp_path):
    add_correction(tmp_path/'fixes.csv', '7/1.jpg', 'clear', 'haze', 'resnet18, 128 px', 'smoke, "not" haze?')
    row, = read_corrections(tmp_path/'fixes.csv', ['clear', 'haze']).to_dict('records')
    assert (row['model'], row['note']) == ('resnet18, 128 px', 'smoke, "not" haze?')


@pytest.mark.parametrize('begun', [False, True])
def test_a_full_disk_leaves_no_half_record(tmp_path, monkeypatch, begun):
    file = tmp_path/'fixes.csv'
    if begun: add_correction(file, '7/1.jpg', 'clear', 'haze')
    before = file.read_bytes() if begun else b''
    def full(_): raise OSError(28, 'No space left on device')
    with monkeypatch.context() as m:
        m.setattr(os, 'fsync', full)
        with pytest.raises(OSError, match=f'no room for {file} .No space'): add_correction(file, '7/2.jpg', 'clear', 'haze')
    assert file.read_bytes() == before
    add_correction(file, '7/3.jpg', 'clear', 'haze')
    assert read_corrections(file, ['clear', 'haze']).image_name.tolist() == ['7/1.jpg']*begun + ['7/3.jpg']


@pytest.mark.parametrize('room', [0, 10])
def test_a_file_that_may_not_grow(tmp_path, room):
    "By nothing, or by less than a record: the error names the file, which stays as it was."
    file = tmp_path/'fixes.csv'
    add_correction(file, '7/1.jpg', 'clear', 'haze')
    before, (soft, hard) = file.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + room, hard))
    try:
        with pytest.raises(OSError, match=f'no room for {file} .*Free some space'): add_correction(file, '7/2.jpg', 'clear', 'haze')
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, old)
    assert file.read_bytes() == before


@pytest.mark.parametrize('text', ['a\rb', 'a\nb', 'a\x1b[2Jb', 'a\udcffb', 'a\u2028b', 'a\0b'])
def test_what_would_not_be_read_back_is_refused(tmp_path, text):
    for record in ((text, 'clear', 'clear'), ('7/1.jpg', 'clear', 'clear', '', text)):
        with pytest.raises(ValueError, match='do not show'): add_correction(tmp_path/'fixes.csv', *record)
    assert not (tmp_path/'fixes.csv').exists()


@pytest.mark.parametrize('text', ['=cmd|x', '-60.1_-3.2.jpg', '+1', '@sum', "it's", "'quoted'", 'ümläut', 'a,b', 'a"b'])
def test_what_a_spreadsheet_would_compute(tmp_path, text):
    "It stands in the file as text, and is read back as it was."
    add_correction(tmp_path/'fixes.csv', text, 'clear', 'clear', note=text)
    with open(tmp_path/'fixes.csv', newline='') as f: _, row = csv.reader(f)
    assert row[0][0] not in '=+-@' and row[5][0] not in '=+-@'
    fixes = read_corrections(tmp_path/'fixes.csv', ['clear'])
    assert (fixes.image_name[0], fixes.note[0]) == (text, text)


def test_bytes_that_are_no_utf8_in_a_name(tmp_path, capsys):
    (tmp_path/'fixes.csv').write_bytes(old_file.encode() + 'tüle,clear,haze,now\n'.encode('cp1252'))
    assert len(read_corrections(tmp_path/'fixes.csv', ['clear', 'haze'])) == 1 and 'line 3: a name with bytes' in capsys.readouterr().out


def test_corrections_from_several_processes(tmp_path, capsys):
    "One file, one heading, no record lost or torn."
    code = ('import sys; from planet_course.answers import add_correction\n'
            'for i in range(40): add_correction("fixes.csv", f"tile_{sys.argv[1]}_{i}", "clear", "clear primary")')
    writers = [subprocess.Popen([sys.executable, '-c', code, str(k)], cwd=tmp_path) for k in range(2)]
    assert [writer.wait(120) for writer in writers] == [0]*2
    assert len(read_corrections(tmp_path/'fixes.csv', ['clear', 'primary'])) == 80 and capsys.readouterr().out == ''


def test_corrections_that_excel_saved(tmp_path):
    add_correction(tmp_path/'fixes.csv', 'train_1', 'clear', 'clear primary')
    text = (tmp_path/'fixes.csv').read_text().replace('\n', '\r\n')
    (tmp_path/'fixes.csv').write_bytes(b'\xef\xbb\xbf' + text.encode())
    add_correction(tmp_path/'fixes.csv', 'train_2', 'clear', 'haze')
    assert read_corrections(tmp_path/'fixes.csv', ['clear', 'haze', 'primary']).image_name.tolist() == ['train_1', 'train_2']


# ---- the round -------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('actual, many', [('ships', True), ('', True), (None, True), (float('nan'), True), ('clear haze', False)])
def test_corrections_that_no_tile_can_have(tmp_path, actual, many):
    "Unknown, none, missing, two where a tile has one: refused, and the tile is named."
    lists = flights(tmp_path) if many else flights(tmp_path, ('clear', 'haze', 'haze'), None)
    with pytest.raises(ValueError, match='cannot be used: 3/1.jpg'): with_corrections(lists, fix(['3/1.jpg'], [actual]))


def test_old_tiles_that_are_not_there(tmp_path, capsys):
    lists = flights(tmp_path)
    new = with_corrections(lists, fix(['3/1.jpg'], ['haze']), mix=10.)
    assert len(new.train_idx) == 4 and 'asks for 10 old tiles; there are 3, ' in capsys.readouterr().out
    for mix in (-1, float('nan')):
        with pytest.raises(ValueError, match='mix is'): with_corrections(lists, fix(['3/1.jpg'], ['haze']), mix=mix)


def test_labels_with_blanks(tmp_path):
    "From the table of the worst tiles through a file of corrections to labels again; and in a plot."
    lists = flights(tmp_path, ('bare ground', 'haze', 'bare ground;haze'), ';')
    learn = little_of(lists)
    worst = top_losses(learn).set_index('image_name')
    assert worst.actual['3/1.jpg'] == 'bare ground' and worst.actual['9/3.jpg'] == 'bare ground;haze'
    add_correction(tmp_path/'fixes.csv', '3/1.jpg', worst.predicted['3/1.jpg'], worst.actual['9/3.jpg'])
    new = with_corrections(lists, read_corrections(tmp_path/'fixes.csv', lists.classes))
    assert label_of(new, '3/1.jpg') == ('bare ground', 'haze')
    titles = [ax.get_title().replace('\xa0', ' ') for ax in show_top_losses(learn.data, worst.reset_index()).flat]
    assert any('is: bare ground;haze' in title for title in titles)
    plt.close('all')
    one = flights(tmp_path, ('bare ground', 'haze', 'haze'), None)
    assert label_of(with_corrections(one, fix(['3/2.jpg'], ['bare ground'])), '3/2.jpg') == 'bare ground'
    assert tag_delim(['a b', 'c;d']) == '|'


def test_corrections_of_one_label(tiles):
    lists = bunch(tiles, None).lists
    fixes = pd.DataFrame(dict(image_name=['train_0', 'train_1'], actual=lists.classes[:1]*2))
    data = with_corrections(lists, fixes).databunch(bs=2, device='cpu')
    assert data.train_ds.labels.count(lists.classes[0]) >= 2 and data.one_batch()[1].ndim == 1


@pytest.mark.skipif(not hasattr(os, 'mkfifo'), reason='a system without named pipes')
def test_a_pipe_is_no_file_of_corrections(tmp_path):
    "It has nothing to say until somebody writes to it."
    os.mkfifo(tmp_path/'pipe')
    with pytest.raises(FileExistsError, match='no plain file'): add_correction(tmp_path/'pipe', '7/1.jpg', 'clear', 'haze')
    with pytest.raises(FileNotFoundError, match='no plain file at .*pipe'): read_corrections(tmp_path/'pipe', ['clear', 'haze'])
