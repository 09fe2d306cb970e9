"""What is said of a run beside its figures: of the data, of the weights, of settings that had no part in it."""

import re
from collections.abc import Sequence
from pathlib import Path

from pangu_cv.data.config import dataset_title
from pangu_cv.finetune.recipe import FinetuneRecipe
from pangu_cv.models.weights import WeightsFile

_CLOSED_FORM = "the head is fitted in closed form, and the backbone stays as it is"
_VIEWS = f"{_CLOSED_FORM}; images are shown in the views of task.fit_views"
_BANK = "an anomaly detector remembers patches, and nothing is trained"
_TRAINED = "training shows new variants in every step"
_MASKS = "masks have losses of their own"
_TAGS = "tags have a loss of their own, in which images with and without a class weigh alike"


def remarks(source: WeightsFile | None, recipe: FinetuneRecipe, notes: Sequence[str]) -> dict[str, list[str]]:
    """``notes`` of the data and of settings, and what speaks against the weights; for ``metrics.json`` and terminal."""
    without_gain = source.no_gain_on if source else ()
    doubts = [
        f"pretraining found no gain on '{name}' by its own probes: the original weights are the safer choice"
        for name in without_gain
        if _is_called(recipe.data.path, name)
    ]
    return {"notes": [*notes, *_idle(recipe)], "doubts": doubts}


def _is_called(path: Path, name: str) -> bool:
    """Pretraining names a target by its title; by its whole name and folders above it where two have one title, and
    with a number where it was named twice."""
    once = re.sub(r" \(\d+\)$", "", name)
    return once == dataset_title(path) or path.resolve().as_posix().endswith(f"/{once}")


def _idle(recipe: FinetuneRecipe) -> list[str]:
    """A line for each group of settings that was changed and changes nothing."""
    kind, variants = recipe.task.kind, recipe.augment.variants
    shows_variants = kind == "classify" and variants > 0
    trains = kind in ("detect", "segment") or (kind in ("classify", "multilabel") and recipe.adapt.kind != "frozen")
    own_loss = {"segment": _MASKS, "multilabel": _TAGS}.get(kind)
    why = _BANK if kind == "anomaly" else _CLOSED_FORM
    reasons = {
        "adapt": _BANK if kind == "anomaly" else None,
        "loss": own_loss if trains else why,
        "train": None if trains or shows_variants else why,  # its precision is that of the variants
        "augment": None if trains or shows_variants else _BANK if kind == "anomaly" else _VIEWS,
        "augment.variants": None if kind == "classify" or not variants else _TRAINED if trains else None,
    }
    return [f"{name}: changes nothing here: {why}" for name, why in reasons.items() if why and _changed(recipe, name)]


def _changed(recipe: FinetuneRecipe, name: str) -> bool:
    group, _, one = name.partition(".")
    own, plain = getattr(recipe, group), type(recipe).model_fields[group].default
    return bool(getattr(own, one) != getattr(plain, one) if one else own != plain)
