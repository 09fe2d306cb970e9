"""Which images are learnt from, and which are there and are not, and why."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache as once
from pathlib import Path

from lightning.fabric import Fabric

from pangu_cv.data.pixel_cache import PixelCache
from pangu_cv.errors import ImageError
from pangu_cv.features import read_ahead
from pangu_cv.pretrain.across import while_others_wait
from pangu_cv.pretrain.images import Images
from pangu_cv.pretrain.probes import held_out
from pangu_cv.pretrain.recipe import PretrainRecipe
from pangu_cv.pretrain.telling import few, say
from pangu_cv.progress import bar


@dataclass(frozen=True)
class LeftOut:
    """``unreadable`` holds the reason for each; ``held_out`` are what targets measure on."""

    unreadable: Mapping[Path, str]
    copies: tuple[Path, ...]
    held_out: tuple[Path, ...]

    @property
    def rows(self) -> list[tuple[str, int, str]]:
        """Reason, number and a few of the files; a reason without files has no row."""
        unreadable = [f"{path} ({reason})" for path, reason in sorted(self.unreadable.items())]
        found = {
            "cannot be read": unreadable,
            "copies of others": [str(path) for path in self.copies],
            "kept to measure on": [str(path) for path in self.held_out],
        }
        return [(reason, len(files), few(files)) for reason, files in found.items() if files]


def learnt_from(recipe: PretrainRecipe, fabric: Fabric, images: Images, cache: PixelCache) -> tuple[Images, LeftOut]:
    """The images that remain, reduced into the cache, and those that do not; says what is left out or not used."""
    unreadable: dict[Path, str] = {}
    with while_others_wait():
        if fabric.is_global_zero:
            with bar("reducing images") as progress:
                failed = cache.fill(images.paths, workers=os.cpu_count() or 1, progress=progress)
            unreadable = {Path(error.path): error.reason for error in failed}
    unreadable = fabric.broadcast(unreadable)
    if not fabric.is_global_zero:
        cache.fill([], workers=1)
    readable = images.without(set(unreadable)).require_some()
    digest = once(cache.digest)  # asked for twice, and each time the file system is asked whether the file changed
    unique = readable.without_copies(digest)
    apart = _apart_from(recipe, unique, digest)
    left_out = LeftOut(unreadable, _missing(readable, unique), _missing(unique, apart))
    if fabric.is_global_zero:
        for reason, count, files in left_out.rows:
            say(f"left out: {count:,} {reason}: {files}")
        _say_unused(recipe, images)
    return apart, left_out


def _apart_from(recipe: PretrainRecipe, images: Images, digest: Callable[[Path], str]) -> Images:
    """The images that no probe measures on, in any copy, wherever the targets themselves lie."""
    measured = frozenset().union(*(held_out(target) for target in recipe.targets))
    found = read_ahead(sorted(measured), digest)
    digests = {one for one in found if not isinstance(one, ImageError)}  # what cannot be read measures nothing
    return images.without({path for path in images.paths if digest(path) in digests}).require_some()


def _missing(before: Images, after: Images) -> tuple[Path, ...]:
    return tuple(sorted(set(before.paths) - set(after.paths)))


def _say_unused(recipe: PretrainRecipe, images: Images) -> None:
    objective = recipe.objective
    if objective.kind != "joint":
        return
    teaches_texts = recipe.text.tower and recipe.text.template and objective.texts
    if teaches_texts or (objective.contrast and objective.labels.weight):
        for path, classes in images.unused:
            say(
                f"data: the labels of '{path}' ({classes:,} classes) are not used; to learn from them too: "
                f"data='[{{path: {path}, labels: 1}}]'"
            )
