from dataclasses import replace
from pathlib import Path

import pytest

from pangu_cv.data.sample import Box, Dataset, Sample
from pangu_cv.data.shown import classes_shown
from pangu_cv.evaluate import known_to, marks_by_path, measured_samples, parts, passed_over, with_kin
from pangu_cv.evaluate.decider import is_masked
from pangu_cv.finetune.draws import parts_of

TRUTH = {
    "classify": {"label": "a"},
    "anomaly": {"label": "good"},
    "detect": {"boxes": (Box("a", (0, 0, 1, 1)),)},
    "segment": {"mask": Path("m.png")},
    "multilabel": {"boxes": ()},
}
NEEDED = {"detect": "boxes", "segment": "mask", "multilabel": "boxes and no label"}


def dataset(task: str, *, known: tuple[str | None, ...]) -> Dataset:
    """An image of each part, and one in none; those of ``known`` parts say what the task needs, others a caption."""
    names = ("train", "val", "test", None)
    plain = [Sample(Path(f"/d/{part}.png"), split=part, caption="seen") for part in names]
    return Dataset(Path("/d"), "coco", tuple(replace(s, **TRUTH[task]) if s.split in known else s for s in plain))


@pytest.mark.parametrize("task", TRUTH)
@pytest.mark.parametrize(
    ("known", "measured"),
    [
        (("train", "val", "test"), ["test"]),
        (("train", "val"), ["val"]),  # a test part without labels measures nothing
        (("train", None), ["train", None]),
        ((), []),
    ],
)
def test_the_part_is_chosen_among_what_the_task_can_use(
    task: str, known: tuple[str | None, ...], measured: list[str | None]
) -> None:
    assert [s.split for s in measured_samples(dataset(task, known=known), task)] == measured


@pytest.mark.parametrize("task", ["classify", "detect", "segment", "multilabel"])
def test_finetune_measures_on_the_same_part(task: str) -> None:
    for known in (("train", "val", "test"), ("train", "val")):
        found = dataset(task, known=known)
        usable = {
            "classify": lambda s: s.label is not None,
            "detect": lambda s: s.boxes is not None,
            "segment": is_masked,
            "multilabel": classes_shown(found).__contains__,
        }[task]
        assert parts_of(found, usable, needs="truth")[1] == measured_samples(found, task)


@pytest.mark.parametrize("task", TRUTH)
def test_what_is_passed_over_is_counted(task: str) -> None:
    found = dataset(task, known=("train", "test"))
    more = replace(found, samples=(*found.samples, Sample(Path("/d/5.png"), split="test")))
    told = f"1 of the 2 images of test have no {NEEDED.get(task, 'label')}, and are not measured"
    assert passed_over(more, measured_samples(more, task), task) == [told]
    assert passed_over(found, measured_samples(found, task), task) == []
    bare = dataset(task, known=("train",))
    [told] = passed_over(bare, measured_samples(bare, task), task)
    assert told.startswith("3 of the 4 images have no ")


def test_certifying_takes_the_test_part_whether_it_is_labelled_or_not() -> None:
    assert [s.split for s in parts.test_samples(dataset("classify", known=("val",)))] == ["test"]


def test_copies_have_one_mark_and_missing_files_none(tmp_path: Path) -> None:
    for name, content in (("a", b"1"), ("b", b"1"), ("c", b"2")):
        (tmp_path / name).write_bytes(content)
    marks = marks_by_path([Sample(tmp_path / name) for name in "abcd"])
    assert sorted(path.name for path in marks) == ["a", "b", "c"]
    assert marks[tmp_path / "a"] == marks[tmp_path / "b"] != marks[tmp_path / "c"]


def test_groups_of_what_was_learnt_are_known_too() -> None:
    groups = ("lot1", "lot2", None, "lot1", "lot2", "lot3")
    splits = ("train", "train", "train", "test", "test", "test")
    samples = [
        Sample(Path(f"/d/{at}.png"), label="a", split=s, group=g)
        for at, (s, g) in enumerate(zip(splits, groups, strict=True))
    ]
    found = samples[3:]
    kin = with_kin(found, Dataset(Path("/d"), "csv", tuple(samples)))
    assert set(kin) == {*found, *samples[:2]}
    assert known_to(found, kin, {samples[0].path, samples[2].path}) == {samples[3].path}
    assert known_to(found, kin, {samples[5].path}) == {samples[5].path}
    assert known_to(found, kin, set()) == set()
