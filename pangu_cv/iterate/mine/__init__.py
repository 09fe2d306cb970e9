"""Which of many images are worth a person's look, and why."""

from pangu_cv.iterate.mine.recipe import MineRecipe
from pangu_cv.iterate.mine.stage import Mined, NothingLeftError, mine

__all__ = ["MineRecipe", "Mined", "NothingLeftError", "mine"]
