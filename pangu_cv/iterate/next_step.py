"""What to type next, once what people said is a version of the dataset."""

import shlex
from pathlib import Path

from pangu_cv.errors import PanguError
from pangu_runtime.sixteen_bit import FULL_RANGE_16BIT


def finetune_command(recipe: str, version: Path, range_16bit: tuple[int, int] = FULL_RANGE_16BIT) -> str:
    """Learn from every label of a version: recipes draw a few of each class where nothing is said."""
    words = ["finetune", recipe, f"data.path={version}", "few_shot.shots=null"]
    if range_16bit != FULL_RANGE_16BIT:
        words.append(f"data.range_16bit=[{range_16bit[0]},{range_16bit[1]}]")
    return f"pangu-cv {shlex.join(words)}"


def update_command(model: Path, version: Path) -> str:
    """Let a model learn on from a version; it names the frozen set, unless the ledger does."""
    gate = [] if _has_gate(model) else ["--gate", "FROZEN"]
    command = shlex.join(["pangu-cv", "update", str(model), "--data", str(version), *gate, "--out", "runs/next"])
    return f"{command}   (FROZEN: labelled images that are never learnt)" if gate else command


def _has_gate(model: Path) -> bool:
    from pangu_cv.iterate.ledger import Ledger  # here: the other command needs no torch
    from pangu_cv.iterate.records import Records, ledger_of
    from pangu_cv.models.checkpoint_folder import folder_of

    try:
        checkpoint = folder_of(model)
        return Records.at(Ledger(ledger_of(checkpoint)), checkpoint).gate is not None
    except PanguError:
        return False
