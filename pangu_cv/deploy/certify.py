"""The certificate: the trained model against the exported graph on the user's own images, decision by decision."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from pangu_cv.errors import CertificateError, ImageError
from pangu_cv.evaluate import TorchDecider
from pangu_cv.features import Progress, Skipped, read_ahead
from pangu_cv.tasks.saved import SavedModel
from pangu_runtime.bundle import UNKNOWN, file_sha256
from pangu_runtime.compare import Difference, Limits, compare, recordable, worst
from pangu_runtime.decode import decode
from pangu_runtime.predictor import Predictor


@dataclass(frozen=True)
class Certificate:
    """What ``parity.json`` holds: ``record``, and the worst difference found on any image."""

    record: dict[str, Any]
    difference: Difference
    limits: Limits
    images: int

    @property
    def holds(self) -> bool:
        """True where every decision is within the limits."""
        return self.images > 0 and self.difference.within(self.limits)


def certify(
    saved: SavedModel,
    predictor: Predictor,
    paths: Sequence[Path],
    *,
    limits: Limits,
    progress: Progress | None = None,
) -> Certificate:
    """Run both on every image; images are named by SHA-256 and size, never stored.

    Raises CertificateError where no image can be read.
    """
    torch_side = TorchDecider(saved.model)
    images: list[dict[str, Any]] = []
    differences: list[Difference] = []
    per_decision: dict[str, list[Difference]] = defaultdict(list)
    skipped: list[Skipped] = []
    read = read_ahead(paths, lambda path: decode(path, spec=saved.provenance.decode))
    for done, (path, image) in enumerate(zip(paths, read, strict=True), start=1):
        if isinstance(image, ImageError):
            skipped.append(Skipped(path, image.reason, str(image)))
        else:
            expected, found = torch_side.run(image[None]), predictor.run(image[None])
            difference = compare(expected, found)
            differences.append(difference)
            per_decision[_decision(expected, predictor)].append(difference)
            images.append(
                {
                    "sha256": file_sha256(path),
                    "height": image.shape[0],
                    "width": image.shape[1],
                    "answer": recordable(expected),
                    "difference": difference.to_json(),
                }
            )
        if progress:
            progress(done, len(paths))
    if not images:
        raise CertificateError("none of the images to certify on can be read; give images of the kind the line takes")
    total = worst(differences)
    record = {
        "format": "pangu-cv-parity",
        "version": 1,
        "holds": total.within(limits),
        "limits": limits.to_json(),
        "precisions": {"fp32": {"images": len(images), "worst": total.to_json()}},
        "per_decision": {k: {"images": len(v), "worst": worst(v).to_json()} for k, v in sorted(per_decision.items())},
        "images": images,
        "unreadable": len(skipped),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return Certificate(_strict(record), total, limits, len(images))


def _decision(expected: dict[str, Any], predictor: Predictor) -> str:
    classes = predictor.bundle.classes
    if "label" in expected:
        label = int(expected["label"][0])
        return UNKNOWN if label < 0 else classes[label]
    if "is_present" in expected:
        return ", ".join(classes[at] for at in np.flatnonzero(expected["is_present"][0])) or "nothing"
    if "mask" in expected:
        return ", ".join(classes[value] for value in np.unique(expected["mask"]))
    if "count" in expected:
        return "boxes" if int(expected["count"][0]) else "no box"
    return "anomalous" if bool(expected["is_anomalous"][0]) else "normal"


def _strict(value: Any) -> Any:
    """The same with numbers that JSON has no word for as text, so that a failed certificate can be written too."""
    if isinstance(value, dict):
        return {key: _strict(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_strict(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
