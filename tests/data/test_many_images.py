"""What the check of a dataset costs where it has very many images."""

import tracemalloc
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pangu_cv.data import check, near_duplicates
from pangu_cv.data.duplicates import find_look_alikes
from pangu_cv.data.inspection import ImageFacts
from pangu_cv.data.sample import Sample


def folder(root: Path, images: int) -> Path:
    """Pictures of noise, the last of which is the first once more, and again a little darker."""
    root.mkdir()
    for at in range(images):
        pixels = np.random.default_rng(at % (images - 2)).integers(0, 256, (6, 8, 3), dtype=np.uint8)
        picture = Image.fromarray(pixels).resize((32, 24))
        (picture.point(lambda value: int(0.9 * value)) if at == images - 1 else picture).save(root / f"{at:02}.png")
    return root


def test_memory_does_not_grow_with_pairs_in_either_direction(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near_duplicates, "_BLOCK", 256)
    angles = np.linspace(0, 6, 6000)
    thumbnails = list(np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32))
    tracemalloc.start()
    assert near_duplicates.near_duplicates(thumbnails, correlation=2) == []
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3e6  # a block of 256 against all 6000 is 8 MB


def test_a_join_moves_the_smaller_group() -> None:
    moved = []

    class Counted(np.ndarray):  # type: ignore[type-arg]
        def __setitem__(self, places: Any, value: Any) -> None:
            moved.append(len(places))
            super().__setitem__(places, value)

    groups = near_duplicates._Groups(1000)
    groups.group_N = groups.group_N.view(Counted)
    for at in range(999):
        groups.join(at + 1, np.array([at]))
        groups.join(at, np.array([at + 1]))
    assert len(moved) == sum(moved) == 999
    assert [sorted(group) for group in groups.members if group] == [list(range(1000))]


@pytest.mark.parametrize("images", [1, 6, 7, 8, 99, 100])
def test_as_many_as_are_compared_are_spread_over_the_set(monkeypatch: pytest.MonkeyPatch, images: int) -> None:
    monkeypatch.setattr(near_duplicates, "MOST_COMPARED", 7)
    places = [at for at in range(images) if near_duplicates.is_compared(at, images)]
    assert len(places) == min(images, 7)
    assert max(np.diff(places), default=0) - min(np.diff(places), default=0) <= 1


def test_beyond_the_limit_copies_are_found_among_all_and_the_check_says_what_it_compared(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    root = folder(tmp_path / "set", 10)
    whole = check.check_dataset(root)
    assert ([d.paths for d in whole.duplicates], whole.look_alikes[0].paths) == (
        [("00.png", "08.png")],
        ("01.png", "09.png"),
    )
    assert not any("look-alikes" in note for note in whole.notes)
    monkeypatch.setattr(near_duplicates, "MOST_COMPARED", 4)
    monkeypatch.setattr(check, "MOST_COMPARED", 4)
    some = check.check_dataset(root)
    assert some.duplicates == whole.duplicates
    assert any("sought among 4 of 10 images" in note for note in some.notes)
    facts = check.inspect_all(check.read_or_list(root), spec=check.DEFAULT_SPEC)
    assert sum(fact.thumbnail is not None for fact in facts) == 4


def test_an_equal_picture_stands_for_one_that_is_not_compared() -> None:
    look = np.array([1, 0], np.float32)
    facts = [ImageFacts(pixels="a"), ImageFacts(pixels="a", thumbnail=look), ImageFacts(pixels="b", thumbnail=look)]
    samples = [Sample(Path(name)) for name in "xyz"]
    assert [d.paths for d in find_look_alikes(samples, facts, root=Path())] == [("y", "z")]


def test_images_are_given_to_the_workers_a_few_ahead(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    given = []

    class Counted(ThreadPoolExecutor):
        def submit(self, *arguments: Any, **options: Any) -> "Future[Any]":
            given.append(1)
            return super().submit(*arguments, **options)

    monkeypatch.setattr(check, "ThreadPoolExecutor", Counted)
    monkeypatch.setattr(check, "_AHEAD", 2)
    ahead = []
    check.check_dataset(
        folder(tmp_path / "set", 12), workers=1, progress=lambda done, _: ahead.append(len(given) - done)
    )
    assert len(ahead) == 12
    assert max(ahead) <= 2
