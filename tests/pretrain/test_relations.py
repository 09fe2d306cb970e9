import torch

from pangu_cv.pretrain.relations import UNKNOWN, Facts, image_targets, text_targets


def facts(labels: list[int], near: list[list[int]]) -> Facts:
    unknown = torch.full((len(labels),), UNKNOWN)
    return Facts(torch.arange(len(labels)), torch.tensor(labels), unknown, torch.tensor(near))


# 0 and 1 are of one class, 2 of another, 3 has no label.
KNOWN = facts([5, 5, 6, UNKNOWN], [[1, 2], [0, 3], [0, 3], [0, UNKNOWN]])


def test_unlabelled_views_are_alike_only_to_their_own_image() -> None:
    plain = facts([UNKNOWN] * 3, [[UNKNOWN]] * 3).repeat(2)
    found = image_targets(plain, plain, neighbours=0.25, labels=0.5, labels_only_near=True)
    torch.testing.assert_close(found, torch.eye(3).repeat(2, 2))


def test_neighbours_count_unless_their_labels_conflict() -> None:
    found = image_targets(KNOWN, KNOWN, neighbours=0.25, labels=0, labels_only_near=True)
    expected = torch.eye(4)
    expected[0, 1] = expected[1, 0] = expected[1, 3] = expected[2, 3] = expected[3, 0] = 0.25
    torch.testing.assert_close(found, expected)  # 0-2 and 2-0 are near and of two classes


def test_same_label_counts_only_near_or_everywhere() -> None:
    far = facts([5, 5, 6, UNKNOWN], [[2, 3], [0, 3], [0, 3], [0, 1]])
    near = image_targets(far, far, neighbours=0, labels=0.5, labels_only_near=True)
    assert near[1, 0] == 0.5
    assert near[0, 1] == 0
    everywhere = image_targets(far, far, neighbours=0, labels=0.5, labels_only_near=False)
    assert everywhere[0, 1] == everywhere[1, 0] == 0.5
    assert everywhere[3].sum() == 1  # without a label only the image itself


def test_same_image_can_be_left_out() -> None:
    found = image_targets(KNOWN, KNOWN, neighbours=0, labels=1, labels_only_near=False, same_image=0)
    assert found.diagonal().sum() == 0
    assert found[0, 1] == 1


def test_text_is_the_images_own_or_names_its_class() -> None:
    known = Facts(
        torch.arange(3), torch.tensor([1, UNKNOWN, 0]), torch.tensor([UNKNOWN, 7, UNKNOWN]), KNOWN.near_NK[:3]
    )
    found = text_targets(known, torch.tensor([7, 8, 9]), torch.tensor([UNKNOWN, 0, 1]))
    torch.testing.assert_close(found, torch.tensor([[0, 0, 1], [1, 0, 0], [0, 1, 0.0]]))


def test_unknown_facts_never_match_each_other() -> None:
    nothing = facts([UNKNOWN, UNKNOWN], [[UNKNOWN], [UNKNOWN]])
    assert text_targets(nothing, torch.tensor([UNKNOWN]), torch.tensor([UNKNOWN])).sum() == 0
    found = image_targets(nothing, nothing, neighbours=1, labels=1, labels_only_near=False)
    torch.testing.assert_close(found, torch.eye(2))
