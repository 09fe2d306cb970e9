"""Which cells make up the benchmark of the loop."""

from benchmarks.cells import MODEL_CODE, READING, Cell
from benchmarks.iterate_growth import EMBEDDED, MINED
from benchmarks.iterate_increments import SHOTS
from benchmarks.iterate_screening import SETS

DRAWS = {"magnetic_tile": 20, "xsdd": 3, "neu_det": 3}  # of each kind that is thinned: 20, 21 and 18 runs
FUSIONS = tuple(range(10, 15))  # seeds that nothing was chosen on
LABELLINGS = tuple(range(15, 20))
INCREMENTS = tuple(range(10, 15))
HARD_TABLES = ("magnetic_tile_classes", "xsdd", "neu_det")  # the rule was formed while looking at the last two
HARD_DRAWS = 5
_POOL = (
    "pangu_cv/iterate/pool",
    "pangu_cv/iterate/mine",
    "pangu_cv/models/backbone.py",
    "pangu_cv/tasks/viewed.py",
    *READING,
)
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
_UPDATE = (
    "pangu_cv/iterate/hard_cases.py",
    "pangu_cv/models",
    "pangu_cv/tasks",
    "recipes/finetune",
    "benchmarks/baselines.py",
    "benchmarks/subjects.py",
    *READING,
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


def increments_name(seed: int, *, shots: int | None = SHOTS) -> str:
    """Name of a cell of classes in steps."""
    return f"increments-{seed}" if shots else f"increments-all_images-{seed}"


def hard_name(table: str) -> str:
    """Name of a cell of hard cases."""
    return f"hard_cases-{table}"


def growth_name(kind: str, count: int) -> str:
    """Name of a cell of growth: ``embedding`` or ``mining``."""
    return f"growth-{kind}-{count}"


def iterate_cells(*, is_full: bool) -> list[Cell]:
    """The cells, what the project promises first."""
    cells = [_screening(table) for table in SETS]
    cells += [_labelling(seed) for seed in (LABELLINGS if is_full else LABELLINGS[:2])]
    cells += [_fusion(seed, is_full=is_full) for seed in (FUSIONS if is_full else FUSIONS[:1])]
    cells += [_hard(table) for table in (HARD_TABLES if is_full else HARD_TABLES[:1])]
    cells += [_increments(seed, trained=is_full or seed == INCREMENTS[0]) for seed in INCREMENTS[: 5 if is_full else 2]]
    cells += [_increments(seed, shots=None, trained=False) for seed in (INCREMENTS if is_full else INCREMENTS[:1])]
    cells += [_growth("embedding", count) for count in EMBEDDED] + [_growth("mining", count) for count in MINED]
    return [*cells, Cell("round-trip-1000", "benchmarks.iterate_round_trip:measure", {}, _LOOK, is_isolated=True)]


def _screening(table: str) -> Cell:
    options = {"table": table, "draws": DRAWS[table]}
    return Cell(screening_name(table), "benchmarks.iterate_screening:measure", options, _POOL, is_isolated=True)


def _labelling(seed: int) -> Cell:
    code = (*_ASK, "pangu_cv/models", "pangu_cv/tasks/viewed.py", "benchmarks/subjects.py", *READING)
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


def _increments(seed: int, *, trained: bool, shots: int | None = SHOTS) -> Cell:
    options = {"seed": seed, "shots": shots, "trained": trained}
    code = (*_UPDATE, "pangu_cv/finetune")
    name = increments_name(seed, shots=shots)
    return Cell(name, "benchmarks.iterate_increments:measure", options, code, is_isolated=True)


def _hard(table: str) -> Cell:
    options = {"table": table, "draws": HARD_DRAWS}
    return Cell(hard_name(table), "benchmarks.iterate_hard_cases:measure", options, _UPDATE, is_isolated=True)


def _growth(kind: str, count: int) -> Cell:
    target = f"benchmarks.iterate_growth:{kind}"
    return Cell(growth_name(kind, count), target, {"count": count}, _POOL, is_isolated=True)
