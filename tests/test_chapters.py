"""Every chapter runs top to bottom, as `nbdev-test` runs it; the knobs shrink through IN_TEST. test_lesson.py runs the lesson."""
import os, subprocess, sys
from pathlib import Path

import pytest
import torch
from conftest import knobs, root, shared
from house import chapters

bin_ = Path(sys.executable).parent
flags = ['data'] * (shared/'data').is_dir() + ['cuda'] * torch.cuda.is_available()


@pytest.mark.parametrize('chapter', [p for p in chapters if p.stem != 'lesson'], ids=lambda p: f'{p.parent.name}/{p.stem}')
def test_chapter(chapter, tmp_path):
    env = {k: v for k, v in os.environ.items() if k not in knobs} | {'PLANET_COURSE_HOME': str(tmp_path)}
    command = [bin_/'nbdev-test', chapter, '--n-workers', '1', *(['--flags', ' '.join(flags)] if flags else [])]
    run = subprocess.run(command, cwd=root, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert run.returncode == 0 and 'Success.' in run.stdout, run.stdout[-6000:]     # no notebook found is no error to nbdev
