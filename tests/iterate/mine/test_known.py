"""What mining takes from people, whatever the form."""

from pathlib import Path
from typing import Literal

import pytest

from pangu_cv.data.sample import Dataset, Sample
from pangu_cv.data.versions import write_version
from pangu_cv.errors import DataError
from pangu_cv.features import content_digest
from pangu_cv.iterate.answers import Answer, AnswerFile
from pangu_cv.iterate.mine.known import known_of
from pangu_cv.iterate.mine.stage import images_of
from tests.finetune.tiny import COLOURS, picture, save

SAID: dict[int, Literal["yes", "no", "label"]] = {5: "yes", 0: "label", 1: "no"}


def test_answers_are_labels_and_a_no_is_none(tmp_path: Path) -> None:
    paths = [save(tmp_path / f"{number}.png", picture(COLOURS["blue"], number)) for number in range(6)]
    file = AnswerFile(tmp_path / "answers.jsonl")
    for number, said in SAID.items():
        file.append(Answer("x", content_digest(paths[number]), "spot", said, "anna", 1.0))
    assert known_of(file.path, [content_digest(path) for path in paths]).labels == {0: "spot", 5: "spot"}
    assert not known_of(file.path, []).files  # they stand in the answers
    file.append(Answer("x", content_digest(paths[2]), "spot", "unsure", "anna", 1.0))
    file.append(Answer("x", content_digest(paths[0]), "spot", "unsure", "berta", 1.0))
    assert known_of(file.path, [content_digest(path) for path in paths]).undecided == {2}
    digests = [content_digest(path) for path in paths]
    assert known_of(file.path, [*digests, digests[5]]).labels == {0: "spot", 5: "spot", 6: "spot"}  # a copy
    assert known_of(file.path, digests, ("spot",)).undecided == {1, 2}  # none of the classes
    with pytest.raises(DataError, match="does not exist"):
        known_of(tmp_path / "none.jsonl", [])


def test_a_version_names_its_images_alone(tmp_path: Path) -> None:
    paths = [save(tmp_path / "images" / f"{n}.png", picture(COLOURS["blue"], n)) for n in range(3)]
    chosen = tuple(Sample(path) for path in paths[:2])
    version = write_version(tmp_path / "versions", Dataset(tmp_path / "images", "images", chosen))
    assert images_of(version.folder) == images_of(tmp_path / "versions") == tuple(paths[:2])
    assert len(images_of(tmp_path / "images")) == 3
