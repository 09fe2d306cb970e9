"""What is freed is used again instead of being asked of the kernel anew."""

import subprocess
import sys

import pytest

PASSES = """
import resource, numpy as np
from pangu_cv.freed_memory import keep_freed_blocks
{setting}
def work():
    activations = [np.ones(20 * 2**20, np.uint8) for _ in range(3)]
for _ in range(3):
    work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def _faults(setting: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", PASSES.format(setting=setting)], capture_output=True, text=True, check=True, timeout=60
    )
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="the setting is glibc's")
def test_pages_are_kept_from_pass_to_pass() -> None:
    assert _faults("keep_freed_blocks()") < _faults("") / 5
