import numpy as np
import pytest

from pangu_cv.pretrain.choice import best_round
from pangu_cv.pretrain.scores import Judged, Score, balanced_parts
from pangu_cv.pretrain.verdict import Verdict, gain_of, verdict
from tests.pretrain import small

BY_DRAW = np.array([0.60, 0.62, 0.58, 0.60])
BY_IMAGE = np.tile([0.2, 1.0], 50)
LABELS = np.arange(60) % 6


def _score(target: str, by_draw: object = 0.0, by_image: object = 0.0, *, is_apart: bool = True) -> Score:
    """Gains added to what it was before, the first and the last images in a fold each."""
    draws, images = BY_DRAW + by_draw, BY_IMAGE + by_image
    halves = np.split(images, 2) if is_apart else [images]
    return Score(target, tuple(Judged(tuple(draws.tolist()), tuple(half.tolist())) for half in halves), None)


def _verdict(before: list[Score], after: list[Score], *, datasets: list[str] | None = None) -> Verdict:
    return verdict([before, after], images=100, datasets=datasets)


BEFORE = _score("steel")


def test_steady_gain_is_used() -> None:
    found = _verdict([BEFORE], [_score("steel", [0.03, 0.04, 0.03, 0.04], np.tile([0.03, 0.04], 50))])
    assert found.targets[0].use
    assert found.targets[0].sentence.endswith("use it")
    assert "+3.5 points" in found.sentence
    assert found.targets[0].gain.n == 100


def test_gain_that_hangs_on_the_draw_is_not() -> None:
    found = _verdict([BEFORE], [_score("steel", [0.10, -0.06, 0.05, -0.02], 0.0175)])
    assert found.targets[0].gain.mean > 0.01
    assert not found.targets[0].use
    assert "keep the original" in found.sentence


def test_gain_that_hangs_on_a_few_images_is_not() -> None:
    few = np.where(np.arange(100) < 3, 1.0, 0.0)
    found = _verdict([BEFORE], [_score("steel", 0.03, few)])
    assert found.targets[0].gain.mean > 0.02
    assert not found.targets[0].use


def test_steady_gain_of_nothing_is_not() -> None:
    assert not _verdict([BEFORE], [_score("steel", [0.001, 0.001, 0.002, 0.001], 0.00125)]).targets[0].use


def test_originals_that_are_kept_are_named_and_count_as_no_gain() -> None:
    after = [_score("steel", 0.04, 0.04), _score("rail", -0.1, -0.1)]
    found = _verdict([BEFORE, _score("rail")], after)
    assert found.sentence.startswith("+2.0 points on the mean of 2 target(s)")
    assert found.sentence.endswith("keep the original for rail")


def test_what_none_proves_alone_all_may_prove_together() -> None:
    """Nine targets with the same small gain; of three others one has less than is worth it, one loses, one may lose."""
    noise = np.random.default_rng(0).normal(0, 0.1, 100)
    wide = noise - noise.mean() + 0.015
    names = [f"line {number}" for number in range(9)]
    before = [_score(name) for name in (*names, "flat", "loses", "may lose")]
    gains = [_score(name, 0.015, wide) for name in names]
    others = [_score("flat", 0.004, 0.004), _score("loses", -0.01, -0.01)]
    after = [*gains, *others, _score("may lose", 0.015, 1.5 * (wide - 0.015) + 0.015)]
    found = _verdict(before, after)
    assert not any(_verdict([b], [a]).targets[0].use for b, a in zip(before, after, strict=True))
    assert [target.use for target in found.targets] == [True] * 9 + [False] * 3
    assert [target.by_all for target in found.targets] == [True] * 9 + [False] * 3
    assert found.targets[0].sentence.endswith("use it (by all together)")
    assert found.together is not None
    alone = _verdict(before[:1], after[:1]).targets[0].gain
    assert alone.high is not None
    risky = found.targets[-1].gain
    assert risky.high is not None
    assert risky.low is not None
    assert alone.low is not None
    assert risky.low < -0.01 < alone.low
    assert found.together.mean == pytest.approx((10 * 0.015 + 0.004 - 0.01) / 12)
    half = (9 * (alone.high - alone.mean) ** 2 + (risky.high - risky.mean) ** 2) ** 0.5
    assert found.together.high - found.together.mean == pytest.approx(half / 12)
    assert _verdict(before[:1], after[:1]).together is None
    again = _verdict(before[:9], after[:9], datasets=["one"] * 9)  # asked nine times, and no surer for it
    assert again.together is not None
    assert again.together.high == pytest.approx(alone.high)
    assert not any(target.use for target in again.targets)


def test_images_that_chose_the_round_prove_nothing_for_others() -> None:
    before, after = [BEFORE, _score("rail")], [_score("steel", 0.04, 0.04), _score("rail", 0.02, [0.5, -0.46] * 50)]
    assert _verdict(before, after).together is not None
    shared = [_score("steel", 0.04, 0.04, is_apart=False), after[1]]
    found = _verdict([_score("steel", is_apart=False), before[1]], shared)
    assert found.together is None
    assert [target.use for target in found.targets] == [True, False]


def test_one_image_more_or_less_is_no_gain() -> None:
    before, after = (Score("steel", (Judged((value, value), (value,)),), None) for value in (0.0, 1.0))
    assert not _verdict([before], [after]).targets[0].use


def test_each_half_judges_what_the_other_chooses() -> None:
    """One half is lucky in the first round and the other in the second; the kept one is the first."""
    rounds = [[small.score(0.5)], [small.score(0.7, 0.52)], [small.score(0.51, 0.6)]]
    assert best_round(rounds) == 1
    assert [best_round(rounds, beside=fold) for fold in (0, 1)] == [2, 1]
    found = verdict(rounds, images=100).targets[0]
    assert found.before == pytest.approx(0.5)
    assert found.after == pytest.approx((0.51 + 0.52) / 2)


def test_a_target_that_the_kept_state_loses_on_keeps_the_original() -> None:
    """The halves choose rounds that gain on steel; all together they choose one that gains on rail alone."""
    figures = [
        ((0.5, 0.5), (0.5, 0.5)),
        ((0.52, 0.52), (0.6, 0.49)),
        ((0.52, 0.52), (0.49, 0.6)),
        ((0.45, 0.45), (0.58, 0.58)),
    ]
    rounds = [[small.score(*a, target="steel"), small.score(*b, target="rail")] for a, b in figures]
    assert best_round(rounds) == 3
    steel, rail = verdict(rounds, images=100).targets
    assert steel.gain.mean == pytest.approx(0.02)
    assert not steel.use
    assert not rail.use  # its halves chose rounds that lose on each other


def test_a_round_without_a_number_is_not_chosen() -> None:
    rounds = [[small.score(value)] for value in (0.5, 0.6, float("nan"), 0.7)]
    assert best_round(rounds) == 3
    assert best_round(rounds[:3]) == 1


def test_targets_that_are_parted_and_that_are_not_stand_beside_each_other() -> None:
    """Of steel, which is not parted, the kept round is judged; of rail each half the other's choice."""
    rounds = [
        [Score("steel", (Judged((one, one), (one, one)),), None), small.score(*halves, target="rail")]
        for one, halves in ((0.5, (0.5, 0.5)), (0.6, (0.7, 0.5)), (0.55, (0.5, 0.6)))
    ]
    assert best_round(rounds) == 1
    steel, rail = verdict(rounds, images=100).targets
    assert steel.after == pytest.approx(0.6)
    assert rail.after == pytest.approx(0.5)


def test_where_the_start_is_kept_nothing_is_gained() -> None:
    rounds = [[small.score(0.5)], [small.score(0.7, 0.2)], [small.score(0.2, 0.7)]]
    assert best_round(rounds) == 0
    found = verdict(rounds, images=100).targets[0]
    assert found.before == found.after
    assert found.gain.mean == 0
    assert not found.use


def test_halves_that_may_be_lucky_alike_are_less_sure() -> None:
    old, new = (Judged((0.5, 0.5), images) for images in ((0.0,) * 4, (1.0, 0.0, 1.0, 0.0)))
    one, two = (gain_of(old, new, folds=folds) for folds in (1, 2))
    assert one.high is not None
    assert two.high is not None
    assert two.high - two.mean == pytest.approx((4 / 3) ** 0.5 * (one.high - one.mean))


def test_images_that_chose_the_round_too_are_told() -> None:
    for gain in (0.04, -0.04):
        before, after = (_score("steel", more, more, is_apart=False) for more in (0.0, gain))
        found = _verdict([before], [after])
        assert found.sentence.endswith("the same ones chose the round for steel")
        assert "the same ones chose the round" in found.targets[0].sentence
    assert "chose the round" not in _verdict([small.score(0.5)], [small.score(0.6)]).sentence


@pytest.mark.parametrize("targets", [1, 4])
def test_without_effect_it_is_hardly_ever_used(targets: int) -> None:
    """Ten rounds that differ by the luck of their images alone."""
    random = np.random.default_rng(0)
    used = 0
    for _ in range(200 // targets):
        rounds = [[_lucky(random) for _ in range(targets)] for _ in range(11)]
        used += sum(target.use for target in verdict(rounds, images=100).targets)
    assert used <= 200 * 0.035


def test_an_effect_is_seen_in_all_images() -> None:
    """In nine of ten runs; half of the images proves it in seven."""
    random, used = np.random.default_rng(0), 0
    for _ in range(100):
        rounds = [[_lucky(random)], *([_lucky(random, gain=0.2)] for _ in range(3))]
        used += verdict(rounds, images=100).targets[0].use
    assert used >= 85


def _lucky(random: np.random.Generator, *, gain: float = 0.0) -> Score:
    """Right or wrong by image, nearly the same in every draw."""
    halves = []
    for _ in range(2):
        chance_N = np.where(random.random(60) < 0.7 + gain, 0.95, 0.05)
        halves.append(Judged.of(balanced_parts(random.random((10, 60)) < chance_N, LABELS)))
    return Score("steel", tuple(halves), None)
