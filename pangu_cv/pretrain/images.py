"""The images of a run: several datasets in one table, with the labels and texts that there are."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pangu_cv.data.config import DataConfig, dataset_title
from pangu_cv.data.readers import read_images
from pangu_cv.data.sample import Sample
from pangu_cv.errors import DataError, SettingsError
from pangu_cv.pretrain.relations import UNKNOWN
from pangu_cv.pretrain.titles import titles

Split = Literal["train", "val", "test", "none"]


class SourceConfig(DataConfig):
    """One dataset to learn from."""

    splits: tuple[Split, ...] = ("train", "none")
    """Parts used; ``none`` is what has no split. Test images are left alone unless named."""
    labels: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of images whose label is used (drawn per class with the run's seed): 0 is unlabelled, 1 all there are."""
    captions: bool = True
    """Use captions where there are any."""
    weight: Annotated[float, Field(gt=0)] = 1.0
    """Share of batches relative to the other datasets, on top of the square root of its size."""


@dataclass(frozen=True)
class Images:
    """All images of a run in one order; arrays int64[M], ``UNKNOWN`` where nothing is known.

    ``source_M`` numbers the dataset, ``label_M`` indexes ``labels``, ``text_M`` indexes ``texts``; ``text_label_U``
    is the label that a text names.
    """

    paths: tuple[Path, ...]
    source_M: NDArray[np.int64]
    label_M: NDArray[np.int64]
    text_M: NDArray[np.int64]
    labels: tuple[str, ...]
    texts: tuple[str, ...]
    text_label_U: NDArray[np.int64]
    unused: tuple[tuple[Path, int], ...] = ()
    """Datasets whose labels are there and not used, and how many classes they name."""

    def without(self, unreadable: set[Path]) -> "Images":
        """The same less some paths."""
        keep = np.array([path not in unreadable for path in self.paths], bool)
        paths = tuple(path for path, kept in zip(self.paths, keep, strict=True) if kept)
        source_M, label_M, text_M = self.source_M[keep], self.label_M[keep], self.text_M[keep]
        return replace(self, paths=paths, source_M=source_M, label_M=label_M, text_M=text_M)

    def without_copies(self, digest: Callable[[Path], str]) -> "Images":
        """One image of every set of copies, the first; copies would be told apart in vain. DataError if one is left."""
        first: dict[str, Path] = {}
        for path in self.paths:
            first.setdefault(digest(path), path)
        if len(first) == 1:
            raise DataError(
                f"data: all {len(self.paths)} images are the same picture ({self.paths[0]}); there is nothing to learn"
            )
        return self.without(set(self.paths) - set(first.values()))

    def require_some(self) -> "Images":
        """Self; raises DataError where there is too little to learn from."""
        if len(self.paths) < 2:
            found = "no image" if not self.paths else "one image"
            raise DataError(
                f"data: {found} to learn from that can be read and is not kept to measure on; pretraining needs at "
                "least 2, better 1000"
            )
        return self


def sentence_of(template: str, label: str, *, source: str = "") -> str:
    """The template with the class's name in the place of ``{label}``; raises SettingsError for one that cannot be."""
    try:
        return template.format(label=label.replace("_", " "), source=source)
    except (KeyError, IndexError, ValueError, AttributeError):
        raise SettingsError(
            f"template: {template!r} cannot be filled in; {{label}} stands for the class, {{source}} for the dataset"
        ) from None


def gather(sources: Sequence[SourceConfig], *, seed: int, text_template: str | None) -> Images:
    """Read all datasets. An image named twice (also by two sources) is taken once; labels of two sources do not mix.

    ``text_template`` such as ``"a photo of {label}"`` makes a text for every label used; None makes none. A name that
    two sources use is two labels, and so two texts of the same words.
    """
    paths: dict[Path, None] = {}
    rows: list[tuple[int, int, int]] = []
    labels: dict[str, int] = {}
    texts: dict[tuple[str, int], int] = {}
    unused: dict[Path, int] = {}
    for number, (source, title) in enumerate(zip(sources, titles([source.path for source in sources]), strict=True)):
        samples = _samples(source)
        if source.labels == 0 and (names := {sample.label for sample in samples} - {None}):
            unused[source.path] = len(names)
        labelled = _labelled(samples, source.labels, seed)
        for sample in samples:
            path = sample.path.resolve()
            if path in paths:
                continue
            paths[path] = None
            label = UNKNOWN
            if path in labelled:
                label = labels.setdefault(f"{title}: {sample.label}", len(labels))
                if text_template is not None:
                    text = sentence_of(text_template, str(sample.label), source=dataset_title(source.path))
                    texts.setdefault((text, label), len(texts))
            text_number = UNKNOWN
            if source.captions and sample.caption:
                text_number = texts.setdefault((sample.caption, UNKNOWN), len(texts))
            rows.append((number, label, text_number))
    table = np.array(rows, np.int64).reshape(-1, 3)
    text_label_U = np.array([label for _, label in texts], np.int64)
    columns = (table[:, 0].copy(), table[:, 1].copy(), table[:, 2].copy())
    sentences = tuple(text for text, _ in texts)
    found = Images(tuple(paths), *columns, tuple(labels), sentences, text_label_U, tuple(unused.items()))
    return found.require_some()


def _samples(source: SourceConfig) -> list[Sample]:
    wanted = {None if split == "none" else split for split in source.splits}
    dataset = read_images(source.path, layout=source.layout, root=source.root)
    chosen = [sample for sample in dataset if sample.split in wanted]
    if not chosen:
        there = sorted({sample.split or "none" for sample in dataset})
        raise DataError(f"{source.path}: no image in splits {list(source.splits)}; there are {there}")
    return chosen


def _labelled(samples: Sequence[Sample], share: float, seed: int) -> set[Path]:
    """Paths whose label is used: a share of each class, at least one."""
    if share == 0:
        return set()
    by_class: dict[str, list[Path]] = {}
    for sample in samples:
        if sample.label is not None:
            by_class.setdefault(sample.label, []).append(sample.path.resolve())
    chosen: set[Path] = set()
    for label in sorted(by_class):
        members = sorted(by_class[label])
        count = max(1, round(share * len(members)))
        random = np.random.default_rng([seed, len(chosen), len(members)])
        chosen.update(members[at] for at in random.permutation(len(members))[:count])
    return chosen
