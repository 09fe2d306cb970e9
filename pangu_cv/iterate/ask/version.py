"""Answers as a version of the dataset: labels of people; what the machine took over only where that is wanted."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pangu_cv.data.changes import Change
from pangu_cv.data.sample import Dataset, Sample
from pangu_cv.data.versions import Version, newest, read_version, write_version
from pangu_cv.iterate.answers import Answer
from pangu_cv.iterate.ask import Session

PSEUDO = "pseudo-label"
MACHINE = "pangu-cv ask"


def write_answers(
    folder: Path, dataset: Dataset, session: Session, *, pseudo: bool, source: Path
) -> tuple[Version, bool]:
    """The version, and whether it is new: the newest one where that says the same already."""
    parent = read_version(source) if (source / "version.json").is_file() else None
    changes = _changes(dataset, session, pseudo=pseudo)
    labels = {change.image: change.after for change in changes if change.field == "label"}
    base = session.subject.root
    samples = tuple(_labelled(sample, base, labels) for sample in dataset)
    told = replace(dataset, samples=samples, notes=())
    last = newest(folder)
    if last is not None:
        version = read_version(last)
        if set(version.changes) == set(changes) and version.parent == (parent.name if parent else None):
            return version, False
    note = f"{session.known.answers} answers in {session.known.seconds:.0f} s"
    return write_version(folder, told, parent=parent, changes=changes, note=note), True


def _labelled(sample: Sample, base: Path, labels: dict[str, str | None]) -> Sample:
    name = _name(sample.path, base)
    return replace(sample, label=labels[name]) if name in labels else sample


def _name(path: Path, base: Path) -> str:
    return path.relative_to(base).as_posix() if path.is_relative_to(base) else str(path)


def _changes(dataset: Dataset, session: Session, *, pseudo: bool) -> list[Change]:
    subject, known = session.subject, session.known
    before = {_name(sample.path, subject.root): sample.label for sample in dataset}
    people = _people(session.file.read())
    changes: list[Change] = []
    for row, sha256 in enumerate(subject.digests):
        name, by = subject.name(row), people.get(sha256, "")
        number = int(session.label_N[row])
        after = subject.classes[number] if number >= 0 else None
        if after != before[name] and (after is not None or sha256 in people):
            changes.append(Change(name, "label", before[name], after, by))
        changes += [Change(name, "rejected", None, one, by) for one in sorted(known.struck.get(sha256, ()))]
    if pseudo:
        for row, (number, _) in session.pseudo_labels.items():
            name = subject.name(row)
            changes.append(Change(name, "label", before[name], subject.classes[number], MACHINE))
            changes.append(Change(name, "tag", None, PSEUDO, MACHINE))
    return changes


def _people(answers: Sequence[Answer]) -> dict[str, str]:
    """Who spoke of each image, by digest."""
    found: dict[str, list[str]] = {}
    for answer in answers:
        if answer.by not in found.setdefault(answer.sha256, []):
            found[answer.sha256].append(answer.by)
    return {sha256: ", ".join(names) for sha256, names in found.items()}
