"""Well-separated clusters of unit length."""

import numpy as np
from numpy.typing import NDArray


def clusters(
    classes: int, each: int, *, seed: int = 0, spread: float = 0.1, features: int = 16
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Features [N,D] and class numbers [N], in a mixed order."""
    random = np.random.default_rng(seed)
    centres = np.linalg.qr(random.normal(size=(features, features)))[0][:classes]
    labels = random.permutation(np.repeat(np.arange(classes), each))
    found = centres[labels] + spread * random.normal(size=(len(labels), features)) / np.sqrt(features)
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32), labels
