import math

import pytest
import torch
from torch import Tensor

from pangu_cv.models import ridge_head, ridge_map
from pangu_cv.models.ridge_head import FALLBACK_TEMPERATURE, RidgeHead, RidgeHeadConfig
from pangu_cv.models.ridge_map import unit
from pangu_cv.models.ridge_memory import RidgeMemory, RidgeSolution

GROUPS = [5, 3, 4]


def problem(seed: int, *, images: int = 12, views: int = 3, classes: int = 3) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    labels = torch.arange(images) % classes
    centres = torch.randn(classes, sum(GROUPS), generator=rng)
    features = centres[labels][:, None] + 0.7 * torch.randn(images, views, sum(GROUPS), generator=rng)
    return features, labels


def fitted(features: Tensor, labels: Tensor, *, classes: int = 3, penalty: float = 0.3) -> RidgeHead:
    head = RidgeHeadConfig(penalty=penalty).build(groups=GROUPS, classes=classes)
    head.fit(features, labels)
    return head


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("views", [1, 2, 4])
def test_leave_one_out_equals_refitting_without_the_image(seed: int, views: int) -> None:
    features, labels = problem(seed, views=views)
    head = fitted(features, labels)
    x = features.double().flatten(0, 1)
    rows = unit((x - x.mean(0)) / head._scale(x.std(0, unbiased=False)), head.groups).view(len(labels), views, -1)
    targets = torch.nn.functional.one_hot(labels, 3).double()[:, None].expand(-1, views, -1)
    found = head.solve(features, torch.nn.functional.one_hot(labels, 3))
    for left_out in range(len(labels)):
        kept = [n for n in range(len(labels)) if n != left_out]
        expected = refit(rows[kept].flatten(0, 1), targets[kept].flatten(0, 1), rows[left_out])
        torch.testing.assert_close(found[left_out], expected, atol=1e-10, rtol=0)
    again = RidgeHeadConfig().build(groups=GROUPS, classes=3)
    torch.testing.assert_close(again.fit(features, labels) * again.temperature.double(), found)


def test_classes_of_one_size_are_not_balanced() -> None:
    features, labels = problem(0)
    plain = RidgeHeadConfig(balance=0).build(groups=GROUPS, classes=3)
    plain.fit(features, labels)
    assert torch.equal(fitted(features, labels).weight_CD, plain.weight_CD)


def test_the_output_of_a_small_class_is_raised_and_that_of_no_image_is_nothing() -> None:
    features, labels = problem(0, images=30)
    labels = torch.where(labels == 1, 0, labels)  # 20, 0 and 10 images
    raw, head = (RidgeHeadConfig(balance=balance).build(groups=GROUPS, classes=3) for balance in (0, 0.5))
    for one in (raw, head):
        one.fit(features, labels)
    factor = torch.tensor([(20 / 15) ** -0.5, 1.0, (10 / 15) ** -0.5])
    torch.testing.assert_close(head.mapped(features), raw.mapped(features) * factor)
    assert not head.mapped(features)[:, 1].any()
    left_out, plain = (one.fit(features, labels) * one.temperature.double() for one in (head, raw))
    torch.testing.assert_close(left_out, plain * factor.double(), rtol=1e-6, atol=1e-9)


def test_a_memory_gives_the_head_that_was_fitted() -> None:
    features, labels = problem(1, images=30)
    labels = torch.where((labels == 1) & (torch.arange(30) > 6), 0, labels)
    head = fitted(features, labels)
    rows = head.normalised(features.double(), head.statistics(features))
    targets = torch.nn.functional.one_hot(labels, 3).double().repeat_interleave(3, 0)
    solution = head.solved(RidgeMemory.empty(features=12, outputs=3).add(rows.flatten(0, 1), targets))
    torch.testing.assert_close(solution.weight_DC.T.float(), head.weight_CD)
    torch.testing.assert_close(solution.bias_C.float(), head.bias_C)
    left_out = torch.stack([solution.left_out(row, targets[3 * at]) for at, row in enumerate(rows)])
    torch.testing.assert_close(left_out, head.fit(features, labels) * head.temperature.double())


@pytest.mark.parametrize("views", [1, 3])
@pytest.mark.parametrize("images", [6, 30])
def test_leaving_out_a_group_equals_refitting_without_it(views: int, images: int) -> None:
    """Of one to three images, of several classes; in the dual and in the primal."""
    features, labels = problem(1, images=images, views=views)
    kin = [f"burst {number % (images // 2)}" if number < images - 1 else "burst 0" for number in range(images)]
    head = fitted(features, labels)
    rows = head.normalised(features.double(), head.statistics(features))
    targets = torch.nn.functional.one_hot(labels, 3).double()[:, None].expand(-1, views, -1)
    found = head.solve(features, torch.nn.functional.one_hot(labels, 3), kin)
    for group in set(kin):
        out = torch.tensor([name == group for name in kin])
        expected = refit(rows[~out].flatten(0, 1), targets[~out].flatten(0, 1), rows[out].flatten(0, 1))
        torch.testing.assert_close(found[out].flatten(0, 1), expected, atol=1e-9, rtol=0)
    alone = head.solve(features, torch.nn.functional.one_hot(labels, 3), ["all"] * images)
    assert torch.equal(alone, torch.zeros_like(alone))


def test_classes_of_one_group_have_no_other_to_set_the_temperature_by() -> None:
    features, labels = problem(5, images=6)
    head = RidgeHeadConfig().build(groups=GROUPS, classes=3)
    head.fit(features, labels, [f"burst of {label}" for label in labels])
    assert float(head.temperature) == pytest.approx(FALLBACK_TEMPERATURE)


def refit(x: Tensor, y: Tensor, queries: Tensor) -> Tensor:
    """Ridge regression with an unpenalised intercept, in the primal."""
    mean, base = x.mean(0), y.mean(0)
    gram = (x - mean).T @ (x - mean) + 0.3 * torch.eye(x.shape[1], dtype=torch.float64)
    weight = torch.linalg.solve(gram, (x - mean).T @ (y - base))
    return base + (queries - mean) @ weight


def test_many_images_are_solved_in_parts_as_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """More images than are held in float64 at a time: nothing changes but the memory it takes."""
    features, labels = problem(1, images=40)
    kin = ["a", "a", "b", "b", "b", *(str(at) for at in range(35))]
    normalised, most = RidgeHead.normalised, []

    def watched(self: RidgeHead, rows: Tensor, *others: object) -> Tensor:
        most.append(math.prod(rows.shape[:-2]))
        return normalised(self, rows, *others)

    monkeypatch.setattr(RidgeHead, "normalised", watched)
    found = {}
    for at_once in (1000, 3):
        monkeypatch.setattr(ridge_map, "_AT_ONCE", at_once)
        head, most = RidgeHeadConfig().build(groups=GROUPS, classes=3), []
        left_out_NVC = head.solve(features, torch.nn.functional.one_hot(labels, 3), kin)
        found[at_once] = [left_out_NVC, *(buffer.double() for buffer in head.buffers())]
        assert max(most) <= at_once
    for whole, parts in zip(found[1000], found[3], strict=True):
        torch.testing.assert_close(parts, whole, atol=1e-6, rtol=0)
    torch.testing.assert_close(found[3][0], found[1000][0], atol=1e-9, rtol=0)


@pytest.mark.parametrize("classes", [2, 3])
def test_groups_of_more_views_than_features_take_no_matrix_of_their_views(
    classes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    features, labels = problem(4, images=28, classes=classes)
    kin = ["video"] * 8 + [str(at) for at in range(12)] + ["other"] * 8
    left_out = RidgeSolution.left_out

    def small(self: RidgeSolution, rows_VD: Tensor, *rest: Tensor) -> Tensor:
        assert rows_VD.shape[-2] <= sum(GROUPS) < 8 * 3
        return left_out(self, rows_VD, *rest)

    monkeypatch.setattr(RidgeSolution, "left_out", small)
    head = RidgeHeadConfig().build(groups=GROUPS, classes=classes)
    found = head.solve(features, torch.nn.functional.one_hot(labels, classes), kin)
    rows = head.normalised(features.double(), head.statistics(features))
    targets = torch.nn.functional.one_hot(labels, classes).double()[:, None].expand(-1, 3, -1)
    for name in ("video", "other"):
        out = torch.tensor([one == name for one in kin])
        expected = refit(rows[~out].flatten(0, 1), targets[~out].flatten(0, 1), rows[out].flatten(0, 1))
        torch.testing.assert_close(found[out].flatten(0, 1), expected, atol=1e-9, rtol=0)


def test_weights_are_those_of_the_primal_problem() -> None:
    features, labels = problem(0)
    head = fitted(features, labels)
    x = features.double().flatten(0, 1)
    rows = unit((x - x.mean(0)) / head._scale(x.std(0, unbiased=False)), head.groups)
    targets = torch.nn.functional.one_hot(labels, 3).double().repeat_interleave(3, 0)
    expected = refit(rows, targets, rows).view(len(labels), 3, -1).mean(1)
    torch.testing.assert_close(head(features) * head.temperature, expected.float(), atol=1e-5, rtol=1e-5)


def test_fit_is_deterministic() -> None:
    one, two = (fitted(*problem(1)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one.buffers(), two.buffers(), strict=True))


def test_refitting_forgets_the_earlier_fit() -> None:
    head = fitted(*problem(1))
    head.fit(*problem(2))
    fresh = fitted(*problem(2))
    assert all(torch.equal(a, b) for a, b in zip(head.buffers(), fresh.buffers(), strict=True))


def test_order_of_images_does_not_matter() -> None:
    features, labels = problem(3)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    one, two = fitted(features, labels), fitted(features[order], labels[order])
    torch.testing.assert_close(one(features), two(features), atol=1e-5, rtol=1e-4)


def test_renaming_classes_permutes_scores() -> None:
    features, labels = problem(4)
    permutation = torch.tensor([2, 0, 1])
    one, two = fitted(features, labels), fitted(features, permutation[labels])
    torch.testing.assert_close(one(features).softmax(1), two(features).softmax(1)[:, permutation], atol=1e-6, rtol=1e-5)


def test_one_shot_per_class_takes_the_fallback() -> None:
    features, labels = problem(5, images=3)
    assert float(fitted(features, labels).temperature) == pytest.approx(FALLBACK_TEMPERATURE)
    features, labels = problem(5, images=6)
    assert float(fitted(features, labels).temperature) != pytest.approx(FALLBACK_TEMPERATURE)


def test_temperature_is_the_best_of_the_smoothed_likelihood() -> None:
    logits = torch.randn(20, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(20) % 3
    logits += 2 * torch.nn.functional.one_hot(labels, 3)
    found = ridge_head._best_temperature(logits, labels)

    def loss(temperature: float) -> float:
        return float(torch.nn.functional.cross_entropy(logits / temperature, labels, label_smoothing=1 / 22))

    assert loss(found) <= min(loss(found * 1.1), loss(found / 1.1))


def test_the_temperature_of_soft_targets_is_the_best_for_them_and_not_for_their_classes() -> None:
    features, labels = problem(2, images=30)
    targets = 0.6 * torch.nn.functional.one_hot(labels, 3) + 0.4 / 3
    head = RidgeHeadConfig().build(groups=GROUPS, classes=3)
    left_out = head.fit_soft(features, targets).mean(1) * head.temperature.double()
    smoothed = targets.double() * (1 - 1 / 32) + 1 / 32 / 3

    def loss(temperature: float) -> float:
        return float(-(smoothed * (left_out / temperature).log_softmax(1)).sum(1).mean())

    found = float(head.temperature)
    assert loss(found) <= min(loss(found * 1.1), loss(found / 1.1))
    assert found > 1.2 * ridge_head._best_temperature(left_out, labels)


def test_a_weight_of_two_standardises_as_the_row_twice() -> None:
    features = problem(0, images=6)[0].flatten(0, 1) ** 3  # of many deviations
    weight = 1 + torch.arange(len(features)) % 2
    head = RidgeHeadConfig().build(groups=GROUPS, classes=3)
    weighed, repeated = head.statistics(features, weight), head.statistics(features.repeat_interleave(weight, 0))
    torch.testing.assert_close(weighed.mean_D, repeated.mean_D, atol=1e-9, rtol=0)
    torch.testing.assert_close(weighed.scale_D, repeated.scale_D, atol=1e-9, rtol=0)
    assert not torch.allclose(weighed.scale_D, head.statistics(features).scale_D, rtol=0.01)


def test_separable_classes_are_told_apart_with_doubt_left() -> None:
    features, labels = problem(6, images=30)
    head = fitted(features, labels)
    scores = head(features).softmax(1)
    assert bool((scores.argmax(1) == labels).all())
    assert float(scores.max()) < 1
    assert math.isfinite(float(head.temperature))


def test_more_views_are_seen_as_more_evidence() -> None:
    features, labels = problem(7)
    assert not torch.allclose(fitted(features, labels).weight_CD, fitted(features[:, :1], labels).weight_CD)
    one = fitted(features[:, :1], labels)
    repeated = fitted(features[:, :1].expand(-1, 3, -1), labels, penalty=0.9)
    torch.testing.assert_close(one(features), repeated(features), atol=1e-4, rtol=1e-3)


def test_decision_may_see_other_views_than_the_fit() -> None:
    head = fitted(*problem(8))
    assert head(torch.randn(5, 1, sum(GROUPS))).shape == (5, 3)
    assert head(torch.randn(5, 4, sum(GROUPS))).shape == (5, 3)


def test_constant_features_do_no_harm() -> None:
    features, labels = problem(9)
    features[..., 2] = 3.0
    features[..., 5:8] = 0.0  # a whole group
    head = fitted(features, labels)
    assert all(bool(b.isfinite().all()) for b in head.buffers())
    assert bool(head(features).isfinite().all())


def test_scale_of_a_feature_does_not_matter() -> None:
    features, labels = problem(10)
    one = fitted(features, labels)
    two = fitted(features * 1000, labels)
    torch.testing.assert_close(one(features), two(features * 1000), atol=1e-3, rtol=1e-3)
