from pangu_cv.pretrain.probes import Score
from pangu_cv.pretrain.verdict import verdict

BEFORE = Score("steel", (0.60, 0.62, 0.58, 0.60), None)


def _after(*gains: float) -> Score:
    return Score("steel", tuple(value + gain for value, gain in zip(BEFORE.values, gains, strict=True)), None)


def test_steady_gain_is_used() -> None:
    found = verdict([BEFORE], [_after(0.03, 0.04, 0.03, 0.04)], images=100)
    assert found.targets[0].use
    assert found.targets[0].sentence.endswith("use it")
    assert "+3.5 points" in found.sentence


def test_gain_that_hangs_on_the_draw_is_not() -> None:
    found = verdict([BEFORE], [_after(0.10, -0.06, 0.05, -0.02)], images=100)
    assert found.targets[0].gain.mean > 0.01
    assert not found.targets[0].use
    assert "keep the original" in found.sentence


def test_steady_gain_of_nothing_is_not() -> None:
    assert not verdict([BEFORE], [_after(0.001, 0.001, 0.002, 0.001)], images=100).targets[0].use


def test_originals_that_are_kept_are_named_and_count_as_no_gain() -> None:
    other = Score("rail", BEFORE.values, None)
    worse = Score("rail", tuple(value - 0.1 for value in BEFORE.values), None)
    found = verdict([BEFORE, other], [_after(0.04, 0.04, 0.04, 0.04), worse], images=100)
    assert found.sentence.startswith("+2.0 points on the mean of 2 target(s)")
    assert "keep the original for rail" in found.sentence
