"""Which state of a run is kept: the one that gains most where it gains.

A target that loses keeps the original, and so loses nothing: +8 and -8 are worth 4 of two targets.
"""

from collections.abc import Sequence

import numpy as np

from pangu_cv.pretrain.scores import Score

FOLDS = 2
"""Halves of the held-out images of a target: each judges the state that the other chooses."""


def best_round(rounds: Sequence[Sequence[Score]], *, beside: int | None = None) -> int:
    """Position of the first of the best rounds; of what is held out ``beside`` one fold. 0 is the start.

    Without targets nothing is better than the last.
    """
    if not rounds[0]:
        return len(rounds) - 1
    figures_RT = np.array([[score.mean_beside(beside) for score in scores] for scores in rounds])
    worth_R = np.maximum(figures_RT - figures_RT[0], 0).mean(1)
    return int(np.nan_to_num(worth_R, nan=0.0).argmax())  # weights that burst give no number
