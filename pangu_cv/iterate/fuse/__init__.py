"""Several models become one, held against the best of them and against all together."""

from pangu_cv.iterate.fuse.recipe import FuseRecipe, FuseResult
from pangu_cv.iterate.fuse.stage import fuse

__all__ = ["FuseRecipe", "FuseResult", "fuse"]
