"""The ranked list as a table that mining takes back, and that any reader of datasets takes once labels are filled in.

A dataset's file names start from one folder and never leave it. Each row says which, so that it can be carried into a
list that starts from another one.
"""

import csv
import io
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pangu_cv.iterate.mine.known import FOLDER, Known
from pangu_cv.iterate.mine.ranking import Pick
from pangu_cv.iterate.pool import Pool

_COLUMNS = ("file", "label", "rank", "reason", "oddity", "doubt", "sha256", FOLDER)


@dataclass(frozen=True)
class Listing:
    """The table, the folder that its file names start from, and how many of its files are gone."""

    text: str
    root: Path
    gone: int


def listing(
    images: Path, picks: Sequence[Pick], pool: Pool, known: Known, doubts_N: NDArray[np.float32] | None
) -> Listing:
    """A person may fill in ``label``. What was labelled before stays in the table, at the end: labels of a list of ours
    whose images are in the pool no more, too, since it may be the one place where they stand.
    """
    rows: list[tuple[str, list[object]]] = []
    for rank, pick in enumerate(picks, start=1):
        doubt = "" if doubts_N is None else f"{doubts_N[pick.place]:.4f}"
        cells = ["", rank, pick.reason, f"{pool.odd_N[pick.place]:.4f}", doubt, pool.digests[pick.place]]
        rows.append((str(pool.images[pick.place]), cells))
    for place, label in known.labels.items():
        cells = [label, "", "labelled", f"{pool.odd_N[place]:.4f}", "", pool.digests[place]]
        rows.append((str(pool.images[place]), cells))
    held = set(pool.digests)
    for sha, file in known.files.items():
        if sha not in held:
            rows.append((file, [known.said[sha], "", "labelled, not among the images", "", "", sha]))
    rows = [(file and os.path.abspath(file), cells) for file, cells in rows]  # noqa: PTH100, '..' is to go
    root = _root(images, [file for file, _ in rows if file])
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(_COLUMNS)
    start = os.path.abspath(root)  # noqa: PTH100
    for file, cells in rows:
        table.writerow([Path(file).relative_to(start).as_posix() if file else "", *cells, start])
    return Listing(text.getvalue(), root, sum(not Path(file).is_file() for file, _ in rows))


def _root(images: Path, files: Iterable[str]) -> Path:
    """The folder of the images as it was given, else what all files have in common."""
    if images.is_dir() and all(Path(file).is_relative_to(os.path.abspath(images)) for file in files):  # noqa: PTH100
        return images
    return Path(os.path.commonpath([os.path.dirname(file) for file in files]))  # noqa: PTH120, of strings
