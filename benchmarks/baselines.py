"""Few-shot baselines on given features, standardised by the labelled images alone (inductive).

Shapes: S labelled images, N images to decide, D features, C classes.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pangu_runtime.decode import DecodeSpec, decode

Floats = NDArray[np.float32] | NDArray[np.float64]
PIXEL_SIDE = 32


def prototypes(support_SD: Floats, labels_S: NDArray[np.int64], query_ND: Floats) -> NDArray[np.int64]:
    """The class whose mean is nearest by cosine (Snell et al. 2017, with cosine as in Chen et al. 2019): int64[N]."""
    support, query = _standardised(support_SD, query_ND)
    means = np.stack([support[labels_S == label].mean(0) for label in range(labels_S.max() + 1)])
    cosine_NC = _unit(query) @ _unit(means).T
    return np.asarray(cosine_NC.argmax(1), np.int64)


def ridge(support_SD: Floats, labels_S: NDArray[np.int64], query_ND: Floats) -> NDArray[np.int64]:
    """Ridge regression to one-hot targets with an intercept; the penalty is 1 for a vector of unit length: int64[N]."""
    support, query = _standardised(support_SD, query_ND)
    targets = np.eye(labels_S.max() + 1)[labels_S]
    gram = support @ support.T + support.shape[1] * np.eye(len(support))  # standardised: squared length about D
    dual = np.linalg.solve(gram, targets - targets.mean(0))
    return np.asarray((query @ (support.T @ dual) + targets.mean(0)).argmax(1), np.int64)


def balanced_accuracy(predicted_N: NDArray[np.int64], truth_N: NDArray[np.int64]) -> float:
    """Mean recall over the classes that occur."""
    return float(np.mean([(predicted_N[truth_N == label] == label).mean() for label in np.unique(truth_N)]))


def raw_pixels(path: Path, spec: DecodeSpec) -> NDArray[np.float32]:
    """The image as 32 × 32 RGB values: float32[3072]."""
    small = Image.fromarray(decode(path, spec=spec)).resize((PIXEL_SIDE, PIXEL_SIDE), Image.Resampling.BICUBIC)
    return np.asarray(small, np.float32).ravel() / np.float32(255)


def _standardised(support_SD: Floats, query_ND: Floats) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    support, query = support_SD.astype(np.float64), query_ND.astype(np.float64)
    deviation = support.std(0)
    # The floor our head has too: without it features that hardly vary shout, and prototypes lose 4 to 8 points.
    mean, scale = support.mean(0), deviation + np.median(deviation) + 1e-6
    standard: list[NDArray[np.float64]] = [(part - mean) / scale for part in (support, query)]
    return standard[0], standard[1]


def _unit(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    lengths: NDArray[np.float64] = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.maximum(lengths, 1e-12)
