import pytest
import torch

from pangu_cv.distill.decisions import apart

KINDS = {
    "classify": lambda: (torch.randn(3, 4),),
    "multilabel": lambda: (torch.randn(3, 4),),
    "segment": lambda: (torch.randn(2, 3, 16, 16),),
    "detect": lambda: (torch.randn(2, 8 * 8 + 4 * 4 + 2 * 2, 3), boxes(2, 84)),
}


def boxes(images: int, places: int) -> torch.Tensor:
    corner = torch.rand(images, places, 2) * 0.5
    return torch.cat([corner, corner + 0.1 + 0.3 * torch.rand(images, places, 2)], 2)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_word_is_not_apart_and_another_is(kind: str) -> None:
    torch.manual_seed(0)
    said = KINDS[kind]()
    assert float(apart(kind, said, said)) == pytest.approx(0, abs=1e-5)
    other = KINDS[kind]()
    assert float(apart(kind, other, said)) > 0.05


@pytest.mark.parametrize("kind", KINDS)
def test_going_down_it_comes_nearer(kind: str) -> None:
    torch.manual_seed(1)
    teacher, student = KINDS[kind](), tuple(part.clone().requires_grad_(True) for part in KINDS[kind]())
    optimiser = torch.optim.Adam(student, lr=0.05)
    before = float(apart(kind, student, teacher).detach())
    for _ in range(60):
        optimiser.zero_grad()
        apart(kind, student, teacher).backward()
        optimiser.step()
    assert float(apart(kind, student, teacher).detach()) < 0.3 * before


def test_a_detector_of_half_the_side_is_asked_for_the_same_places() -> None:
    """A peak in the teacher's finest level is at the same share of the side in the student's."""
    teacher, student = torch.full((1, 16 * 16 + 8 * 8 + 4 * 4, 1), -8.0), torch.full((1, 84, 1), -8.0)
    teacher[0, :256].view(16, 16)[4:6, 10:12] = 6.0  # of 16, as cell (2, 5) of 8
    right, wrong = student.clone(), student.clone()
    right[0, :64].view(8, 8)[2, 5] = 6.0
    wrong[0, :64].view(8, 8)[5, 2] = 6.0
    same = boxes(1, 84)
    big = boxes(1, 336)
    assert float(apart("detect", (right, same), (teacher, big))) < float(apart("detect", (wrong, same), (teacher, big)))


def test_anomalies_have_no_word_of_their_own() -> None:
    assert float(apart("anomaly", (), ())) == 0


def test_a_pixel_of_a_small_defect_weighs_more_than_one_of_the_background() -> None:
    teacher = torch.zeros(1, 2, 10, 10)
    teacher[:, 0], teacher[:, 1] = 5.0, -5.0
    teacher[..., 3, 4] *= -1  # one pixel in a hundred is not background
    on_defect, on_background = teacher.clone(), teacher.clone()
    on_defect[..., 3, 4] *= -1
    on_background[..., 7, 7] *= -1
    missed, imagined = (float(apart("segment", (said,), (teacher,))) for said in (on_defect, on_background))
    assert missed > 50 * imagined
