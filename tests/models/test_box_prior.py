import pytest
import torch
from torch import Tensor

from pangu_cv.models.box_head import BoxHead, BoxHeadConfig
from pangu_cv.models.box_prior import PriorFit, level_sizes

CHANNELS, SIDE, PX = (6, 10), 16, 128
BOX = torch.tensor([[32.0, 32.0, 96.0, 96.0]])


def grids(seed: int, label: int | None) -> list[Tensor]:
    """Noise, with a direction of the class's own inside the box."""
    generator = torch.Generator().manual_seed(seed)
    made = [torch.randn(1, channels, SIDE, SIDE, generator=generator) for channels in CHANNELS]
    if label is not None:
        made[1][0, label, 4:12, 4:12] += 4.0
    return made


def fitted(*, classes: int = 3, shown: int = 2) -> BoxHead:
    """A head whose prototypes come from six images; classes from ``shown`` on are on none."""
    head = BoxHeadConfig(width=16, blocks=1).build(channels=CHANNELS, classes=classes)
    size = {"features": sum(CHANNELS), "classes": classes}
    parts = [PriorFit(**size) for _ in range(3)]
    for seed in range(6):
        parts[seed % 3].add(grids(seed, seed % shown), BOX, torch.tensor([seed % shown]), side_px=PX)
    head.install(PriorFit.joined(parts, **size).solve())
    return head


@pytest.mark.parametrize("label", [0, 1])
def test_prototypes_tell_the_class_and_the_background_on_new_images(label: int) -> None:
    score = fitted().prototypes.scores(grids(99, label))[0]
    inside, outside = score[:, 5:11, 5:11].mean((1, 2)), score[:, :3].mean((1, 2))
    other = 1 - label
    assert inside[label] > outside[label] + 0.5
    assert inside[label] > inside[other] + 0.5
    assert (score[2] == 0).all()  # of a class never seen they say nothing


def test_parts_together_are_the_whole_and_nothing_says_nothing() -> None:
    size = {"features": sum(CHANNELS), "classes": 2}
    whole, one, other = (PriorFit(**size) for _ in range(3))
    for seed in range(4):
        seen = (grids(seed, seed % 2), BOX, torch.tensor([seed % 2]))
        whole.add(*seen, side_px=PX)
        (one if seed < 2 else other).add(*seen, side_px=PX)
    for a, b in zip(whole.solve(), PriorFit.joined([one, other], **size).solve(), strict=True):
        torch.testing.assert_close(a, b)
    assert (PriorFit.joined([], **size).solve().scores(grids(0, 1)) == 0).all()


def test_sizes_are_geometric_means_of_the_boxes_of_a_level() -> None:
    small, large = torch.tensor([[0.0, 0.0, 20.0, 30.0]]), torch.tensor([[0.0, 0.0, 300.0, 200.0]])
    sizes = level_sizes(torch.cat([small, small + torch.tensor([0.0, 0.0, 4.0, 0.0]), large]))
    assert sizes.shape == (3, 2)
    expected = [[(20 * 24) ** 0.5, 30.0], [96.0, 96.0], [300.0, 200.0]]  # six strides where there is none
    torch.testing.assert_close(sizes, torch.tensor(expected))
