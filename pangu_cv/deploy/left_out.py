"""What images that a head has learnt would get from a head without them, in any precision of the network.

A head in closed form knows its images by heart: they lie far from every border, where rounding changes no decision as
it does on new images (figures in docs/LOG.md). Its memory gives exactly what each would get left out; what a precision
adds to the logits of the whole head is added to these (ours: to first order both heads move alike).

Shapes: N images, V views, C classes.
"""

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from pangu_cv.data.sample import Sample
from pangu_cv.deploy.spread import spread
from pangu_cv.errors import ImageError
from pangu_cv.evaluate import Decider
from pangu_cv.features import content_digest, read_ahead
from pangu_cv.tasks.classify import ClassifyModel
from pangu_cv.tasks.saved import SavedModel
from pangu_runtime.decode import decode

Outputs = dict[str, NDArray[np.float32]]
Shifts = Mapping[bytes, NDArray[np.float64]]
_TINY = 1e-30
_ALL = 10**9
_ENOUGH = 100  # images; of fewer a single decision is more than the usual limit
_TIMES = 4


class AsLeftOut:
    """A decider's answers, shifted for the pictures in ``shifts``."""

    def __init__(self, decider: Decider, shifts: Shifts) -> None:
        self._decider, self._shifts = decider, shifts

    def run(self, images_NHW3: NDArray[np.uint8]) -> Outputs:
        """Outputs by name, of one image."""
        found = self._decider.run(images_NHW3)
        if not self._shifts:
            return found
        shift_C = self._shifts.get(_mark(images_NHW3[0]))
        if shift_C is None:
            return found
        logits_C = _log(found["scores"][0]) + shift_C
        scores_C = np.exp(logits_C - logits_C.max())
        scores_C /= scores_C.sum()
        label = -1 if scores_C.max() < found["threshold_applied"][0] else scores_C.argmax()
        return found | {"scores": scores_C[None].astype(np.float32), "label": np.array([label], np.int64)}


def judges(saved: SavedModel, samples: Sequence[Sample], *, most: int) -> list[Sample]:
    """At most so many of ``samples``, evenly spread: of what a classifier has learnt those that its memory can leave
    out, where these and new images are enough to go by."""
    some = spread(samples, most)
    if saved.memory is None or saved.memory.raw or not isinstance(saved.model, ClassifyModel):
        return some
    learnt, kept = set(saved.memory.known), set(saved.memory.replay)
    wide = spread(samples, _TIMES * most)
    fit = [one for one in wide if (digest := _digest(one)) not in learnt or digest in kept]
    return spread(fit, most) if len(fit) >= _ENOUGH else some


def shifts_of(saved: SavedModel, samples: Sequence[Sample], reference: Decider) -> Shifts:
    """By pictures that a classifier in closed form has learnt, what their logits in full precision lack to those of a
    head without them; empty for other models."""
    if saved.memory is None or not isinstance(saved.model, ClassifyModel):
        return {}
    memory = saved.memory.roomy(_ALL)
    learnt = {digest: one for one in samples if (digest := _digest(one)) in memory.replay}
    if not learnt:
        return {}
    head = saved.model.head
    left = memory.left_out(head.solved(memory.ridge), learnt)
    logits_NC = (saved.model.at_decision(torch.stack(left)) / head.temperature.double()).numpy()
    shifts = {}
    images = read_ahead([one.path for one in learnt.values()], lambda path: decode(path, spec=saved.provenance.decode))
    for image, logits_C in zip(images, logits_NC, strict=True):
        if not isinstance(image, ImageError):
            shifts[_mark(image)] = logits_C - _log(reference.run(image[None])["scores"][0])
    return shifts


def _log(scores_C: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.log(np.maximum(scores_C.astype(np.float64), _TINY))


def _digest(sample: Sample) -> str:
    try:
        return content_digest(sample.path)
    except ImageError:
        return ""


def _mark(image_HW3: NDArray[np.uint8]) -> bytes:
    """Deciders are handed pixels, not files."""
    return hashlib.blake2b(image_HW3.tobytes(), digest_size=16).digest()
