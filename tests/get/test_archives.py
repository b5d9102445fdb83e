"""Archives: good, broken, unsafe, of odd names."""
import gzip, hashlib, io, lzma, os, random, shutil, stat, sys, tarfile, zipfile, zlib

import py7zr
import pytest
from get_helpers import (aes, arranged, content, copied, kinds, lay, lzma2, pack, put, refused, sevenzip, sign_in, snapshot, tar,
                         visible, wanted, zipped)

from planet_course.get import (archives as archives_module, Config, CorruptError, DataError, layout as layout_module, planet_data, UnsafeArchiveError,
                               untar_data)

pytest_plugins = ['get_fixtures']
pytestmark = pytest.mark.usefixtures('machine')


@pytest.mark.parametrize('kind', kinds)
@pytest.mark.parametrize('how', ['competition', 'mirror', 'fastai', 'flat'])
def test_good_archive(how, kind, planet, tmp_path, capfd):
    "Every kind, every arrangement; the second call reads what the first wrote down, and touches nothing."
    others = {'notes/read.me': b'', '__MACOSX/._train_0.jpg': b'x'}
    archive = put(tmp_path, f'planet{kind}', pack(arranged(planet, how) | others, kind))
    folder = planet_data(archive)
    said = capfd.readouterr().out
    assert folder.is_relative_to(Config.data_path()) and content(folder) == wanted(planet, how) and archive.exists()
    assert 'cannot be read' not in said
    assert said.count('notes/read.me') == 1 and ('train_classes.csv' in said) == (how == 'mirror')
    before = snapshot(folder)
    assert planet_data(archive) == planet_data(source=archive) == folder and snapshot(folder) == before


calls = {
    'file': lambda shelf: planet_data(shelf/'train-jpg.tar.7z'),
    'file as source': lambda shelf: planet_data(shelf.parent/'new', source=shelf/'train-jpg.tar.7z'),
    'folder as source': lambda shelf: planet_data(shelf.parent/'new', source=str(shelf)),
    'in place': lambda shelf: planet_data(shelf, 'archive'),
    'in place, auto': planet_data}


@pytest.mark.parametrize('call', calls.values(), ids=calls)
@pytest.mark.parametrize('end', ['.csv', '.csv.zip'])
def test_archives_as_the_browser_saved_them(end, call, planet, tmp_path):
    "The archives of the competition beside its table, which the site gives plain or zipped."
    table, shelf = planet['train_v2.csv'], tmp_path/'shelf'
    tiles = {name: data for name, data in planet.items() if name.startswith('train-jpg')}
    rest = {name: data for name, data in planet.items() if name.startswith('test-jpg/')}
    lay({'train-jpg.tar.7z': pack(tiles, '.tar.7z'), 'test-jpg.tar.7z': pack(rest, '.tar.7z'), 'notes.txt': b'',
         f'train_v2{end}': zipped({'train_v2.csv': table}) if end == '.csv.zip' else table}, shelf)
    folder = call(shelf)
    more = {} if call in (calls['file'], calls['file as source']) else rest
    assert content(folder) == tiles | {'train_v2.csv': table} | more and (shelf/'train-jpg.tar.7z').exists()


def test_two_archives_of_one_name(planet, few, tmp_path):
    "Each gets a folder of its own."
    one, other = (lay({'planet.zip': zipped(files)}, tmp_path/name)/'planet.zip' for name, files in dict(a=planet, b=few).items())
    assert content(planet_data(one)) == planet and content(planet_data(other)) == few and content(planet_data(one)) == planet


def test_an_archive_that_came_later(planet, tmp_path):
    "A second archive in the folder is unpacked by source='archive', and what is there stays as it is."
    tiles, rest = ({n: planet[n] for n in planet if n.startswith(start)} for start in ('train', 'test-jpg/'))
    folder = planet_data(lay({'train.zip': zipped(tiles)}, tmp_path/'new'))
    before = snapshot(folder/'train-jpg')
    lay({'test-jpg.tar.7z': pack(rest, '.tar.7z')}, folder)
    assert content(planet_data(folder, source='archive')) == tiles | rest and snapshot(folder/'train-jpg') == before


@pytest.mark.parametrize('kind', kinds)
def test_other_files_first(kind, few, tmp_path):
    notes = {f'notes/{i}.txt': b'x' for i in range(20)}
    assert content(planet_data(put(tmp_path, f'x{kind}', pack(notes | few, kind)))) == few


def out_of_its_folder(tmp_path):
    return ['../train_0.jpg', str(tmp_path/'train_0.jpg'), 'train-jpg/../../train_0.jpg', '//host/share/train_0.jpg',
            r'..\train_0.jpg', r'C:\train_0.jpg', 'C:train_0.jpg', r'\train_0.jpg']


@pytest.mark.parametrize('kind', kinds)
@pytest.mark.parametrize('i', range(8))
def test_names_that_lead_out(i, kind, few, fails, tmp_path, server):
    name = out_of_its_folder(tmp_path)[i]
    refused(UnsafeArchiveError, f'evil{kind}', pack({name: few['train-jpg/train_0.jpg']} | few, kind), fails, tmp_path, server)


def special(kind, name='train-jpg/train_9.jpg'):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, '/etc/passwd'
    return info


@pytest.mark.parametrize('what', [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, b'Z'])
@pytest.mark.parametrize('kind', ['.tar', '.tgz', '.tar.7z'])
def test_links_and_devices(kind, what, few, fails, tmp_path, server):
    refused(UnsafeArchiveError, f'evil{kind}', pack(few, kind, special(what)), fails, tmp_path, server)


@pytest.mark.parametrize('what', [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO])
def test_links_and_devices_in_a_zip(what, few, fails, tmp_path, server):
    info = zipfile.ZipInfo('train-jpg/train_9.jpg')
    info.external_attr = (what | 0o644) << 16
    refused(UnsafeArchiveError, 'evil.zip', pack(few, '.zip', (info, b'/etc/passwd')), fails, tmp_path, server)


@pytest.mark.parametrize('kind', kinds)
def test_the_same_tile_twice(kind, few, fails, tmp_path):
    twice = {f'{above}/train_0.jpg': few['train-jpg/train_0.jpg'] for above in ('a', 'b')} | few
    archive = put(tmp_path, f'twice{kind}', pack(twice, kind))
    fails(UnsafeArchiveError, tmp_path/'new', planet_data, tmp_path/'new', source=archive)


huge = 70 << 20


def long_header(kind):
    info = tarfile.TarInfo('long')
    info.type, info.size = kind, huge
    return info


bombs = {
    'zeros in a .tar.7z': lambda few: ('.tar.7z', sevenzip(tar({'train-jpg/train_9.jpg': bytes(huge)}))),
    'zeros in a .7z': lambda few: ('.tar.7z', sevenzip(bytes(huge))),
    'zeros in a .tgz': lambda few: ('.tgz', pack({'train-jpg/train_9.jpg': bytes(huge)}, '.tgz')),
    'zeros in a .zip': lambda few: ('.zip', pack({'train-jpg/train_9.jpg': bytes(huge)}, '.zip')),
    'zeros that nobody wants': lambda few: ('.zip', pack(few | {'other.bin': bytes(huge)}, '.zip')),
    'zeros after the end': lambda few: ('.tgz', gzip.compress(tar(few) + bytes(huge), 1)),
    'a very long pax header': lambda few: ('.tgz', pack(few, '.tgz', long_header(tarfile.XHDTYPE))),
    'a very long name': lambda few: ('.tgz', pack(few, '.tgz', long_header(tarfile.GNUTYPE_LONGNAME)))}


@pytest.mark.parametrize('bomb', bombs.values(), ids=bombs)
def test_bombs(bomb, few, fails, tmp_path, server):
    "Small archives that unfold to 70 MB: refused, nothing of it stays."
    kind, data = bomb(few)
    assert len(data) < 1e6
    refused(UnsafeArchiveError, f'bomb{kind}', data, fails, tmp_path, server)


def test_very_many_entries(fails, tmp_path, monkeypatch):
    "Folders only, 12,000 of them, where there may be 4 MB: headers count too."
    monkeypatch.setattr(archives_module, '_most', lambda archive: 4 << 20)
    data = gzip.compress(special(tarfile.DIRTYPE, 'a').tobuf()*12_000, 1)
    fails(UnsafeArchiveError, tmp_path/'new', planet_data, tmp_path/'new', source=put(tmp_path, 'many.tgz', data))


def test_a_zip_that_lies_about_its_size(few, fails, tmp_path, server):
    "Its tile claims a thousand bytes and unfolds to 70 MB: it is read for a thousand, and the checksum is wrong."
    true, lie = (size.to_bytes(4, 'little') for size in (huge, 1000))
    data = pack({'train-jpg/train_9.jpg': bytes(huge)} | few, '.zip')
    refused(CorruptError, 'lie.zip', data.replace(true, lie), fails, tmp_path, server)


def flip(data, at, mask=0xff): return data[:at] + bytes([data[at]^mask]) + data[at + 1:]

broken = {
    'a page': lambda few, kind: sign_in,
    'empty': lambda few, kind: b'',
    'half': lambda few, kind: pack(few, kind)[:len(pack(few, kind))//2],
    'the beginning': lambda few, kind: pack(few, kind)[:600],
    'without its end': lambda few, kind: pack(few, kind).rstrip(b'\0')[:-1],
    'a text': lambda few, kind: b'7-Zip is the wrong program for this'}


@pytest.mark.parametrize('what', broken.values(), ids=broken)
@pytest.mark.parametrize('kind', kinds)
def test_broken_archive(kind, what, few, fails, tmp_path, server):
    refused(CorruptError, f'broken{kind}', what(few, kind), fails, tmp_path, server)


def test_a_tar_that_ends_between_two_entries(few, fails, tmp_path, server):
    data = tar(few)
    with tarfile.open(fileobj=io.BytesIO(data)) as t: ends = [info.offset for info in t.getmembers()][1:]
    for end in ends:
        refused(CorruptError, 'broken.tar', data[:end], fails, tmp_path, server)
        refused(CorruptError, 'broken.tgz', gzip.compress(data[:end], 1), fails, tmp_path, server)


@pytest.mark.parametrize('method, cause', [(lzma2, lzma.LZMAError), (copied, py7zr.exceptions.CrcError)], ids=['lzma', 'crc'])
def test_one_flipped_byte(method, cause, few, fails, tmp_path, server):
    "One that the decoder stumbles over, and one that only the checksum sees, after the tile was written."
    data = sevenzip(tar(few), method)
    at = 32 if cause is lzma.LZMAError else data.index(few['train-jpg/train_0.jpg']) + 300
    error = refused(CorruptError, 'flipped.tar.7z', flip(data, at), fails, tmp_path, server)
    assert isinstance(error.__cause__, cause)


@pytest.mark.parametrize('kind', ['.tar.7z', '.tgz', '.zip'])
def test_any_flipped_byte(kind, few, tmp_path):
    "All bytes of the headers and forty others: the right tiles or an error of ours, and nothing under a final name."
    data, rng = pack(few, kind), random.Random(5)
    places = {*range(40), *range(len(data) - 100, len(data)), *rng.sample(range(len(data)), 40)}
    outcomes = set()
    for at in sorted(places):
        for mask in (0xff, 1 << rng.randrange(8)):
            archive, target = put(tmp_path, f'x{kind}', flip(data, at, mask)), tmp_path/'new'
            try: planet_data(target, source=archive)
            except DataError as e: outcomes.add(type(e)), visible(target) and pytest.fail(f'byte {at}: {visible(target)}')
            except Exception as e: pytest.fail(f'byte {at} of {len(data)}, mask {mask:#x}: {type(e).__name__}: {e}')
            else: assert content(target) == few, f'byte {at}, mask {mask:#x}'
            shutil.rmtree(target)
    assert CorruptError in outcomes


def with_flags(data, flags=0, method=None):
    "A zip whose entries all claim other flags and another method, in both places where that is said."
    out = bytearray(data)
    for magic, at in (b'PK\3\4', 6), (b'PK\1\2', 8):
        start = -1
        while (start := data.find(magic, start + 1)) >= 0:
            out[start + at] |= flags
            if method is not None: out[start + at + 2] = method
    return bytes(out)


def claims_2_to_the_40():
    "A .7z of nothing but a header, which says that so many files follow."
    header = b'\1\5\xff' + (1 << 40).to_bytes(8, 'little') + b'\0\0'
    start = (0).to_bytes(8, 'little') + len(header).to_bytes(8, 'little') + zlib.crc32(header).to_bytes(4, 'little')
    return b'7z\xbc\xaf\x27\x1c\0\4' + zlib.crc32(start).to_bytes(4, 'little') + start + header


unusual = {
    'a .7z with a password': ('.tar.7z', lambda few: sevenzip(tar(few), copied, aes)),
    'a .zip with a password': ('.zip', lambda few: with_flags(pack(few, '.zip'), flags=1)),
    'Deflate64': ('.zip', lambda few: with_flags(pack(few, '.zip'), method=9)),
    'a .7z of a page': ('.7z', lambda few: sevenzip(sign_in)),
    'a .7z that claims 2**40 files': ('.7z', lambda few: claims_2_to_the_40())}


@pytest.mark.parametrize('kind, data', unusual.values(), ids=unusual)
def test_archives_that_we_cannot_read(kind, data, few, fails, tmp_path, server):
    refused(CorruptError, f'x{kind}', data(few), fails, tmp_path, server)


def test_a_7z_with_several_files(few, fails, tmp_path, server):
    out = io.BytesIO()
    with py7zr.SevenZipFile(out, 'w', filters=[copied]) as z:
        for name, data in few.items(): z.writestr(data, name)
    refused(CorruptError, 'x.7z', out.getvalue(), fails, tmp_path, server)


@pytest.mark.parametrize('kind', kinds)
def test_wrong_count(kind, little, fails, tmp_path):
    "One training tile too few, one too many, and the same for the test tiles: all are compared with the tables."
    def check(files):
        archive = put(tmp_path, f'x{kind}', pack(files, kind))
        fails(CorruptError, tmp_path/'new', planet_data, tmp_path/'new', source=archive)
    for name in ('train-jpg/train_7.jpg', 'test-jpg/test_7.jpg', 'test-jpg-additional/file_3.jpg'):
        check({n: little[n] for n in little if n != name})
        check(little | {name.replace('.jpg', '00.jpg'): little[name]})


def test_the_official_count(planet, fails, tmp_path, monkeypatch):
    "With the table that has the md5 of the competition's, there must be 40,479 tiles."
    monkeypatch.setitem(layout_module._MD5, hashlib.md5(planet['train_v2.csv']).hexdigest(), 'train_v2.csv')
    fails(CorruptError, tmp_path/'new', planet_data, tmp_path/'new', source=put(tmp_path, 'x.zip', pack(planet, '.zip')))


def much_too_large(jpeg):
    "The same picture, whose header claims 65,500 x 65,500 pixels."
    at = jpeg.index(b'\xff\xc0') + 5
    return jpeg[:at] + (65_500).to_bytes(2, 'big')*2 + jpeg[at + 4:]


endless_program = b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n{} loop\n'


@pytest.mark.parametrize('spoil', [lambda jpeg: b'', lambda jpeg: sign_in, lambda jpeg: jpeg[:len(jpeg)//2], much_too_large,
                                   lambda jpeg: endless_program],
                         ids=['empty', 'a page', 'half', 'much too large', 'a program'])
def test_a_tile_that_is_no_picture(spoil, few, fails, tmp_path):
    files = few | {'train-jpg/train_0.jpg': spoil(few['train-jpg/train_0.jpg'])}
    archive = put(tmp_path, 'x.tar.7z', pack(files, '.tar.7z'))
    error = fails(CorruptError, tmp_path/'new', planet_data, tmp_path/'new', source=archive)
    assert 'train_0.jpg' in str(error)


def test_a_program_is_not_run(tmp_path, monkeypatch):
    "PIL's reader of EPS, which starts Ghostscript, is never asked; nor is a pipe opened, which would wait for ever."
    from PIL import EpsImagePlugin
    monkeypatch.setattr(EpsImagePlugin.EpsImageFile, '_open', lambda *_: pytest.fail('PIL was to read a program'))
    with pytest.raises(Exception, match='cannot identify'): layout_module._decode(put(tmp_path, 'train_0.jpg', endless_program))


def test_a_pipe_among_the_tiles(few, fails, tmp_path):
    folder = lay(few, tmp_path/'mine')
    (folder/'train-jpg'/'train_0.jpg').unlink()
    os.mkfifo(folder/'train-jpg'/'train_0.jpg')
    error = fails(CorruptError, folder, planet_data, folder)
    assert 'train_0.jpg' in error.what and 'no plain file' in error.what


@pytest.mark.parametrize('name', ['caf\udce9.txt', '\x1b[2J\r.txt'], ids=['Latin-1', 'control characters'])
@pytest.mark.parametrize('kind', ['.tar', '.tar.7z'])
def test_a_name_that_cannot_be_printed(kind, name, few, tmp_path, monkeypatch):
    "Left out, and the line that says so can be shown by a terminal that knows UTF-8 only."
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode='w', format=tarfile.GNU_FORMAT) as t: t.addfile(tarfile.TarInfo(name))
    whole = {'.tar': bytes, '.tar.7z': sevenzip}[kind](data.getvalue()[:512] + tar(few))
    monkeypatch.setattr(sys, 'stdout', io.TextIOWrapper(io.BytesIO(), encoding='utf-8', write_through=True))
    assert content(planet_data(put(tmp_path, f'x{kind}', whole))) == few
    said = sys.stdout.buffer.getvalue().decode()
    assert '.txt' in said and '\x1b' not in said


def nul():
    info = tarfile.TarInfo('x.jpg')
    info.pax_headers = dict(path='a\0b.jpg')
    return info


odd_names = {'very long': {'x'*300 + '.jpg': b'x'}, 'nothing we take': {'setup.py': b'x'}, 'nothing': {},
             'a file that is a folder': {'a.jpg': b'x', 'a.jpg/b.jpg': b'x'},
             'a folder that is a file': {'a.jpg/b.jpg': b'x', 'a.jpg': b'x'}}


@pytest.mark.parametrize('names', odd_names.values(), ids=odd_names)
@pytest.mark.parametrize('kind', kinds)
def test_untar_data_and_odd_names(kind, names, few, tmp_path, server):
    "Names that no disk takes, archives that would leave an empty folder behind: an error, and nothing that looks finished."
    url = server.plain(f'odd{kind}', pack(names, kind))
    with pytest.raises(DataError) as e: untar_data(url, tmp_path/'new')
    assert isinstance(e.value, (CorruptError, UnsafeArchiveError)) and not visible(tmp_path/'new')
    server.plain(f'odd{kind}', pack(few, kind))
    assert content(untar_data(url, tmp_path/'new')) == few, 'the odd one was kept'


sparse = {'a map of words': {'GNU.sparse.map': 'a,b'}, 'an odd map': {'GNU.sparse.map': '0,1,2'}, 'no map': {'GNU.sparse.size': '5'},
          'size': {'GNU.sparse.size': 'x', 'GNU.sparse.map': '0,1'}, 'real size': {'GNU.sparse.realsize': 'x', 'GNU.sparse.map': '0,1'},
          'below zero': {'GNU.sparse.realsize': '-5', 'GNU.sparse.map': '0,1'}, 'huge': {'GNU.sparse.map': '0,' + '9'*400},
          'version 1': {'GNU.sparse.major': '1', 'GNU.sparse.minor': '0'}, 'all right': {'GNU.sparse.size': '3', 'GNU.sparse.map': '0,3'},
          'version 1 of words': {'GNU.sparse.major': '1', 'GNU.sparse.minor': '0', 'GNU.sparse.realsize': 'x'}}


@pytest.mark.parametrize('headers', sparse.values(), ids=sparse)
def test_files_with_holes(headers, few, tmp_path):
    "tarfile trusts what a header says about holes; we take no such file, and rubbish there is damage."
    info = tarfile.TarInfo('train-jpg/train_9.jpg')
    info.size, info.pax_headers = 1024, headers
    archive = put(tmp_path, 'holes.tar', pack(few, '.tar', info))
    with pytest.raises((CorruptError, UnsafeArchiveError)): planet_data(tmp_path/'new', source=archive)
    assert not visible(tmp_path/'new')


def test_untar_data_and_a_name_with_a_zero(tmp_path, server):
    url = server.plain('odd.tar', tar({}, nul()))
    with pytest.raises(DataError): untar_data(url, tmp_path/'new')
    assert not visible(tmp_path/'new')


@pytest.mark.parametrize('hidden', ['.hidden.txt', './._x.png', '.jpg', 'set/.hidden.json', '.cache/set/a.jpg', 'set\\.hidden.txt'])
def test_untar_data_leaves_out_what_is_hidden(hidden, tmp_path, server, capfd):
    "At the top of an archive too, so the one folder beside it is still the new folder. A name that begins with ./ hides nothing."
    url = server.plain('set.tar', pack({hidden: b'x', './set/a.jpg': b'a'}, '.tar'))
    folder = untar_data(url, tmp_path/'new')
    assert {file.relative_to(folder).as_posix() for file in folder.rglob('*')} == {'a.jpg'}
    assert 'left out 1 unexpected' in capfd.readouterr().out


@pytest.fixture
def black_and_white(server, tmp_path):
    "Two data sets whose addresses end in one name, and the picture that each holds."
    pictures = dict(black=b'black', white=b'white')
    urls = [server.plain(f'{colour}/set.tar', pack({'set/a.png': picture}, '.tar')) for colour, picture in pictures.items()]
    return *urls, lambda folder: (folder/'a.png').read_bytes()


def test_untar_data_and_two_addresses_of_one_name(black_and_white, tmp_path):
    "The second is not taken for the first: it says what to type, and each of these works."
    black, white, picture = black_and_white
    folder = untar_data(black, tmp_path)
    before = snapshot(tmp_path)
    with pytest.raises(FileExistsError) as e: untar_data(white, tmp_path)
    assert snapshot(tmp_path) == before and picture(untar_data(black, tmp_path)) == b'black'
    assert all(said in str(e.value) for said in (black, white, 'dest=', str(folder)))
    assert picture(untar_data(white, dest=tmp_path/'other')) == b'white'
    shutil.rmtree(folder)
    assert picture(untar_data(white, tmp_path)) == b'white'
    with pytest.raises(FileExistsError): untar_data(black, tmp_path)


def test_untar_data_and_another_ending(server, tmp_path):
    "A .zip and a .tar are two addresses as well."
    urls = [server.plain(f'set{kind}', pack({'set/a.png': kind.encode()}, kind)) for kind in ('.tar', '.zip')]
    untar_data(urls[0], tmp_path)
    with pytest.raises(FileExistsError): untar_data(urls[1], tmp_path)


def test_untar_data_and_a_folder_of_which_nothing_is_known(black_and_white, tmp_path, capfd):
    "One that an older version made, or a hand: it is used, and one line says that nobody knows."
    black, _, picture = black_and_white
    lay({'set/a.png': b'mine'}, tmp_path/'new')
    for _ in range(2):
        assert picture(untar_data(black, tmp_path/'new')) == b'mine' and os.listdir(tmp_path/'new') == ['set']
        assert capfd.readouterr().out.count('\n') == 1


def test_untar_data_and_what_an_address_hides(black_and_white, tmp_path, capfd):
    "Who signs in and what follows the ? may change, and are kept nowhere; that the second was not compared is said."
    black, _, picture = black_and_white
    signed = black.replace('http://', 'http://me:s3cret@') + '?key=s3cret'
    folder = untar_data(signed, tmp_path)
    assert capfd.readouterr().out == ''
    for url in (black + '?key=renewed', black, signed):
        assert untar_data(url, tmp_path) == folder and capfd.readouterr().out.count('\n') == 1
    assert not [file for file in tmp_path.rglob('*') if file.is_file() and b's3cret' in file.read_bytes()]


@pytest.mark.parametrize('again', ['white', 'black?of=white'])
def test_untar_data_was_interrupted_at_another_address(again, black_and_white, server, tmp_path, monkeypatch):
    "What waits from the first is not taken for the second."
    black, white, picture = black_and_white
    with monkeypatch.context() as patch:
        patch.setattr(archives_module, 'unpack', lambda *_: 1/0)
        with pytest.raises(ZeroDivisionError): untar_data(black + '?of=black', tmp_path)
    if again != 'white': server.files['black/set.tar'] = server.files['white/set.tar']
    assert picture(untar_data(white if again == 'white' else black + '?of=white', tmp_path)) == b'white'
