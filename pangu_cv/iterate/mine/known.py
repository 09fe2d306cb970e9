"""What people have said of a pool's images, matched by content, whatever the files are called.

``places`` are positions in the pool.
"""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from pangu_cv.data.config import DataConfig
from pangu_cv.data.readers.csv_table import delimiter_of
from pangu_cv.errors import DataError, ImageError
from pangu_cv.features import content_digest
from pangu_cv.iterate.answers import AnswerFile, known
from pangu_cv.iterate.mine.recipe import Find

FOLDER = "folder"
"""The column of a list of ours that says where its file names start."""


@dataclass(frozen=True)
class Known:
    """Labels by place in the pool, copies of one picture alike; images labelled elsewhere do not appear.

    ``undecided`` are places that people looked at without a result: somebody could not tell, they disagree, or it shows
    none of the classes. Asking once more would cost them as much again. ``said`` are all labels, by SHA-256, and
    ``files`` where the images of those were that stand in a list of ours, in full.
    """

    labels: dict[int, str]
    undecided: frozenset[int] = frozenset()
    said: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)

    @property
    def classes(self) -> tuple[str, ...]:
        """Sorted names."""
        return tuple(sorted(set(self.labels.values())))

    def sorted_by(self, goal: Find) -> tuple[list[int], list[int]]:
        """Places of what was wanted, and of what was not."""
        yes = {place: is_wanted(label, goal) for place, label in self.labels.items()}
        return [place for place in yes if yes[place]], [place for place in yes if not yes[place]]


def is_wanted(label: str, goal: Find) -> bool:
    """Whether an image with the label is what is looked for."""
    return label in goal.wanted if goal.wanted else label.lower() not in goal.normal


def known_of(labels: Path | None, digests: Sequence[str], classes: Sequence[str] = ()) -> Known:
    """Labels of a dataset, or of a list of ours that was filled in; an image can show none but ``classes``, if given.

    Raises DataError for one that cannot be read, or that calls one picture by two names.
    """
    if labels is None:
        return Known({})
    places: dict[str, list[int]] = {}
    for place, digest in enumerate(digests):
        places.setdefault(digest, []).append(place)
    said: dict[str, str] = {}
    files: dict[str, str] = {}
    is_list = _is_list(labels)
    for sha, label, file in _of_list(labels) if is_list else _of_dataset(labels):
        if is_list:
            files.setdefault(sha, file)
        if said.setdefault(sha, label) != label:
            raise DataError(
                f"{labels}: the picture with the digest {sha[:12]} is called '{said[sha]}' and '{label}'; leave one"
            )
    undecided = _undecided(labels, set(classes)) - set(said)
    return Known(
        {place: label for sha, label in said.items() for place in places.get(sha, ())},
        frozenset(place for sha in undecided for place in places.get(sha, ())),
        said,
        files,
    )


def _undecided(path: Path, classes: set[str]) -> set[str]:
    if not _is_answers(path):
        return set()
    answered = known(AnswerFile(path).read())
    shows_none = {sha for sha, struck in answered.struck.items() if classes and classes <= struck}
    return {*answered.unsure, *answered.disputed, *shows_none}


def labels_in(ranked: Path) -> dict[str, str]:
    """What was filled in, by SHA-256; raises DataError for what is no list of ours."""
    return {sha: label for sha, label, _ in _of_list(ranked)} if _is_list(ranked) else {}


def _is_answers(path: Path) -> bool:
    """Whether it is what 'pangu-cv ask' writes."""
    return path.suffix.lower() == ".jsonl" and path.is_file()


def _of_dataset(path: Path) -> Iterator[tuple[str, str, str]]:
    if _is_answers(path):
        yield from ((sha, label, "") for sha, label in known(AnswerFile(path).read()).labels.items())
        return
    for sample in DataConfig(path=path).read():
        if sample.label is not None:
            try:
                yield content_digest(sample.path), sample.label, str(sample.path)
            except ImageError:  # gone since
                continue


def _is_list(path: Path) -> bool:
    if path.suffix.lower() != ".csv" or not path.is_file():
        return False
    with path.open(encoding="utf-8-sig", newline="", errors="replace") as stream:
        return {"sha256", "label"} <= set(_rows(stream).fieldnames or ())


def _of_list(path: Path) -> Iterator[tuple[str, str, str]]:
    """Digest, label and file: by digest, so that the images may have moved. A spreadsheet's BOM is passed over."""
    folder = path.absolute().parent
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            for row in _rows(stream):
                if label := (row["label"] or "").strip():
                    file = row.get("file") or ""
                    yield (row["sha256"] or "").strip(), label, file and str(folder / (row.get(FOLDER) or "") / file)
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: is no CSV in UTF-8 ({error}); save it as one") from None


def _rows(stream: TextIO) -> "csv.DictReader[str]":
    """Whatever a spreadsheet puts between cells."""
    delimiter = delimiter_of(stream.readline())
    stream.seek(0)
    return csv.DictReader(stream, delimiter=delimiter)
