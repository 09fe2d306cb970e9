"""RESULTS.md, part E: what pretraining on the plant's own images brings."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.markdown import NOT_RUN, Promise, Results, points, table
from benchmarks.plan import TABLES
from benchmarks.plan_pretrain import SHARES, gain_name, labels_name, repair_name
from benchmarks.pretrain_labels import ARMS as LABEL_ARMS
from benchmarks.pretrain_repair import TWINS
from pangu_cv.metrics import Interval, mean_interval

_SEEDS = range(5)
_GAIN, _WORST = 0.03, -0.01
_JUDGE, _RESTORE_DB = -0.01, -0.3
_RESTORES_DB = 1.0  # better than the input by so much, or there is nothing to compare
_PIPELINE, _LIGHTLY = 0.85, 1.0


class Gain:
    """A run's gain over the start, draw by draw; where the verdict keeps the original it is 0."""

    def __init__(self, start: Any, run: Any) -> None:
        self.start, self.run = start["per_draw"], run["per_draw"]
        uses = [target["use"] for target in run["verdict"]["targets"]]
        self.uses = dict(zip(TABLES, uses, strict=True))

    def values(self, name: str, *, after_verdict: bool) -> list[float]:
        """Per draw."""
        if after_verdict and not self.uses[name]:
            return [0.0] * len(self.start[name])
        return [new - old for new, old in zip(self.run[name], self.start[name], strict=True)]

    def of(self, name: str | None, *, after_verdict: bool) -> Interval:
        """On one table or on the mean over tables."""
        names = TABLES if name is None else (name,)
        return mean_interval(np.mean([self.values(n, after_verdict=after_verdict) for n in names], axis=0).tolist())


def promises(results: Results) -> list[Promise]:
    """Gain, judge and restore, speed."""
    gain_text = (
        "Frozen head of issue 1, 5 shots, six tables, ViT-Tiny at 224 px: mean gain of pretraining over the start"
    )
    worst_text = "The same: the worst table, where the verdict keeps the original it counts as 0"
    found = [Promise(gain_text, "≥ 3 points"), Promise(worst_text, "≥ -1 point")]
    if "start" in results and gain_name("joint", 0) in results:
        gain = Gain(results["start"], results[gain_name("joint", 0)])
        mean = gain.of(None, after_verdict=True)
        worst = min((gain.of(name, after_verdict=True) for name in TABLES), key=lambda one: one.mean)
        found = [
            Promise(gain_text, "≥ 3 points", points(mean, sign=True), mean.mean >= _GAIN),
            Promise(worst_text, "≥ -1 point", points(worst, sign=True), worst.mean >= _WORST),
        ]
    return [*found, *_twin_promises(results), *_speed_promises(results)]


def _twin_promises(results: Results) -> list[Promise]:
    judge_text = "Judge and restore: probes of the joint encoder against its twin that only judges"
    restore_text = "The same: denoising against the twin that only restores"
    judged, restored = Promise(judge_text, "loss ≤ 1 point"), Promise(restore_text, "loss ≤ 0.3 dB")
    by_seed = [{twin: results.get(repair_name(twin, seed)) for twin in TWINS} for seed in _SEEDS]
    whole = [twins for twins in by_seed if all(twins.values())]
    if not whole:
        return [judged, restored]
    restored_alone = [twins["restore"] for twins in whole]
    gain = float(np.mean([_db(one, "bsd68_sigma25") - _db(one, "bsd68_sigma25", "input") for one in restored_alone]))
    restores, beside = gain >= _RESTORES_DB, ""
    if not restores:
        steps = restored_alone[0]["asked_steps"]
        beside = f"; but neither restores yet: {gain:+.2f} dB on BSD68 after {steps} steps"
    losses = [_probe_mean(twins["both"]) - _probe_mean(twins["judge"]) for twins in whole]
    losses_db = {
        name: [_db(twins["both"], name) - _db(twins["restore"], name) for twins in whole]
        for name in whole[0]["both"]["psnr_db"]
    }
    told = _mean_told([100 * loss for loss in losses], "points", digits=1)
    told_db = ", ".join(f"{name} {_mean_told(values, 'dB', digits=2)}" for name, values in losses_db.items())
    is_restored = min(float(np.mean(values)) for values in losses_db.values()) >= _RESTORE_DB
    return [
        Promise(judge_text, judged.target, told + beside, restores and float(np.mean(losses)) >= _JUDGE),
        Promise(restore_text, restored.target, told_db + beside, restores and is_restored),
    ]


def _mean_told(by_seed: Sequence[float], unit: str, *, digits: int) -> str:
    """The mean, and where there are several seeds each of them."""
    mean = f"{np.mean(by_seed):+.{digits}f} {unit}"
    return mean if len(by_seed) == 1 else f"{mean} (seeds: {', '.join(f'{one:+.{digits}f}' for one in by_seed)})"


def _speed_promises(results: Results) -> list[Promise]:
    pipeline, lightly = results.get("speed-pipeline"), results.get("speed-lightly")
    texts = ("Pipeline against the bare model on tensors, images/s", "Our DINO against lightly's own loop, images/s")
    return [
        Promise(text, f"≥ {target}", f"{found['ratio']:.2f}", found["ratio"] >= target)
        if found
        else Promise(text, f"≥ {target}")
        for text, target, found in ((texts[0], _PIPELINE, pipeline), (texts[1], _LIGHTLY, lightly))
    ]


def _probe_mean(result: Any) -> float:
    return float(np.mean([target["mean"] for target in result["rounds"][-1].values()]))


def _db(result: Any, name: str, method: str = "ours") -> float:
    return float(np.mean(result["psnr_db"][name][method]))


def section(results: Results) -> list[str]:
    """The whole part."""
    lines = ["## E. Pretraining on the unlabelled pools", ""]
    if "start" not in results:
        lines += ["Not run.", ""]
    else:
        lines += _gains(results) + _minutes(results)
    return [*lines, *_twins(results), *_labels(results), *_texts(results), *_speeds(results)]


def _gains(results: Results) -> list[str]:
    runs = {seed: results[gain_name("joint", seed)] for seed in _SEEDS if gain_name("joint", seed) in results}
    if not runs:
        return ["The run itself: not run.", ""]
    gains = {seed: Gain(results["start"], run) for seed, run in runs.items()}
    rows = []
    for name in (*TABLES, None):
        start = results["start"]["per_draw"]
        before = start[name] if name else np.mean([start[n] for n in TABLES], axis=0).tolist()
        row = [name or "mean of 6", points(mean_interval(before))]
        for gain in gains.values():
            verdict = "" if name is None else ("use it" if gain.uses[name] else "keep the original")
            row += [points(gain.of(name, after_verdict=False), sign=True), verdict]
        rows.append(row)
    rows.append(["mean of 6, after the verdict", "", *_after(gains)])
    heads = [part for seed in gains for part in (f"gain, seed {seed}", "verdict on the pools")]
    note = (
        "The recipe `joint` from ViT-Tiny on the six pools without labels; weights and verdict chosen by probes within "
        "the pools; here on the test images, 20 draws paired with the start's, balanced accuracy in % and points:"
    )
    return [note, "", *table(["table", "start", *heads], rows)]


def _after(gains: dict[int, Gain]) -> list[str]:
    return [part for gain in gains.values() for part in (points(gain.of(None, after_verdict=True), sign=True), "")]


def _minutes(results: Results) -> list[str]:
    run = results.get(gain_name("joint", 0))
    if run is None:
        return []
    first = run["rounds"][0]
    rows = []
    for minutes, scores in zip(run["minutes"], run["rounds"], strict=True):
        gained = [100 * (scores[name]["mean"] - first[name]["mean"]) for name in first]
        rows.append([f"{minutes:.1f}", f"{np.mean(gained):+.1f}", *(f"{one:+.1f}" for one in gained)])
    note = f"Gain against minutes of training (probes within the pools, seed 0, {run['images']} images, points):"
    return [note, "", *table(["minutes", "mean", *first], rows)]


def _twins(results: Results) -> list[str]:
    rows = []
    for seed in _SEEDS:
        for twin in TWINS:
            found = results.get(repair_name(twin, seed))
            if found is None:
                continue
            rounds = found["rounds"][-1]
            probes = f"{100 * _probe_mean(found):.1f}" if rounds else "–"
            rows.append([f"{twin}, seed {seed}", probes, *_restoration(found)])
    if not rows:
        return ["Judge and restore: not run.", ""]
    note = (
        "Judge and restore: the same steps with both terms and with one of them. Probes in %; PSNR in dB on images no "
        "run saw (input → ours; non-local means, told the noise's deviation, beside):"
    )
    return [note, "", *table(["twin", "probes", "BSD68 σ=25", "PolyU"], rows)]


def _restoration(found: Any) -> list[str]:
    if "psnr_db" not in found:
        return ["–", "–"]
    cells = []
    for name in ("bsd68_sigma25", "polyu"):
        mean = {method: float(np.mean(values)) for method, values in found["psnr_db"][name].items()}
        cells.append(f"{mean['input']:.2f} → {mean['ours']:.2f} (NLM {mean['non_local_means']:.2f})")
    return cells


def _labels(results: Results) -> list[str]:
    rows = []
    for share in SHARES:
        for arm in LABEL_ARMS:
            names = [labels_name(arm, share, seed) for seed in _SEEDS]
            runs = [results[name] for name in names if name in results]
            if not runs:
                rows.append([f"{100 * share:g} %, {arm}", *[NOT_RUN] * (len(TABLES) + 2)])
                continue
            means = [float(np.mean(list(run["accuracy"].values()))) for run in runs]
            rows.append(
                [
                    f"{100 * share:g} %, {arm}",
                    str(runs[0]["labelled"]),
                    *(f"{100 * np.mean([run['accuracy'][name] for run in runs]):.1f}" for name in TABLES),
                    points(mean_interval(means)),
                ]
            )
    note = (
        "Few labels for everything: a share of the pools' labels (at least one a class) for the head, and for the "
        "backbone too where it is pretrained with them; test images, balanced accuracy in %:"
    )
    return [note, "", *table(["labels, backbone", "labelled", *TABLES, "mean"], rows)]


def _texts(results: Results) -> list[str]:
    lines = ["Words (frozen MiniLM, learnt by the image side alone):", ""]
    rows = []
    for seed in _SEEDS:
        found = results.get(f"text-scenes-{seed}")
        if found:
            recall = ", ".join(f"@{k} {100 * value:.1f} %" for k, value in found["caption_recall"].items())
            for name, one in found["zero_shot"].items():
                told = f"caption to image among {found['images']}: {recall}" if name == "scenes" else "names never seen"
                rows.append(_zero_shot_row(f"captions of scenes, seed {seed} → {name}", one, told))
        for name in ("neu_det", "xsdd"):
            named = results.get(f"text-{name}-{seed}")
            if named:
                rows.append(_zero_shot_row(f"names of {name}'s pool, seed {seed} → {name}", named["zero_shot"], ""))
    if not rows:
        return ["Words: not run.", ""]
    return [*lines, *table(["learnt → asked", "zero-shot", "chance", "beside"], rows)]


def _zero_shot_row(name: str, found: Any, beside: str) -> list[str]:
    return [name, f"{100 * found['balanced_accuracy']:.1f} %", f"{100 * found['chance']:.1f} %", beside]


def _speeds(results: Results) -> list[str]:
    rows: list[Sequence[str]] = []
    for name, label in (("speed-pipeline", "joint recipe"), ("speed-lightly", "dino, image term alone")):
        found = results.get(name)
        if found is None:
            rows.append([label, NOT_RUN, NOT_RUN, NOT_RUN])
            continue
        (first, ours), (second, theirs) = found["images_per_s"].items()
        told = [
            f"{which} {', '.join(f'{rate:.0f}' for rate in rates)}"
            for which, rates in ((first, ours), (second, theirs))
        ]
        rows.append([label, *told, f"{found['ratio']:.2f}"])
    note = (
        "Images/s, rounds in turn; the ratio is the median over rounds. Ours reads reduced images from its cache and "
        "draws views with albumentations, lightly's loop decodes whole files with Pillow and torchvision; network, "
        "attention, crops, batch, precision and one worker process are the same."
    )
    return [note, "", *table(["what", "first", "second", "ratio"], rows)]
