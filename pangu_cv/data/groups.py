"""Which images belong together and must stay on one side of a split: a table ``file,group``."""

import csv
import dataclasses
import posixpath
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from pangu_cv.data.duplicates import relative
from pangu_cv.data.near_duplicates import groups_of
from pangu_cv.data.sample import Dataset, Sample, Split
from pangu_cv.errors import DataError


def with_groups(dataset: Dataset, table: Path) -> Dataset:
    """The dataset with the groups of a table, whose files start from its root; those known before are joined with them.

    Raises DataError where the table is malformed or names no image of the dataset.
    """
    groups_of_file = _read(table)
    named = [groups_of_file.get(relative(s.path, dataset.root), ()) for s in dataset]
    samples = _joined(dataset.samples, named)
    found = len(groups_of_file.keys() & {relative(s.path, dataset.root) for s in dataset})
    if not found:
        raise DataError(f"{table}: names no image of {dataset.root}; its files must start from there")
    notes = dataset.notes
    if found < len(groups_of_file):
        notes = (*notes, f"{len(groups_of_file) - found} files of {table.name} are no images of the dataset")
    return with_torn_told(dataclasses.replace(dataset, samples=samples, notes=notes))


def with_torn_told(dataset: Dataset) -> Dataset:
    """The dataset, with a note where its groups are torn."""
    return dataclasses.replace(dataset, notes=(*dataset.notes, *torn_groups(dataset)))


def torn_groups(samples: Iterable[Sample]) -> tuple[str, ...]:
    """A sentence for the groups that stand in more than one part; none where there are none."""
    parts = defaultdict[str, set[Split | None]](set)
    for sample in samples:
        if sample.group is not None:
            parts[sample.group].add(sample.split)
    torn = sum(len(found) > 1 for found in parts.values())
    if not torn:
        return ()
    return (
        f"{torn} {'group is' if torn == 1 else 'groups are'} on both sides of the set's own parts, which flatters "
        "what is measured unless they are left out; data.split=anew draws the parts anew",
    )


def _joined(samples: Sequence[Sample], named: Sequence[Sequence[str]]) -> tuple[Sample, ...]:
    """Images that belong together by their own group or by the table's, or by chains of both."""
    members: dict[tuple[str, str], list[int]] = {}
    for at, (sample, names_of_it) in enumerate(zip(samples, named, strict=True)):
        own = [] if sample.group is None else [("own", sample.group)]
        for member_of in (*own, *(("table", name) for name in names_of_it)):
            members.setdefault(member_of, []).append(at)
    pairs = [(places[0], other) for places in members.values() for other in places]
    names: dict[int, str] = {}
    for chain in groups_of(pairs):
        first = chain[0]
        names |= dict.fromkeys(chain, samples[first].group or min(named[first], default=""))
    taken = [names.get(at) for at in range(len(samples))]
    return tuple(dataclasses.replace(s, group=group) for s, group in zip(samples, taken, strict=True))


def _read(table: Path) -> dict[str, list[str]]:
    """The groups of each file; one that is in several joins them."""
    found: dict[str, list[str]] = {}
    try:
        with table.open(encoding="utf-8-sig", newline="") as stream:
            rows = csv.DictReader(stream)
            if not {"file", "group"} <= set(rows.fieldnames or ()):
                raise DataError(f"{table}:1: the columns file and group are needed, found {rows.fieldnames}")
            for row in rows:
                if group := (row["group"] or "").strip():
                    name = posixpath.normpath(str(row["file"]).strip().replace("\\", "/"))
                    found.setdefault(name, []).append(group)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"data.groups: {table} cannot be read as a table ({error})") from None
    return found
