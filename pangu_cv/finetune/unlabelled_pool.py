"""Which images may teach a draw without a label: none that it learns from or is measured on, nor of their groups.

Images that answers are checked on must be new to what gives the answers, with and without their labels.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from pangu_cv.data.readers import pictures_below, read_images
from pangu_cv.data.sample import Dataset, Sample
from pangu_cv.errors import DataError, ImageError
from pangu_cv.features import content_digest
from pangu_cv.finetune.classify import Draw
from pangu_cv.finetune.recipe import FinetuneRecipe


def with_pools(draws: Sequence[Draw], recipe: FinetuneRecipe, dataset: Dataset) -> list[Draw]:
    """The draws with images that may teach them, where the recipe asks for it.

    Copies under other names are known by their content. Raises DataError where no image is left.
    """
    config = recipe.unlabelled
    if config is None:
        return list(draws)
    if config.path is None:
        found = [s for s in dataset if s.split in ("train", None)]
        where = f"unlabelled: '{recipe.data.path}' has no training image beside those drawn and those measured on"
    else:
        found = _all_but_test(config.path)
        where = f"unlabelled.path: every image of '{config.path}' is drawn or measured on already"
    digest = cache(_digest)
    pools = [_pool(draw, found, config.most, digest) for draw in draws]
    if not all(pools):
        raise DataError(f"{where}, or shares a group with one; name a folder of more images (unlabelled.path=FOLDER)")
    return [replace(draw, pool=pool) for draw, pool in zip(draws, pools, strict=True)]


def _all_but_test(path: Path) -> list[Sample]:
    """Folders without parts are heaps of images here, whatever their subfolders mean."""
    given = read_images(path)
    if given.layout == "class_folders" and not any(s.split for s in given):
        return [Sample(image) for image in pictures_below(path)]
    return [s for s in given if s.split != "test"]


def _pool(draw: Draw, found: Sequence[Sample], most: int, digest: Callable[[Path], str]) -> tuple[Path, ...]:
    """At most so many, evenly over all of them; others step in for those that are known already."""
    known = (*draw.support, *draw.test)
    named, groups = {s.path.absolute() for s in known}, {s.group for s in known if s.group is not None}
    left = [s.path for s in found if s.path.absolute() not in named and s.group not in groups]
    contents = {digest(s.path) for s in known}
    first = [at * len(left) // most for at in range(most)] if len(left) > most else list(range(len(left)))
    kept: list[Path] = []
    for at in dict.fromkeys((*first, *range(len(left)))):
        if len(kept) == most:
            break
        if digest(left[at]) not in contents:
            kept.append(left[at])
    return tuple(kept)


def _digest(path: Path) -> str:
    try:
        return content_digest(path)
    except ImageError:  # named where it is decoded
        return str(path)
