"""Intervals by resampling the images of a test set, for any figure that lets images count several times.

Drawing N images of N with replacement (Efron 1979, doi:10.1214/aos/1176344552) leaves each in it a whole number of
times: 0, 1, 2, … So a resample is a row of counts, and a figure written for counts serves the set itself (all ones),
a thousand resamples at once, and the difference of two models on the same images: both get the same rows.

Images of one group (one part, one video) say less than as many others would, so they are drawn together: a cluster
bootstrap (Davison & Hinkley 1997, section 3.8).

Shapes: R resamples, N images, U units that are drawn (groups, and images without one), C classes.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from pangu_cv.metrics.interval import Interval

Floats = NDArray[np.float64]
Figure = Callable[[Floats], Floats]
"""How often each image counts, float[R,N], to the figure's values, float[R]; NaN where it is undefined."""

RESAMPLES = 1000
Groups = Sequence[str | None]
"""Of each image the group that it is drawn with; None: alone. None at all: each image is alone."""
FEWEST_IMAGES = 10  # below, the interval is too narrow to be believed
_MOST_COUNTS = 1 << 18  # bounds the memory of one block of resamples: 32 MiB


def bootstrap(
    figure: Figure,
    images: int,
    groups: Groups = (),
    *,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval | None:
    """The figure over all images with the percentile interval over resamples; None where it is undefined.

    ``n`` of it are the units that are drawn. Resamples that leave the figure undefined (none of a kind was drawn) do
    not count. What never went wrong among the images does not go wrong in a resample either: an interval of no width
    says "no case seen", not "certain".
    """
    if not 0 < level < 1:
        raise ValueError(f"level {level}: a confidence level lies between 0 and 1")
    mean = value(figure, images)
    if mean is None:
        return None
    unit_N, units = units_of(images, groups), count_units(images, groups)
    drawn = np.concatenate([figure(counts_RN) for counts_RN in resampled(unit_N, resamples=resamples, seed=seed)])
    defined = drawn[~np.isnan(drawn)]
    if units == 1 or defined.size == 0:
        return Interval(mean, None, None, units)
    low, high = np.quantile(defined, [0.5 - level / 2, 0.5 + level / 2])
    return Interval(mean, float(low), float(high), units)


def units_of(images: int, groups: Groups) -> NDArray[np.int64]:
    """The unit int64[N] that each image is drawn with, numbered from 0 in the order of the images."""
    require_groups(images, groups)
    numbers: dict[object, int] = {}
    keys = [at if group is None else group for at, group in enumerate(groups or [None] * images)]
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], np.int64)


def count_units(images: int, groups: Groups) -> int:
    """How many of them are drawn."""
    return len(set(units_of(images, groups).tolist()))


def require_groups(images: int, groups: Groups) -> None:
    """Raise ValueError where there are neither as many groups as images nor none at all."""
    if groups and len(groups) != images:
        raise ValueError(f"{images} images need as many groups, or none at all, not {len(groups)}")


def together_told(groups: Groups) -> list[str]:
    """A sentence where some images are drawn together, none where each is alone."""
    units = count_units(len(groups), groups)
    if units == len(groups):
        return []
    few = ", too few to believe them" if units < FEWEST_IMAGES else ""
    return [
        f"intervals count the {len(groups)} images as {units}{few}, since those of a group are drawn together; shares "
        "of images (false alarms, recall of a gate), F1 per image and the test of McNemar count each by itself"
    ]


def intervals(
    figures: Mapping[str, Figure], images: int, groups: Groups = (), *, resamples: int = RESAMPLES
) -> dict[str, Interval | None]:
    """``bootstrap`` of each, by name."""
    return {name: bootstrap(figure, images, groups, resamples=resamples) for name, figure in figures.items()}


def intervals_as_json(found: Mapping[str, Interval | None]) -> dict[str, dict[str, float | int | None] | None]:
    """Intervals by name, ready for ``json.dumps``."""
    return {name: one.as_json() if one else None for name, one in found.items()}


def value(figure: Figure, images: int) -> float | None:
    """The figure over all images, each counting once; None where it is undefined."""
    found = float(figure(np.ones((1, images)))[0])
    return None if np.isnan(found) else found


def resampled(unit_N: NDArray[np.int64], *, resamples: int, seed: int) -> Iterator[Floats]:
    """Rows of counts float[r,N], of which U units were drawn, in blocks that together have ``resamples`` rows."""
    random = np.random.default_rng(seed)
    images, units = len(unit_N), int(unit_N.max()) + 1
    rows = max(1, _MOST_COUNTS // images)
    for start in range(0, resamples, rows):
        r = min(rows, resamples - start)
        flat = random.integers(units, size=(r, units)) + units * np.arange(r)[:, None]
        counts_RU = np.bincount(flat.ravel(), minlength=r * units).reshape(r, units)
        yield counts_RU[:, unit_N].astype(np.float64)


def share(part: NDArray[np.number], whole: NDArray[np.number]) -> Floats:
    """``part / whole``, NaN where the whole is 0."""
    part, whole = np.broadcast_arrays(np.asarray(part, np.float64), np.asarray(whole, np.float64))
    return np.asarray(np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0))


def mean_of_defined(values_RC: Floats) -> Floats:
    """Mean of each row without its NaN; NaN for a row of nothing else."""
    is_defined = ~np.isnan(values_RC)
    return share(np.where(is_defined, values_RC, 0).sum(-1), is_defined.sum(-1))
