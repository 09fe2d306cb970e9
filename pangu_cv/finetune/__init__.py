"""Stage: a backbone and a few labels in, a model checkpoint out."""

from pangu_cv.finetune.anomaly import finetune_anomaly
from pangu_cv.finetune.classify import finetune_classify
from pangu_cv.finetune.recipe import FinetuneRecipe, FinetuneResult

__all__ = ["FinetuneRecipe", "FinetuneResult", "finetune"]


def finetune(recipe: FinetuneRecipe) -> FinetuneResult:
    """Fit, measure, save and report; see ``FinetuneRecipe``."""
    if recipe.task.kind == "classify":
        return finetune_classify(recipe, recipe.task)
    return finetune_anomaly(recipe, recipe.task)
