"""The certificate of a bundle (``parity.json``): written where torch is, checked again where it is not.

It holds, per image (by SHA-256; images are not stored), the answers of the trained model and how far the exported graph
was from them. A graph of another precision decides a little differently from the trained model; how much stands under
``precisions``, with its own answers, which are what another machine is compared with.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pangu_runtime.bundle import Precision, file_sha256, read_json
from pangu_runtime.compare import Difference, Limits, compact, compare, from_record, worst
from pangu_runtime.errors import BundleError, ImageError
from pangu_runtime.predictor import Predictor


@dataclass(frozen=True)
class Recheck:
    """A certificate checked again: images that were certified, images it does not know, and the worst difference."""

    checked: int
    unknown: int
    unreadable: int
    difference: Difference
    limits: Limits

    @property
    def holds(self) -> bool:
        """True where every checked answer is within the certificate's limits and there was one."""
        return self.checked > 0 and self.difference.within(self.limits)


def recheck(predictor: Predictor, paths: Sequence[Path]) -> Recheck:
    """Compare this machine's answers on the user's images with the recorded ones of the model, or of int8 itself.

    A few decisions of int8 may flip between processors, as many as its certificate let flip between it and the model.
    """
    known, limits = _read(predictor.bundle.folder / "parity.json", predictor.precision)
    counts: Counter[str] = Counter()
    differences: list[Difference] = []
    for path in paths:
        answer = known.get(file_sha256(path))
        if answer is None:
            counts["unknown"] += 1
            continue
        try:
            found = predictor.run(predictor.decode(path)[None])
        except ImageError:
            counts["unreadable"] += 1
            continue
        differences.append(compare(from_record(answer), compact(found)))
    return Recheck(len(differences), counts["unknown"], counts["unreadable"], worst(differences), limits)


def check(predictor: Predictor) -> None:
    """Raise BundleError unless the bundle's certificate is there, holds, and is of this very graph."""
    path = predictor.bundle.folder / "parity.json"
    _read(path, predictor.precision)
    parity = read_json(path)
    if predictor.precision != "fp32":
        parity = parity["precisions"][predictor.precision]
    if parity.get("holds") is not True:
        raise BundleError(f"{path}: the certificate does not hold; export the bundle again")
    if parity.get("model_sha256") != file_sha256(predictor.model):
        raise BundleError(
            f"{path}: the certificate is of another graph than {predictor.model.name}; export the bundle again"
        )


def _read(path: Path, precision: Precision) -> tuple[dict[str, Any], Limits]:
    """Answers by digest, and what to hold this machine's to."""
    parity = read_json(path)
    try:
        names, limits = [image["sha256"] for image in parity["images"]], Limits.from_json(parity["limits"])
        answers = [image["answer"] for image in parity["images"]]
        if precision != "fp32":
            own = parity["precisions"][precision]
            answers, limits = own["answers"], Limits.from_json(own["recheck"])
        return dict(zip(names, answers, strict=True)), limits
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(f"{path}: malformed ({type(error).__name__}: {error})") from None
