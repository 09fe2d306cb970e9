"""ONNX Runtime alone, one thread, in a process of its own: what a server can be compared with.

``python -m benchmarks.deploy_raw MODEL IMAGES.npy`` reads lines of ``BATCH COUNT`` and answers each with the images a
second of ``COUNT`` images in calls of ``BATCH``.
"""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnxruntime as ort


class Raw:
    """Such a process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def images_per_s(self, *, batch: int, count: int) -> float:
        """Of ``count`` images, a multiple of ``batch``."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{batch} {count}\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())


@contextmanager
def raw(model: Path, images: Path, *, core: int) -> Iterator[Raw]:
    """A process on a core; ``images`` is an array uint8[N,H,W,3] in a file, N at least the largest batch."""
    from benchmarks.deploy_server import on_core
    from benchmarks.isolate import code_paths

    command = [sys.executable, "-m", "benchmarks.deploy_raw", str(model), str(images)]
    with on_core(core):
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, env=code_paths()
        )
    try:
        yield Raw(process)
    finally:
        process.kill()
        process.communicate()


def _main(model: str, file: str) -> None:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    images_NHW3 = np.load(file)
    for line in sys.stdin:
        batch, count = map(int, line.split())
        start = time.perf_counter()
        for at in range(count // batch):
            first = at * batch % (len(images_NHW3) - batch + 1)
            session.run(None, {"image": images_NHW3[first : first + batch]})
        print(count / (time.perf_counter() - start), flush=True)


if __name__ == "__main__":
    _main(*sys.argv[1:])
