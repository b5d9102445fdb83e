"""Boxes and points, and all that lies in a picture, where the chapter does not show them: odd sizes, test tiles, what must be refused."""
import json, os, subprocess, sys

import pytest
import torch
from conftest import root, shared

from planet_course.tiles import decode, get_transforms
from planet_course.device import seed_everything
from planet_course.data import bb_pad_collate, Boxes, get_annotations, Mask, ObjectItemList, Points, PointsItemList
from planet_course.data.boxes import _on_tile
from planet_course.data.masks import _read_mask


@pytest.mark.parametrize('size', [64, 97, 150, (50, 70)], ids=str)
def test_targets_are_scaled_and_cut_as_the_picture(scene, size):
    "Whatever the size: where the scaled picture is clearly one thing the mask says so, and boxes are where the colour is."
    path, boxes = scene
    for name, (found, _) in boxes.items():
        file = str(path/'images'/name)
        tile, mask = decode(file, size), _read_mask(str(path/'masks'/name), file, size, 3)
        h, w = mask.shape
        assert tile.shape[1:] == (h, w)
        for k in (0, 1):
            assert (mask[tile[k] == 255] == k + 1).all() and not (mask[(tile[k] == 0)] == k + 1).any()
            edges = ((_on_tile(torch.tensor(found[k]).view(2, 2).float(), (97, 131), size) + 1)/2*torch.tensor([h, w])).flatten()
            rows, cols = (tile[k] > 127).any(1).nonzero(), (tile[k] > 127).any(0).nonzero()
            seen = torch.stack([rows[0], cols[0], rows[-1] + 1, cols[-1] + 1]).flatten()
            assert (seen - edges).abs().max() < 1.01, (name, k, seen, edges)


def test_boxes_leave_with_their_labels(scene):
    "Zoomed in hard, some boxes leave the tile; those that stay are inside, the rest is filled up in front."
    path, boxes = scene
    lists = ObjectItemList.from_folder(path/'images').split_none().label_from_func(lambda f: boxes[f.name])
    data = lists.transform(get_transforms(max_zoom=6., p_affine=1.), 64, tfm_y=True).databunch(6)
    seed_everything(1)
    counts = set()
    for _ in range(8):
        _, (box, label) = data.one_batch()
        real = label > 0
        assert (box[real].abs() <= 1).all() and (box[real][:, 2:] > box[real][:, :2]).all()
        assert not box[~real].any() and (real.int().diff(dim=1) >= 0).all()
        counts |= set(real.sum(1).tolist())
    assert len(counts) > 1, 'no box ever left, so nothing was tested'


def test_a_batch_without_boxes():
    _, (boxes, labels) = bb_pad_collate([(torch.zeros(3, 4, 4), (torch.zeros(0, 4), torch.zeros(0, dtype=torch.long)))]*2)
    assert boxes.shape == (2, 0, 4) and labels.shape == (2, 0)


def test_test_tiles_have_no_target(scene):
    "A collate function for boxes has nothing to fill up where nothing is known."
    path, boxes = scene
    lists = ObjectItemList.from_folder(path/'images').split_none().label_from_func(lambda f: boxes[f.name])
    data = lists.add_test([path/'images/0.png']).transform(size=64).databunch(2, collate_fn=bb_pad_collate)
    xb, yb = data.one_batch('test')
    assert xb.shape == (1, 3, 64, 64) and yb is None
    assert data.show_batch(1, ds_type='test').shape == (1, 1)
    assert [str(y) for _, y in data.test_ds] == ['']


def test_each_kind_names_its_activation():
    from planet_course.data import activations
    named = {kind.__name__: kind.activation for kind in (Mask, Points, Boxes)}
    assert named == {'Mask': 'softmax', 'Points': 'none', 'Boxes': 'none'} and activations.keys() >= set(named.values())


def test_boxes_and_points_that_are_none(scene):
    split = ObjectItemList.from_folder(scene[0]/'images').split_none()
    with pytest.raises(ValueError, match=r'a name for each: .*0.png'): split.label_from_func(lambda f: ([[1, 2, 3]], ['left']))
    with pytest.raises(ValueError, match=r'a name for each: .*5.png'): split.label_from_func(lambda f: None)
    with pytest.raises(ValueError, match=r'not in classes=\[.right.\]: left'):
        split.label_from_func(lambda f: scene[1][f.name], classes=['background', 'right'])
    points = PointsItemList.from_folder(scene[0]/'images').split_none()
    with pytest.raises(ValueError, match=r'not 1 points of finite numbers y, x, as others have: .*3.png'):
        points.label_from_func(lambda f: (1., float('nan')) if f.stem == '3' else (1., 2.))


def test_boxes_have_no_loss_of_ours():
    with pytest.raises(ValueError, match='boxes have no loss here'): Boxes.loss_func()


@pytest.mark.parametrize('bad', [([[0, 0, 9, float('nan')]], ['left']), ([[0, 0, 9, 9]]*2, 'ab'), ([[0, 0, 9, 9]], [None]),
                                 ([[0, 0, 9, 9]], [float('nan')]), ([[0, 0, 9, 'x']], ['left']), 7], ids=str)
def test_boxes_with_a_hole(scene, bad):
    split = ObjectItemList.from_folder(scene[0]/'images').split_none()
    with pytest.raises(ValueError, match='a name for each: .*2.png'):
        split.label_from_func(lambda f: bad if f.stem == '2' else scene[1][f.name])


def test_points_that_are_words_are_named(scene):
    split = PointsItemList.from_folder(scene[0]/'images').split_none()
    for bad in ('left', None, {'y': 1}):
        with pytest.raises(ValueError, match='not 1 points .*4.png'): split.label_from_func(lambda f: bad if f.stem == '4' else (1, 2))


def test_points_have_no_classes(scene):
    split = PointsItemList.from_folder(scene[0]/'images').split_none()
    with pytest.raises(ValueError, match='points have no classes'): split.label_from_func(lambda f: (1, 2), classes=['y', 'x'])


def test_boxes_that_a_set_loses_are_counted_in_one_line(scene, capsys):
    path, boxes = scene
    lists = ObjectItemList.from_folder(path/'images').split_by_idx([0]).label_from_func(
        lambda f: ([*boxes[f.name][0], [40, 0, 60, 9], [0, 200, 9, 210]], [*boxes[f.name][1], 'left', 'left']))
    lists.transform(size=(97, 131)).databunch(2).one_batch()
    out = capsys.readouterr().out
    assert out.count('without area in their picture, dropped: 6, of') == 1 and 'beside' not in out
    _, (_, labels) = lists.transform(size=64).databunch(6).one_batch('valid')
    out = capsys.readouterr().out
    assert out.count('beside the square that is cut out, dropped: 6, of') == 1 and (labels > 0).sum() == 2


def test_annotations_are_read_as_they_are_written(tmp_path):
    "Whatever the locale, here one that knows ASCII alone: json says by its first bytes how it is written."
    found = dict(images=[dict(id=1, file_name='été.png')], categories=[dict(id=1, name='höhle')],
                 annotations=[dict(image_id=1, category_id=1, bbox=[1, 2, 3, 4])])
    encodings = 'utf-8', 'utf-8-sig', 'utf-16'
    for encoding in encodings: (tmp_path/encoding).write_bytes(json.dumps(found, ensure_ascii=False).encode(encoding))
    code = f'import locale; from planet_course.data import get_annotations; print(locale.getencoding(), *(ascii(get_annotations(o)) for o in {encodings}), sep="\\n")'
    plain = os.environ | dict(LC_ALL='C', PYTHONUTF8='0', PYTHONCOERCECLOCALE='0', PYTHONPATH=str(root))
    known, *read = subprocess.run([sys.executable, '-c', code], cwd=tmp_path, env=plain, capture_output=True, text=True, check=True).stdout.splitlines()
    assert 'utf' not in known.lower() and read == [ascii((['été.png'], [[[[2., 1., 6., 4.]], ['höhle']]]))]*3


def test_an_error_of_annotations_names_the_file(tmp_path):
    found = dict(images=[dict(id=1, file_name='a.png')], categories=[dict(id=1, name='disc')],
                 annotations=[dict(image_id=1, category_id=1, bbox=['1', 'b', '3', '4'])])
    (tmp_path/'a.json').write_text(json.dumps(found))
    with pytest.raises(ValueError, match='a.json'): get_annotations(tmp_path/'a.json')


def test_no_file_of_annotations(tmp_path):
    "A pipe has nothing to say until somebody writes to it."
    (tmp_path/'Train.json').write_text('{}')
    if hasattr(os, 'mkfifo'):
        os.mkfifo(tmp_path/'pipe.json')
        with pytest.raises(FileNotFoundError, match='no plain file at .*pipe.json'): get_annotations(tmp_path/'pipe.json')
    with pytest.raises(FileNotFoundError, match='spelled .*Train.json'): get_annotations(tmp_path/'train.json')


def annotations(path, images, categories):
    "A file with a box of the first category on each picture, given as pairs (id, name)."
    found = dict(images=[dict(id=i, file_name=name) for i, name in images], categories=[dict(id=i, name=name) for i, name in categories],
                 annotations=[dict(image_id=i, category_id=categories[0][0], bbox=[1, 2, 3, 4]) for i in dict(images)])
    (path/'a.json').write_text(json.dumps(found))
    return get_annotations(path/'a.json')


@pytest.mark.parametrize('images, categories, said', [
    ([(1, 'a.png'), (2, 'a.png')], [(1, 'disc')], "a.json: file_name 'a.png' has id 1 and 2. Give each its own"),
    ([(1, 'a.png'), (1, 'b.png')], [(1, 'disc')], "a.json: id 1 has file_name 'a.png' and 'b.png'"),
    ([(1, 'a.png')], [(1, 'disc'), (1, 'cube')], "a.json: id 1 has name 'disc' and 'cube'")], ids=['picture', 'its id', 'category'])
def test_pictures_and_categories_that_come_twice(tmp_path, images, categories, said):
    with pytest.raises(ValueError, match=said): annotations(tmp_path, images, categories)


def test_entries_that_are_written_twice_alike_do_no_harm(tmp_path, capsys):
    once = annotations(tmp_path, [(1, 'a.png')], [(1, 'disc')])
    assert annotations(tmp_path, [(1, 'a.png')] * 2, [(1, 'disc')] * 2) == once and not capsys.readouterr().out


def test_categories_that_share_a_name_are_one_class(tmp_path, capsys):
    assert annotations(tmp_path, [(1, 'a.png')], [(1, 'disc'), (2, 'disc')]) == (['a.png'], [[[[2, 1, 6, 4]], ['disc']]])
    assert capsys.readouterr().out == 'categories that share a name, one class: disc\n'


def test_the_coco_cell_without_a_transform_step():
    "As the notes have it, in today's words: all pictures are 128 x 128."
    path = shared/'data'/'coco_tiny'
    if not path.is_dir(): pytest.skip('COCO: no ../shared/data/coco_tiny')
    img2bbox = dict(zip(*get_annotations(path/'train.json')))
    lists = ObjectItemList.from_folder(path/'train').split_by_rand_pct().label_from_func(lambda o: img2bbox[o.name])
    data = lists.databunch(bs=16, collate_fn=bb_pad_collate)
    assert (str(data.size), len(data.train_ds), len(data.valid_ds)) == ('(128, 128)', 160, 40)
    boxes, labels = bb_pad_collate([(x, y) for x, y in (data.valid_ds[i] for i in range(3))])[1]
    assert labels.shape[0] == 3 and boxes.shape == (*labels.shape, 4) and (labels > 0).any()


def test_a_name_with_dollars_is_drawn_over_its_box(scene):
    import matplotlib.pyplot as plt
    lists = ObjectItemList.from_folder(scene[0]/'images').split_none().label_from_func(lambda f: (scene[1][f.name][0], ['$x_{1$', 'b']))
    ax, = lists.transform(size=(97, 131)).databunch(1).show_batch(1).flat
    ax.figure.canvas.draw()
    assert {t.get_text() for t in ax.texts} == {r'\$x_{1\$', 'b'}
    plt.close('all')
