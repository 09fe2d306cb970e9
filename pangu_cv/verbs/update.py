"""``pangu-cv update``."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from pangu_cv.data.config import DataConfig
from pangu_cv.data.readers import recognise
from pangu_cv.errors import SettingsError
from pangu_cv.iterate.recipe import UpdateRecipe
from pangu_cv.iterate.update import update as run_update


def update(
    model: Path,
    *,
    out: Path,
    data: Path | None = None,
    hard: Path | None = None,
    hard_weight: float | Literal["auto"] = "auto",
    gate: Path | None = None,
    new_gate: Annotated[bool, Parameter(negative="")] = False,
    max_drop: float = 0.3,
    rename: tuple[str, ...] = (),
    relabel: Annotated[bool, Parameter(negative="")] = False,
    forget: tuple[str, ...] = (),
    missed: Path | None = None,
    masks: Path | None = None,
    root: Path | None = None,
    ledger: Path | None = None,
    fork: Annotated[bool, Parameter(negative="")] = False,
    by: str | None = None,
    as_json: Annotated[bool, Parameter(name="--json")] = False,
) -> None:
    """Teach a model new classes, hard cases or missed defects, without the old images; or refuse what makes it worse.

    Exit code 1, and no model, where the frozen set shows a regression.

    Parameters
    ----------
    model
        A run folder of 'pangu-cv finetune' or 'update', or its model folder. It is never changed.
    out
        The run folder of the next model, a new one.
    data
        New labelled images in any layout, new classes allowed; its test part is not learnt. Anomaly: normal images.
    hard
        Images that the model got wrong in use, with their true labels.
    hard_weight
        How many images a hard case counts as.
    gate
        A frozen set of labelled images that are never learnt; default: the one the ledger knows for this model.
    new_gate
        Allow a frozen set that differs from the ledger's.
    max_drop
        By how many points a figure on the frozen set may be lower than before.
    rename
        OLD=NEW, a class that has another name now.
    relabel
        Correct the labels of images that were learnt with another one.
    forget
        Anomaly: an image to take out, named as in the bank.
    missed
        Anomaly: images of defects that passed as normal.
    masks
        Anomaly: a folder of their masks.
    root
        Folder that the files of CSV tables are relative to.
    ledger
        Which data made which model; default: that of the model, or else ledger.jsonl beside the model's run folder.
    fork
        Allow to update a model that has been updated already; or the very same update once more, if its folder is lost.
    by
        Who does it, for the ledger.
    as_json
        Print the figures as JSON.
    """
    tree: dict[str, Any] = {
        "model": model,
        "output": out,
        "hard_weight": hard_weight,
        "new_gate": new_gate,
        "max_drop": max_drop / 100,
        "rename": dict(_pair(one) for one in rename),
        "relabel": relabel,
        "forget": forget,
        "masks": masks,
        "ledger": ledger,
        "fork": fork,
        "by": by,
    }
    for name, path in (("data", data), ("hard", hard), ("gate", gate), ("missed", missed)):
        tree[name] = None if path is None else _images(path, root)
    result = run_update(UpdateRecipe.parse(tree, origin="update"))
    metrics = result.metrics
    if as_json:
        print(json.dumps(metrics | {"model": str(result.model), "ledger_head": result.head}))
        return
    for line in (metrics["verdict"], *_learnt(metrics), *(f"! {note}" for note in metrics["notes"])):
        print(line)
    print(f"\nmodel   {result.model}\nreport  {result.report}\nledger  {result.ledger} (head {result.head[:16]})")
    print(f"Next: pangu-cv export {result.folder} --out {result.folder / 'bundle'}")


def _images(path: Path, root: Path | None) -> DataConfig:
    """``root`` is for tables alone: a dataset version or a COCO file beside one knows where its own images lie."""
    is_table = path.exists() and recognise(path) == "csv"
    return DataConfig(path=path, root=root if is_table else None)


def _pair(text: str) -> tuple[str, str]:
    old, equals, new = text.partition("=")
    if not (old and equals and new):
        raise SettingsError(f"--rename '{text}': expected OLD=NEW")
    return old, new


def _learnt(metrics: dict[str, Any]) -> list[str]:
    lines = []
    for key, word in (("learnt", "learnt"), ("hard_learnt", "hard cases")):
        if metrics.get(key):
            lines.append(f"{word:11}" + ", ".join(f"{name} +{count}" for name, count in metrics[key].items()))
    if metrics.get("hard_weight"):
        lines.append(f"weight     {metrics['hard_weight']:g} images a hard case")
    if metrics.get("missed"):
        lines.append(f"missed     {metrics['missed']['flagged_now']} of {metrics['missed']['images']} flagged now")
    if metrics["skipped"]:
        lines.append(f"left out   {len(metrics['skipped'])} unreadable image(s), named in the report")
    lines.append(f"took       {metrics['seconds']:.1f} s, memory {metrics['memory_mb']:.1f} MB")
    return lines
