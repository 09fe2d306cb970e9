"""Human seconds to the accuracy of full labels less a point: one-bit questions against naming the class of images.

The 19 classes of xsdd, neu_det and magnetic_tile are one task. A simulated person is asked, 2 % of whose answers are
wrong. Compared: naming the class of every image of the pool, of random ones, of those chosen by margin and diversity,
and the session of ``pangu-cv ask`` that starts with nothing but the names of the classes. All are judged by the same
ridge on the same features of test images that nobody was asked about, drawn anew by each seed, as many of each class as
the tables have. The target is what clean labels of all give. A session does not know when it is there: it goes on to
its own stop, or until it has cost twice as much. Where it stops, what the machine took over is learnt too, as of a
version with ``ask --pseudo``.
"""

import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import subjects
from benchmarks.latency import spread
from pangu_cv.features import FeatureStore, cache_folder, content_digest, extract
from pangu_cv.iterate.answers import AnswerFile
from pangu_cv.iterate.ask import AskConfig, Session, Subject
from pangu_cv.iterate.learner import Taught, learn
from pangu_cv.iterate.questions import PricesConfig
from pangu_cv.iterate.self_paced import PaceConfig

TABLES = ("xsdd", "neu_det", "magnetic_tile_classes")
PRICES = {"60 s, 2.7 s": (60.0, 2.7), "5 s, 1.5 s": (5.0, 1.5)}
WRONG, MARGIN, STEP, PENALTY = 0.02, 0.01, 40, 0.1
CANDIDATES = 4
PATIENCE = 2.0  # times the seconds to the target, within which a session should stop by itself


@dataclass(frozen=True, eq=False)
class Task:
    """Pool and test: normalised features and class numbers."""

    pool_ND: NDArray[np.float32]
    pool_N: NDArray[np.int64]
    test_MD: NDArray[np.float32]
    test_M: NDArray[np.int64]
    images: tuple[Path, ...]
    classes: tuple[str, ...]

    def accuracy(self, weight_DC: NDArray[np.float64], bias_C: NDArray[np.float64]) -> float:
        """Share of test images that such a ridge gets right."""
        found = (self.test_MD @ weight_DC.astype(np.float32) + bias_C.astype(np.float32)).argmax(1)
        return float((found == self.test_M).mean())

    def taught(self, rows: NDArray[np.int64], labels: NDArray[np.int64]) -> Any:
        """A ridge on some labels."""
        return learn(self.pool_ND, Taught.labels(rows, labels), classes=len(self.classes), penalty=PENALTY)


def measure(
    *, data: str, is_quick: bool, seed: int, pace: PaceConfig | None = None, backbone: str | None = None
) -> dict[str, Any]:
    """Seconds to the target of every way at both prices, and what they had reached on the way."""
    began = time.perf_counter()
    task = load(Path(data), seed=seed, is_quick=is_quick, backbone=backbone)
    random = np.random.default_rng([seed, 23])
    all_rows = np.arange(len(task.pool_N))
    clean = task.taught(all_rows, task.pool_N)
    full = task.accuracy(clean.weight_DC, clean.bias_C)
    noisy_N = _heard(task, random)
    noisy = task.taught(all_rows, noisy_N)
    target = full - MARGIN
    curves = {how: _full_labels(task, how, noisy_N, target, random) for how in ("random", "active")}
    found: dict[str, Any] = {
        "seed": seed,
        "classes": len(task.classes),
        "pool": len(task.pool_N),
        "test": len(task.test_M),
        "full_accuracy": full,
        "full_accuracy_with_wrong_labels": task.accuracy(noisy.weight_DC, noisy.bias_C),
        "target": target,
        "labels": {how: _reached(curve, target) for how, curve in curves.items()},
        "curves": curves,
        "prices": {},
    }
    for name, (label, bit) in PRICES.items():
        ours = _ask(task, label, bit, target, np.random.default_rng([seed, 29]), pace or PaceConfig())
        needed = {"all": label * len(task.pool_N)}
        needed |= {how: labels and label * labels for how, labels in found["labels"].items()}
        needed["ours"] = ours["seconds_to_target"]
        saved = {
            how: 1 - needed["ours"] / value
            for how, value in needed.items()
            if value and needed["ours"] and how != "ours"
        }
        found["prices"][name] = {"seconds": needed, "saved": saved, "ours": ours}
    return found | {"took": time.perf_counter() - began}


def load(data: Path, *, seed: int, is_quick: bool, backbone: str | None) -> Task:
    """Features through the cache, normalised by the pool's own statistics; which images are the pool is drawn."""
    samples = []
    for table in TABLES:
        for sample in subjects.classify_recipe(data, table).data.read():
            samples.append(replace(sample, label=f"{table.removesuffix('_classes')}/{sample.label}"))
    if is_quick:
        samples = list(spread(samples, 300))
    recipe = subjects.classify_recipe(data, TABLES[0], backbone=backbone)
    model = subjects.classify_task(recipe).build(("a", "b"))
    store = FeatureStore(cache_folder(), model.fingerprint)
    paths = [sample.path for sample in samples]
    extraction = extract(paths, model, views=("identity",), store=store, decode_spec=recipe.data.decode_spec)
    kept = [sample for sample in samples if sample.path in extraction.index]
    raw_ND = extraction.features_NVD[[extraction.index[sample.path] for sample in kept], 0]
    classes = tuple(sorted({str(sample.label) for sample in kept}))
    labels = np.array([classes.index(str(sample.label)) for sample in kept])
    is_pool = _drawn(labels, np.array([sample.split != "test" for sample in kept]), seed=seed)
    unit_ND = _normalised(raw_ND, raw_ND[is_pool], model.groups)
    images = tuple(sample.path for sample, pool in zip(kept, is_pool, strict=True) if pool)
    return Task(unit_ND[is_pool], labels[is_pool], unit_ND[~is_pool], labels[~is_pool], images, classes)


def _drawn(labels_N: NDArray[np.int64], is_pool_N: NDArray[np.bool_], *, seed: int) -> NDArray[np.bool_]:
    """The marks of the pool dealt anew among the images of each class."""
    random, drawn_N = np.random.default_rng([seed, 19]), is_pool_N.copy()
    for label in np.unique(labels_N):
        of = np.flatnonzero(labels_N == label)
        drawn_N[of] = random.permutation(is_pool_N[of])
    return drawn_N


def _normalised(x: NDArray[np.float32], reference: NDArray[np.float32], groups: list[int]) -> NDArray[np.float32]:
    """As ``RidgeMap.normalised``: standardised with a floor, each group of unit length."""
    parts, start = [], 0
    for size in groups:
        of = slice(start, start + size)
        deviation = reference[:, of].std(0)
        part = (x[:, of] - reference[:, of].mean(0)) / (deviation + np.median(deviation) + 1e-6)
        parts.append(part / np.maximum(np.linalg.norm(part, axis=1, keepdims=True), 1e-9))
        start += size
    return np.concatenate(parts, 1).astype(np.float32) / np.float32(np.sqrt(len(groups)))


def _heard(task: Task, random: np.random.Generator) -> NDArray[np.int64]:
    """What the person would say of each image: 2 % name another class."""
    classes = len(task.classes)
    other = (task.pool_N + random.integers(1, classes, len(task.pool_N))) % classes
    return np.where(random.random(len(task.pool_N)) < WRONG, other, task.pool_N)


def _full_labels(
    task: Task, how: str, heard_N: NDArray[np.int64], target: float, random: np.random.Generator
) -> list[tuple[int, float]]:
    """Labels and accuracy, step by step, until the target."""
    order = random.permutation(len(heard_N))
    rows, curve = order[:STEP], []
    while True:
        learnt = task.taught(rows, heard_N[rows])
        curve.append((len(rows), task.accuracy(learnt.weight_DC, learnt.bias_C)))
        if curve[-1][1] >= target or len(rows) == len(heard_N):
            return curve
        if how == "random":
            step = STEP if len(rows) < 800 else 4 * STEP
            rows = order[: len(rows) + step]
            continue
        rest = np.setdiff1d(np.arange(len(heard_N)), rows)
        ranked = np.sort(learnt.logits_NC[rest], 1)
        doubtful = rest[np.argsort(ranked[:, -1] - ranked[:, -2])][: CANDIDATES * STEP]
        rows = np.concatenate([rows, doubtful[_apart(task.pool_ND[doubtful], min(STEP, len(doubtful)))]])


def _apart(features_ND: NDArray[np.float32], count: int) -> list[int]:
    """Farthest first."""
    chosen, distance = [0], np.full(len(features_ND), np.inf)
    while len(chosen) < count:
        distance = np.minimum(distance, 2 - 2 * features_ND @ features_ND[chosen[-1]])
        distance[chosen] = -1
        chosen.append(int(distance.argmax()))
    return chosen


def _ask(
    task: Task, label: float, bit: float, target: float, random: np.random.Generator, pace: PaceConfig
) -> dict[str, Any]:
    """A session of ``pangu-cv ask`` with a person who errs, to its own stop or ``PATIENCE`` past the target."""
    digests = tuple(content_digest(path) for path in task.images)
    subject = Subject(task.images[0].parent, task.images, digests, task.pool_ND, task.classes)
    config = AskConfig(
        prices=PricesConfig(bit_seconds=bit, label_seconds=label),
        pace=pace,
        relearn_every=20,
        penalty=PENALTY,
    )
    curve: list[tuple[float, float]] = []
    counts = {"bits": 0, "labels": 0}
    seconds, reached, seen = 0.0, None, None
    with tempfile.TemporaryDirectory() as scratch:
        session = Session(subject, AnswerFile(Path(scratch) / "answers.jsonl"), config)
        while (asked := session.next("oracle")) is not None and not (reached and seconds > PATIENCE * reached):
            truth, lies = int(task.pool_N[asked.row]), random.random() < WRONG
            if asked.klass is None:
                named = (truth + int(random.integers(1, len(task.classes)))) % len(task.classes) if lies else truth
                session.take(asked, "label", seconds=label, klass=task.classes[named])
                seconds, counts["labels"] = seconds + label, counts["labels"] + 1
            else:
                session.take(asked, "yes" if (asked.klass == task.classes[truth]) != lies else "no", seconds=bit)
                seconds, counts["bits"] = seconds + bit, counts["bits"] + 1
            if session.learnt is not None and session.learnt is not seen:
                seen = session.learnt
                curve.append((seconds, task.accuracy(seen.weight_DC, seen.bias_C)))
                if reached is None and curve[-1][1] >= target:
                    reached = seconds
        stopped, whole = session.stopped, None
        if stopped is not None:
            whole = _with_machine_labels(task, session)
            reached = seconds if reached is None and whole >= target else reached
    return counts | {
        "seconds_to_target": reached,
        "seconds": seconds,
        "accuracy": curve[-1][1] if curve else None,
        "labelled": int((session.label_N >= 0).sum()),
        "stopped": stopped,
        "accuracy_with_machine_labels": whole,
        "checked": {"right": session.checks.right, "wrong": session.checks.wrong},
        "curve": curve[:: max(1, len(curve) // 40)],
    }


def _with_machine_labels(task: Task, session: Session) -> float:
    """Accuracy of a ridge on people's labels and those that the machine took over."""
    labels_N = session.label_N.copy()
    for row, (klass, _) in session.pseudo_labels.items():
        labels_N[row] = klass
    rows = np.flatnonzero(labels_N >= 0)
    learnt = task.taught(rows, labels_N[rows])
    return task.accuracy(learnt.weight_DC, learnt.bias_C)


def _reached(curve: list[tuple[int, float]], target: float) -> int | None:
    return next((labels for labels, accuracy in curve if accuracy >= target), None)
