from dataclasses import replace

import numpy as np
import pytest

from pangu_cv.pretrain import loop
from pangu_cv.pretrain.scores import Judged, Score, balanced_parts
from pangu_cv.pretrain.state import State
from pangu_cv.pretrain.verdict import verdict
from tests.pretrain import small

BY_DRAW = np.array([0.60, 0.62, 0.58, 0.60])
BY_IMAGE = np.tile([0.2, 1.0], 50)
LABELS = np.arange(60) % 6


def _score(target: str, by_draw: object = 0.0, by_image: object = 0.0, *, is_apart: bool = True) -> Score:
    """Gains added to what it was before."""
    judged = Judged(tuple((BY_DRAW + by_draw).tolist()), tuple((BY_IMAGE + by_image).tolist()))
    return Score(target, judged.by_draw, None, judged, is_apart)


BEFORE = _score("steel")


def test_steady_gain_is_used() -> None:
    found = verdict([BEFORE], [_score("steel", [0.03, 0.04, 0.03, 0.04], np.tile([0.03, 0.04], 50))], images=100)
    assert found.targets[0].use
    assert found.targets[0].sentence.endswith("use it")
    assert "+3.5 points" in found.sentence
    assert found.targets[0].gain.n == 100


def test_gain_that_hangs_on_the_draw_is_not() -> None:
    found = verdict([BEFORE], [_score("steel", [0.10, -0.06, 0.05, -0.02], 0.0175)], images=100)
    assert found.targets[0].gain.mean > 0.01
    assert not found.targets[0].use
    assert "keep the original" in found.sentence


def test_gain_that_hangs_on_a_few_images_is_not() -> None:
    few = np.where(np.arange(100) < 3, 1.0, 0.0)
    found = verdict([BEFORE], [_score("steel", 0.03, few)], images=100)
    assert found.targets[0].gain.mean > 0.02
    assert not found.targets[0].use


def test_steady_gain_of_nothing_is_not() -> None:
    assert not verdict([BEFORE], [_score("steel", [0.001, 0.001, 0.002, 0.001], 0.00125)], images=100).targets[0].use


def test_originals_that_are_kept_are_named_and_count_as_no_gain() -> None:
    after = [_score("steel", 0.04, 0.04), _score("rail", -0.1, -0.1)]
    found = verdict([BEFORE, _score("rail")], after, images=100)
    assert found.sentence.startswith("+2.0 points on the mean of 2 target(s)")
    assert found.sentence.endswith("keep the original for rail")


def test_what_none_proves_alone_all_may_prove_together() -> None:
    """Nine targets with the same small gain, a tenth with less than is worth it, an eleventh that loses."""
    noise = np.random.default_rng(0).normal(0, 0.1, 100)
    wide = noise - noise.mean() + 0.015
    names = [f"line {number}" for number in range(9)]
    before = [_score(name) for name in (*names, "flat", "loses")]
    gains = [_score(name, 0.015, wide) for name in names]
    after = [*gains, _score("flat", 0.004, 0.004), _score("loses", -0.01, -0.01)]
    found = verdict(before, after, images=100)
    assert not any(verdict([b], [a], images=100).targets[0].use for b, a in zip(before, after, strict=True))
    assert [target.use for target in found.targets] == [True] * 9 + [False] * 2
    assert [target.by_all for target in found.targets] == [True] * 9 + [False] * 2
    assert found.targets[0].sentence.endswith("use it (by all together)")
    assert found.together is not None
    alone = verdict(before[:1], after[:1], images=100).targets[0].gain
    assert alone.high is not None
    assert found.together.mean == pytest.approx((9 * 0.015 + 0.004 - 0.01) / 11)
    assert found.together.high - found.together.mean == pytest.approx(3 * (alone.high - alone.mean) / 11)
    assert verdict(before[:1], after[:1], images=100).together is None
    again = verdict(before[:9], after[:9], images=100, datasets=["one"] * 9)  # asked nine times, and no surer for it
    assert again.together is not None
    assert again.together.high == pytest.approx(alone.high)
    assert not any(target.use for target in again.targets)


def test_images_that_chose_the_round_prove_nothing_for_others() -> None:
    before, after = [BEFORE, _score("rail")], [_score("steel", 0.04, 0.04), _score("rail", 0.02, [0.5, -0.46] * 50)]
    assert verdict(before, after, images=100).together is not None
    shared = [replace(score, is_apart=False) for score in after]
    assert verdict(before, shared, images=100).together is None
    assert verdict(before, [after[1], shared[0]], images=100).targets[0].use is False


def test_one_image_more_or_less_is_no_gain() -> None:
    one = Score("steel", (0.5, 0.5), None, Judged((1.0, 1.0), (1.0,)), is_apart=False)
    before = Score("steel", (0.5, 0.5), None, Judged((0.0, 0.0), (0.0,)), is_apart=False)
    assert not verdict([before], [one], images=100).targets[0].use


def test_images_that_chose_the_round_too_are_told() -> None:
    for gain in (0.04, -0.04):
        found = verdict([BEFORE], [_score("steel", gain, gain, is_apart=False)], images=100)
        assert found.sentence.endswith("the same ones chose the round for steel")
        assert "the same ones chose the round" in found.targets[0].sentence
    assert "chose the round" not in verdict([small.score(0.5)], [small.score(0.6)], images=100).sentence


@pytest.mark.parametrize("targets", [1, 4])
def test_without_effect_it_is_hardly_ever_used(targets: int) -> None:
    """Ten rounds that differ by the luck of their images; the luckiest half of the images names the best."""
    random = np.random.default_rng(0)
    used = 0
    for _ in range(200 // targets):
        rounds = [[_lucky(random) for _ in range(targets)] for _ in range(11)]
        state = State(rounds=rounds)
        best = max(rounds, key=lambda scores: loop._worth(scores, state))
        used += sum(target.use for target in verdict(rounds[0], best, images=100).targets)
    assert used <= 200 * 0.05


def _lucky(random: np.random.Generator) -> Score:
    """Right or wrong by image, nearly the same in every draw."""
    halves = []
    for _ in range(2):
        chance_N = np.where(random.random(60) < 0.7, 0.95, 0.05)
        halves.append(balanced_parts(random.random((10, 60)) < chance_N, LABELS))
    return Score("steel", tuple(halves[0].mean(1).tolist()), None, Judged.of(halves[1]), is_apart=True)
