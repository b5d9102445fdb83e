"""The benchmarks run, at a size that says nothing about speed, and report what they say they do."""
import subprocess, sys

import pandas as pd
import pytest
import torch
from torchvision import models

from conftest import root


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch): monkeypatch.setenv('BENCH_DATA', str(tmp_path/'bench'))


def run(name, *args):
    done = subprocess.run([sys.executable, root/'bench'/f'{name}.py', *map(str, args)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    rows = [line.strip('| ').split(' | ') for line in done.stdout.splitlines() if line.startswith('|')]
    assert torch.__version__.split('+')[0] in done.stdout and len(rows) > 2, 'no machine line, or no table'
    return rows


def test_input(tiles):
    rows = run('input', '--data', tiles, '--tiles', 60, '--bs', 16, '--rounds', 1, '--sizes', 32, '--sides', 'ours')
    assert [row[1] for row in rows[2:]] == ['warm', 'cold', 'written', 'mapped']
    warm, cold, written = (float(row[3].split()[0].replace(',', '')) for row in rows[2:5])
    assert warm > cold > 0 and written > 50


def test_overhead():
    rows = run('overhead', '--archs', 'tiny', '--size', 32, '--bs', 4, '--steps', 4, '--lr-steps', 15, '--rounds', 1)
    assert [row[1] for row in rows[2:]] == ['epoch', 'lr_find']


def test_epoch(tiles):
    rows = run('epoch', '--data', tiles, '--tiles', 60, '--arch', 'resnet18', '--bs', 16, '--rounds', 1, '--sizes', 32, '--kinds', 'ours', 'ours_bf16')
    assert [row[1:3] for row in rows[2:]] == [['frozen', 'ours'], ['frozen', 'ours_bf16'], ['unfrozen', 'ours'], ['unfrozen', 'ours_bf16']]


def test_gpu():
    rows = run('gpu', '--tiles', 60, '--arch', 'resnet18', '--sizes', 32, 64, '--epochs', 1, '--bs', 16, 8, '--precision', 'fp32')
    assert [row[:3] for row in rows[2:]] == [['32', 'frozen', '16'], ['32', 'unfrozen', '16'], ['64', 'frozen', '8'], ['64', 'unfrozen', '8']]


def test_scale(tiles, tmp_path):
    rows = run('scale', '--data', tiles, '--counts', 100, 200, '--size', 32, '--sizes', 32, '--threads', 1, '--rounds', 1, '--tiles', 60, '--work', tmp_path)
    assert rows[2][:2] == ['100', '0'] and rows[3][0] == '200'


def test_predict(tiles):
    rows = run('predict', '--data', tiles, '--tiles', 40, '--arch', 'resnet18', '--size', 32, '--bs', 16, '--rounds', 1)
    assert [row[0] for row in rows[2:]] == ['get_preds', 'tta', 'Predictor, files', 'decoding alone', 'network alone']


def test_precision(tiles, tmp_path):
    torch.save(models.resnet18().state_dict(), tmp_path/'weights.pth')
    rows = run('precision', '--data', tiles, '--tiles', 80, '--arch', 'resnet18', '--weights', tmp_path/'weights.pth', '--size', 32, '--epochs', 1,
               '--seeds', 0)
    assert [row[0] for row in rows[2:]] == ['fp32', 'bf16'] and rows[2] != rows[3]


def test_lesson(tiles, tmp_path):
    "Two seeds in one table, and the machine said once; each stage, and the rates tried before it."
    torch.save(models.mobilenet_v2().state_dict(), tmp_path/'weights.pth')
    done = subprocess.run([sys.executable, root/'bench'/'lesson.py', '--data', tiles, '--tiles', '60', '--weights', tmp_path/'weights.pth', '--sizes', '32', '48',
                           '--epochs', '1', '--lr-steps', '4', '--seeds', '0', '1', '--out', tmp_path/'lesson'], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    epochs, rates = (pd.read_csv(tmp_path/f'lesson_{name}.csv', comment='#') for name in ('epochs', 'rates'))
    assert epochs.stage.tolist() == [f'stage-{i}-{size}' for size in (32, 48) for i in (1, 2)]*2 and epochs.seed.tolist() == [0]*4 + [1]*4
    assert set(rates.stage) == set(epochs.stage) and len(rates) <= 2*4*4 and rates.lr.min() == 1e-7
    assert sum(line.startswith('#') for line in (tmp_path/'lesson_epochs.csv').read_text().splitlines()) == 1
