"""Into FiftyOne: batch after batch, then what only all images together tell."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pangu_cv.data.sample import Dataset
from pangu_cv.errors import DataError
from pangu_cv.iterate.inspect.findings import Finding, is_multilabel
from pangu_cv.iterate.inspect.look import Look
from pangu_cv.iterate.inspect.sent import BACK, FIELD
from pangu_cv.iterate.inspect.shown import BOXES, LABEL, LABELS, MASK, PREDICTED_BOXES, as_sample

INFO = "pangu_cv"
VIEW = "look_alike"  # the key of the flat view in the App's embeddings panel
BATCH = 64
DOUBT, ERROR, UNREADABLE = "doubt", "label_error", "unreadable"
OWN_TAGS = frozenset((DOUBT, ERROR, UNREADABLE, "duplicate", "alike"))
DOUBTFUL = 0.5


@dataclass(frozen=True)
class Kept:
    """A dataset that FiftyOne has: whose it is, and whether everything was sent."""

    root: str
    fingerprint: str
    is_complete: bool


def kept(fiftyone: Any, name: str) -> Kept | None:
    """What is known of the dataset ``name``, None where there is none. Raises DataError for one that is not ours."""
    if not fiftyone.dataset_exists(name):
        return None
    info = fiftyone.load_dataset(name).info.get(INFO)
    if not isinstance(info, dict):
        raise DataError(f"FiftyOne has a dataset '{name}' that pangu_cv did not make; choose another with --name")
    return Kept(str(info["root"]), str(info["fingerprint"]), bool(info["is_complete"]))


class Sender:
    """Makes the dataset ``name`` anew and fills it; until ``finish`` it counts as incomplete."""

    def __init__(self, fiftyone: Any, dataset: Dataset, name: str, *, fingerprint: str, task: str | None) -> None:
        self._fiftyone = fiftyone
        self.target = fiftyone.Dataset(name, overwrite=True, persistent=True)
        self._info = {"root": str(dataset.root), "fingerprint": fingerprint, "is_complete": False}
        self._multilabel = is_multilabel(dataset, task)
        self._waiting: list[Any] = []
        self._ids: list[str] = []
        self._declare(dataset)

    def _declare(self, dataset: Dataset) -> None:
        """Fields that people may fill even where nothing is sent, and the names of masks' values."""
        fo, target = self._fiftyone, self.target
        target.info = {INFO: self._info}
        label, kind = (LABELS, fo.Classifications) if self._multilabel else (LABEL, fo.Classification)
        target.add_sample_field(label, fo.EmbeddedDocumentField, embedded_doc_type=kind)
        for field in (BOXES, PREDICTED_BOXES):
            target.add_sample_field(field, fo.EmbeddedDocumentField, embedded_doc_type=fo.Detections)
        target.add_sample_field(MASK, fo.EmbeddedDocumentField, embedded_doc_type=fo.Segmentation)
        for field in ("split", "group", "caption", "why", "likely", "alike", "sha256", FIELD, BACK):
            target.add_sample_field(field, fo.StringField)
        target.default_mask_targets = dict(enumerate(dataset.mask_classes or ("background", "defect")))
        target.default_classes = list(dataset.classes)
        target.save()

    def take(self, look: Look) -> None:
        """Send one image more; memory holds a batch."""
        self._waiting.append(as_sample(self._fiftyone, look, is_multilabel=self._multilabel))
        if len(self._waiting) >= BATCH:
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            self._ids += self.target.add_samples(self._waiting, progress=False, dynamic=False)
            self._waiting.clear()

    def finish(self, findings: Sequence[Finding]) -> Any:
        """Send what was found, with tags for what is to be looked at; the dataset is complete now."""
        self._flush()
        columns: dict[str, list[Any]] = {
            "suspicion": [float(one.suspicion) for one in findings],
            "urgency": [float(one.urgency) for one in findings],
            "why": ["; ".join((*one.faults, one.why)).strip("; ") or None for one in findings],
            "likely": [one.likely for one in findings],
            "alike": [one.group for one in findings],
            "tags": [list(tags_of(one)) for one in findings],
        }
        for start in range(0, len(findings), 1000):
            part = slice(start, start + 1000)
            for field, values in columns.items():
                by_id = dict(zip(self._ids[part], values[part], strict=True))
                self.target.set_values(field, by_id, key_field="id", progress=False)
        self._flat_view(findings)
        self._views()
        sent = self.target.get_field(FIELD)
        sent.description, sent.read_only = "what was sent, to compare with what comes back", True
        sent.save()
        self.target.info = {INFO: self._info | {"is_complete": True}}
        self.target.save()
        return self.target

    def _views(self) -> None:
        """What to look at first, in the App's list of views."""
        by = self._fiftyone.ViewField
        for name, wanted, order in (
            ("likely label errors", by("suspicion") > 0, "suspicion"),
            ("doubts", by("doubt") >= DOUBTFUL, "doubt"),
            ("like pictures", by("alike") != None, "alike"),  # noqa: E711, it builds a query
        ):
            if self.target.has_field(order):
                self.target.save_view(name, self.target.match(wanted).sort_by(order, reverse=order != "alike"))

    def _flat_view(self, findings: Sequence[Finding]) -> None:
        if len(findings) < 2:
            return
        import fiftyone.brain as brain

        points = np.array([one.xy for one in findings])
        order = {str(sample_id): at for at, sample_id in enumerate(self._ids)}
        places = [order[str(sample_id)] for sample_id in self.target.values("id")]
        brain.compute_visualization(self.target, points=points[places], brain_key=VIEW, num_dims=2, progress=False)


def tags_of(one: Finding) -> tuple[str, ...]:
    """Words by which the App filters; what people tag is compared with these."""
    kind = (one.group or "").split("-")[0]
    tags = (
        (UNREADABLE, bool(one.faults)),
        (ERROR, one.suspicion > 0),
        (DOUBT, one.doubt is not None and one.doubt >= DOUBTFUL),
        (kind, bool(kind)),
    )
    return tuple(tag for tag, holds in tags if holds)
