"""Hard cases: a model meets noise, blur or a thermal camera, and is told twenty of its mistakes.

Twenty labelled images a class teach the model. Other images of the pool are shifted; twenty of those that it gets wrong
come back with their labels, as to ``pangu-cv update --hard``. Measured before and after: shifted test images, and the
test images as they were, on which no more than 0.3 points may be lost. Beside the weight that the update chooses, from
images it has learnt from alone: a hard case that counts as one image.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor

from benchmarks import subjects
from benchmarks.baselines import balanced_accuracy
from benchmarks.latency import spread
from pangu_cv.data.sample import Sample
from pangu_cv.features import FeatureStore, cache_folder, content_digest, extract, read_ahead
from pangu_cv.iterate.hard_cases import choose_weight
from pangu_cv.tasks.class_memory import ClassMemory, Lesson
from pangu_cv.tasks.classify import ClassifyModel
from pangu_runtime.decode import DecodeSpec, decode

SHOTS, REPORTED, MET, TESTED = 20, 20, 150, 200
Pixels = NDArray[np.uint8]


def noise(image_HW3: Pixels, random: np.random.Generator) -> Pixels:
    """The same grain in all colours, its deviation 40 of 255."""
    grain = random.normal(0, 40, image_HW3.shape[:2])[..., None]
    return np.clip(image_HW3 + grain, 0, 255).astype(np.uint8)


def blur(image_HW3: Pixels, random: np.random.Generator) -> Pixels:
    """Out of focus by 2.5 pixels."""
    return np.asarray(gaussian_filter(image_HW3.astype(np.float32), (2.5, 2.5, 0))).astype(np.uint8)


def thermal(image_HW3: Pixels, random: np.random.Generator) -> Pixels:
    """As a thermal camera might show it: dark is hot, soft, noisy, in black, red, yellow and white."""
    grey = gaussian_filter(image_HW3.mean(2), 1.2)
    low, high = np.percentile(grey, [1, 99])
    heat = 1 - np.clip((grey - low) / max(high - low, 1.0), 0, 1) + random.normal(0, 0.04, grey.shape)
    return (255 * np.stack([np.clip(3 * heat - at, 0, 1) for at in range(3)], -1)).astype(np.uint8)


SHIFTS: dict[str, Callable[[Pixels, np.random.Generator], Pixels]] = {"noise": noise, "blur": blur, "thermal": thermal}


@dataclass(frozen=True)
class Seen:
    """Features of images as they are and as shifted: [V,D] each, by path."""

    plain: dict[Path, Tensor]
    shifted: dict[str, dict[Path, Tensor]]


def measure(*, data: str, is_quick: bool, table: str, draws: int, backbone: str | None = None) -> dict[str, Any]:
    """For every shift and draw: balanced accuracy on both test sets before and after, and the weight."""
    recipe = subjects.classify_recipe(Path(data), table, backbone=backbone)
    samples = [sample for sample in recipe.data.read() if sample.label is not None]
    pool, test = ([s for s in samples if (s.split == "test") == is_test] for is_test in (False, True))
    met = spread(pool, min(40 if is_quick else MET, len(pool) // 2))
    tested = spread(test, 20 if is_quick else TESTED)
    if is_quick:
        pool, test = [*met, *pool[::10]] if len(pool) > 100 else pool, tested
    pool = list(dict.fromkeys(pool))
    task = subjects.classify_task(recipe)
    model = task.build(tuple(sorted({str(s.label) for s in pool})))
    seen = _seen(model, pool, test, met, tested, recipe.data.decode_spec)
    found: dict[str, list[dict[str, float]]] = {}
    for kind in SHIFTS:
        runs = [_one(model, seen, kind, pool, test, met, tested, seed, is_quick) for seed in range(draws)]
        found[kind] = [run for run in runs if run]
    return {"table": table, "shots": SHOTS, "reported": REPORTED, "shifts": found}


def _seen(
    model: ClassifyModel,
    pool: Sequence[Sample],
    test: Sequence[Sample],
    met: Sequence[Sample],
    tested: Sequence[Sample],
    spec: DecodeSpec,
) -> Seen:
    store, views = FeatureStore(cache_folder(), model.fingerprint), model.config.fit_views
    plain: dict[Path, Tensor] = {}
    for part, shown in ((pool, views), (test, model.config.decision_views)):
        rows = extract([s.path for s in part], model, views=shown, store=store, decode_spec=spec)
        plain |= {path: torch.from_numpy(rows.features_NVD[row]) for path, row in rows.index.items()}
    shifted: dict[str, dict[Path, Tensor]] = {}
    for kind, shift in SHIFTS.items():
        random = np.random.default_rng(0)
        shifted[kind] = {}
        for part, shown in ((met, views), (tested, model.config.decision_views)):
            paths = [s.path for s in part]
            for path, image in zip(paths, read_ahead(paths, lambda path: decode(path, spec=spec)), strict=True):
                with torch.inference_mode():
                    prepared = model.prepare(torch.from_numpy(shift(image, random))[None])
                    features = torch.stack([model.embed(prepared, view)[0] for view in shown])
                shifted[kind][path] = features.clone()
    return Seen(plain, shifted)


def _one(
    model: ClassifyModel,
    seen: Seen,
    kind: str,
    pool: Sequence[Sample],
    test: Sequence[Sample],
    met: Sequence[Sample],
    tested: Sequence[Sample],
    seed: int,
    is_quick: bool,
) -> dict[str, float]:
    """One draw; nothing where the model makes no mistake."""
    random = np.random.default_rng([seed, 37])
    away = {s.path for s in met}
    rest = [pool[at] for at in random.permutation(len(pool)) if pool[at].path not in away]
    shots = 3 if is_quick else SHOTS
    learnt = [s for name in model.classes for s in [one for one in rest if one.label == name][:shots]]
    lessons = [Lesson(content_digest(s.path), (str(s.label),), seen.plain[s.path]) for s in learnt]
    model.fit(
        torch.stack([one.features_VD for one in lessons]),
        torch.tensor([model.classes.index(one.classes[0]) for one in lessons]),
    )
    memory = ClassMemory.of(model, lessons, per_class=20)
    order = [met[at] for at in random.permutation(len(met))]
    wrong = [s for s in order if not _right(model, [s], seen.shifted[kind])[0]][:REPORTED]
    if not wrong:
        return {}
    cases = [Lesson(f"{kind} {s.path.name}", (str(s.label),), seen.shifted[kind][s.path], is_hard=True) for s in wrong]
    sets = {"old": (test, seen.plain), "shifted": (tested, seen.shifted[kind])}
    found = {f"{name}_before": _accuracy(model, *part) for name, part in sets.items()}
    trials = choose_weight(model, memory, cases)
    weights = {"after": next(one.weight for one in trials if one.is_chosen), "as_one_image": 1.0}
    for word, weight in weights.items():
        memory.learn(model, [replace(one, weight=weight) for one in cases]).teach(model)
        found |= {f"{name}_{word}": _accuracy(model, *part) for name, part in sets.items()}
    return found | {"cases": len(cases), "weight": weights["after"]}


@torch.inference_mode()
def _right(model: ClassifyModel, samples: Sequence[Sample], features: dict[Path, Tensor]) -> NDArray[np.bool_]:
    rows_NVD = torch.stack([features[s.path][:1] for s in samples])
    labels_N = model.decide_from_features(rows_NVD, model.threshold)[1].numpy()
    return np.asarray(labels_N == [model.classes.index(str(s.label)) for s in samples])


def _accuracy(model: ClassifyModel, samples: Sequence[Sample], features: dict[Path, Tensor]) -> float:
    """Balanced."""
    is_right = _right(model, samples, features)
    truth = np.array([model.classes.index(str(s.label)) for s in samples])
    return balanced_accuracy(np.where(is_right, truth, -1), truth)
