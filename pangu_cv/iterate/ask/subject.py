"""What a session asks about.

Shapes: N images, D features, C classes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pangu_cv.iterate.ask.history import Settled
from pangu_runtime.decode import DEFAULT_SPEC, DecodeSpec


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
    """Labels of people that were there before, by digest; an answer overrides one."""
    settled: Mapping[str, Settled] = field(default_factory=dict)
    """By digest, changes of labels in versions: answers before one that come to another label do not count."""
    decode_spec: DecodeSpec = DEFAULT_SPEC
    """How people see the images: as the network does."""

    def name(self, row: int) -> str:
        """The image's path for people and files."""
        return name_of(self.images[row], self.root)


def name_of(path: Path, root: Path) -> str:
    """Below ``root`` where it lies there, else whole."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
