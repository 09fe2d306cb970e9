import pytest
import torch
from torchvision.ops import batched_nms, box_iou

from pangu_cv.models.box_decision import decide, iou


def random_boxes(count: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * 60
    return torch.cat([corner, corner + 5 + 30 * torch.rand(count, 2, generator=generator)], 1)


def test_iou_is_torchvisions() -> None:
    first, second = random_boxes(20, 0), random_boxes(30, 1)
    assert torch.allclose(iou(first[None], second[None])[0], box_iou(first, second), atol=1e-6)
    flat = torch.tensor([[[3.0, 3.0, 3.0, 9.0]]])
    assert iou(flat, flat).item() == 0


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("overlap", [0.3, 0.6])
def test_the_same_boxes_survive_as_in_greedy_suppression(seed: int, overlap: float) -> None:
    boxes = random_boxes(200, seed)
    scores = torch.rand(200, 3, generator=torch.Generator().manual_seed(seed + 100))
    found = decide(boxes[None], scores[None], count=200, overlap=overlap)
    best, label = scores.max(1)
    kept = batched_nms(boxes, best, label, overlap)
    count = int((found.scores[0] > 0).sum())
    assert count == len(kept)
    assert torch.equal(found.boxes_xyxy[0, :count], boxes[kept])
    assert torch.equal(found.scores[0, :count], best[kept])
    assert torch.equal(found.labels[0, :count], label[kept])


def test_images_of_a_batch_do_not_meet() -> None:
    boxes = torch.stack([random_boxes(50, 1), random_boxes(50, 2)])
    scores = torch.rand(2, 50, 2, generator=torch.Generator().manual_seed(0))
    both = decide(boxes, scores, count=30, overlap=0.5)
    for row in range(2):
        alone = decide(boxes[row : row + 1], scores[row : row + 1], count=30, overlap=0.5)
        for one, other in zip(both, alone, strict=True):
            assert torch.equal(one[row], other[0])


def test_fewer_places_than_asked() -> None:
    found = decide(random_boxes(3, 0)[None], torch.rand(1, 3, 2), count=100, overlap=0.5)
    assert found.boxes_xyxy.shape == (1, 3, 4)


def crowd(objects: int, *, places: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Objects well apart, each found by several places that nearly agree and score high."""
    generator = torch.Generator().manual_seed(seed)
    number = torch.arange(objects)
    middle = torch.stack([number % 10, number // 10], 1) * 40.0 + 20
    middle = middle.repeat_interleave(places, 0) + torch.rand(objects * places, 2, generator=generator)
    scores = 0.5 + 0.5 * torch.rand(objects * places, 1, generator=generator)
    return torch.cat([middle - 14, middle + 14], 1), scores


@pytest.mark.parametrize("objects", [40, 100])
def test_many_places_that_answer_for_one_object_crowd_no_other_out(objects: int) -> None:
    boxes, scores = crowd(objects, places=9, seed=objects)
    found = decide(boxes[None], scores[None], count=100, overlap=0.45)
    assert found.scores.shape == (1, 100)
    assert int((found.scores > 0).sum()) == objects


def test_suppression_is_greedy_over_groups_too() -> None:
    boxes = random_boxes(600, 3) * 3
    scores = torch.rand(600, 2, generator=torch.Generator().manual_seed(4))
    found = decide(boxes[None], scores[None], count=600, overlap=0.3)
    best, label = scores.max(1)
    kept = batched_nms(boxes, best, label, 0.3)
    assert torch.equal(found.boxes_xyxy[0, : len(kept)], boxes[kept])
    assert int((found.scores > 0).sum()) == len(kept)
