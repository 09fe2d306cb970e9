import pytest
import torch

from pangu_cv.tasks import known_defects
from pangu_cv.tasks.known_defects import defect_patches, raises_normals


def test_one_patch_of_a_normal_image_that_is_near_is_enough_to_raise_it() -> None:
    """Each normal image has a patch like the first of the defect, one has another like the second, none the third."""
    defect_KD = torch.tensor([[0.0, 0], [9, 0], [0, 9]])
    one = torch.tensor([[0.0, 0.5], [5, 5]]), torch.tensor([1.0, 1])
    other = torch.tensor([[5.0, 5], [0.5, 0], [9, 0.5]]), torch.tensor([1.0, 1, 1])
    assert raises_normals(defect_KD, [one, other]).tolist() == [1, 0.5, 0]


def test_of_the_patches_inside_the_mask_those_least_like_normal_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    patches_PD, distances_P = torch.tensor([[0.0], [10], [20], [30]]), torch.tensor([1.0, 3, 2, 4])
    inside_P = torch.tensor([True, True, True, False])
    assert defect_patches(patches_PD, distances_P, inside_P, top_k=1).flatten().tolist() == [10, 20, 0]
    monkeypatch.setattr(known_defects, "PATCHES_PER_IMAGE", 1)
    assert defect_patches(patches_PD, distances_P, inside_P, top_k=1).tolist() == [[10]]
