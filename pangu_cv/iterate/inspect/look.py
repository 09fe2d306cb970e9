"""One pass over a dataset: every image read once, decided, described; nothing is kept of the one before."""

import hashlib
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pangu_cv.data.duplicates import relative
from pangu_cv.data.masks import read_class_mask, read_mask
from pangu_cv.data.near_duplicates import thumbnail
from pangu_cv.data.sample import Dataset, Sample
from pangu_cv.errors import ImageError
from pangu_cv.iterate.inspect.model import Looker
from pangu_runtime.decode import DecodeSpec, decode, read_bytes
from pangu_runtime.predictor import Prediction

_AHEAD = 4


@dataclass(frozen=True, eq=False)
class Look:
    """One image: whose it is, what is known and what a model makes of it; ``fault`` says why it could not be read.

    ``mask_HW`` are class numbers, or 0 and 1 where the dataset names none.
    """

    name: str
    sample: Sample
    sha256: str | None = None
    width_px: int = 0
    height_px: int = 0
    mask_HW: NDArray[np.uint8] | None = None
    prediction: Prediction | None = None
    features_D: NDArray[np.float32] | None = None
    thumbnail: NDArray[np.float32] | None = None
    fault: str = ""
    mask_fault: str = ""


@dataclass(frozen=True, eq=False)
class _Read:
    sha256: str | None
    image_HW3: NDArray[np.uint8] | None
    mask_HW: NDArray[np.uint8] | None
    fault: str = ""
    mask_fault: str = ""


def looks(dataset: Dataset, looker: Looker) -> Iterator[Look]:
    """A look at every sample in order; files are read a few images ahead."""
    classes = len(dataset.mask_classes)
    with ThreadPoolExecutor(_AHEAD) as pool:
        waiting: list[tuple[Sample, Future[_Read]]] = []
        for sample in dataset:
            waiting.append((sample, pool.submit(_read, sample, looker.spec, classes)))
            if len(waiting) > _AHEAD:
                yield _looked(dataset, looker, *waiting.pop(0))
        while waiting:
            yield _looked(dataset, looker, *waiting.pop(0))


def _looked(dataset: Dataset, looker: Looker, sample: Sample, future: Future[_Read]) -> Look:
    read, name = future.result(), relative(sample.path, dataset.root)
    if read.image_HW3 is None:
        return Look(name, sample, read.sha256, fault=read.fault)
    answer = looker.answer(read.image_HW3, str(sample.path))
    height, width = read.image_HW3.shape[:2]
    return Look(
        name,
        sample,
        read.sha256,
        width,
        height,
        read.mask_HW,
        answer.prediction,
        answer.features_D,
        thumbnail(read.image_HW3),
        mask_fault=read.mask_fault,
    )


def _read(sample: Sample, spec: DecodeSpec, mask_classes: int) -> _Read:
    sha256 = None
    try:
        data = read_bytes(sample.path, spec=spec)
        sha256 = hashlib.sha256(data).hexdigest()
        image = decode(data, spec=spec)
    except ImageError as error:
        # what was decoded are bytes, and the message names them so
        return _Read(sha256, None, None, fault=f"{sample.path}: {str(error).removeprefix(f'{error.path}: ')}")
    if sample.mask is None:
        return _Read(sha256, image, None)
    try:
        mask = read_class_mask(sample.mask, classes=mask_classes) if mask_classes else read_mask(sample.mask)
    except ImageError as error:
        return _Read(sha256, image, None, mask_fault=str(error))
    if mask.shape != image.shape[:2]:
        return _Read(sha256, image, None, mask_fault=f"{sample.mask}: is not of its image's size")
    return _Read(sha256, image, mask.astype(np.uint8))
