"""Model files: what they hold, and whatever else may lie where one is expected."""
import json, os, subprocess, sys, textwrap

import numpy as np
import pytest
import torch
from safetensors.torch import save
from small import bunch, little
from torch import nn
from torchvision import models

from planet_course.answers import export as export_module, export_model, Predictor
from planet_course.nets import create_cnn


fresh = '''
    import sys, torch
    from planet_course.answers import Predictor
    made = Predictor(sys.argv[1], 'cpu')(sys.argv[3:])
    torch.save(torch.stack([p.probs for p in made]), sys.argv[2])
    assert 'matplotlib' not in sys.modules and 'kagglesdk' not in sys.modules
'''


def test_a_new_process_gives_the_learners_probabilities(learn, model_file, tmp_path):
    files = learn.data.valid_ds.x.files
    subprocess.run([sys.executable, '-c', textwrap.dedent(fresh), model_file, tmp_path/'probs.pt', *files], cwd=tmp_path, check=True)
    assert torch.allclose(torch.load(tmp_path/'probs.pt'), learn.get_preds()[0], atol=1e-5)


def test_other_networks_and_one_label(tiles, tmp_path):
    for arch, delim, more in ((models.mobilenet_v2, ' ', dict(lin_ftrs=(32, 16), bn_final=True)), (models.resnet18, None, {}),
                              (models.densenet121, ' ', dict(cut=1, split=5))):
        data = bunch(tiles, delim)
        learn = create_cnn(data, arch, pretrained=False, **more)
        made = Predictor(export_model(learn, tmp_path/'m.safetensors', cut=more.get('cut')), 'cpu')
        answers = made(data.valid_ds.x)
        assert torch.allclose(torch.stack([a.probs for a in answers]), learn.get_preds()[0], atol=1e-5)
        assert delim or all(len(a.labels) == 1 for a in answers)


def test_networks_that_no_name_rebuilds(learn, tmp_path):
    for odd in (little(learn.data), create_cnn(learn.data, lambda: models.resnet18(), pretrained=False)):
        with pytest.raises(ValueError, match='cannot be built again'): export_model(odd, tmp_path/'m.safetensors')
    other = create_cnn(learn.data, models.resnet18, pretrained=False, loss_func=nn.NLLLoss())
    with pytest.raises(ValueError, match="learn.activation = 'sigmoid'"): export_model(other, tmp_path/'m.safetensors')
    assert not list(tmp_path.iterdir())


def test_others_may_read_what_is_exported(learn, tmp_path):
    (tmp_path/'plain').touch()
    assert export_model(learn, tmp_path/'m.safetensors').stat().st_mode == (tmp_path/'plain').stat().st_mode


# ---- files that are none ---------------------------------------------------------------------------------------------

def test_no_byte_of_a_model_file_crashes_the_reader(small_file, tmp_path):
    "Cut anywhere, or with any byte of the header changed: an error that names the file, or a file that still fits."
    whole, file, rng = small_file.read_bytes(), tmp_path/'m.safetensors', np.random.RandomState(0)
    header = 8 + int.from_bytes(whole[:8], 'little')
    for n in [*range(12), header - 1, header, header + 7, len(whole) - 1]:
        file.write_bytes(whole[:n])
        with pytest.raises(ValueError, match='m.safetensors'): Predictor(file, 'cpu')
    for at in rng.randint(header, size=60):
        file.write_bytes(whole[:at] + bytes([rng.randint(256)]) + whole[at + 1:])
        try: Predictor(file, 'cpu')
        except ValueError as e: assert 'm.safetensors' in str(e)


def rewritten(model_file, file, change, digest=True):
    "A model file with other contents: `change` gets facts and tensors."
    facts, state, _ = export_module._parse_model_file(model_file.read_bytes())
    change(facts, state)
    facts.pop('digest')
    if digest: facts['digest'] = export_module._digest_of(facts, state)
    file.write_bytes(save(state, {'planet_course': json.dumps(facts)}))
    return file


def test_one_bit_of_a_model_file(small_file, tmp_path):
    "Anywhere, weights included: an error that names the file. A file without a digest, of an older version, is read."
    whole, file, rng = small_file.read_bytes(), tmp_path/'m.safetensors', np.random.RandomState(0)
    for at in rng.randint(len(whole), size=12):
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << rng.randint(8)]) + whole[at + 1:])
        with pytest.raises(ValueError, match='m.safetensors'): Predictor(file, 'cpu')
    old = Predictor(rewritten(small_file, file, lambda facts, state: None, digest=False), 'cpu')
    assert 'digest' not in old.facts and old.classes == Predictor(small_file, 'cpu').classes


@pytest.mark.parametrize('size, today', [(32, (32, 32, True)), ([32, 48], (32, 48, False))], ids=str)
def test_files_of_format_1(small_file, tmp_path, size, today):
    "The size was a side or a pair, and tiles were RGB bytes without saying so."
    def change(facts, state):
        del facts['tile_format']
        facts.update(format=1, size=size)
    old = Predictor(rewritten(small_file, tmp_path/'m.safetensors', change), 'cpu')
    assert old.size == today and old.facts['tile_format'] == Predictor(small_file, 'cpu').facts['tile_format']


@pytest.mark.parametrize('change, why', [
    (dict(format=3), 'format 3.*reads formats 1 and 2'), (dict(tile_format=dict(channels=4, dtype='uint8', scale=255)), 'tile_format is'),
    (dict(size=dict(h=32, w=True, crop=True)), 'size is'), (dict(size=32), 'no model that'), (dict(format=1, size=True), 'size is True')], ids=str)
def test_headers_of_other_tiles(small_file, tmp_path, change, why):
    file = rewritten(small_file, tmp_path/'m.safetensors', lambda facts, state: facts.update(change))
    with pytest.raises(ValueError, match=why): Predictor(file, 'cpu')


@pytest.mark.parametrize('dtype, why', [
    (torch.float16, None), (torch.float64, None), (torch.complex64, 'holds torch.complex64'), (torch.float8_e4m3fn, 'holds torch.float8'),
    (torch.bool, 'holds torch.bool'), (torch.int64, r'0\.0\.0\.weight: \(32, 3, 3, 3\) torch.int64 in the file')], ids=str)
def test_weights_of_other_types(small_file, tmp_path, dtype, why):
    "Other floats are read; what no weight has, or this weight has not (counts of batches are int64), is refused by name."
    def change(facts, state): state['0.0.0.weight'] = state['0.0.0.weight'].to(dtype)
    file = rewritten(small_file, tmp_path/'m.safetensors', change)
    if why is None: assert Predictor(file, 'cpu').model[0][0][0].weight.dtype == torch.float32
    else:
        with pytest.raises(ValueError, match=why): Predictor(file, 'cpu')


@pytest.mark.parametrize('bad', [float('nan'), float('inf'), 1e300])
def test_weights_that_are_no_numbers(small_file, tmp_path, bad):
    def change(facts, state):
        state['0.0.0.weight'] = state['0.0.0.weight'].double()
        state['0.0.0.weight'][0, 0, 0, 0] = bad
    with pytest.raises(ValueError, match='NaN or infinity in 0.0.0.weight'): Predictor(rewritten(small_file, tmp_path/'m.safetensors', change), 'cpu')


def test_headers_that_ask_for_memory(small_file, tmp_path, monkeypatch):
    "A header of a terabyte, tensors that share their bytes, a file larger than the memory, tiles of 16,384 pixels: refused at once."
    file, whole = tmp_path/'m.safetensors', small_file.read_bytes()
    n = int.from_bytes(whole[:8], 'little')
    header = json.loads(whole[8:8 + n])
    first, second = [name for name in header if name != '__metadata__' and header[name]['shape'] == [64]][:2]
    header[second]['data_offsets'] = header[first]['data_offsets']
    shared = json.dumps(header).encode()
    for content in ((2**40).to_bytes(8, 'little') + whole[8:], len(shared).to_bytes(8, 'little') + shared + whole[8 + n:]):
        file.write_bytes(content)
        with pytest.raises(ValueError, match='no model that'): Predictor(file, 'cpu')
    with open(file, 'wb') as f: f.truncate(2**40)
    with pytest.raises(ValueError, match='half of the memory'): Predictor(file, 'cpu')
    with pytest.raises(ValueError, match='size is'): Predictor(rewritten(small_file, file, lambda facts, state: facts['size'].update(h=16_384)), 'cpu')


def test_what_is_no_model_file_at_all(tmp_path):
    os.mkfifo(tmp_path/'pipe')
    for place in (tmp_path/'pipe', tmp_path, '/dev/zero'):
        with pytest.raises(FileNotFoundError, match='no model file'): Predictor(place, 'cpu')
