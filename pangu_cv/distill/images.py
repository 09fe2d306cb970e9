"""The images a student learns from: those that can be read, in a random order."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pangu_cv.distill.recipe import DistillRecipe
from pangu_cv.distill.views import Views
from pangu_cv.errors import DataError, ImageError
from pangu_cv.features import Skipped, read_ahead
from pangu_cv.progress import bar
from pangu_cv.tasks import TaskModel, tiling_of
from pangu_runtime.decode import DecodeSpec, decode


@dataclass(frozen=True)
class Seen:
    """The readable images in a random order, the unreadable, the size of what a graph is given of the median image and
    how many such tiles it has, those known to be normal, and the groups of those that belong to one."""

    views: Views
    skipped: tuple[Skipped, ...]
    image_hw: tuple[int, int]
    tiles: int
    normal: frozenset[Path]
    groups: Mapping[Path, str]

    @property
    def remembered(self) -> int:
        """Images that an anomaly detector's memory would be made of, at most."""
        return len(self.normal) or len(self.views.paths)


def readable_views(recipe: DistillRecipe, teacher: TaskModel, spec: DecodeSpec) -> Seen:
    """Look at all images; raises DataError where too few can be read."""
    samples = recipe.data.read()
    order = np.random.default_rng(recipe.seed).permutation(len(samples))
    paths, sizes, lost = [], [], []
    # Whole ones: a header may be read where the rest is damaged, and that must not end the teaching later.
    shapes = read_ahead([samples[at].path for at in order], lambda path: decode(path, spec=spec).shape[:2])
    with bar("reading images") as progress:
        for done, (at, shape) in enumerate(zip(order, shapes, strict=True), start=1):
            if isinstance(shape, ImageError):
                lost.append(Skipped(samples[at].path, shape.reason, str(shape)))
            else:
                paths.append(samples[at].path)
                sizes.append(shape)
            progress(done, len(order))
    if len(paths) < 8:
        raise DataError(f"{recipe.data.path}: {len(paths)} images can be read; distilling needs at least 8, better 500")
    tiling = tiling_of(teacher)
    side = None if tiling is None else tiling.px
    height, width = (int(v) for v in np.median(np.array(sizes), 0))
    image_hw = (min(height, side or height), min(width, side or width))
    tiles = 1 if tiling is None else len(tiling.windows(height, width))
    normal = frozenset(s.path for s in samples if s.label == "good") & frozenset(paths)
    views = Views(tuple(paths), spec, recipe.augment, recipe.variants, side)
    groups = {sample.path: sample.group for sample in samples if sample.group is not None}
    return Seen(views, tuple(lost), image_hw, tiles, normal, groups)
