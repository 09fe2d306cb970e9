"""Which cells make up the benchmark of few labels."""

import dataclasses

from benchmarks.cells import READING, Cell
from benchmarks.few_shot_classification import BASELINE, BESIDE, WAYS
from benchmarks.few_shot_growth import CLASSES, IMAGES, TASKS
from benchmarks.few_shot_long_tail import ARMS
from benchmarks.few_shot_parity import SUBJECTS
from benchmarks.plan import TABLES

SHOTS, DRAWS = 5, 5
DETECTION = ("neu_det", "deeppcb")
BOXED_SHOTS = (10, 30)
SEGMENTATION = ("crackforest", "crack500_subset")
SEEDS = range(3)
TAIL_SEEDS = range(5)
FIRST_SUBJECTS = ("detect", "segment")
FIRST_WAYS = (BASELINE, BESIDE, "frozen", "auto")
_CODE = (
    "pangu_cv/finetune",
    "pangu_cv/tasks",
    "pangu_cv/models",
    "pangu_cv/evaluate",
    "pangu_cv/metrics",
    "pangu_cv/data/few_shot.py",
    "pangu_cv/data/few_shot_contents.py",
    "recipes/finetune",
    "benchmarks/subjects.py",
    "export/pangu_runtime/tiles.py",
    *READING,
)


def slug(text: str) -> str:
    """A way or arm in the name of a file."""
    return text.lower().replace(", ", "-").replace(" ", "_")


def way_name(table: str, way: str) -> str:
    """Name of a cell of one way on one table."""
    return f"ways-{table}-{slug(way)}"


def detect_name(name: str, shots: int | None, seed: int) -> str:
    """Name of a cell of detection."""
    return f"detect-{name}-{shots or 'all'}-{seed}"


def segment_name(name: str, shots: int | None, seed: int) -> str:
    """Name of a cell of segmentation."""
    return f"segment-{name}-{shots or 'all'}-{seed}"


def tail_name(arm: str, seed: int) -> str:
    """Name of a cell of the long tail."""
    return f"tail-{slug(arm)}-{seed}"


def parity_name(subject: str) -> str:
    """Name of a cell of an export."""
    return f"parity-{slug(subject)}"


def growth_name(kind: str, task: str, count: int) -> str:
    """Name of a cell of growth with images or classes."""
    return f"growth-{kind}-{task}-{count}"


def few_shot_cells(*, is_full: bool) -> list[Cell]:
    """The cells, what the project promises first."""
    cells = [_detect(name, 10, 0) for name in DETECTION] + [_segment("crackforest", 5, 0)]
    cells += [_ways(table, way) for way in FIRST_WAYS for table in TABLES]
    cells += [_tail(arm, 0) for arm in ARMS]
    cells += [_parity(subject) for subject in FIRST_SUBJECTS]
    cells += [_growth("images", task, count) for task in TASKS for count in IMAGES[:2]]
    if is_full:
        cells += [_parity(subject) for subject in SUBJECTS]
        cells += [_growth("images", task, count) for task in TASKS for count in IMAGES]
        cells += [_growth("classes", task, count) for task in TASKS for count in CLASSES]
        cells += [_ways(table, way) for way in WAYS if way not in FIRST_WAYS for table in TABLES]
        cells += [_detect(name, shots, seed) for shots in BOXED_SHOTS for name in DETECTION for seed in SEEDS]
        cells += [_detect("cplid", None, 0)]
        cells += [_segment(name, shots, seed) for shots in (5, None) for name in SEGMENTATION for seed in SEEDS]
        cells += [_tail(arm, seed) for seed in TAIL_SEEDS for arm in ARMS]
    return list({cell.name: cell for cell in cells}.values())


def _cell(cell: str, target: str, /, **options: object) -> Cell:
    return Cell(cell, f"benchmarks.few_shot_{target}:measure", options, _CODE, is_isolated=True)


def _ways(table: str, way: str) -> Cell:
    return _cell(way_name(table, way), "classification", table=table, way=way, shots=SHOTS, draws=DRAWS)


def _detect(name: str, shots: int | None, seed: int) -> Cell:
    return _cell(detect_name(name, shots, seed), "detection", name=name, shots=shots, seed=seed, steps=600)


def _segment(name: str, shots: int | None, seed: int) -> Cell:
    return _cell(segment_name(name, shots, seed), "segmentation", name=name, shots=shots, seed=seed, steps=300)


def _tail(arm: str, seed: int) -> Cell:
    return _cell(tail_name(arm, seed), "long_tail", arm=arm, seed=seed)


def _parity(subject: str) -> Cell:
    cell = _cell(parity_name(subject), "parity", subject=subject)
    return dataclasses.replace(cell, sources=(*_CODE, "pangu_cv/deploy", "export/pangu_runtime"))


def _growth(kind: str, task: str, count: int) -> Cell:
    target = f"benchmarks.few_shot_growth:{kind}"
    return Cell(growth_name(kind, task, count), target, {"task": task, "count": count}, _CODE, is_isolated=True)
