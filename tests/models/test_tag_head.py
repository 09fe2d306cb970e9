import pytest
import torch
from torch import Tensor

from pangu_cv.models.platt import platt
from pangu_cv.models.ridge_head import RidgeHeadConfig
from pangu_cv.models.tag_head import TagHead, TagHeadConfig

GROUPS = [5, 3, 4]


def problem(*, images: int = 40) -> tuple[Tensor, Tensor]:
    """Two classes that come and go by themselves, each with a direction of its own."""
    rng = torch.Generator().manual_seed(1)
    present = torch.stack([torch.arange(images) % 2 > 0, torch.arange(images) % 3 > 0], 1)
    directions = torch.randn(2, sum(GROUPS), generator=rng)
    noise = 0.3 * torch.randn(images, 3, sum(GROUPS), generator=rng)
    return (present.float() @ directions)[:, None] + noise, present


def fitted(features: Tensor, present: Tensor) -> TagHead:
    head = TagHeadConfig().build(groups=GROUPS, classes=present.shape[1])
    head.calibrate(head.solve(features, present).mean(1), present)
    return head


def test_classes_are_told_apart_each_by_itself() -> None:
    features, present = problem()
    head = fitted(features[:30], present[:30])
    assert torch.equal(head(features[30:]).sigmoid() > 0.5, present[30:])


def test_a_class_is_fitted_as_if_it_were_alone() -> None:
    features, present = problem()
    both, alone = fitted(features, present), fitted(features, present[:, 1:])
    torch.testing.assert_close(both(features)[:, 1:], alone(features), atol=1e-4, rtol=1e-4)


def test_the_map_is_that_of_the_one_class_head() -> None:
    """With one class an image, targets are one-hot, and the two heads differ in calibration and balance alone."""
    features, _ = problem()
    labels = torch.arange(40) % 3
    one_of = RidgeHeadConfig(balance=0).build(groups=GROUPS, classes=3)
    one_of.fit(features, labels)
    tags = fitted(features, torch.nn.functional.one_hot(labels, 3).bool())
    torch.testing.assert_close(tags.mapped(features), one_of.mapped(features))


def test_sigmoids_come_from_images_that_were_left_out() -> None:
    features, present = problem()
    present = torch.rand(present.shape, generator=torch.Generator().manual_seed(3)) < 0.5  # nothing to be learnt
    head = fitted(features, present)
    seen = platt(head.mapped(features)[:, 0], present[:, 0])
    assert seen
    assert float(head.slope_C[0]) < 0.8 * seen.slope


def test_a_class_in_every_image_is_found_everywhere() -> None:
    features, present = problem()
    present[:, 0] = True
    scores = fitted(features, present)(features).sigmoid()
    assert float(scores[:, 0].min()) > 0.5
    assert bool(scores.isfinite().all())


def test_unfitted_head_says_nothing() -> None:
    head = TagHeadConfig().build(groups=GROUPS, classes=2)
    assert float(head(torch.randn(3, 1, sum(GROUPS))).sigmoid().max()) == pytest.approx(0.0067, abs=1e-3)
