"""RESULTS.md, part A: few-shot classification."""

from collections.abc import Sequence

import numpy as np

from benchmarks.markdown import NOT_RUN, Promise, Results, number, points, table
from benchmarks.plan import BACKBONES, TABLES, classify_name
from pangu_cv.metrics import Interval, mean_interval, paired_gain

BASELINES = {
    "prototypes_same_features": "prototypes, same features",
    "prototypes_plain": "prototypes, pooled vector",
    "ridge_plain": "ridge, pooled vector",
    "prototypes_pixels": "prototypes, raw pixels",
}
_MAIN = ("lite0", 5, 20)
_VARIANTS = [("lite0", 5, 100), *((name, shots, 20) for name in BACKBONES for shots in (1, 5, 10))]
_GAIN = 0.03
_COST = 2.0


class Runs:
    """The cells of one backbone, one number of shots and of draws."""

    def __init__(self, results: Results, backbone: str, shots: int, draws: int) -> None:
        names = {name: classify_name(name, backbone, shots, draws) for name in TABLES}
        self.found = {name: results[cell] for name, cell in names.items() if cell in results}
        self.is_complete = len(self.found) == len(TABLES)

    def values(self, name: str, method: str) -> list[float]:
        """One figure per draw."""
        return list(self.found[name]["per_draw"][method])

    def mean_values(self, method: str) -> list[float]:
        """Per draw, the mean over tables."""
        return [float(v) for v in np.mean([self.values(name, method) for name in self.found], axis=0)]

    def gain(self, baseline: str, name: str | None = None) -> Interval:
        """Paired gain over a baseline, on one table or on the mean over tables."""
        if name is not None:
            return paired_gain(self.values(name, "ours"), self.values(name, baseline))
        return paired_gain(self.mean_values("ours"), self.mean_values(baseline))

    def cost(self, names: Sequence[str]) -> float:
        """Seconds of the complete run over seconds of one pass."""
        costs = [self.found[name]["cost"] for name in names]
        return float(sum(c["run_seconds"] for c in costs) / sum(c["pass_seconds"] for c in costs))


def promises(results: Results) -> list[Promise]:
    """Gain and cost, on all six tables or not at all."""
    runs = Runs(results, *_MAIN)
    gain_text = "Classification, 5 shots, mean of six tables: gain over inductive prototypes on the same features"
    cost_text = "Complete 20-draw run against one embedding pass, both from a cold store: the worst table"
    gain_target, cost_target = "≥ 3 points, interval above 0", "ratio < 2"
    if not runs.is_complete:
        measured = f"{NOT_RUN} ({len(runs.found)} of {len(TABLES)} tables)"
        return [Promise(gain_text, gain_target, measured), Promise(cost_text, cost_target, measured)]
    gain, costs = runs.gain("prototypes_same_features"), {name: runs.cost([name]) for name in TABLES}
    worst = max(costs, key=lambda name: costs[name])
    return [
        Promise(gain_text, gain_target, points(gain, sign=True), gain.mean >= _GAIN and (gain.low or 0) > 0),
        Promise(
            cost_text,
            cost_target,
            f"{costs[worst]:.2f} ({worst}); {runs.cost(TABLES):.2f} of all",
            costs[worst] < _COST,
        ),
    ]


def section(results: Results) -> list[str]:
    """The whole part."""
    runs = Runs(results, *_MAIN)
    lines = ["## A. Classification from 5 labelled images per class", ""]
    if not runs.found:
        return [*lines, "Not run.", "", *_variants(results)]
    first = next(iter(runs.found.values()))
    lines += [
        f"One backbone ({first['backbone']}) and one recipe (`recipes/finetune/classify.yaml`) for every table; "
        f"{len(first['seeds'])} draws. Head and views were chosen on the pools only; the test images are touched here, "
        "to report. All baselines are inductive: they see the same labelled images and nothing else, each as it is, "
        "where ours is fitted on four views of it: the gain over prototypes is that of head, views and scaling "
        "together.",
        "",
        "Balanced accuracy, %, mean and 95 % interval over draws:",
        "",
    ]
    lines += _accuracy(runs) + _gains(runs) + _calibration(runs) + _costs(runs) + _losses(runs) + _variants(results)
    return lines


def _accuracy(runs: Runs) -> list[str]:
    methods = ("ours", *BASELINES)
    rows = [[name, *(points(mean_interval(runs.values(name, m))) for m in methods)] for name in runs.found]
    rows += [[name, *[NOT_RUN] * len(methods)] for name in TABLES if name not in runs.found]
    rows.append([f"mean of {len(runs.found)}", *(points(mean_interval(runs.mean_values(m))) for m in methods)])
    return table(["table", "ours", *BASELINES.values()], rows)


def _gains(runs: Runs) -> list[str]:
    rows = [[name, *(points(runs.gain(b, name), sign=True) for b in BASELINES)] for name in runs.found]
    rows.append([f"mean of {len(runs.found)}", *(points(runs.gain(b), sign=True) for b in BASELINES)])
    return ["Paired gain of ours, points, draw by draw:", "", *table(["table", *BASELINES.values()], rows)]


def _calibration(runs: Runs) -> list[str]:
    keys = ("temperature", "ece_fitted", "ece_plain_softmax", "nll_fitted", "nll_plain_softmax")
    rows = [[name, *(number(float(np.mean(runs.values(name, key)))) for key in keys)] for name in runs.found]
    rows.append(["mean", *(number(float(np.mean(runs.mean_values(key)))) for key in keys)])
    head = ["table", "temperature", "ECE fitted", "ECE plain softmax", "NLL fitted", "NLL plain softmax"]
    note = "Calibration: the temperature fitted by leave-one-out, beside a plain softmax of the same outputs:"
    return [note, "", *table(head, rows)]


def _costs(runs: Runs) -> list[str]:
    with_cost = [name for name in runs.found if runs.found[name]["cost"]]
    if not with_cost:
        return []
    rows = []
    for name in with_cost:
        cost = runs.found[name]["cost"]
        rows.append(
            [
                name,
                f"{cost['pass_embedded']} in {cost['pass_seconds']:.1f} s",
                f"{cost['run_embedded']} in {cost['run_seconds']:.1f} s",
                f"{runs.cost([name]):.2f}",
                "yes" if runs.cost([name]) < _COST else "**no**",
            ]
        )
    rows.append(["all", "", "", f"{runs.cost(with_cost):.2f}", "yes" if runs.cost(with_cost) < _COST else "**no**"])
    note = (
        "Cost: one pass embeds the identity view of every image; the run embeds every view of the images drawn and the "
        "identity view of the test images, each once, and fits and scores all draws:"
    )
    return [note, "", *table(["table", "one pass", "run of all draws", "ratio", "< 2"], rows)]


def _losses(runs: Runs) -> list[str]:
    lost = [
        f"{name} against {label} ({points(gain, sign=True)})"
        for name in runs.found
        for baseline, label in BASELINES.items()
        if (gain := runs.gain(baseline, name)).mean < 0
    ]
    for key, label in (("ece", "ECE"), ("nll", "NLL")):
        worse = [
            name
            for name in runs.found
            if np.mean(runs.values(name, f"{key}_fitted")) > np.mean(runs.values(name, f"{key}_plain_softmax"))
        ]
        lost += [f"{label} of {name} against a plain softmax" for name in worse]
    return [f"Lost: {'; '.join(lost) if lost else 'nowhere in these tables'}.", ""]


def _variants(results: Results) -> list[str]:
    rows = []
    for backbone, shots, draws in _VARIANTS:
        runs = Runs(results, backbone, shots, draws)
        head = [f"{backbone}, {shots} shot{'s' * (shots > 1)}, {draws} draws"]
        if not runs.is_complete:
            rows.append([*head, *[NOT_RUN] * 5])
            continue
        rows.append(
            [
                *head,
                points(mean_interval(runs.mean_values("ours"))),
                *(points(runs.gain(b), sign=True) for b in list(BASELINES)[:3]),
                f"{sum(runs.gain('prototypes_same_features', name).mean < 0 for name in TABLES)} of {len(TABLES)}",
            ]
        )
    head = ["mean of six tables", "ours", *(f"gain over {label}" for label in list(BASELINES.values())[:3])]
    note = "Other shots, backbones and numbers of draws, the same recipe (`FULL=1`):"
    return [note, "", *table([*head, "tables lost to prototypes, same features"], rows)]
