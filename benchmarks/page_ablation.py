"""RESULTS.md, part F: every term of the objective taken away or put in."""

from typing import Any

import numpy as np

from benchmarks.markdown import NOT_RUN, Promise, Results, mean_points, table
from benchmarks.plan_pretrain import ablation_name
from benchmarks.pretrain_ablation import ARMS

_SEEDS = range(5)


def promises(results: Results) -> list[Promise]:
    """The table itself is what was promised."""
    whole = sum(all(ablation_name(arm, seed) in results for seed in (0, 1)) for arm in ARMS)
    text = "Every term ablated, 2 seeds on all arms"
    if not whole:
        return [Promise(text, f"{len(ARMS)} arms")]
    return [Promise(text, f"{len(ARMS)} arms", f"{whole} arms", whole == len(ARMS))]


def section(results: Results) -> list[str]:
    """The whole part."""
    found = {arm: [results[n] for seed in _SEEDS if (n := ablation_name(arm, seed)) in results] for arm in ARMS}
    note = (
        "The same start, images and steps; only what is named differs. Probes within the pools (5 shots, 20 draws, the "
        "last state, whatever the verdict), gain over the start in points; mean over seeds, with an "
        "interval where there are more than two. *joint* is the recipe `joint_repair`, with every term but KoLeo and "
        "hidden patches. What does not pay is off in the recipe `joint`: repair with its damage, KoLeo, hidden patches:"
    )
    names = next(([*run["rounds"][0]] for runs in found.values() for run in runs), [])
    order = sorted(found.items(), key=lambda item: -_mean(item[1]))
    rows = [_row(arm, runs) if runs else [arm, "0", *[NOT_RUN] * (3 + len(names))] for arm, runs in order]
    return [
        "## F. What each term brings",
        "",
        note,
        "",
        *table(["arm", "seeds", "mean", "kNN", "minutes", *names], rows),
    ]


def _mean(runs: list[Any]) -> float:
    return float(np.mean([np.mean(list(_gains(run, "mean").values())) for run in runs])) if runs else -1.0


def _gains(run: Any, figure: str) -> dict[str, float]:
    first, last = run["rounds"][0], run["rounds"][-1]
    return {name: last[name][figure] - first[name][figure] for name in first}


def _row(arm: str, runs: list[Any]) -> list[str]:
    means = [float(np.mean(list(_gains(run, "mean").values()))) for run in runs]
    knn = float(np.mean([np.mean(list(_gains(run, "knn").values())) for run in runs]))
    minutes = float(np.mean([run["minutes"][-1] for run in runs]))
    per_target = [np.mean([_gains(run, "mean")[name] for run in runs]) for name in runs[0]["rounds"][0]]
    return [
        arm,
        str(len(runs)),
        mean_points(means, sign=True),
        f"{100 * knn:+.1f}",
        f"{minutes:.1f}",
        *(f"{100 * one:+.1f}" for one in per_target),
    ]
