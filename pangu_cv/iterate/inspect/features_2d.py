"""Features of all images in bounded memory, and a flat picture of them.

Shapes: N images, D features.
"""

import numpy as np
from numpy.typing import NDArray

MOST_BYTES = 128 << 20
LEAST = 32  # numbers kept of an image, however many images there are


class Features:
    """A row per image that shows something; drawn together by a random projection where there are too many.

    Distances survive such a projection (Johnson and Lindenstrauss 1984); it is the same one every time.
    """

    def __init__(self, images: int, groups: tuple[int, ...]) -> None:
        width = sum(groups)
        kept = max(LEAST, MOST_BYTES // (4 * max(images, 1)))
        self._projection: NDArray[np.float32] | None = None
        self.groups = groups
        if kept < width:
            self._projection = np.random.default_rng(0).normal(0, kept**-0.5, (width, kept)).astype(np.float32)
            self.groups = (kept,)
        self._rows: list[NDArray[np.float32]] = []
        self.places: list[int] = []

    def add(self, place: int, features_D: NDArray[np.float32] | None) -> None:
        """Keep the features of the image at ``place``; None is passed over."""
        if features_D is not None and np.isfinite(features_D).all():
            row = features_D if self._projection is None else features_D @ self._projection
            self._rows.append(row.astype(np.float32))
            self.places.append(place)

    def all_ND(self) -> NDArray[np.float32]:
        """The rows, in the order of ``places``."""
        return np.stack(self._rows) if self._rows else np.zeros((0, sum(self.groups)), np.float32)


def flat(features_ND: NDArray[np.float32]) -> NDArray[np.float64]:
    """The two directions of most variance (PCA), each scaled to [-1, 1]: float64[N,2]; zeros where there are none."""
    view = np.zeros((len(features_ND), 2))
    if len(features_ND) < 2:
        return view
    centred = features_ND.astype(np.float64) - features_ND.mean(0)
    is_wide = centred.shape[1] > len(centred)
    values, vectors = np.linalg.eigh(centred @ centred.T if is_wide else centred.T @ centred)
    for axis, at in enumerate(np.argsort(-values, kind="stable")[:2]):
        direction = centred.T @ vectors[:, at] if is_wide else vectors[:, at]
        one = centred @ direction
        one *= np.sign(one[np.abs(one).argmax()]) or 1.0  # a direction has no sign: the same picture every time
        view[:, axis] = one / max(np.abs(one).max(), 1e-12)
    return view
