"""The loop closed: from images nobody has looked at to a certified bundle, in rounds of questions and lessons."""

from pangu_cv.workflows.loop.people import InTerminal, OnPage, Oracle, People
from pangu_cv.workflows.loop.recipe import LoopRecipe
from pangu_cv.workflows.loop.stage import LoopResult, run_loop

__all__ = ["InTerminal", "LoopRecipe", "LoopResult", "OnPage", "Oracle", "People", "run_loop"]
