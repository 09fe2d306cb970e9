"""Which cells make up the first benchmark."""

from collections.abc import Iterator

from benchmarks.cells import MODEL_CODE, Cell

TABLES = ("neu_det", "xsdd", "magnetic_tile_classes", "powerline_ir", "powerline_vl", "rsscn7")
ANOMALY_SETS = ("magnetic_tile", "cookies_ad")
CAPS_MB = (None, 10, 5, 2)
MANY_HALVES, FEW_HALVES = 20, 5
BACKBONES = {"lite0": None, "vit_tiny": "vit_tiny_patch16_224.augreg_in21k_ft_in1k"}  # None: the recipe's own
ONE_LEVEL, TWO_LEVELS = ["blocks.4"], ["blocks.2", "blocks.4"]  # stride 16; strides 8 and 16
_SHARED = ("benchmarks/subjects.py", "benchmarks/latency.py")


def classify_name(table: str, backbone: str, shots: int, draws: int) -> str:
    """Name of a classification cell."""
    return f"classify-{table}-{backbone}-{shots}shot-{draws}draws"


def cap_name(max_mb: float | None) -> str:
    """A bank's cap in a cell's name."""
    return "uncapped" if max_mb is None else f"{max_mb}mb"


def halves_name(max_mb: float | None, halves: int) -> str:
    """Name of a cell of false alarms over random halves."""
    return f"false_alarms-{cap_name(max_mb)}{'' if halves == MANY_HALVES else f'-{halves}halves'}"


def first_cells(*, is_full: bool) -> list[Cell]:
    """The cells, what is cheap and what the project promises first."""
    cells = [Cell("startup", "benchmarks.first_startup:measure", sources=("pangu_cv/cli.py", "pangu_cv/verbs"))]
    cells += _classify("lite0", shots=5, draws=20, with_cost=True)
    cells += _parity()
    cells += _anomaly()
    cells += _false_alarms(is_full=is_full)
    cells += _anomalib(is_full=is_full)
    if is_full:
        for backbone, shots in (("lite0", 1), ("lite0", 10), ("vit_tiny", 1), ("vit_tiny", 5), ("vit_tiny", 10)):
            cells += _classify(backbone, shots=shots, draws=20, with_cost=False)
        cells += _classify("lite0", shots=5, draws=100, with_cost=False)
    return cells


def _classify(backbone: str, *, shots: int, draws: int, with_cost: bool) -> Iterator[Cell]:
    for table in TABLES:
        yield Cell(
            classify_name(table, backbone, shots, draws),
            "benchmarks.first_classification:measure",
            {"table": table, "backbone": BACKBONES[backbone], "shots": shots, "draws": draws, "with_cost": with_cost},
            (*MODEL_CODE, *_SHARED, "benchmarks/baselines.py"),
            is_isolated=with_cost,
        )


def _parity() -> Iterator[Cell]:
    for name in (*TABLES, *ANOMALY_SETS):
        sources = (*MODEL_CODE, *_SHARED, "pangu_cv/verbs/predict.py")
        yield Cell(f"parity-{name}", "benchmarks.first_parity:measure", {"name": name}, sources, is_isolated=True)


def _anomaly() -> Iterator[Cell]:
    for name in ANOMALY_SETS:
        for cap in CAPS_MB:
            options = {"name": name, "max_mb": cap}
            target = "benchmarks.first_anomaly:measure"
            yield Cell(f"anomaly-{name}-{cap_name(cap)}", target, options, (*MODEL_CODE, *_SHARED), is_isolated=True)


def _false_alarms(*, is_full: bool) -> Iterator[Cell]:
    """A capped bank is learned anew for every half, which takes half a minute each."""
    for cap, halves in [(None, MANY_HALVES), (10, FEW_HALVES), *([(10, MANY_HALVES)] if is_full else [])]:
        options = {"max_mb": cap, "splits": halves}
        sources = (*MODEL_CODE, *_SHARED, "benchmarks/first_anomaly.py")
        yield Cell(halves_name(cap, halves), "benchmarks.first_false_alarms:measure", options, sources)


def _anomalib(*, is_full: bool) -> Iterator[Cell]:
    """anomalib's coreset of two levels takes most of an hour on 200 images; by default both sides learn from 32."""
    compared: list[tuple[str, str, list[str], int | None]] = [
        ("magnetic_tile-one_level-all", "magnetic_tile", ONE_LEVEL, None),
        ("magnetic_tile-two_levels-32", "magnetic_tile", TWO_LEVELS, 32),
        ("cookies_ad-one_level-all", "cookies_ad", ONE_LEVEL, None),
        ("cookies_ad-two_levels-all", "cookies_ad", TWO_LEVELS, None),
    ]
    if is_full:
        compared.append(("magnetic_tile-two_levels-all", "magnetic_tile", TWO_LEVELS, None))
    sources = (*MODEL_CODE, *_SHARED, "benchmarks/first_anomaly.py", "benchmarks/anomalib_patchcore.py")
    for label, name, layers, normals in compared:
        options = {"name": name, "layers": layers, "normals": normals}
        yield Cell(f"anomalib-{label}", "benchmarks.first_anomalib:measure", options, sources)
