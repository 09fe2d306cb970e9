"""The stage between a model and a device: a smaller model within a measured budget, taught by the large one."""

from pangu_cv.distill.recipe import DistillRecipe, DistillResult
from pangu_cv.distill.stage import distill

__all__ = ["DistillRecipe", "DistillResult", "distill"]
