"""Anything that decides, and what every evaluation shares: reading images, loading what a report shows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from pangu_cv.data.masks import read_class_mask, read_mask
from pangu_cv.data.readers.mvtec import NORMAL
from pangu_cv.data.sample import Sample
from pangu_cv.errors import DataError, ImageError
from pangu_cv.features import Progress, Skipped, read_ahead
from pangu_cv.freed_memory import keep_freed_blocks
from pangu_cv.tasks import TaskModel, tiling_of
from pangu_runtime.bundle import CONTRACT
from pangu_runtime.decode import DecodeSpec, decode
from pangu_runtime.tiles import run_tiled

Outputs = dict[str, NDArray[Any]]
Outcome = TypeVar("Outcome")
Row = TypeVar("Row")


class Decider(Protocol):
    """Anything that maps uint8[N,H,W,3] to the contract's outputs; ``pangu_runtime.Predictor`` is one."""

    def run(self, images_NHW3: NDArray[np.uint8]) -> Outputs:
        """Outputs by name."""
        ...


class TorchDecider:
    """A trained model as a ``Decider``: the very module that is exported."""

    def __init__(self, model: TaskModel) -> None:
        keep_freed_blocks()
        self.model = model

    def run(self, images_NHW3: NDArray[np.uint8]) -> Outputs:
        """Outputs by name."""
        tiling = tiling_of(self.model)
        return self._run(images_NHW3) if tiling is None else run_tiled(self._run, images_NHW3, tiling)

    def _run(self, images_NHW3: NDArray[np.uint8]) -> Outputs:
        model, images = self.model, torch.from_numpy(images_NHW3)
        with torch.inference_mode():
            outputs = model(images, model.threshold) if hasattr(model, "threshold") else model(images)
        return dict(zip(CONTRACT[model.config.kind], [o.numpy() for o in outputs], strict=True))


@dataclass(frozen=True)
class Evaluated(Generic[Outcome]):
    """An outcome, the images that could not be read, and what the reader of its figures must know."""

    outcome: Outcome
    skipped: tuple[Skipped, ...]
    notes: tuple[str, ...] = ()


def matching_mask(sample: Sample, shape: tuple[int, ...]) -> NDArray[np.bool_] | None:
    """The sample's mask bool[H,W], None where it is normal.

    Raises ImageError, reason ``size`` where it is not its image's.
    """
    if sample.mask is None:
        return None
    mask = read_mask(sample.mask)
    _require_size(sample.mask, mask.shape, shape)
    return mask


def is_masked(sample: Sample) -> bool:
    """Whether every pixel's class is known: there is a mask, or the image is normal and needs none."""
    return sample.mask is not None or sample.label == NORMAL


def class_mask(sample: Sample, shape: tuple[int, ...], *, classes: int) -> NDArray[np.uint8]:
    """The sample's mask of class numbers, 0 all over where it is normal.

    Raises ImageError, reason ``size`` where it is not its image's.
    """
    if sample.mask is None:
        assert sample.label == NORMAL, "only normal images need no mask"
        return np.zeros(shape, np.uint8)
    mask = read_class_mask(sample.mask, classes=classes)
    _require_size(sample.mask, mask.shape, shape)
    return mask


def _require_size(path: Path, found: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    if found != wanted:
        (height, width), (image_height, image_width) = found, wanted
        raise ImageError(path, "size", f"has {width} x {height} pixels, its image {image_width} x {image_height}")


@dataclass(frozen=True)
class Decided(Generic[Row]):
    """The images that could be read, what was kept of each decision, and the others."""

    samples: tuple[Sample, ...]
    rows: tuple[Row, ...]
    skipped: tuple[Skipped, ...]

    @property
    def paths(self) -> tuple[str, ...]:
        """Of the images that could be read."""
        return tuple(str(s.path) for s in self.samples)

    @property
    def groups(self) -> tuple[str | None, ...]:
        """Of the images that could be read."""
        return tuple(s.group for s in self.samples)


def decide_all(
    decider: Decider,
    samples: Sequence[Sample],
    keep: Callable[[Sample, NDArray[np.uint8], Outputs], Row],
    *,
    spec: DecodeSpec,
    needs: str = "",
    progress: Progress | None = None,
) -> Decided[Row]:
    """Decide image after image; ``keep(sample, image, outputs)`` is all that stays in memory.

    An ImageError, of the image or in ``keep`` of its mask, leaves the sample out. Raises DataError where nothing is
    left; ``needs`` (" and has a mask") completes the sentence.
    """

    def row_of(sample: Sample, image: NDArray[np.uint8] | ImageError) -> Row:
        if isinstance(image, ImageError):
            raise image
        return keep(sample, image, decider.run(image[None]))

    kept: list[tuple[Sample, Row]] = []
    skipped = []
    images = read_ahead([s.path for s in samples], lambda path: decode(path, spec=spec))
    for done, sample in enumerate(samples, start=1):
        try:
            row = row_of(sample, next(images))  # a name would keep the image while the next one is decoded
            kept.append((sample, row))
        except ImageError as error:
            skipped.append(Skipped(sample.path, error.reason, str(error)))
        if progress:
            progress(done, len(samples))
    if not kept:
        raise DataError(f"none of the images to evaluate on can be read{needs}")
    return Decided(tuple(s for s, _ in kept), tuple(row for _, row in kept), tuple(skipped))


class Loaders:
    """What a report of an outcome shows, by path: the image, the model's map, the mask."""

    def __init__(self, decider: Decider, spec: DecodeSpec, samples: Sequence[Sample]) -> None:
        self._decider, self._spec = decider, spec
        self._samples = {str(s.path): s for s in samples}

    def image(self, path: str) -> NDArray[np.uint8]:
        """uint8[H,W,3]."""
        return decode(Path(path), spec=self._spec)

    def map(self, path: str) -> NDArray[np.float64]:
        """The anomaly map float64[H,W]."""
        return np.asarray(self._decider.run(self.image(path)[None])["map"][0], np.float64)

    def mask(self, path: str) -> NDArray[np.bool_] | None:
        """The true mask bool[H,W], None where the sample has none that can be used."""
        try:
            return matching_mask(self._samples[path], self.image(path).shape[:2])
        except ImageError:
            return None

    def masks(self, path: str, classes: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]:
        """Image uint8[H,W,3], true and found class numbers uint8[H,W], both 0 where pixels do not count."""
        image = self.image(path)
        truth = class_mask(self._samples[path], image.shape[:2], classes=classes)
        found, counts_HW = self._decider.run(image[None])["mask"][0], truth < classes
        return image, truth * counts_HW, found * counts_HW
