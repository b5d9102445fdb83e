"""Tables, folders, splits and labels as people have them: what is meant is found and said, the rest is refused with the line to type."""
import datetime, os, re, unicodedata
from collections import Counter
from enum import Enum, IntEnum, StrEnum
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image as PILImage

from planet_course import core, data
from planet_course.data import Category, ImageList, ItemLists, MultiCategory
from planet_course.files import PICTURE_FORMATS

n = 12
tags = ['clear primary', 'clear', 'haze primary', 'clear road', 'haze', 'clear primary water'] * 2


@pytest.fixture
def place(tmp_path):
    "Twelve tiles, t0.jpg to t11.jpg, in a folder of a data folder."
    (tmp_path/'tiles').mkdir()
    for i in range(n): PILImage.new('RGB', (8, 8), (i, i, i)).save(tmp_path/f'tiles/t{i}.jpg')
    return tmp_path


def table(**columns): return pd.DataFrame(dict(image_name=[f't{i}' for i in range(n)], **columns))


def listed(place, df, **how): return ImageList.from_df(df, place, folder='tiles', suffix='.jpg', **how)


def from_text(place, text, encoding='utf-8', **how):
    (place/'labels.csv').write_bytes(text.encode(encoding))
    return ImageList.from_csv(place, 'labels.csv', folder='tiles', suffix='.jpg', **how)


def lines(tags, sep=',', head='image_name{}tags\n'):
    return head.format(sep) + ''.join(f't{i}{sep}{cell}\n' for i, cell in enumerate(tags))


def labelled(place, values, **how):
    "One value for each tile, through a function."
    found = listed(place, table(tags=tags)).split_by_idx([0])
    return found.label_from_func(lambda f: values[int(f.stem[1:])], **how)


# ---- what is read -----------------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('sep, name', [(';', "sep=';'"), ('\t', r"sep='\\t'"), ('|', r"sep='\|'")])
def test_another_separator(place, sep, name):
    with pytest.raises(ValueError, match=name): from_text(place, lines(tags, sep))
    found = from_text(place, lines(tags, sep), sep=sep)
    assert found.df.tags.tolist() == tags and len(found) == n


def test_the_separator_that_was_given_is_wrong(place):
    with pytest.raises(ValueError, match="sep=','"): from_text(place, lines(tags), sep=';')
    with pytest.raises(ValueError, match="sep=';'"): from_text(place, lines(['a, b'] * n, ';'))     # commas in its cells
    with pytest.raises(ValueError, match="sep=';'"): from_text(place, lines(tags, ';', ''), header=None)


def test_cells_that_hold_the_separator(place):
    "A first line with more fields than headings would push names into the index; later ones are no csv."
    with pytest.raises(ValueError, match='more fields than its headings'): from_text(place, lines(['a, b'] * n))
    with pytest.raises(ValueError, match='Put quotes'): from_text(place, lines([*tags[:-1], 'a, b']))
    assert from_text(place, lines(['"a, b"'] * n)).df.tags.tolist() == ['a, b'] * n


@pytest.mark.parametrize('encoding', ['cp1252', 'utf-16', 'utf-16-le', 'utf-16-be'])
def test_another_encoding(place, encoding):
    text = lines(['wüst'] * n)
    with pytest.raises(ValueError, match=f"encoding='{encoding}'"): from_text(place, text, encoding)
    (place/'labels.csv').write_bytes(text.encode(encoding))
    found = ImageList.from_csv(place, 'labels.csv', folder='tiles', suffix='.jpg', encoding=encoding)
    assert found.df.tags.tolist() == ['wüst'] * n


def test_odd_encodings(place):
    assert from_text(place, lines(tags), 'utf-8-sig').df.columns[0] == 'image_name'     # as Excel writes it
    for encoding in ('utf-16', 'nonsense'):
        (place/'labels.csv').write_text(lines(tags))
        with pytest.raises(ValueError, match='encoding='): ImageList.from_csv(place, 'labels.csv', 'tiles', '.jpg', encoding=encoding)
    with pytest.raises(ValueError, match='Save the sheet as csv'): from_text(place, 'PK\x03\x04')


def test_words_for_nothing_are_words(place):
    words = ['NA', 'None', 'null', 'nan', 'N/A', 'NaN'] * 2
    found = from_text(place, lines(words)).split_by_idx([0]).label_from_df()
    assert Counter(found.labels) == Counter(words)
    for name in ('NA', 'null'): PILImage.new('RGB', (8, 8)).save(place/f'tiles/{name}.jpg')
    (place/'labels.csv').write_text('image_name,tags\nNA,clear\nnull,haze\n')
    assert ImageList.from_csv(place, 'labels.csv', 'tiles', '.jpg').ids == ['tiles/NA.jpg', 'tiles/null.jpg']
    with pytest.raises(ValueError, match=r'row 3 \(t3\).*keep_default_na=False'):
        from_text(place, lines([*tags[:3], '', *tags[4:]])).split_none().label_from_df()
    with pytest.raises(ValueError, match='1 rows name no tile: 2'): listed(place, table(tags=tags).replace('t2', ' '))


def test_a_table_without_headings(place):
    text = lines(tags, head='')
    with pytest.raises(ValueError, match="'t0' names a tile.*header=None"): from_text(place, text)
    found = from_text(place, text, header=None)
    assert len(found) == n and found.split_none().label_from_df(label_delim=' ').labels[0] == ('clear', 'primary')
    own = pd.read_csv(place/'labels.csv')
    with pytest.raises(ValueError, match='header=None'): listed(place, own)
    for i in range(2): os.rename(place/f'tiles/t{i}.jpg', place/f'tiles/{i}.jpg')        # columns 0 and 1, and tiles of that name
    renamed = table(tags=tags).replace({'image_name': {'t0': '0', 't1': '1'}})
    assert len(listed(place, renamed.set_axis([0, 1], axis=1))) == len(listed(place, renamed.set_axis(['0', '1'], axis=1))) == n


@pytest.mark.parametrize('name', ['t{}', 'T{}', ' t{}', 't{} '])
def test_a_table_without_headings_spelled_otherwise(place, name, capsys):
    "The tile that became the heading is found in any spelling; a heading that looks like a tile that a row names is one."
    if name == 't{}': os.rename(place/'tiles/t0.jpg', place/'tiles/t0.JPG')
    text = ''.join(f'{name.format(i)},{cell}\n' for i, cell in enumerate(tags))
    with pytest.raises(ValueError, match=f"the heading '{name.format(0)}' names a tile.*header=None"): from_text(place, text)
    assert not capsys.readouterr().out
    assert len(from_text(place, text, header=None)) == n
    for heading in (name.format(0).swapcase(), name.format(0)): assert len(from_text(place, f'{heading},tags\n{text}')) == n


def test_an_index_in_front(place):
    df = table(tags=tags)
    df.to_csv(place/'labels.csv')
    with pytest.raises(ValueError, match="cols='image_name'"): ImageList.from_csv(place, 'labels.csv', 'tiles', '.jpg')
    found = ImageList.from_csv(place, 'labels.csv', 'tiles', '.jpg', cols='image_name').split_none()
    with pytest.raises(ValueError, match=r"'image_name' holds the tiles' names.*\['Unnamed: 0', 'tags'\]"): found.label_from_df()
    assert found.label_from_df('tags', ' ').classes == ['clear', 'haze', 'primary', 'road', 'water']
    with pytest.raises(ValueError, match=r'reset_index\(\)'): listed(place, df.set_index('image_name'))


def typed(error, **names):
    "What comes of the line that an error gives: `...` in it stands for what was given before."
    line = re.search(r'\w+\.from_csv\(.*?\)', str(error.value))[0]
    return eval(line.replace('...', '*given'), dict(ImageList=ImageList, **names))


def test_the_line_to_type_is_of_a_call_that_takes_it(place):
    "`ImageDataBunch.from_csv` has neither cols= nor header=."
    for name, text in {'index': table(tags=tags).to_csv(), 'bare': lines(tags, head='')}.items():
        (place/f'{name}.csv').write_text(text)
        with pytest.raises(ValueError, match='ImageList.from_csv') as error: data.ImageDataBunch.from_csv(place, 'tiles', ' ', f'{name}.csv', suffix='.jpg')
        found = typed(error, given=(place, f'{name}.csv', 'tiles', '.jpg'))
        assert len(found) == n and Path(found.files[0]).name == 't0.jpg'


# ---- which file -------------------------------------------------------------------------------------------------------------------------

def test_names_that_are_spelled_otherwise(place, capsys):
    os.rename(place/'tiles/t0.jpg', place/'tiles/t0.JPG')
    os.rename(place/'tiles/t1.jpg', place/'tiles'/f'{unicodedata.normalize("NFD", "wüst")}.jpg')
    df = table(tags=tags).replace({'image_name': {'t1': unicodedata.normalize('NFC', 'wüst'), 't2': 't2 ', 't3': ' t3'}})
    found = listed(place, df)
    assert all(map(os.path.isfile, found.files)) and [Path(f).name for f in found.files[2:4]] == ['t2.jpg', 't3.jpg']
    out = capsys.readouterr().out
    assert out.count('\n') == 1 and '4 tiles are spelled otherwise on disk' in out and "'t0.jpg' is 't0.JPG'" in out
    assert len(listed(place, df.replace('t3', 't3'))) == n


NFC, NFD = (unicodedata.normalize(form, 'übung') for form in ('NFC', 'NFD'))


@pytest.mark.parametrize('there, named', [(NFD, NFC), (NFC, NFD), ('Tiles', 'tiles'), ('tiles', 'tiles ')])
def test_folders_that_are_spelled_otherwise(place, there, named, capsys):
    "Found where one can be meant, given or in the tiles' names; elsewhere the error shows it in ASCII. What checks tiles finds them there."
    os.rename(place/'tiles', place/there)
    df = table(tags=tags)
    for folder, names in ((named, df.image_name), ('.', f'{named}/' + df.image_name)):
        found = ImageList.from_df(df.assign(image_name=names), place, folder=folder, suffix='.jpg')
        assert found.files == tuple(str(place/there/f't{i}.jpg') for i in range(n))
        out = capsys.readouterr().out
        assert out.count('\n') == 1 and '1 folders are spelled otherwise' in out and out.isascii()
    (place/'bare.csv').write_text(lines(tags, head=''))
    with pytest.raises(ValueError, match="'t0' names a tile"): ImageList.from_csv(place, 'bare.csv', named, '.jpg')
    spelled = re.escape(f'On disk it is spelled {ascii(str(place/there))}')
    with pytest.raises(FileNotFoundError, match=spelled): ImageList.from_folder(place/named)
    (place/there/'labels.csv').write_text('')
    with pytest.raises(FileNotFoundError, match=spelled[:-1]): ImageList.from_csv(place/named, 'labels.csv')
    with pytest.raises(ValueError, match=re.escape(ascii(there))): ImageList.from_folder(place).split_by_folder(named, named)


def test_folders_that_could_be_two(place):
    for name in ('Tiles', 'TILES'): (place/name).mkdir()
    os.rename(place/'tiles', place/'away')
    with pytest.raises(FileNotFoundError, match="no tile folder at .*spelled '.*/TILES' or '.*/Tiles'"): listed(place, table(tags=tags))
    os.rename(place/'away', place/'tiles')
    os.rmdir(place/'Tiles')
    os.rmdir(place/'TILES')
    both = table(tags=tags).image_name.map('tiles/{}'.format).replace('tiles/t3', 'Tiles/t3').to_frame()
    with pytest.raises(FileNotFoundError, match="no tile folder at .*Tiles"): ImageList.from_df(both, place, suffix='.jpg')   # what other rows mean


def test_names_that_could_be_two_files(place):
    for name in ('T0.jpg', 't0.JPG'): (place/'tiles'/name).write_bytes(b'')
    os.remove(place/'tiles/t0.jpg')
    with pytest.raises(FileNotFoundError, match="1 of 12 .*Nearest to 't0.jpg': 'T0.jpg', 't0.JPG'"): listed(place, table(tags=tags))
    os.rename(place/'tiles/t1.jpg', place/'tiles/T2.jpg')         # what another row means is not taken for a look-alike
    os.rename(place/'tiles/t0.JPG', place/'tiles/t0.jpg')
    os.remove(place/'tiles/T0.jpg')
    with pytest.raises(FileNotFoundError, match='1 of 12'): listed(place, table(tags=tags).replace('t1', 'T1'))
    with pytest.raises(FileNotFoundError, match="Nearest to 't10': 't10.jpg'"): ImageList.from_df(table(tags=tags).tail(2), place, folder='tiles')


@pytest.mark.skipif(not hasattr(os, 'mkfifo'), reason='a system without named pipes')
def test_what_is_no_file(place, capsys):
    os.mkfifo(place/'tiles/pipe.jpg')
    os.symlink('nowhere.jpg', place/'tiles/gone.jpg')
    os.symlink('round.jpg', place/'tiles/round.jpg')
    os.symlink('t1.jpg', place/'tiles/link.jpg')
    (place/'tiles/folder.jpg').mkdir()
    files = ImageList.from_folder(place).files
    assert len(files) == n + 1
    out = capsys.readouterr().out
    closed, odd = out.splitlines()
    assert 'left out 2 that cannot be read' in closed and 'gone.jpg (No such file' in closed and 'round.jpg (Too many levels' in closed
    assert 'left out 1 that are called pictures and are no files' in odd and 'pipe.jpg' in odd
    assert len(listed(place, table(tags=tags).replace('t4', 'link')).files) == n
    for name in ('pipe', 'gone', 'folder', 'round'):
        with pytest.raises(FileNotFoundError, match=name): listed(place, table(tags=tags).replace('t4', name))


def test_folders_are_searched_with_their_links(place, capsys, monkeypatch):
    more = place.parent/f'{place.name}-more'
    more.mkdir()
    PILImage.new('RGB', (8, 8)).save(more/'far.bmp')
    PILImage.new('RGB', (8, 8)).save(more/'.hidden.jpg')
    os.symlink(more, place/'link')
    os.symlink(place, place/'loop')
    (place/'lost+found').mkdir()
    (place/'lost+found/no.jpg').write_bytes(b'')
    listdir = Path.iterdir
    def closed(self):
        if self.name == 'lost+found': raise PermissionError(13, 'Permission denied', str(self))
        return listdir(self)
    monkeypatch.setattr(Path, 'iterdir', closed)      # root may read everything
    assert ImageList.from_folder(place).ids == ['link/far.bmp', *sorted(f'tiles/t{i}.jpg' for i in range(n))]
    assert 'left out 1 that cannot be read' in capsys.readouterr().out


def test_endings(place):
    ends = data.picture_endings
    opens = PILImage.registered_extensions()
    assert {opens[end] for end in ends} == set(PICTURE_FORMATS)
    PILImage.new('RGB', (8, 8)).save(place/'map.TIF')
    assert len(ImageList.from_folder(place)) == n + 1
    for given in ('.tif', 'tif', ['.TIF']): assert ImageList.from_folder(place, given).ids == ['map.TIF']
    with pytest.raises(FileNotFoundError, match='looked for png'): ImageList.from_folder(place, 'png')
    with pytest.raises(FileNotFoundError, match='there is no such folder'): ImageList.from_folder(place/'none')


def test_names_of_others_are_printed_in_one_line(place, capsys):
    bad = 'a\r\x1b[31m\nb'
    with pytest.raises(FileNotFoundError) as e: listed(place, table(tags=tags).replace('t4', bad))
    assert core.one_line(str(e.value)) == str(e.value) and r'a\r\x1b[31m\nb' in str(e.value)
    labelled(place, [bad] + ['clear'] * (n - 1))
    out = capsys.readouterr().out
    assert r'a\r\x1b[31m\nb (1 in validation)' in out and out.count('\n') == 1
    with pytest.raises(ValueError) as e: labelled(place, [None] * n)
    assert core.one_line(str(e.value)) == str(e.value)


# ---- doubles and splits -----------------------------------------------------------------------------------------------------------------

evil = 'a\x1b[2J\r\nb'


def wrong_table(text, **how): return lambda path: ((path/'t.csv').write_bytes(text), ImageList.from_csv(path, 't.csv', **how))


@pytest.mark.parametrize('call', [
    lambda path: ImageList.from_folder(path), lambda path: ImageList.from_folder(path/'none'), lambda path: ImageList.from_csv(path, 'none.csv'),
    lambda path: data.get_annotations(path/'none.json'), wrong_table(b'a;b\nc;d\n'), wrong_table(b'a,b\nc,d,e\n'), wrong_table(b'PK'), wrong_table(b'\xff\xfea'),
    wrong_table(b'a\xe9,b\n'), wrong_table(b'a,b\n1,2\n1,2,3,4\n'), wrong_table(b'a,b\nc,d\n'), wrong_table(b'a,b\nc,d\n', cols='e'), wrong_table(b'a,b\nc,d\n', folder='none'),
    lambda path: ((path/'a.json').write_text('{}'), data.get_annotations(path/'a.json')), lambda path: ((path/'a.json').write_text('['), data.get_annotations(path/'a.json')),
    lambda path: ((path/'tiles').mkdir(), PILImage.new('RGB', (8, 8)).save(path/'tiles/a.png'), ImageList.from_folder(path).split_by_folder()),
], ids='empty folder table json semicolon fields excel utf-16 cp1252 tokens name column tile-folder coco broken split'.split())
def test_errors_show_nothing_that_a_terminal_obeys(tmp_path, call, capsys):
    "Whatever is in the name of the folder: no line of ours is more than one, or clears the screen."
    (tmp_path/evil).mkdir()
    with pytest.raises((ValueError, OSError)) as e: call(tmp_path/evil)
    for text in (str(e.value), *capsys.readouterr().out.splitlines()): assert text.isprintable()


@pytest.mark.parametrize('column', [evil, 'tags'])
def test_headings_and_cells_show_nothing_that_a_terminal_obeys(place, column, capsys):
    df = table(tags=[evil, 'haze'] * 6, other=tags).rename(columns={'tags': column})
    for call in (lambda: listed(place, df, cols=column), lambda: listed(place, df, cols=evil + evil), lambda: listed(place, df).split_from_df(column),
                 lambda: listed(place, df).split_none().label_from_df(column, classes=['haze']), lambda: listed(place, df.replace('t0', evil))):
        with pytest.raises((ValueError, OSError)) as e: call()
        assert str(e.value).isprintable()
    listed(place, df).split_by_idx([0]).label_from_df(column, ' ')
    assert all(map(str.isprintable, capsys.readouterr().out.splitlines()))


def test_one_row_a_label(place):
    rows = table(tags=tags).assign(tags=[cell.split() for cell in tags]).explode('tags', ignore_index=True)
    with pytest.raises(ValueError, match=r"8 tiles have several rows: t0, t2, t3, .*groupby\('image_name', sort=False\).agg\(list\)"):
        listed(place, rows)
    gathered = rows.groupby('image_name', sort=False).agg(list).reset_index()         # as the error says
    split = listed(place, gathered).split_by_rand_pct(0.5)
    assert not set(split.train.files) & set(split.valid.files) and len(split.valid) == n//2
    found = split.label_from_df()
    whole = listed(place, table(tags=tags)).split_by_rand_pct(0.5).label_from_df(label_delim=' ')
    assert found.labels == whole.labels and found.kind is MultiCategory
    with pytest.raises(ValueError, match=r'drop_duplicates\(\)'): listed(place, pd.concat([table(tags=tags)] * 2))


def test_a_tile_of_two_spellings_is_one_tile(place):
    rows = pd.concat([table(tags=tags), table(tags=tags)[:2].replace({'image_name': {'t0': 'T0'}})]).drop_duplicates()
    os.rename(place/'tiles/t0.jpg', place/'tiles/t0.JPG')
    with pytest.raises(ValueError, match='1 tiles have several rows: t0 = T0. Write each name in one way'): listed(place, rows)
    assert len(listed(place, rows.replace('T0', 't0').drop_duplicates())) == n                        # as the error says


def test_no_tile_on_both_sides(place):
    items = listed(place, table(tags=tags))
    for split in (lambda o: o.split_by_rand_pct(0.5), lambda o: o.split_by_idx(range(n)), lambda o: o.split_none()):
        with pytest.raises(ValueError, match='12 tiles are in the list more than once'): split(items.add(items))
    with pytest.raises(ValueError, match='1 tiles are in the list more than once'): ItemLists(items, np.arange(n), np.array([3]))
    os.symlink(place/'tiles', place/'again')
    with pytest.raises(ValueError, match='24 tiles .* links to others'): ImageList.from_folder(place).split_by_rand_pct()
    os.remove(place/'again')
    os.symlink(place/'tiles/t0.jpg', place/'t0-again.jpg')
    with pytest.raises(ValueError, match='2 tiles .*t0-again.jpg'): ImageList.from_folder(place).split_by_rand_pct()


def test_lists_with_other_columns_are_not_joined(place):
    first, second = listed(place, table(tags=tags)[:6]), listed(place, table(labels=tags)[6:])
    with pytest.raises(ValueError, match=r"\['image_name', 'labels'\]. Rename them"): first.add(second)
    assert len(first.add(listed(place, table(tags=tags)[6:])).df) == n


def test_a_mask_is_no_list_of_rows(place):
    items = listed(place, table(tags=tags))
    mask = np.arange(n) % 3 == 1
    wanted = [1, 4, 7, 10]
    for form in (mask, mask.tolist(), pd.Series(mask), pd.Series(mask, dtype='boolean'), torch.tensor(mask), iter(mask.tolist())):
        assert items.split_by_idx(form).valid_idx.tolist() == wanted
    for form in (wanted, np.array(wanted), torch.tensor(wanted), pd.Series(wanted), iter(wanted), dict.fromkeys(wanted).keys()):
        assert items.split_by_idx(form).valid_idx.tolist() == wanted
    assert len(items.split_by_idx([]).valid) == 0
    with pytest.raises(ValueError, match=r'2 times True or False for 12 rows.*np.flatnonzero\(mask\)'): items.split_by_idx([True, False])
    with pytest.raises(ValueError, match='True or False'): items.split_by_idx([True, 3])
    for odd in ([1.5], ['1'], [None], [np.nan]):
        with pytest.raises(ValueError, match='no row number'): items.split_by_idx(odd)
    for form in (mask.astype(int), mask.astype(int).tolist(), pd.Series(mask.astype(int))):
        with pytest.raises(ValueError, match=r'a mask of 0 and 1; np.flatnonzero\(mask\)'): items.split_by_idx(form)


def test_a_mask_of_a_table_in_another_order(place):
    "By its index, or refused: never by position."
    df = table(tags=tags).sample(frac=1, random_state=1)
    items = listed(place, df)
    third = df.image_name == 't3'
    assert Path(items.split_by_idx(third).valid.files[0]).stem == 't3'
    with pytest.raises(ValueError, match=r'in another order.*mask.to_numpy\(\)'): items.split_by_idx(third.sort_index())
    assert items.split_by_idx(third.sort_index().to_numpy()).valid_idx.tolist() == [3]


def test_a_column_says_the_split(place):
    claims = [i % 3 == 1 for i in range(n)]
    for values in (claims, list(map(int, claims)), list(map(float, claims)), list(map(str, claims)), [str(c).upper() for c in claims]):
        split = listed(place, table(tags=tags, is_valid=values)).split_from_df()
        assert split.valid_idx.tolist() == [1, 4, 7, 10] and split.train_idx.tolist() == [0, 2, 3, 5, 6, 8, 9, 11]
    assert from_text(place, lines([f'{a},{b}' for a, b in zip(tags, claims)], head='image_name,tags,v\n')).split_from_df('v').valid_idx.tolist() \
        == [1, 4, 7, 10]
    with pytest.raises(ValueError, match="row 0 has 'train'.*== 'valid'"): listed(place, table(tags=tags, part='train')).split_from_df('part')
    with pytest.raises(ValueError, match='row 2 has nan'): listed(place, table(tags=tags, is_valid=[1, 0, np.nan] * 4)).split_from_df()
    with pytest.raises(ValueError, match="no column 'is_valid'"): listed(place, table(tags=tags)).split_from_df()
    with pytest.raises(ValueError, match='no table'): ImageList.from_folder(place).split_from_df()


def test_folders_that_are_left_out_are_named(place, capsys):
    for name in ('train', 'valid', 'test'):
        (place/name).mkdir()
        PILImage.new('RGB', (8, 8)).save(place/name/'a.jpg')
    split = ImageList.from_folder(place).split_by_folder()
    assert (len(split.train), len(split.valid)) == (1, 1)
    assert capsys.readouterr().out == 'left out 13 tiles, in neither train nor valid: test, tiles\n'


# ---- labels -----------------------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('form', [list, tuple, set, frozenset, np.array, pd.Series, pd.Index, iter, lambda o: dict.fromkeys(o).keys(),
                                  lambda o: (x for x in o), lambda o: np.array(o, object), lambda o: pd.Categorical(o)],
                         ids='list tuple set frozenset array series index iterator keys generator objects categorical'.split())
def test_any_collection_of_names_is_several_labels(place, form):
    values = [form(cell.split()) for cell in tags]
    found = labelled(place, values)
    assert found.kind is MultiCategory and found.classes == ['clear', 'haze', 'primary', 'road', 'water']
    assert list(map(set, found.labels)) == [set(cell.split()) for cell in tags]
    if form in (iter,) or 'generator' in str(type(values[0])): values = [form(cell.split()) for cell in tags]
    column = listed(place, table(tags=pd.Series(values, dtype=object))).split_none().label_from_df()
    assert column.classes == found.classes and torch.equal(column.part(range(n)).targets, found.part(range(n)).targets)


def test_one_name_in_any_form(place):
    found = labelled(place, [np.str_('clear'), np.array('clear'), ' clear ', 'clear', 'haze', Path('haze')] * 2)
    assert found.kind is Category and found.classes == ['clear', 'haze']
    assert labelled(place, [0, np.int64(1), torch.tensor(2), '3', 4.0, True] * 2).classes == ['0', '1', '2', '3', '4.0', 'True']


@pytest.mark.parametrize('bad', [None, np.nan, pd.NA, pd.NaT, '', '  ', ['clear', None], ['clear', np.nan], np.array(['clear', None]), ['clear', ''],
                                 b'clear', {'clear': 1}, [['clear']], np.array([['clear', 'haze']]), 0.37, [0.37, 0.5], float('inf'),
                                 pd.DataFrame({'clear': [1]})], ids=str)
def test_what_is_no_label_names_the_tile(place, bad):
    values = ['clear', 'haze', bad] + ['clear'] * (n - 3)
    with pytest.raises(ValueError, match='1 of 12 tiles have no label that can be used: .*t2.jpg'): labelled(place, values)


Weather, Sky = Enum('Weather', ['clear']), Enum('Sky', {'clear': 'clear'}, type=str)


@pytest.mark.parametrize('bad, cure', [('clear'.upper, r'builtin_function_or_method is no name: call it, with \(\)'), (len, r'call it, with \(\)'),
                                       (torch.nn.Linear, 'type is no name: write .__name__'), (Weather.clear, 'Weather is no name: write .name'),
                                       (Sky.clear, 'Sky is no name: write .name'), (object(), 'object is no name: write its name as text'),
                                       (re.search('c', 'clear'), 'Match is no name'), (1j, '1j is a quantity'), ([len], 'call it')],
                         ids='method function class enum text-enum object match complex list'.split())
def test_what_does_not_stand_for_text_is_no_label(place, bad, cure):
    with pytest.raises(ValueError, match=rf'1 of 12 tiles have no label that can be used: .*t2.jpg \(.*{cure}'):
        labelled(place, ['clear', 'haze', bad] + ['clear'] * (n - 3))
    if not isinstance(bad, list):
        with pytest.raises(ValueError, match=f'classes has something that is no name: .*{cure}'): labelled(place, ['clear'] * n, classes=['clear', bad])
    if not isinstance(bad, list | complex):
        split = listed(place, table(tags=pd.Series([bad] * n, dtype=object))).split_none()
        with pytest.raises(ValueError, match=cure): split.label_from_df()
        with pytest.raises(ValueError, match=f"column 'tags' holds what is no text: .*{cure}"): split.label_from_df(label_delim=' ')


def test_what_stands_for_text_is_a_label(place):
    values = [datetime.date(2017, 4, 20), pd.Interval(0, 1), StrEnum('Words', ['HAZE']).HAZE, IntEnum('Crop', ['WHEAT']).WHEAT] * 3
    assert labelled(place, values).classes == ['1', '2017-04-20', '(0, 1]', 'haze']


@pytest.mark.parametrize('name', ['t{}', 'T{}', ' t{} ', 't{}.JPG', 'tiles/t{}.jpg'])
def test_names_of_tiles_are_no_labels(place, name):
    df = table(tags=[name.format(i) for i in range(n)])
    with pytest.raises(ValueError, match="'tags' holds the tiles' names, not labels"): listed(place, df).split_none().label_from_df()
    df.loc[3, 'tags'] = 'clear'
    assert len(listed(place, df).split_none().label_from_df().classes) == n


def test_no_label_in_a_table(place):
    for bad in (None, np.nan, pd.NA, '', ' '):
        column = pd.Series(['clear', 'haze', bad] + ['clear'] * (n - 3), dtype=object)
        with pytest.raises(ValueError, match=r"1 tiles have no label in column 'tags': row 2 \(t2\).*label_delim="):
            listed(place, table(tags=column)).split_none().label_from_df()


def test_vectors_of_zeros_and_ones(place):
    names = ['clear', 'haze', 'primary']
    vectors = np.array([[name in cell.split() for name in names] for cell in tags])
    wanted = [tuple(name for name in names if name in cell.split()) for cell in tags]
    for rows in (vectors, vectors.astype(int), vectors.astype(np.float32), vectors.tolist(), torch.tensor(vectors)):
        with pytest.raises(ValueError, match='vectors of 3 zeros and ones: give classes='): labelled(place, rows)
        with pytest.raises(ValueError, match='vectors of 3 .* give classes='): labelled(place, rows, classes=names[:2])
        found = labelled(place, rows, classes=names)
        assert list(found.labels) == wanted and found.classes == names
        assert torch.equal(found.part(range(n)).targets, torch.tensor(vectors, dtype=torch.float32))
    backwards = labelled(place, vectors[:, ::-1], classes=names[::-1])
    assert list(map(set, backwards.labels)) == list(map(set, wanted))
    assert labelled(place, [[0, 1], [2], [10]] * 4).classes == ['0', '1', '2', '10']       # names that are numbers


def test_one_column_a_label(place, capsys):
    names = ['primary', 'clear', 'haze', 'mine']
    claims = {name: [name in cell.split() for cell in tags] for name in names}
    claims['mine'][0] = True
    claims['clear'][1] = False
    for kind in (bool, int, float, str):
        df = table(**{name: list(map(kind, col)) for name, col in claims.items()})
        found = listed(place, df).split_by_idx([0]).label_from_df(cols=names)
        assert found.kind is MultiCategory and found.classes == names          # as they stand, not sorted
        assert found.part(range(n)).targets.tolist() == [[float(claims[name][i]) for name in names] for i in range(n)]
        out = capsys.readouterr().out
        assert out == '1 of 12 tiles have no label: their targets are zeros\n' \
            'no training tile has mine (1 in validation): kept as a class, its tiles count as missed\n'
    split = listed(place, df.assign(tags=tags)).split_none()
    assert split.label_from_df([1, 2]).classes == ['primary', 'clear'] and split.label_from_df(cols=('haze',)).classes == ['haze']
    with pytest.raises(ValueError, match="'tags' is not True and False.*give its name alone"): split.label_from_df(['tags'])
    with pytest.raises(ValueError, match=r"label_from_df\(cols='tags', label_delim=' '\)"): split.label_from_df(['tags'], ' ')
    with pytest.raises(ValueError, match='cols is empty'): split.label_from_df([])
    with pytest.raises(ValueError, match="no column 'nothing'"): split.label_from_df(['clear', 'nothing'])


@pytest.mark.parametrize('kind', [bool, int, float, str])
def test_one_of_several_columns_of_zeros_and_ones(place, kind, capsys):
    "Asked for without its name it is not taken without a word; the line that is printed can be typed."
    claims = {name: [kind(int(name in cell)) for cell in tags] for name in ('clear', 'haze')}
    split = listed(place, table(**claims, is_valid=0)).split_none()
    split.label_from_df()
    out = capsys.readouterr().out
    assert out.count('\n') == 1 and "column 'clear' gives the classes" in out
    assert eval(f'split.{out.split("write ")[1]}').classes == ['clear', 'haze']
    split.label_from_df('clear')
    listed(place, table(clear=claims['clear'], is_valid=0, tags=tags)).split_none().label_from_df()
    listed(place, table(tags=tags, **claims)).split_none().label_from_df()
    assert not capsys.readouterr().out


@pytest.mark.parametrize('delim, cells', [(',', 'clear, primary'), (', ', 'clear, primary'), (';', ' clear ;primary; '), (' ', 'clear  primary')])
def test_names_are_cut_without_blanks(place, delim, cells, capsys):
    found = listed(place, table(tags=[cells, 'clear'] * 6)).split_none().label_from_df(label_delim=delim)
    assert found.classes == ['clear', 'primary'] and found.labels[:2] == (('clear', 'primary'), ('clear',))
    assert found.part(range(n)).targets.sum(0).tolist() == [12, 6] and not capsys.readouterr().out


def test_a_delimiter_that_does_not_fit(place, capsys):
    split = listed(place, table(tags=['clear, primary', 'clear'] * 6)).split_none()
    with pytest.raises(ValueError, match="end with a separator: clear,"): split.label_from_df(label_delim=' ')
    split.label_from_df(label_delim='|')
    assert capsys.readouterr().out == "label_delim='|' is nowhere in column 'tags' (clear, primary): one label each\n"
    lists = listed(place, table(tags=[['clear', 'haze']] * n)).split_none()
    with pytest.raises(ValueError, match='leave label_delim out'): lists.label_from_df(label_delim=' ')
    with pytest.raises(ValueError, match="label_delim is ''"): split.label_from_df(label_delim='')
    assert lists.label_from_df().labels[0] == ('clear', 'haze')
    chosen = listed(place, table(tags=pd.Categorical(['clear haze', None] * 6))).split_none().label_from_df(label_delim=' ')
    assert chosen.labels[:2] == (('clear', 'haze'), ())
    plain = listed(place, table(tags=[' clear', 'clear '] * 6)).split_none().label_from_df()
    assert plain.classes == ['clear'] and plain.kind is Category


@pytest.mark.parametrize('delim, cells', [(', ', ['clear, primary', 'clear,haze']), (' ', ['clear primary', 'clear,haze']), (' ', ['clear primary', 'clear\thaze']),
                                          (';', ['clear;primary', 'clear|haze'])])
def test_a_delimiter_that_fits_only_some_cells(place, delim, cells, capsys):
    found = listed(place, table(tags=cells * 6)).split_none().label_from_df(label_delim=delim)
    assert found.classes == ['clear', cells[1], 'primary']
    out = capsys.readouterr().out
    assert out == f'labels with a separator within, each taken for one: {core.one_line(cells[1])}. Is label_delim={delim!r} the right one?\n'


def test_tiles_without_any_label(place, capsys):
    found = from_text(place, lines(['', ' ', *tags[2:]])).split_none().label_from_df(label_delim=' ')
    assert found.labels[:3] == ((), (), ('haze', 'primary')) and found.part([0]).targets.sum() == 0
    assert capsys.readouterr().out == '2 of 12 tiles have no label: their targets are zeros\n'
    labelled(place, [[], *map(str.split, tags[1:])])
    assert '1 of 12 tiles have no label' in capsys.readouterr().out
    with pytest.raises(ValueError, match='no tile has a label'): labelled(place, [[]] * n)


def test_lists_that_were_saved_as_text(place):
    for form in (list, set, np.array):
        table(tags=[form(cell.split()) for cell in tags]).to_csv(place/'labels.csv', index=False)
        split = ImageList.from_csv(place, 'labels.csv', 'tiles', '.jpg').split_none()
        for delim in (None, ','):
            with pytest.raises(ValueError, match=r"lists written as text.*df\['tags'\].map\(';'.join\)"): split.label_from_df(label_delim=delim)
    assert listed(place, table(tags='[no name]')).split_none().label_from_df().classes == ['[no name]']


def test_names_in_two_forms_are_one_class(place):
    both = [unicodedata.normalize(form, 'wüst') for form in ('NFC', 'NFD')]
    assert both[0] != both[1]
    for given in (None, both[:1], both[1:]): assert labelled(place, both * 6, classes=given).classes == both[:1]
    assert listed(place, table(tags=[f'{a} clear' for a in both * 6])).split_none().label_from_df(label_delim=' ').classes == ['clear', both[0]]


def test_tiles_that_lie_in_no_class_folder(place, capsys):
    (place/'logo.png').write_bytes((place/'tiles/t0.jpg').read_bytes())
    found = ImageList.from_folder(place).split_none().label_from_folder()
    assert found.classes == sorted([place.name, 'tiles'])
    assert capsys.readouterr().out == f'1 tiles lie in {place} itself: their label is its name\n'


def test_numbers_sort_as_numbers(place):
    assert labelled(place, list(range(n))).classes == list(map(str, range(n)))
    assert from_text(place, lines(range(n))).split_none().label_from_df().classes == list(map(str, range(n)))
    assert labelled(place, [f'zone {i}' for i in range(n)]).classes == [f'zone {i}' for i in range(n)]
    values = ['10', '-2', '-10', '0.5', '0.25', '2', 'clear', '1a', 'Clear', '01', '1', 'b²']
    assert labelled(place, values).classes == ['-10', '-2', '0.25', '0.5', '01', '1', '1a', '2', '10', 'Clear', 'b²', 'clear']
    for i in range(n):
        (place/'by class'/str(i)).mkdir(parents=True)
        os.rename(place/f'tiles/t{i}.jpg', place/f'by class/{i}/t.jpg')
    assert ImageList.from_folder(place/'by class').split_none().label_from_folder().classes == list(map(str, range(n)))


@pytest.mark.parametrize('values', [[3, 3.0, 4], ['3', '3.0', 'clear'], [[3, 'clear'], [3.0], []], [np.int64(3), np.float32(3), 4]])
def test_a_number_in_two_ways_is_not_two_classes(place, values):
    with pytest.raises(ValueError, match='one number and would be two classes: 3 and 3.0.*int'): labelled(place, values * 4)
    both = ['3', '3.0', '4', 'clear']
    assert labelled(place, values * 4, classes=both).classes == both
    assert labelled(place, [3.0, 4.0, '3.0.1', 'B3'] * 3).classes == ['3.0', '3.0.1', '4.0', 'B3']


def test_a_vocabulary_has_an_order(place):
    for bad, why in (({'clear', 'haze'}, 'give a list'), ('clear', 'give a list'), (['clear', 'haze', 'clear'], 'names twice: clear'),
                     (['clear', 'haze', None], 'None is no name')):
        with pytest.raises(ValueError, match=why): labelled(place, ['clear', 'haze'] * 6, classes=bad)
    assert labelled(place, ['clear', 'haze'] * 6, classes=iter(['haze', 'clear'])).classes == ['haze', 'clear']


def test_other_kinds_get_what_stands_in_the_table(place):
    from planet_course.data import Points, PointsItemList, SegmentationItemList
    at = [(i, 2*i) for i in range(n)]
    df = table(point=pd.Series(at, dtype=object), text=[f'{y} {x}' for y, x in at], mask=[str(place/f'tiles/t{i}.jpg') for i in range(n)])
    split = PointsItemList.from_df(df, place, folder='tiles', suffix='.jpg').split_none()
    for found in (split.label_from_df('point'), split.label_from_df('text', label_delim=' ')):
        assert found.kind is Points and np.stack(found.labels).tolist() == [[[y, x]] for y, x in at]
    df = df.assign(y=range(n), x=range(0, 2*n, 2)).astype({'y': str})
    split = PointsItemList.from_df(df, place, folder='tiles', suffix='.jpg').split_none()
    assert np.stack(split.label_from_df(['y', 'x']).labels).tolist() == [[[y, x]] for y, x in at]
    masks = SegmentationItemList.from_df(df, place, folder='tiles', suffix='.jpg').split_none().label_from_df('mask', classes=['a'])
    assert masks.labels == tuple(df['mask'])


def test_doubled_headings(place):
    with pytest.raises(ValueError, match="2 columns called 'tags'"):
        listed(place, table(tags=tags, more=tags).set_axis(['image_name', 'tags', 'tags'], axis=1)).split_none().label_from_df('tags')
