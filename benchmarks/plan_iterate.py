"""Which cells make up the benchmark of the loop."""

from benchmarks.cells import MODEL_CODE, Cell
from benchmarks.iterate_screening import SETS

DRAWS = {"magnetic_tile": 20, "xsdd": 3, "neu_det": 3}  # of each kind that is thinned: 20, 21 and 18 runs
FUSIONS = tuple(range(10, 15))  # seeds that nothing was chosen on
LABELLINGS = tuple(range(10, 15))
_POOL = ("pangu_cv/iterate/pool", "pangu_cv/iterate/mine", "pangu_cv/models/backbone.py", "pangu_cv/tasks/viewed.py")
_ASK = tuple(
    f"pangu_cv/iterate/{name}.py"
    for name in (
        "answers",
        "learner",
        "questions",
        "self_paced",
        "ask/config",
        "ask/session",
        "ask/standing",
        "ask/subject",
    )
)
_LOOK = ("pangu_cv/iterate/inspect", "pangu_cv/data/versions.py", "pangu_cv/data/version_tables.py")


def screening_name(table: str) -> str:
    """Name of a cell of looks until the rare images are found."""
    return f"screening-{table}"


def fusion_name(seed: int) -> str:
    """Name of a cell of three plants made one."""
    return f"fusion-mixed-{seed}"


def labelling_name(seed: int) -> str:
    """Name of a cell of human seconds."""
    return f"labelling-{seed}"


def iterate_cells(*, is_full: bool) -> list[Cell]:
    """The cells, what the project promises first."""
    cells = [_screening(table) for table in SETS]
    cells += [_labelling(seed) for seed in (LABELLINGS if is_full else LABELLINGS[:2])]
    cells += [_fusion(seed, is_full=is_full) for seed in (FUSIONS if is_full else FUSIONS[:1])]
    return [*cells, Cell("round-trip-1000", "benchmarks.iterate_round_trip:measure", {}, _LOOK, is_isolated=True)]


def _screening(table: str) -> Cell:
    options = {"table": table, "draws": DRAWS[table]}
    return Cell(screening_name(table), "benchmarks.iterate_screening:measure", options, _POOL, is_isolated=True)


def _labelling(seed: int) -> Cell:
    code = (*_ASK, "pangu_cv/features.py", "pangu_cv/models", "pangu_cv/tasks/viewed.py")
    return Cell(labelling_name(seed), "benchmarks.iterate_labelling:measure", {"seed": seed}, code, is_isolated=True)


def _fusion(seed: int, *, is_full: bool) -> Cell:
    ways = {} if is_full else {"ways": ["graph", "plain distillation"]}
    code = (*MODEL_CODE, "pangu_cv/iterate/fuse")
    return Cell(
        fusion_name(seed),
        "benchmarks.iterate_fusion:measure",
        {"mix": "mixed", "seed": seed} | ways,
        code,
        is_isolated=True,
    )
