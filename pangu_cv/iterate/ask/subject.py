"""What a session asks about.

Shapes: N images, D features, C classes.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Subject:
    """N images, each with its name below ``root``, its SHA-256 and a row of features; ``prior_NC`` of a model."""

    root: Path
    images: tuple[Path, ...]
    digests: tuple[str, ...]
    features_ND: NDArray[np.float32]
    classes: tuple[str, ...]
    prior_NC: NDArray[np.float64] | None = None
    given: dict[str, str] = field(default_factory=dict)
    """Labels that were there before, by digest; an answer overrides one."""

    def name(self, row: int) -> str:
        """The image's path for people and files."""
        path = self.images[row]
        return path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else str(path)
