"""RESULTS.md from whatever cells there are: ``python benchmarks/render.py``. Never edit RESULTS.md by hand."""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from benchmarks import (
    page_ablation,
    page_anomalib,
    page_anomaly,
    page_classification,
    page_deploy,
    page_devices,
    page_extraction,
    page_few_shot,
    page_gpu,
    page_growth,
    page_iterate,
    page_parity,
    page_pretrain,
    page_update,
)
from benchmarks.cells import Cell, of_other_code
from benchmarks.markdown import Results, table
from benchmarks.plan import first_cells
from benchmarks.plan_deploy import deploy_cells
from benchmarks.plan_few_shot import few_shot_cells
from benchmarks.plan_iterate import iterate_cells
from benchmarks.plan_pretrain import pretrain_cells
from pangu_cv.staging import write_text

HERE = Path(__file__).parent
Records = dict[str, dict[str, Any]]


def read_records(folder: Path) -> Records:
    """Every cell's record, by the cell's name."""
    files = sorted(folder.glob("*.json")) if folder.is_dir() else []
    records = [json.loads(path.read_text(encoding="utf-8")) for path in files]
    return {record["cell"]: record for record in records}


@dataclass(frozen=True)
class Chapter:
    """One benchmark: the folder of its results, its name for people, the modules that write its part, its cells."""

    name: str
    title: str
    pages: tuple[ModuleType, ...]
    cells: Callable[..., Sequence[Cell]]


CHAPTERS = (
    Chapter("first", "The first loop", (page_classification, page_anomaly, page_anomalib, page_parity), first_cells),
    Chapter("pretrain", "Pretraining", (page_pretrain, page_gpu, page_ablation), pretrain_cells),
    Chapter("few_shot", "Few labels", (page_few_shot, page_growth), few_shot_cells),
    Chapter("deploy", "Deployment", (page_deploy, page_devices, page_extraction), deploy_cells),
    Chapter("iterate", "The loop", (page_iterate, page_update), iterate_cells),
)


def page(records: dict[str, Records]) -> str:
    """The whole page, from the records of every chapter."""
    lines = [
        "# What was promised, and what was measured",
        "",
        "Made by `benchmarks/render.py` from `benchmarks/results/*/*.json`, never by hand. `make bench-NAME` measures "
        "what is missing of a benchmark, `make bench-NAME FULL=1` the long comparisons too. Intervals are 95 %.",
        "",
    ]
    details: list[str] = []
    for chapter in CHAPTERS:
        found = records.get(chapter.name, {})
        results = _results(found)
        promises = [promise for part in chapter.pages for promise in part.promises(results)]
        lines += [
            f"## {chapter.title} (`make bench-{chapter.name.replace('_', '-')}`)",
            "",
            *table(["promise", "target", "measured", ""], [promise.row for promise in promises]),
            *_machines(found),
            *_stale(found, chapter.cells(is_full=True)),
        ]
        for part in chapter.pages:
            details += part.section(results)
    return "\n".join([*lines, *details]).rstrip() + "\n"


def _results(records: Records) -> Results:
    return {name: record["result"] for name, record in records.items()}


def _machines(records: Records) -> list[str]:
    if not records:
        return ["Nothing was run yet.", ""]
    lines = []
    for text in sorted({_machine(record) for record in records.values()}):
        lines += [f"Measured on {text}.", ""]
    if len(lines) > 2:
        lines += [
            "**Cells come from more than one machine, set of versions or of variables; compare within one only.**",
            "",
        ]
    commands = sorted({f"`{record['command']}`" for record in records.values()})
    commits = sorted({record["commit"] for record in records.values()})
    dates = sorted(record["date"][:10] for record in records.values())
    seconds = sum(record["seconds"] for record in records.values())
    lines.append(
        f"{len(records)} cells in {seconds / 60:.0f} minutes, {dates[0]} to {dates[-1]}, by {', '.join(commands)}, "
        f"at commit {', '.join(commits)} (+: with changes)."
    )
    return [*lines, ""]


def _stale(records: Records, cells: Sequence[Cell]) -> list[str]:
    """Cells whose figures come from other code or options than those beside this page, and what is no cell."""
    apart = [
        f"{name} ({record['date'][:10]}, {record['commit']})"
        for name, record in records.items()
        if name not in {cell.name for cell in cells}
    ]
    lines = [f"Not checked against the code: {', '.join(apart)}.", ""] if apart else []
    codes = {name: record.get("code", "") for name, record in records.items()}
    old = of_other_code([cell for cell in cells if cell.name in codes], codes)
    if not old:
        return lines
    return [
        *lines,
        f"**{len(old)} of these cells were measured by earlier code**, the next run measures them again: "
        f"{', '.join(old)}.",
        "",
    ]


def _machine(record: dict[str, Any]) -> str:
    about = record["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items() if name != "pangu-cv")
    tuned = "".join(f"; {name}={value}" for name, value in record.get("environment", {}).items())
    gpu = f", GPU {about['gpu']}" if "gpu" in about else ""
    host = f"{about['cpu']}, {about['cores']} cores, {about['memory_gb']:.0f} GiB{gpu}, {about['system']}"
    return f"{host}; {versions}{tuned}"


def write(results: Path, target: Path) -> None:
    """Render a folder of results, a folder per benchmark inside, to a file."""
    records = {chapter.name: read_records(results / chapter.name) for chapter in CHAPTERS}
    for name, drawing in page_growth.pictures(_results(records["few_shot"])).items():
        write_text(target.with_name(name), drawing)
    write_text(target, page(records))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=HERE / "results", help="folder of the JSON files")
    parser.add_argument("--out", type=Path, default=HERE / "RESULTS.md", help="the page")
    options = parser.parse_args()
    write(options.results, options.out)


if __name__ == "__main__":
    main()
