from dataclasses import replace

import pytest
import torch

from pangu_cv.errors import DataError
from pangu_cv.models.backbone import BackboneConfig
from pangu_cv.models.preprocess import PreprocessConfig
from pangu_cv.models.replay import Known, kept
from pangu_cv.models.ridge_memory import RidgeSolution
from pangu_cv.tasks.class_memories import merge
from pangu_cv.tasks.class_memory import ClassMemory, Lesson
from pangu_cv.tasks.classify import ClassifyConfig, ClassifyModel
from pangu_cv.tasks.multilabel import MultilabelConfig, MultilabelModel

TINY = {
    "backbone": BackboneConfig(name="test_efficientnet", weights="random"),
    "preprocess": PreprocessConfig(image_px=64),
}


@pytest.fixture(scope="module")
def blank() -> ClassifyModel:
    torch.manual_seed(0)
    return ClassifyConfig(**TINY, unknown_rate=0.2).build(["a", "b"])


def lessons(model: ClassifyModel | MultilabelModel, names: str, *, each: int = 6, seed: int = 0) -> list[Lesson]:
    """Clusters, one a class; the digest is made of class and number."""
    made = []
    for name in names:
        rng = torch.Generator().manual_seed(100 * seed + ord(name))
        centre = torch.randn(sum(model.groups), generator=torch.Generator().manual_seed(ord(name)))
        for number in range(each):
            features_VD = centre + 1.5 * torch.randn(4, sum(model.groups), generator=rng)
            made.append(Lesson(f"{name}{seed}{number}", (name,), features_VD))
    return made


def fitted(model: ClassifyModel, names: str, seen: list[Lesson]) -> ClassifyModel:
    """As 'finetune' fits: to all images at once."""
    model.rebuild_head(tuple(names))
    return model.fit(
        torch.stack([one.features_VD for one in seen]), torch.tensor([names.index(one.classes[0]) for one in seen])
    )


def answers(model: ClassifyModel) -> list[torch.Tensor]:
    features = torch.stack([one.features_VD[:1] for one in lessons(model, "abcd", seed=9)])
    return list(model.decide_from_features(features, model.threshold))


def test_a_memory_teaches_what_the_model_was_fitted_to(blank: ClassifyModel) -> None:
    seen = lessons(blank, "ab")
    memory = ClassMemory.of(fitted(blank, "ab", seen), seen, per_class=20)
    expected = answers(blank)
    memory.teach(blank)
    for found, wanted in zip(answers(blank), expected, strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


def grouped(seen: list[Lesson]) -> list[Lesson]:
    """Two images a group, which look the same but for little."""
    pairs = zip(seen[::2], seen[1::2], strict=True)
    close = [(one, replace(two, features_VD=one.features_VD + 0.05 * two.features_VD)) for one, two in pairs]
    return [replace(one, group=pair[0].digest + " and more") for pair in close for one in pair]


def test_a_memory_leaves_out_groups_as_the_fit_does(blank: ClassifyModel) -> None:
    """Also of images of which it keeps no rows to measure by, as long as it has them as they came."""
    seen = grouped(lessons(blank, "ab", each=20))
    kin = [one.group for one in seen]
    fitted(blank, "ab", seen).fit(
        torch.stack([one.features_VD for one in seen]), torch.tensor(["ab".index(one.classes[0]) for one in seen]), kin
    )
    expected, calibration = answers(blank), blank.calibration
    memory = ClassMemory.of(blank, seen, per_class=20)
    memory = ClassMemory.restore(*memory.state(), groups=blank.head.groups)
    memory.teach(blank)
    for found, wanted in zip(answers(blank), expected, strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    assert calibration
    assert blank.calibration
    assert (blank.calibration.normals, blank.calibration.caveat) == (calibration.normals, calibration.caveat)
    assert blank.calibration.normals == 20

    few = ClassMemory.of(blank, seen, per_class=5)
    whole = dict(zip(memory.replay, memory.left_out(solved(memory), memory.replay), strict=True))
    for digest, rows in zip(few.replay, few.left_out(solved(few), few.replay), strict=True):
        torch.testing.assert_close(rows, whole[digest], atol=1e-5, rtol=0)


def solved(memory: ClassMemory) -> RidgeSolution:
    return memory.ridge.solve(0.3)


def test_groups_that_are_kept_in_part_are_said_to_make_the_threshold_doubtful(blank: ClassifyModel) -> None:
    seen = grouped(lessons(blank, "ab", each=20))
    fitted(blank, "ab", seen)
    for per_class, is_doubtful in ((40, False), (5, True)):
        ClassMemory.of(blank, seen, per_class=per_class).folded().teach(blank)
        assert ("of some groups not all images are kept" in blank.statement) == is_doubtful


@pytest.mark.parametrize("each", [6, 160])
def test_classes_in_steps_equal_all_at_once(blank: ClassifyModel, each: int) -> None:
    """Statistics included, as long as features are kept as they came; with many images as many as when they folded."""
    first = lessons(blank, "ab", each=each)
    memory = ClassMemory.of(fitted(blank, "ab", first), first, per_class=20)
    for step in (lessons(blank, "d", each=each), lessons(blank, "c", each=each), lessons(blank, "a", seed=1)):
        memory = memory.learn(blank, step)
    assert memory.is_folded == (each == 160)
    assert memory.classes == ("a", "b", "d", "c")  # the old ones keep their numbers
    assert memory.counts == {"a": each + 6, "b": each, "d": each, "c": each}
    memory.teach(blank)
    found, temperature = answers(blank), float(blank.head.temperature)
    everything = [*first, *lessons(blank, "dc", each=each), *lessons(blank, "a", seed=1)]
    joint = ClassMemory.of(fitted(blank, "abdc", everything), everything, per_class=20)
    if memory.is_folded:
        few = ClassMemory.of(blank, [one for one in everything if one.digest[1] == "0"], per_class=20)
        torch.testing.assert_close(few.statistics.mean_D, memory.statistics.mean_D, atol=1e-12, rtol=0)
        raw = {one.digest: one.features_VD for one in everything}
        joint = replace(joint, raw=raw).folded(memory.statistics)
    torch.testing.assert_close(joint.ridge.gram(), memory.ridge.gram(), atol=1e-8, rtol=0)
    solved, again = (one.ridge.solve(0.3).weight_DC for one in (joint, memory))
    torch.testing.assert_close(solved, again, atol=1e-8, rtol=0)
    if not memory.is_folded:  # as 'finetune' itself decides
        fitted(blank, "abdc", everything)
    else:
        joint.teach(blank)
    assert temperature == pytest.approx(float(blank.head.temperature))
    for one, other in zip(found, answers(blank), strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-6)


def test_features_fold_where_the_sums_take_less_room(blank: ClassifyModel) -> None:
    features = sum(blank.groups)
    first = lessons(blank, "ab", each=features // 2)
    memory = ClassMemory.of(fitted(blank, "ab", first), first, per_class=20)
    assert not memory.is_folded
    assert memory.nbytes <= 4 * (4 * features**2) + 16 * features
    grown = memory.learn(blank, lessons(blank, "c"))
    assert grown.is_folded
    assert grown.nbytes < 0.4 * memory.nbytes  # sums, and the features of a few
    later = grown.learn(blank, lessons(blank, "d"))
    assert torch.equal(later.statistics.mean_D, grown.statistics.mean_D)
    assert not torch.equal(memory.statistics.mean_D, grown.statistics.mean_D)


def test_an_image_shown_in_fewer_views_counts_as_much(blank: ClassifyModel) -> None:
    first = lessons(blank, "ab")
    memory = ClassMemory.of(fitted(blank, "ab", first), first, per_class=20)
    grown = memory.learn(blank, [replace(one, features_VD=one.features_VD[:1]) for one in lessons(blank, "c")])
    assert grown.ridge.weight == pytest.approx(18 * 4)


def test_hard_cases_weigh_more_and_set_no_threshold(blank: ClassifyModel) -> None:
    first = lessons(blank, "ab")
    memory = ClassMemory.of(fitted(blank, "ab", first), first, per_class=20)
    strange = [replace(one, digest=f"hard{one.digest}", classes=("b",)) for one in lessons(blank, "a", seed=5)]
    features = torch.stack([one.features_VD for one in strange])
    found = [float(blank.head.mapped(features)[:, 1].mean())]
    for weight in (1.0, 5.0):
        memory.learn(blank, [replace(one, weight=weight, is_hard=True) for one in strange]).teach(blank)
        found.append(float(blank.head.mapped(features)[:, 1].mean()))
        assert blank.calibration is not None
        assert blank.calibration.normals == 12
    assert found[0] < 0.5 < found[1] < found[2]


def test_a_picture_is_learnt_once(blank: ClassifyModel) -> None:
    first = lessons(blank, "ab")
    memory = ClassMemory.of(fitted(blank, "ab", first), first, per_class=20)
    with pytest.raises(DataError, match="1 of the images have been learnt already"):
        memory.learn(blank, first[:1])
    doubled = ClassMemory.of(fitted(blank, "ab", [*first, first[0]]), [*first, first[0]], per_class=20)
    assert doubled.counts == {"a": 7, "b": 6}  # but 'finetune' counts copies as it is given them


def test_a_wrong_label_is_corrected_without_the_others(blank: ClassifyModel) -> None:
    first = lessons(blank, "ab")
    wrong = [replace(first[0], classes=("b",)), *first[1:]]
    memory = ClassMemory.of(fitted(blank, "ab", wrong), wrong, per_class=20).relabel(first[0])
    right = ClassMemory.of(fitted(blank, "ab", first), first, per_class=20)
    torch.testing.assert_close(memory.ridge.cross_EC, right.ridge.cross_EC, atol=1e-10, rtol=0)
    assert memory.counts == right.counts


@pytest.mark.parametrize("is_folded", [False, True])
def test_a_wrong_label_is_corrected_in_every_copy(blank: ClassifyModel, is_folded: bool) -> None:
    first = lessons(blank, "ab")
    wrong = replace(first[0], classes=("b",))
    seen = [wrong, wrong, *first[1:], wrong]
    memory = ClassMemory.of(fitted(blank, "ab", seen), seen, per_class=20)
    memory = (memory.folded() if is_folded else memory).relabel(first[0])
    mended = [first[0], first[0], *first[1:], first[0]]
    right = ClassMemory.of(fitted(blank, "ab", mended), mended, per_class=20)
    assert memory.counts == right.counts == {"a": 8, "b": 6}
    torch.testing.assert_close(memory.ridge.cross_EC, right.ridge.cross_EC, atol=1e-10, rtol=0)


@pytest.mark.parametrize("is_folded", [False, True])
def test_a_light_hard_case_is_corrected_by_its_own_weight_after_a_restart(
    blank: ClassifyModel, is_folded: bool
) -> None:
    first = lessons(blank, "ab")
    memory = ClassMemory.of(fitted(blank, "ab", first), first, per_class=20)
    memory = memory.folded() if is_folded else memory
    [right] = lessons(blank, "a", each=1, seed=3)
    right = replace(right, weight=0.05, is_hard=True)
    named = memory.learn(blank, [replace(right, classes=("b",))])
    mended = ClassMemory.restore(*named.state(), groups=blank.groups).relabel(replace(right, weight=1.0))
    expected = memory.learn(blank, [right])
    assert mended.known == expected.known
    torch.testing.assert_close(mended.ridge.cross_EC, expected.ridge.cross_EC, atol=1e-10, rtol=0)
    torch.testing.assert_close(mended.ridge.gram(), expected.ridge.gram(), atol=1e-10, rtol=0)


def test_renaming_changes_no_number(blank: ClassifyModel) -> None:
    first = lessons(blank, "ab")
    memory = ClassMemory.of(fitted(blank, "ab", first), first, per_class=20)
    renamed = memory.rename({"a": "z"})
    assert renamed.classes == ("z", "b")
    assert renamed.counts == {"z": 6, "b": 6}
    assert renamed.ridge is memory.ridge
    with pytest.raises(DataError, match="no class is called q; there are: a, b"):
        memory.rename({"q": "a"})
    with pytest.raises(DataError, match="two classes would be called b"):
        memory.rename({"a": "b"})


def test_two_plants_join_what_they_learnt_from_one_model(blank: ClassifyModel) -> None:
    first = lessons(blank, "ab")
    base = ClassMemory.of(fitted(blank, "ab", first), first, per_class=20)
    one, other = (
        base.learn(blank, lessons(blank, "c")),
        base.learn(blank, lessons(blank, "d") + lessons(blank, "a", seed=2)),
    )
    joined = merge(blank, [one, other], base=base)
    both = one.learn(blank, lessons(blank, "d") + lessons(blank, "a", seed=2))
    assert joined.classes == both.classes
    torch.testing.assert_close(joined.ridge.solve(0.3).weight_DC, both.ridge.solve(0.3).weight_DC, atol=1e-8, rtol=0)
    assert set(joined.replay) == set(both.replay)
    without = merge(blank, [one, other])  # shared images count once while they are held one by one
    torch.testing.assert_close(without.ridge.solve(0.3).weight_DC, both.ridge.solve(0.3).weight_DC, atol=1e-8, rtol=0)
    with pytest.raises(DataError, match="12 images of one memory are in another too and would count twice"):
        merge(blank, [one.folded(), other])
    named = other.relabel(replace(first[0], classes=("b",)))
    with pytest.raises(DataError, match=r"named differently by two memories \(.*: a and b\)"):
        merge(blank, [one, named])
    assert merge(blank, [one, named], base=base).known[first[0].digest].classes == ("b",)  # one of them mended it
    with pytest.raises(DataError, match="do not share backbone"):
        merge(blank, [one, replace(other, fingerprint="0")])


def test_plants_that_folded_apart_cannot_be_joined_and_from_a_folded_start_they_can(blank: ClassifyModel) -> None:
    first = lessons(blank, "ab")
    base = ClassMemory.of(fitted(blank, "ab", first), first, per_class=20)
    start = base.folded()
    one, other = (start.learn(blank, lessons(blank, name)) for name in "cd")
    joined = merge(blank, [one, other], base=base)  # the base is folded by the statistics of the two
    both = one.learn(blank, lessons(blank, "d"))
    torch.testing.assert_close(joined.ridge.solve(0.3).weight_DC, both.ridge.solve(0.3).weight_DC, atol=1e-8, rtol=0)
    apart = [base.learn(blank, lessons(blank, name)).folded() for name in "cd"]
    with pytest.raises(DataError, match="folded apart, each with feature statistics of its own"):
        merge(blank, apart, base=base)


@pytest.mark.parametrize("is_folded", [False, True])
def test_three_plants_join_alike_in_any_order(blank: ClassifyModel, is_folded: bool) -> None:
    first = lessons(blank, "ab")
    base = ClassMemory.of(fitted(blank, "ab", first), first, per_class=20)
    base = base.folded() if is_folded else base
    plants = [base.learn(blank, lessons(blank, name)) for name in "cde"]
    whole = base.learn(blank, [one for name in "cde" for one in lessons(blank, name)])
    for order in ([0, 1, 2], [2, 0, 1]):
        joined = merge(blank, [plants[at] for at in order], base=base if is_folded else None)
        weight_DC = joined.aligned(whole.classes).solve(0.3).weight_DC
        torch.testing.assert_close(weight_DC, whole.ridge.solve(0.3).weight_DC, atol=1e-8, rtol=0)
        assert joined.counts == whole.counts


def test_a_correction_may_name_a_new_class(blank: ClassifyModel) -> None:
    first = lessons(blank, "ab")
    memory = ClassMemory.of(fitted(blank, "ab", first), first, per_class=20)
    named = memory
    for one in first[:2]:
        named = named.relabel(replace(one, classes=("rust",)))
    assert named.classes == ("a", "b", "rust")
    assert named.counts == {"a": memory.counts["a"] - 2, "b": memory.counts["b"], "rust": 2}
    mended = [*(replace(one, classes=("rust",)) for one in first[:2]), *first[2:]]
    whole = ClassMemory.of(fitted(blank, ("a", "b", "rust"), mended), mended, per_class=20)
    torch.testing.assert_close(named.ridge.solve(0.3).weight_DC, whole.ridge.solve(0.3).weight_DC, atol=1e-8, rtol=0)


@pytest.mark.parametrize("is_folded", [False, True])
def test_saved_and_read_it_is_the_same_and_names_no_path(blank: ClassifyModel, is_folded: bool) -> None:
    first = lessons(blank, "ab")
    memory = ClassMemory.of(fitted(blank, "ab", first), first, per_class=3)
    memory = memory.folded() if is_folded else memory
    tensors, plain = memory.state()
    again = ClassMemory.restore(tensors, plain, groups=blank.groups)
    assert (again.classes, again.known, list(again.replay)) == (memory.classes, memory.known, list(memory.replay))
    assert torch.equal(again.ridge.rows_KE, memory.ridge.rows_KE)
    assert again.is_folded == is_folded
    assert again.nbytes == memory.nbytes
    held = "replay" if is_folded else "raw"
    assert set(plain) == {"fingerprint", "classes", "rows_per_image", "per_class", "known", held}
    with pytest.raises(ValueError, match=r"do not go together|does not know"):
        ClassMemory.restore(tensors, {**plain, "classes": ["a", "b", "c"] if is_folded else ["a"]}, groups=blank.groups)
    with pytest.raises(ValueError, match="do not go together"):
        ClassMemory.restore(tensors, plain, groups=blank.groups[1:])


def test_a_memory_of_an_earlier_version_learns_on_by_its_own_statistics(blank: ClassifyModel) -> None:
    """Such a memory holds standardised rows and no features as they came."""
    first = lessons(blank, "ab")
    memory = ClassMemory.of(fitted(blank, "ab", first), first, per_class=20)
    tensors, plain = memory.folded().state()
    assert set(tensors) == {"rows", "cross", "mean", "scale", "replay"}
    early = ClassMemory.restore(tensors, plain, groups=blank.groups)
    grown = early.learn(blank, lessons(blank, "c"))
    assert torch.equal(grown.statistics.scale_D, memory.statistics.scale_D)
    grown.teach(blank)
    assert blank.classes == ("a", "b", "c")


def test_hard_cases_leave_the_statistics_alone(blank: ClassifyModel) -> None:
    first = lessons(blank, "ab")
    memory = ClassMemory.of(fitted(blank, "ab", first), first, per_class=20)
    hard = [replace(one, digest=f"h{one.digest}", is_hard=True, weight=1e-9) for one in lessons(blank, "a", seed=3)]
    grown = memory.learn(blank, hard)
    assert torch.equal(grown.statistics.mean_D, memory.statistics.mean_D)
    solved, before = (one.ridge.solve(0.3).weight_DC for one in (grown, memory))
    torch.testing.assert_close(solved, before, atol=1e-6, rtol=0)


def test_what_is_kept_is_a_draw_that_does_not_depend_on_the_order() -> None:
    known = {f"{n:02}": Known(("ab"[n % 2],), is_hard=n > 7) for n in range(12)}
    found = kept(known, known, per_class=2)
    assert found == ["00", "01", "02", "03", "08", "09", "10", "11"]
    assert kept(known, reversed(found), per_class=2) == found


def test_taggers_learn_on_too() -> None:
    torch.manual_seed(0)
    model = MultilabelConfig(**TINY).build(["a", "b"])
    seen = lessons(model, "ab") + [replace(o, digest=f"n{o.digest}", classes=()) for o in lessons(model, "c")]
    present = torch.tensor([[name in one.classes for name in "ab"] for one in seen])
    model.fit(torch.stack([one.features_VD for one in seen]), present)
    slope = model.head.slope_C.clone()
    memory = ClassMemory.of(model, seen, per_class=20)
    memory.teach(model)
    torch.testing.assert_close(model.head.slope_C, slope, atol=1e-3, rtol=1e-3)
    grown = memory.learn(model, lessons(model, "d"))
    grown.teach(model)
    assert model.classes == ("a", "b", "d")
    scores = model.decide_from_features(
        torch.stack([o.features_VD[:1] for o in lessons(model, "d", seed=7)]), model.threshold
    )[0]
    assert bool((scores.argmax(1) == 2).all())


def test_hard_cases_set_no_sigmoids_of_a_tagger() -> None:
    torch.manual_seed(0)
    model = MultilabelConfig(**TINY).build(["a", "b"])
    seen = lessons(model, "ab")
    model.fit(torch.stack([o.features_VD for o in seen]), torch.tensor([[n in o.classes for n in "ab"] for o in seen]))
    memory = ClassMemory.of(model, seen, per_class=20)
    memory.teach(model)
    slope, offset = model.head.slope_C.clone(), model.head.offset_C.clone()
    wrong = [replace(o, classes=("b",), weight=1e-9, is_hard=True) for o in lessons(model, "a", seed=3)]
    memory.learn(model, wrong).teach(model)
    torch.testing.assert_close(model.head.slope_C, slope, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(model.head.offset_C, offset, atol=1e-4, rtol=1e-4)


def test_another_backbone_is_refused(blank: ClassifyModel) -> None:
    first = lessons(blank, "ab")
    memory = ClassMemory.of(fitted(blank, "ab", first), first, per_class=20)
    with pytest.raises(DataError, match="another backbone"):
        replace(memory, fingerprint="0").teach(blank)
