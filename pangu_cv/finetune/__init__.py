"""Stage: a backbone and a few labels in, a model checkpoint out."""

from pangu_cv.errors import SettingsError
from pangu_cv.finetune.anomaly import finetune_anomaly
from pangu_cv.finetune.classify import finetune_classify
from pangu_cv.finetune.classify_trained import finetune_classify_trained
from pangu_cv.finetune.detect import finetune_detect
from pangu_cv.finetune.multilabel import finetune_multilabel
from pangu_cv.finetune.recipe import FinetuneRecipe, FinetuneResult
from pangu_cv.finetune.segment import finetune_segment
from pangu_cv.finetune.unlabelled import require_learns_from_others

__all__ = ["FinetuneRecipe", "FinetuneResult", "finetune"]


def finetune(recipe: FinetuneRecipe) -> FinetuneResult:
    """Fit, measure, save and report; see ``FinetuneRecipe``."""
    if recipe.augment.paste and recipe.task.kind not in ("detect", "segment"):
        raise SettingsError("augment.paste: is for task.kind=detect and segment, where it is known what to paste")
    if (recipe.grow_from or recipe.forget) and recipe.task.kind != "anomaly":
        raise SettingsError("grow_from and forget are for task.kind=anomaly")
    require_learns_from_others(recipe)
    match recipe.task.kind:
        case "classify" if recipe.adapt.kind == "frozen" and not recipe.augment.variants and recipe.unlabelled is None:
            return finetune_classify(recipe, recipe.task)
        case "classify":
            return finetune_classify_trained(recipe, recipe.task)
        case "multilabel":
            return finetune_multilabel(recipe, recipe.task)
        case "detect":
            return finetune_detect(recipe, recipe.task)
        case "segment":
            return finetune_segment(recipe, recipe.task)
        case _:
            return finetune_anomaly(recipe, recipe.task)
