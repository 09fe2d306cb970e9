import pytest
import torch
from torch import Tensor

from pangu_cv.errors import DataError
from pangu_cv.models.backbone import BackboneConfig
from pangu_cv.models.preprocess import PreprocessConfig
from pangu_cv.tasks.anomaly import AnomalyConfig, AnomalyModel
from pangu_cv.tasks.known_defects import KnownDefects
from pangu_cv.tasks.normality import Normality

PATCHES = 16


@pytest.fixture(scope="module")
def model() -> AnomalyModel:
    torch.manual_seed(0)
    config = AnomalyConfig(
        backbone=BackboneConfig(name="test_efficientnet", weights="random", levels=(3,)),
        preprocess=PreprocessConfig(image_px=64),
        top_share=0.5,  # with twice the top patches kept as witnesses, evidence is exact
    )
    return config.build()


def images(model: AnomalyModel, *, count: int = 8, seed: int = 0) -> dict[str, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    raw = {f"{n}.png": torch.randn(PATCHES, model.features, generator=rng) for n in range(count)}
    return {name: torch.nn.functional.normalize(patches, dim=1) for name, patches in raw.items()}


def learned(model: AnomalyModel, seen: dict[str, Tensor], into: Normality | None = None) -> Normality:
    normality = into or Normality.empty(model)
    for name, patches in seen.items():
        normality.learn(name, patches)
    for name, patches in seen.items():
        normality.witness(name, patches)
    return normality


def brute_force(seen: dict[str, Tensor], top_k: int) -> dict[str, float]:
    """Score of every image against all patches of all others."""
    scores = {}
    for name, patches in seen.items():
        others = torch.cat([p for other, p in seen.items() if other != name]).double()
        scores[name] = float(torch.cdist(patches.double(), others).amin(1).topk(top_k).values.mean())
    return scores


def close(found: dict[str, float], expected: dict[str, float]) -> None:
    assert found.keys() == expected.keys()
    assert list(found.values()) == pytest.approx([expected[name] for name in found], rel=1e-4)


def test_patches_of_the_model_are_of_unit_length_on_one_grid(model: AnomalyModel) -> None:
    assert model.grid_hw == (4, 4)
    assert model.top_k == 8
    lengths = model.patches(torch.rand(2, 3, 64, 64)).norm(dim=-1)
    torch.testing.assert_close(lengths, torch.ones(2, 4, 4), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_left_out_scores_equal_brute_force(model: AnomalyModel, seed: int) -> None:
    seen = images(model, seed=seed)
    close(learned(model, seen).left_out_scores(), brute_force(seen, model.top_k))


@pytest.mark.parametrize("by", ["group", "digest"])
def test_images_that_belong_together_are_left_out_together_and_count_once(model: AnomalyModel, by: str) -> None:
    seen = images(model)
    pairs = Normality.empty(model)
    twins = {f"again-{name}": patches + 1e-3 for name, patches in seen.items()}
    for name, patches in (seen | twins).items():
        pairs.learn(name, patches, **{by: name.removeprefix("again-")})
    for name, patches in (seen | twins).items():
        pairs.witness(name, patches)
    alone = learned(model, seen)
    found = pairs.left_out_scores()
    for name, score in alone.left_out_scores().items():
        assert found[name] == pytest.approx(score, rel=0.01)
        assert found[f"again-{name}"] == pytest.approx(score, rel=0.01)
    threshold = pairs.calibrate(model)
    assert threshold.normals == len(seen)
    assert threshold.value == pytest.approx(alone.calibrate(model).value, rel=0.02)
    tensors, plain = pairs.state()
    assert Normality.restore(tensors, plain).left_out_scores() == found
    with pytest.raises(DataError, match=r"at least 2 normal images, found 1 \(the 2 are copies, or of one group\)"):
        _one_group(model, seen).calibrate(model)


def _one_group(model: AnomalyModel, seen: dict[str, Tensor]) -> Normality:
    normality = Normality.empty(model)
    for name, patches in list(seen.items())[:2]:
        normality.learn(name, patches, group="burst")
    for name, patches in list(seen.items())[:2]:
        normality.witness(name, patches)
    return normality


def test_calibration_is_the_conformal_rank_in_units_of_the_median(model: AnomalyModel) -> None:
    seen = images(model, count=19)
    normality = learned(model, seen)
    threshold = normality.calibrate(model)
    scores = sorted(brute_force(seen, model.top_k).values())
    assert normality.unit == pytest.approx(scores[9], rel=1e-4)
    assert threshold.value == pytest.approx(scores[18] / scores[9], rel=1e-4)
    assert float(model.threshold) == pytest.approx(threshold.value)
    assert float(model.unit) == pytest.approx(normality.unit)
    assert model.calibration == threshold
    assert len(model.bank_MD) == 19 * PATCHES


def test_images_added_later_give_the_same_as_all_at_once(model: AnomalyModel) -> None:
    seen = images(model)
    names = list(seen)
    first, second = ({n: seen[n] for n in part} for part in (names[:5], names[5:]))
    grown = learned(model, second, into=learned(model, first))
    whole = learned(model, seen)
    assert torch.equal(grown.bank.vectors_MD, whole.bank.vectors_MD)
    assert grown.bank.images == whole.bank.images
    close(grown.left_out_scores(), brute_force(seen, model.top_k))
    assert grown.calibrate(model).value == pytest.approx(whole.calibrate(model).value, rel=1e-5)


def test_forgotten_image_leaves_the_state_without_it(model: AnomalyModel) -> None:
    seen = images(model)
    normality = learned(model, seen)
    removal = normality.forget("3.png")
    rest = {name: patches for name, patches in seen.items() if name != "3.png"}
    without = learned(model, rest)
    assert (removal.centres, removal.covered_patches_of_others) == (PATCHES, 0)
    close(normality.left_out_scores(), without.left_out_scores())
    close(normality.left_out_scores(), brute_force(rest, model.top_k))
    assert torch.equal(normality.bank.vectors_MD, without.bank.vectors_MD)
    assert "3.png" not in normality.witnesses
    tensors, plain = normality.state()
    assert "3.png" not in str(plain)
    gone = seen["3.png"]
    kept = torch.cat([tensors["bank.vectors"], tensors["witnesses"].flatten(0, 1)])
    assert float(torch.cdist(gone, kept).min()) > 1e-3


def test_forgotten_image_can_be_learned_again(model: AnomalyModel) -> None:
    seen = images(model)
    normality = learned(model, seen)
    normality.forget("3.png")
    learned(model, {"3.png": seen["3.png"]}, into=normality)
    close(normality.left_out_scores(), brute_force(seen, model.top_k))


@pytest.mark.parametrize("count", [0, 1])
def test_one_image_has_no_other_to_be_compared_with(model: AnomalyModel, count: int) -> None:
    with pytest.raises(DataError, match=f"at least 2 normal images, found {count}"):
        learned(model, images(model, count=count)).calibrate(model)


def test_witnesses_are_bounded(model: AnomalyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pangu_cv.tasks.normality.CALIBRATION_IMAGES", 3)
    normality = learned(model, images(model))
    assert len(normality.witnesses) == 3
    assert sum(name != "" for name in normality.bank.images) == 8


def witnessed(normality: Normality, seen: dict[str, Tensor], *, groups: dict[str, str] | None = None) -> Normality:
    """Learn and witness images whose digests are their names."""
    for name, patches in seen.items():
        normality.learn(name, patches, digest=name, group=(groups or {}).get(name, ""))
    for name, patches in seen.items():
        normality.witness(name, patches)
    return normality


def test_witnesses_are_a_draw_of_all_images_in_any_order_and_any_steps(
    model: AnomalyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One camera after the other: both are among the witnesses, and so are images that come with an update."""
    monkeypatch.setattr("pangu_cv.tasks.normality.CALIBRATION_IMAGES", 12)
    one = {f"cam1/{name}": patches for name, patches in images(model, count=20).items()}
    two = {f"cam2/{name}": patches for name, patches in images(model, count=20, seed=1).items()}
    whole = witnessed(Normality.empty(model), one | two)
    assert {name[:4] for name in whole.witnesses} == {"cam1", "cam2"}
    backwards = witnessed(Normality.empty(model), dict(reversed((one | two).items())))
    in_steps = witnessed(witnessed(Normality.empty(model), one), two)
    assert set(whole.witnesses) == set(backwards.witnesses) == set(in_steps.witnesses)
    every = brute_force(one | two, model.top_k)
    close(whole.left_out_scores(), {name: every[name] for name in whole.witnesses})


def test_images_after_forgotten_witnesses_are_drawn_as_those_before_were(
    model: AnomalyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those turned away cannot come back, so new ones of digests as large must not either."""
    monkeypatch.setattr("pangu_cv.tasks.normality.CALIBRATION_IMAGES", 6)
    old = {f"old/{name}": patches for name, patches in images(model, count=12).items()}
    new = {f"new/{name}": patches for name, patches in images(model, count=4, seed=1).items()}
    normality = witnessed(Normality.empty(model), old)
    places = {name: normality._place(name) for name in old}
    rest = sorted(normality.witnesses)[4:]
    for name in set(normality.witnesses) - set(rest):
        normality.forget(name)
    normality = Normality.restore(*normality.state())
    witnessed(normality, new)
    turned_away = min(places[name] for name in old if name in normality.digests and name not in rest)
    expected = {name for name in new if normality._place(name) < turned_away}
    assert 0 < len(expected) < len(new)
    assert set(normality.witnesses) == {*rest, *expected}
    assert normality.calibrate(model).normals == len(rest) + len(expected)


def test_second_images_of_a_group_make_room_for_other_groups(
    model: AnomalyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pangu_cv.tasks.normality.CALIBRATION_IMAGES", 6)
    seen = images(model, count=24)
    groups = {f"{n}.png": f"burst {n // 4}" for n in range(24)}
    normality = witnessed(Normality.empty(model), seen, groups=groups)
    assert {groups[name] for name in normality.witnesses} == set(groups.values())
    assert normality.calibrate(model).normals == 6


def test_no_number_of_images_is_said_to_certify_what_the_witnesses_cannot(
    model: AnomalyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pangu_cv.tasks.normality.CALIBRATION_IMAGES", 6)
    told = witnessed(Normality.empty(model), images(model, count=9)).calibrate(model).explain()
    assert told == (
        "6 normal images cannot certify 5.00% false alarms; the lowest rate they can is 14.29%, which is used. "
        "No more than 6 normal images count, so the lowest rate there is is 14.29%"
    )


def test_state_goes_to_disk_and_back(model: AnomalyModel) -> None:
    normality = learned(model, images(model))
    normality.calibrate(model)
    normality.forget("2.png")
    again = Normality.restore(*normality.state())
    assert again.left_out_scores() == normality.left_out_scores()
    assert again.unit == normality.unit
    assert again.forget("5.png") == normality.forget("5.png")
    assert again.left_out_scores() == normality.left_out_scores()


def test_same_normal_image_a_thousand_times_gives_finite_scores(model: AnomalyModel) -> None:
    one = images(model, count=1)["0.png"]
    normality = learned(model, {f"{n}.png": one for n in range(30)})
    threshold = normality.calibrate(model)
    assert 0 <= threshold.value < float("inf")
    assert normality.unit > 0


def test_a_normal_that_looks_like_a_known_defect_raises_the_certified_threshold(model: AnomalyModel) -> None:
    """Else images of its like would be flagged more often than the rate that is certified."""
    normality = learned(model, images(model, count=19))
    plain, unit, scores = normality.calibrate(model), normality.unit, normality.left_out_scores()
    hardest = max(scores, key=scores.__getitem__)
    normality.defects = KnownDefects.of({"missed": normality.witnesses[hardest]})
    raised = normality.calibrate(model)
    assert raised.value == pytest.approx(2 * plain.value, rel=1e-4)
    assert normality.unit == unit
