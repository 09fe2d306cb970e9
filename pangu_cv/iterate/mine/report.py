"""The page of a ranked list: the chosen images with their reasons, and where they lie among the others."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pangu_cv.data.config import dataset_title
from pangu_cv.errors import ImageError
from pangu_cv.iterate.mine.known import Known
from pangu_cv.iterate.mine.ranking import Pick
from pangu_cv.iterate.mine.recipe import MineRecipe
from pangu_cv.iterate.pool import Pool
from pangu_cv.report.page import Page, Tile
from pangu_cv.report.picture import Picture
from pangu_cv.report.skipped import add_skipped
from pangu_runtime.decode import DecodeSpec, decode

_SHOWN = 60


def mine_report(
    path: Path,
    recipe: MineRecipe,
    pool: Pool,
    known: Known,
    picks: Sequence[Pick],
    doubts_N: NDArray[np.float32] | None,
    *,
    spec: DecodeSpec,
) -> None:
    """Write the page."""
    page = Page(f"Worth a look in {dataset_title(recipe.images)}", f"{len(picks)} of {len(pool)} images")
    page.tiles(
        [
            Tile("images", f"{len(pool):,}"),
            Tile("labelled so far", f"{len(known.labels):,}"),
            Tile("chosen", str(len(picks))),
            Tile("left out", str(len(pool.skipped)), "unreadable"),
        ]
    )
    page.section("The list", "The first is the best. Oddity: distance of the oddest patches to those of other images.")
    pictures = []
    for rank, pick in enumerate(picks[:_SHOWN], start=1):
        try:
            image = decode(pool.images[pick.place], spec=spec)
        except ImageError:  # gone or changed since it was embedded
            continue
        doubt = "" if doubts_N is None else f" · doubt {doubts_N[pick.place]:.2f}"
        note = f"{pool.images[pick.place].name} · oddity {pool.odd_N[pick.place]:.3f}{doubt}"
        pictures.append(Picture(image, f"{rank}. {pick.reason}", note))
    page.gallery(pictures)
    if len(picks) > _SHOWN:
        page.note(f"{len(picks) - _SHOWN} more stand in ranked.csv.")
    page.section("How odd the images are", "Share of all images, and of the chosen, up to each oddity.")
    marks = [0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0]
    chosen = np.array([pool.odd_N[pick.place] for pick in picks])
    rows = [
        (f"{mark:.0%}", f"{np.quantile(pool.odd_N, mark):.3f}", f"{np.quantile(chosen, mark):.3f}") for mark in marks
    ]
    page.table(["share", "all images", "chosen"], rows)
    add_skipped(page, pool.skipped)
    page.details("The recipe", recipe.to_yaml())
    page.write(path)
