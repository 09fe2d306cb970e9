from pathlib import Path

import pytest

from pangu_cv.data.sample import Box, Dataset, Sample, Split
from pangu_cv.errors import DataError
from pangu_cv.finetune.draws import apart, donor, draw_support, parts_of, torn_note


def boxes(*contents: str, group: dict[int, str] | None = None) -> dict[Sample, frozenset[str]]:
    """Images that show the classes named."""
    return {
        Sample(
            Path(f"/d/{number:02d}.png"),
            boxes=tuple(Box(name, (0, 0, 5, 5)) for name in text.split()),
            group=(group or {}).get(number),
        ): frozenset(text.split())
        for number, text in enumerate(contents)
    }


@pytest.mark.parametrize(
    ("splits", "learnt", "measured"),
    [
        (["train", "val", "test", None], ["train"], "test"),
        (["val", "test", None], [None], "test"),
        (["val", "test"], ["val"], "test"),
        (["train", "val"], ["train"], "val"),
        (["val", None], [None], "val"),
        (["train", None], ["train", None], "nothing"),
        (["test"], ["test"], "nothing"),
        ([None], [None], "nothing"),
    ],
)
def test_what_is_measured_is_never_learnt(
    splits: list[Split | None], learnt: list[Split | None], measured: str
) -> None:
    samples = tuple(Sample(Path(f"/d/{at}.png"), label="a", split=split) for at, split in enumerate(splits))
    pool, test = parts_of(Dataset(Path("/d"), "csv", samples), lambda s: s.label is not None, needs="a label")
    assert [s.split for s in pool] == learnt
    assert [s.split for s in test] == ([] if measured == "nothing" else [measured])


def test_nothing_annotated_is_told() -> None:
    with pytest.raises(DataError, match="no image has boxes"):
        parts_of(Dataset(Path("/d"), "csv", (Sample(Path("/d/0.png")),)), lambda s: s.boxes is not None, needs="boxes")


@pytest.mark.parametrize("seed", range(12))
def test_rare_classes_are_learnt_before_they_are_measured(seed: int) -> None:
    contents = boxes(*["a"] * 8, "a rare", "scarce", *["a"] * 5, "scarce")
    support, measured = draw_support(list(contents), (), contents, shots=None, seed=seed)
    assert set().union(*(contents[s] for s in support)) == {"a", "rare", "scarce"}
    assert measured
    assert set(support) | set(measured) == set(contents)
    assert not set(support) & set(measured)


def test_a_rare_class_comes_back_with_its_group() -> None:
    contents = boxes(*["a"] * 12, "rare", "a", "a", group={12: "part", 13: "part", 14: "part"})
    for seed in range(12):
        support, measured = draw_support(list(contents), (), contents, shots=None, seed=seed)
        assert any("rare" in contents[s] for s in support)
        assert not {s.group for s in support if s.group} & {s.group for s in measured}


@pytest.mark.parametrize("shots", [None, 1])
def test_test_images_of_a_group_that_was_learnt_are_not_measured(shots: int | None) -> None:
    contents = boxes("a", "a", "a", "a", group={0: "part", 1: "other", 2: "part"})
    first, second, *test = contents
    support, measured = draw_support([first, second][: 1 if shots else 2], test, contents, shots=shots, seed=0)
    assert first in support
    assert measured == (test[1],)  # the other is of no group
    with pytest.raises(DataError, match="no image is left to measure on: all 1 are of groups"):
        draw_support([first], test[:1], contents, shots=shots, seed=0)


def test_images_left_out_are_told_by_the_most_in_any_draw() -> None:
    contents = boxes("a", "a", "a", "b", "")
    first, second, third, other, _ = contents

    def told(*left: list[Sample]) -> list[str]:
        return torn_note([(out, [s for s in contents if s not in out]) for out in left], contents.__getitem__)

    assert told([], []) == []
    assert told([first, second], [second, third])[0].endswith("of their group: 2")
    assert told([], [first, second])[0].endswith("of their group: up to 2")
    assert told([other])[0].endswith("of their group: 1; no test image is left of b, which no figure counts")


def test_where_the_draw_takes_all_it_says_so() -> None:
    with pytest.raises(DataError, match=r"left to measure on; lower few_shot\.shots"):
        apart([], [])


def test_samples_are_looked_up_once_an_image_not_once_a_class(monkeypatch: pytest.MonkeyPatch) -> None:
    contents = boxes(*[f"{at % 50}" for at in range(300)])
    looked, plain = [], Sample.__hash__
    monkeypatch.setattr(Sample, "__hash__", lambda self: looked.append(1) or plain(self))
    support, _ = draw_support(list(contents), (), contents, shots=2, seed=0)
    assert len(support) == 100
    assert len(looked) < 10 * len(contents)  # once a class is fifty times


def test_a_donor_is_every_other_image_and_never_the_image_itself() -> None:
    support = list(boxes("a", "a", "a", "a"))
    for place, own in enumerate(support):
        found = {donor(support, lambda sample: sample, place=place, chance=0.5, seed=seed) for seed in range(50)}
        assert found == {*support} - {own}
    assert donor(support, lambda sample: sample, place=0, chance=0.0, seed=0) is None
    assert donor(support[:1], lambda sample: sample, place=0, chance=0.5, seed=0) is None
