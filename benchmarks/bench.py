"""The command line that all benchmarks share: which cells, where results lie, and the page at the end."""

import argparse
import fnmatch
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks import render
from benchmarks.cells import Bench, Cell, run_all
from benchmarks.isolate import stop_together
from benchmarks.machine import ROOT

RESULTS = ROOT / "benchmarks" / "results"
SHARED = ROOT.parent / "shared"


def main(name: str, cells_of: Callable[..., Sequence[Cell]], about: str | None) -> int:
    """Measure ``cells_of(is_full=...)``; exit code 1 where a cell could not run, after the others have."""
    options = _parser(about).parse_args()
    stop_together()
    if not options.data.is_dir():
        print(f"error: the images are not at '{options.data}'; name their folder with --data", file=sys.stderr)
        return 2
    if "PANGU_CV_WEIGHTS" not in os.environ and (SHARED / "weights").is_dir():
        os.environ["PANGU_CV_WEIGHTS"] = str(SHARED / "weights")
    if options.anomalib_python:
        os.environ["PANGU_CV_BENCH_ANOMALIB"] = options.anomalib_python
    if options.environments:
        os.environ["PANGU_CV_BENCH_ENVIRONMENTS"] = str(options.environments)
    is_full = options.full or os.environ.get("FULL", "") not in ("", "0")
    chosen = [cell for cell in cells_of(is_full=is_full) if fnmatch.fnmatch(cell.name, options.only)]
    if options.list:
        print("\n".join(cell.name for cell in chosen))
        return 0
    quick = Path(tempfile.gettempdir()) / "pangu_cv_bench_quick"
    results = options.results or (quick if options.quick else RESULTS)
    if options.fresh:
        for cell in chosen:
            (results / name / f"{cell.name}.json").unlink(missing_ok=True)
    not_run = run_all(chosen, Bench(options.data, results / name, is_quick=options.quick))
    page = ROOT / "benchmarks" / "RESULTS.md" if results == RESULTS else results / "RESULTS.md"
    render.write(results, page)
    print(f"wrote {page.name}", file=sys.stderr)
    return 1 if not_run else 0


def _parser(about: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--full", action="store_true", help="every cell; hours")
    parser.add_argument("--only", default="*", help="cells whose name fits this pattern, such as 'parity-*'")
    parser.add_argument("--list", action="store_true", help="name the cells and measure nothing")
    parser.add_argument("--fresh", action="store_true", help="measure again what is finished")
    parser.add_argument("--data", type=Path, default=SHARED / "data", help="folder of the shared images")
    parser.add_argument("--results", type=Path, help="folder of the JSON files, a folder per benchmark inside")
    parser.add_argument("--anomalib-python", help="a Python that has anomalib; default: this one")
    parser.add_argument("--environments", type=Path, help="where installs are tried; default: a temporary folder")
    parser.add_argument("--quick", action="store_true", help=argparse.SUPPRESS)
    return parser
