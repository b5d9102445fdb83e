"""Memory that is kept and given back."""
import subprocess, sys

import pytest

from planet_course import device


resident = """
import os
import numpy as np
from pathlib import Path
from planet_course.device import give_back_memory, keep_freed_memory
def resident(): return int(Path('/proc/self/statm').read_text().split()[1])*os.sysconf('SC_PAGE_SIZE')
def use(): np.ones(40_000_000, np.uint8)
use()
before, kept = resident(), keep_freed_memory()
use()
held, given = resident() - before, give_back_memory()
after = resident() - before
use()
print([kept, held > 30e6, given, after < 10e6, resident() - before < 10e6])
"""


@pytest.mark.skipif(device._glibc() is None, reason='another C library than glibc')
def test_memory_is_kept_and_given_back():
    "In a process of its own: what other tests freed would count too."
    run = subprocess.run([sys.executable, '-c', resident], capture_output=True, text=True, check=True)
    *said, result = run.stdout.splitlines()
    assert len(said) == 1 and 'process' in said[0] and 'give_back_memory()' in said[0]
    assert result == str([True]*5)
