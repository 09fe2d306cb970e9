"""Which cells make up the benchmark of pretraining."""

from collections.abc import Iterator

from benchmarks.cells import Cell
from benchmarks.pretrain_ablation import ARMS, slug
from benchmarks.pretrain_labels import ARMS as LABEL_ARMS
from benchmarks.pretrain_repair import TWINS
from benchmarks.pretrain_subjects import PRETRAIN_CODE

SHOTS, DRAWS = 5, 20
SHARES = (0.01, 0.1)
BEST_ARMS = ("joint", "joint, no neighbours", "joint, no repair", "simclr")
GPU_RUNS = (  # network, images of a step, share of hidden patches
    ("ViT-S", 1024, 0.0),
    ("ViT-B", 256, 0.0),
    ("ViT-L", 128, 0.0),
    ("ViT-L", 512, 0.5),
    ("ViT-3B", 64, 0.0),
)
EMBEDDED = "vit_tiny_patch16_224.pangu_cv_embedded"
BESIDE_EMBEDDED = (EMBEDDED, "tf_efficientnet_lite0.in1k")
_STEPS = 50
_REPAIR_STEPS = 120  # what it takes to restore better than by non-local means


def gain_name(preset: str, seed: int) -> str:
    """Name of a cell of a whole run."""
    return f"gain-{preset}-{seed}"


def ablation_name(arm: str, seed: int) -> str:
    """Name of a cell of one arm."""
    return f"ablation-{slug(arm)}-{seed}"


def repair_name(twin: str, seed: int) -> str:
    """Name of a cell of one twin."""
    return f"repair-{twin}-{seed}"


def labels_name(arm: str, share: float, seed: int) -> str:
    """Name of a cell of few labels for everything."""
    return f"labels-{slug(arm)}-{100 * share:g}-{seed}"


def gpu_name(network: str, hidden: float) -> str:
    """Name of a cell of one network on a GPU."""
    return f"gpu-{network.lower()}{'-half_hidden' if hidden else ''}"


def pretrain_cells(*, is_full: bool) -> list[Cell]:
    """The cells, what the project promises first; by default those that fit into 40 minutes."""
    cells = [_cell("start", "gain:start", shots=SHOTS, draws=DRAWS), _gain(0)]
    cells += [_cell("speed-pipeline", "speed:pipeline", steps=16), _cell("speed-lightly", "speed:lightly", steps=6)]
    cells += _repair(0)
    cells += [_gpu(*run) for run in GPU_RUNS]
    cells.append(_cell("embedded", "embedded:measure", backbones=list(BESIDE_EMBEDDED), shots=SHOTS, draws=DRAWS))
    if is_full:
        cells += [*_text(0), *_labels(0)]
        cells += [_gain(seed) for seed in (1, 2)]
        for seed in (0, 1):
            cells += [_ablation(arm, seed) for arm in ARMS]
        cells += [_ablation(arm, seed) for seed in (2, 3, 4) for arm in BEST_ARMS]
        for seed in range(1, 5):
            cells += [*_repair(seed), *_text(seed), *_labels(seed)]
    return cells


def _cell(name: str, target: str, **options: object) -> Cell:
    module, _, function = target.partition(":")
    return Cell(name, f"benchmarks.pretrain_{module}:{function}", options, PRETRAIN_CODE, is_isolated=True)


def _gpu(network: str, batch: int, hidden: float) -> Cell:
    return _cell(gpu_name(network, hidden), "gpu:measure", network=network, batch=batch, hidden=hidden)


def _gain(seed: int) -> Cell:
    return _cell(gain_name("joint", seed), "gain:measure", preset="joint", seed=seed, shots=SHOTS, draws=DRAWS)


def _ablation(arm: str, seed: int) -> Cell:
    return _cell(ablation_name(arm, seed), "ablation:measure", arm=arm, seed=seed, steps=_STEPS)


def _repair(seed: int) -> Iterator[Cell]:
    for twin in TWINS:
        yield _cell(repair_name(twin, seed), "repair:measure", twin=twin, seed=seed, steps=_REPAIR_STEPS)


def _text(seed: int) -> Iterator[Cell]:
    yield _cell(f"text-scenes-{seed}", "text:scenes", seed=seed, steps=_STEPS)
    for table in ("neu_det", "xsdd"):
        yield _cell(f"text-{table}-{seed}", "text:names", table=table, seed=seed, steps=_STEPS)


def _labels(seed: int) -> Iterator[Cell]:
    for share in SHARES:
        for arm in LABEL_ARMS:
            yield _cell(labels_name(arm, share, seed), "labels:measure", arm=arm, share=share, seed=seed, steps=_STEPS)
