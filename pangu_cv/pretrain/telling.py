"""What a run says while it goes: lines for people on stderr, since stdout is for the result, and for programs one JSON
line per round in ``progress.jsonl``."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pangu_cv.pretrain.state import State
from pangu_cv.staging import write_text


def say(line: str) -> None:
    """On a terminal and in a pipe alike."""
    print(line, file=sys.stderr, flush=True)


def few(names: Sequence[str], *, shown: int = 3) -> str:
    """The first ones, and how many more there are."""
    more = f" and {len(names) - shown:,} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more


def loss_text(losses: Mapping[str, float]) -> str:
    """The sum, then its terms."""
    terms = ", ".join(f"{name} {value:.3f}" for name, value in losses.items() if name != "total")
    return f"loss {losses['total']:.3f}" + (f" ({terms})" if terms else "")


def tell(folder: Path, state: State, *, steps: int, round_steps: int) -> None:
    """Say how the last round went. The file is made anew from the state, so that a round stands in it once however
    often the run was killed."""
    entries = _entries(state, steps=steps, round_steps=round_steps)
    write_text(folder / "progress.jsonl", "".join(json.dumps(entry) + "\n" for entry in entries))
    last = entries[-1]
    lost = f", {last['minutes']:.1f} min: {loss_text(last['losses'])}" if last["losses"] else ""
    say(f"step {last['step']} of {steps}{lost}")
    for target, found in last["targets"].items():
        gain = f"  {100 * found['gain']:+.1f} points" if last["round"] else ""
        say(f"  {target:24} {found['mean']:.1%}{gain}")


def _entries(state: State, *, steps: int, round_steps: int) -> list[dict[str, Any]]:
    """By round: step reached, minutes, mean losses over its steps, and the targets' figures against the start."""
    entries = []
    for number, (scores, minutes) in enumerate(zip(state.rounds, state.minutes, strict=True)):
        step = min(steps, number * round_steps)
        taken = state.history[max(0, number - 1) * round_steps : step]
        names = [name for name in taken[-1] if name not in ("step", "rate")] if taken else []
        losses = {name: float(np.mean([entry[name] for entry in taken])) for name in names}
        pairs = zip(scores, state.rounds[0], strict=True)
        targets = {s.target: {"mean": s.mean, "knn": s.knn, "gain": s.mean - first.mean} for s, first in pairs}
        entries.append({"round": number, "step": step, "minutes": minutes, "losses": losses, "targets": targets})
    return entries
