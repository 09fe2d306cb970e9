"""Stage: a backbone and a plant's own images in, a better backbone out, or the word that it is none."""

from pangu_cv.pretrain.recipe import PretrainRecipe, PretrainResult
from pangu_cv.pretrain.stage import pretrain

__all__ = ["PretrainRecipe", "PretrainResult", "pretrain"]
