"""What a run goes on from, beside weights and optimiser."""

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from pangu_cv.pretrain.choice import best_round
from pangu_cv.pretrain.scores import Judged, Score


@dataclass
class State:
    """Plain values; weights and optimiser are saved beside it."""

    step: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    """Rate and losses of every step."""
    rounds: list[list[Score]] = field(default_factory=list)
    minutes: list[float] = field(default_factory=list)
    """Training time up to each round, without the probes."""

    @property
    def best(self) -> int:
        """Position in ``rounds`` of what gains most where it gains; 0 is the start."""
        return best_round(self.rounds)

    @property
    def is_stale(self) -> int:
        """Rounds since the best."""
        return len(self.rounds) - 1 - self.best

    def as_text(self) -> str:
        """JSON, so that a checkpoint holds nothing but tensors and text."""
        return json.dumps(asdict(self))

    @classmethod
    def from_text(cls, text: str) -> "State":
        """The inverse."""
        plain = json.loads(text)
        rounds = [[_score(one) for one in scores] for scores in plain["rounds"]]
        return cls(**(plain | {"rounds": rounds}))


def _score(plain: dict[str, Any]) -> Score:
    folds = tuple(Judged(**{name: tuple(values) for name, values in fold.items()}) for fold in plain["folds"])
    return Score(**(plain | {"folds": folds}))
