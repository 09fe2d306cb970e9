import re

import numpy as np

from pangu_cv.models.augment import AugmentConfig, policies
from pangu_cv.models.labelled import Labelled, shrunk
from pangu_cv.report.page import Page
from pangu_cv.report.variants import drawn, training_variants

NO_BOXES, NO_LABELS = np.zeros((0, 4), np.float32), np.zeros(0, np.int64)


def boxed() -> Labelled:
    image = np.random.default_rng(0).integers(0, 255, (60, 90, 3), dtype=np.uint8)
    return Labelled(image, None, np.array([[10, 20, 40, 50]], np.float32), np.array([0]))


def test_every_policy_that_is_on_has_a_row_and_no_other() -> None:
    page = Page("Variants")
    config = AugmentConfig(blur=0, paste=0.5, rot90=False)
    training_variants(page, config, boxed(), donor=boxed())
    titles = re.findall(r'class="title"><b>([^<]+)</b>', page.html())
    assert titles == ["crop", "mirror", "light", "noise", "paste", "all together"]
    pictures = re.findall(r'<img[^>]* src="([^"]+)"', page.html())
    assert len(pictures) == 4 * len(titles)
    original = pictures[0]
    assert pictures.count(original) == len(titles)  # each row's own; every variant differs from it


def test_a_policy_alone_does_one_thing_only() -> None:
    alone = policies(AugmentConfig())
    assert "paste" not in alone
    turned = [alone["quarter turn"].build()(boxed(), seed=seed).image for seed in range(20)]
    assert {image.shape for image in turned} == {(60, 90, 3), (90, 60, 3)}
    assert all(sorted(image.ravel()) == sorted(boxed().image.ravel()) for image in turned)
    lit = [alone["light"].build()(boxed(), seed=seed) for seed in range(5)]
    assert {one.image.shape for one in lit} == {boxed().image.shape}
    assert any((one.image != boxed().image).any() for one in lit)
    assert all(one.boxes_K4.tolist() == boxed().boxes_K4.tolist() for one in lit)


def test_what_is_labelled_is_drawn() -> None:
    mask = np.zeros((60, 90), np.uint8)
    mask[5:10, 5:10], mask[30:, :] = 1, 255
    shown = drawn(Labelled(boxed().image, mask, NO_BOXES, NO_LABELS))
    changed = (shown != boxed().image).any(2)
    assert changed[5:10, 5:10].all()
    assert not changed[30:].any()  # what a mask leaves open is no defect
    assert (drawn(boxed()) != boxed().image).any()


def test_large_images_are_shrunk_with_their_labels() -> None:
    large = Labelled(np.zeros((200, 400, 3), np.uint8), np.ones((200, 400), np.uint8), boxed().boxes_K4, np.array([0]))
    small = shrunk(large, most_px=100)
    assert small.mask is not None
    assert (small.image.shape, small.mask.shape) == ((50, 100, 3), (50, 100))
    assert small.boxes_K4.tolist() == [[2.5, 5, 10, 12.5]]
