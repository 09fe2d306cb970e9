"""What training shows the network: one labelled image, and variants of it, each policy alone and all together."""

import numpy as np

from pangu_cv.models.augment import Augment, AugmentConfig, policies
from pangu_cv.models.labelled import Labelled, shrunk
from pangu_cv.report.boxes import Drawn, draw_boxes
from pangu_cv.report.page import Page
from pangu_cv.report.picture import ImageArray, Picture, Row

_SHOWN = 3
_DRAWS = 20
_SIDE_PX = 360
_DRAWN_PX = 800
_MASK = np.array([0, 229, 255])


def training_variants(
    page: Page, config: AugmentConfig, shown: Labelled, *, donor: Labelled | None = None, tile_px: int | None = None
) -> None:
    """Append a row of pictures for each policy of ``config`` that is on; ``donor`` is what is pasted from."""
    if tile_px is None:
        shown, donor = shrunk(shown, most_px=_DRAWN_PX), donor and shrunk(donor, most_px=_DRAWN_PX)
    rows = []
    for name, alone in {**policies(config), "all together": config}.items():
        augment = alone.build(tile_px=tile_px)
        made = _changed(augment, shown, donor)
        if not made:
            continue
        pictures = [Picture(drawn(one), f"{name} {number}") for number, one in enumerate(made, start=1)]
        rows.append(Row((Picture(drawn(shown), "the image"), *pictures), name))
    page.section(
        "What training shows",
        "The first labelled image and variants of it: each policy alone, as strong as it gets, then all of them as "
        f"often as the recipe says. Where places are labelled, a crop leaves at least {config.keep:.0%} of boxes or "
        "of labelled pixels, and something of each class.",
    )
    page.pairs(rows)


def _changed(augment: Augment, shown: Labelled, donor: Labelled | None) -> list[Labelled]:
    """The first few variants that differ from the image: most policies leave some images as they are."""
    found: list[Labelled] = []
    for seed in range(_DRAWS):
        one = augment(shown, seed=seed, donor=donor)
        if one.image.shape != shown.image.shape or (one.image != shown.image).any():
            found.append(one)
        if len(found) == _SHOWN:
            break
    return found


def drawn(labelled: Labelled) -> ImageArray:
    """The image with what is labelled in it: boxes, or the mask's pixels tinted."""
    image = labelled.image
    if labelled.mask is not None:
        where = (labelled.mask > 0) & (labelled.mask < 255)
        image = image.copy()
        image[where] = (0.5 * image[where] + 0.5 * _MASK).astype(np.uint8)
    return draw_boxes(image, [Drawn(box, "") for box in labelled.boxes_K4.tolist()], most_px=_SIDE_PX)
