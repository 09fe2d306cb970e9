"""Time ``make demo`` in a fresh clone: the install and the demo itself; writes results/first/demo.json."""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import render
from benchmarks.cells import write_record
from benchmarks.machine import ROOT

RESULTS = ROOT / "benchmarks" / "results" / "first"
NOTE = "wheels as pip found them, cached or not"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the JSON files")
    parser.add_argument("--python", default="python3", help="the Python that make builds its environment with")
    parser.add_argument("--note", default=NOTE, help="how packages reach this machine")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "clone"
        subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", str(ROOT), str(clone)], check=True)
        make = ["make", "-C", str(clone), f"PYTHON={options.python}"]
        install_seconds = _seconds([*make, ".venv/.train"])
        demo_seconds = _seconds([*make, "demo"])
    result = {
        "install_seconds": install_seconds,
        "demo_seconds": demo_seconds,
        "whole_seconds": install_seconds + demo_seconds,
        "install_note": options.note,
    }
    write_record(options.results / "demo.json", cell="demo", keys={}, result=result, seconds=result["whole_seconds"])
    if options.results == RESULTS:
        render.write(RESULTS.parent, ROOT / "benchmarks" / "RESULTS.md")


def _seconds(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=sys.stderr)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
