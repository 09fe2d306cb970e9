"""Answers as a version of the dataset: labels of people; what the machine took over only where that is wanted."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pangu_cv.data import versions
from pangu_cv.data.changes import Change
from pangu_cv.data.lineage import Step, lineage
from pangu_cv.data.sample import Dataset, Sample
from pangu_cv.data.versions import Version, is_beside, labels_of, newest, read_version, write_version
from pangu_cv.iterate.answers import Answer
from pangu_cv.iterate.ask import Session
from pangu_cv.iterate.ask.history import PSEUDO, History, history
from pangu_cv.iterate.ask.subject import name_of

MACHINE = "pangu-cv ask"


def version_of(source: Path, root: Path | None = None) -> Version | None:
    """The version that is read of ``source`` (of a folder of several the newest), None where it is another dataset."""
    return read_version(newest(source) or source, images=root) if versions.recognises(source) else None


def write_answers(
    folder: Path, dataset: Dataset, session: Session, *, pseudo: bool, source: Path, root: Path | None = None
) -> tuple[Version, bool]:
    """The version, and whether it is new: the newest one where that says the same already.

    Images that are gone since the version that was read stay in it as missing, with their labels.
    """
    read = version_of(source, root)
    parent = read if read and is_beside(read, folder) else None
    steps = lineage(parent.folder) if parent else []
    machine = history(lineage(read.folder)).machine if read else frozenset()
    changes = _changes(dataset, session, machine, history(steps), pseudo=pseudo)
    labels = {change.image: change.after for change in changes if change.field == "label"}
    samples = tuple(_labelled(sample, session.subject.root, labels) for sample in dataset)
    known = {sample.path for sample in samples}
    missing = [sample for sample in (read.missing if read else ()) if sample.path not in known]
    last = newest(folder)
    before = read_version(last, images=root if read else None) if last else None
    if before is not None and _comes_of(before, parent):
        told = history([*steps, Step("", tuple(changes))])
        if _says(before, told, labels_of((*samples, *missing))):
            return before, False
    whole = replace(dataset, samples=samples, notes=())
    note = f"{session.known.answers} answers in {session.known.seconds:.0f} s"
    return write_version(folder, whole, missing=missing, parent=parent, changes=changes, note=note), True


def _comes_of(last: Version, parent: Version | None) -> bool:
    """Whether the newest version is the parent, or was made from the same one."""
    return (parent is not None and parent.digest == last.digest) or last.parent == (parent.name if parent else None)


def _says(last: Version, told: History, labels: dict[Path, str | None]) -> bool:
    """Whether a version has these labels, of the same origin, and what is struck out, in itself or by its parents."""
    said = history(lineage(last.folder))
    has_labels = labels.items() <= labels_of((*last.dataset, *last.missing)).items()
    return has_labels and told.machine == said.machine and told.rejected <= said.rejected


def _labelled(sample: Sample, base: Path, labels: dict[str, str | None]) -> Sample:
    name = name_of(sample.path, base)
    return replace(sample, label=labels[name]) if name in labels else sample


def _changes(
    dataset: Dataset, session: Session, machine: frozenset[str], told: History, *, pseudo: bool
) -> list[Change]:
    """What leads from the dataset, of whose labels those of ``machine`` are the machine's, to what is known; without
    what the parents have ``told`` already."""
    subject, known = session.subject, session.known
    before = {name_of(sample.path, subject.root): sample.label for sample in dataset}
    people, taken = _people(session.file.read()), session.pseudo_labels if pseudo else {}
    changes: list[Change] = []
    for row, sha256 in enumerate(subject.digests):
        name, by = subject.name(row), people.get(sha256, "")
        number = int(session.label_N[row])
        after = subject.classes[number] if number >= 0 else None
        is_machines = name in machine
        if row in taken:
            after = subject.classes[taken[row][0]]
            if after != before[name] or not is_machines:
                changes.append(Change(name, "label", before[name], after, MACHINE))
                changes.append(Change(name, "tag", None, PSEUDO, MACHINE))
        elif (after is not None or sha256 in people) and (after != before[name] or is_machines):
            changes.append(Change(name, "label", before[name], after, by))
        struck = sorted(known.struck.get(sha256, ()))
        changes += [Change(name, "rejected", None, one, by) for one in struck if (name, one) not in told.rejected]
    changed = {change.image for change in changes if change.field == "label"}
    kept = sorted(machine - told.machine - changed)  # those of a version in another folder
    return changes + [Change(name, "tag", None, PSEUDO, MACHINE) for name in kept]


def _people(answers: Sequence[Answer]) -> dict[str, str]:
    """Who spoke of each image, by digest."""
    found: dict[str, list[str]] = {}
    for answer in answers:
        if answer.by not in found.setdefault(answer.sha256, []):
            found[answer.sha256].append(answer.by)
    return {sha256: ", ".join(names) for sha256, names in found.items()}
