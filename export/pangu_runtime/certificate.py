"""The certificate of a bundle (``parity.json``): written where torch is, checked again where it is not.

It holds, per image (by SHA-256; images are not stored), the answers of the trained model and how far the exported graph
was from them, and the digests of the files it was given for. A graph of another precision decides a little differently
from the trained model; how much stands under ``precisions``, with digests of its own files and its own answers, which
are what another machine is compared with.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pangu_runtime.bundle import Precision, Task, file_sha256, in_precision, read_json
from pangu_runtime.compare import OWN_LIMITS, Difference, Limits, compare_recorded, worst
from pangu_runtime.errors import BundleError, ImageError
from pangu_runtime.predictor import Predictor

_FLIPS_PER_POINT = 3


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


def certified_files(precision: Precision) -> dict[str, str]:
    """What a certificate is of, for a precision: its keys, and the files whose digests stand there."""
    return {
        "model_sha256": in_precision("model.onnx", precision),
        "manifest_sha256": "bundle.json",
        "golden_sha256": in_precision("golden/expected.json", precision),
    }


def digests(folder: Path, precision: Precision = "fp32") -> dict[str, str]:
    """What a certificate states of the files it is given for."""
    return {key: file_sha256(folder / name) for key, name in certified_files(precision).items()}


def own_limits(precision: Precision) -> Limits:
    """What this machine's answers are held to, beside the recorded ones; flips are another matter in int8 and fp16."""
    return OWN_LIMITS if precision == "int8" else Limits()


def flips_allowed(task: Task, *, images: int, points: float) -> int:
    """How many decisions of another precision may differ from the trained model's, where it may lose ``points``.

    Of the decisions for whole images three times that share may flip, and one in any case where anything may: control
    allows twice, since as many may be gained as lost, and these are other images. Masks and boxes always differ in
    some pixel: what they may lose is held by the control's figure, and here every image may.
    """
    if task in ("segment", "detect"):
        return images
    return max(1, math.floor(_FLIPS_PER_POINT * points * images / 100)) if points > 0 else 0


def recheck(predictor: Predictor, paths: Sequence[Path]) -> Recheck:
    """Compare this machine's answers on the user's images with the recorded ones of the model, or of int8 itself.

    A few decisions of int8 may flip between processors, as many as its certificate let flip between it and the model.
    """
    where = predictor.bundle.folder / "parity.json"
    parity = _read(where, predictor)
    counts: Counter[str] = Counter()
    differences: list[Difference] = []
    for path in paths:
        digest = file_sha256(path)
        if digest not in parity.answers:
            counts["unknown"] += 1
            continue
        try:
            found = predictor.run(predictor.decode(path)[None])
            differences.append(compare_recorded(parity.answers[digest], found))
        except ImageError:
            counts["unreadable"] += 1
        except ValueError as error:
            raise BundleError(f"{where}: a recorded answer is malformed ({error}); export the bundle again") from None
    return Recheck(len(differences), counts["unknown"], counts["unreadable"], worst(differences), parity.recheck)


def check(predictor: Predictor, *, widest: Limits | None = None) -> None:
    """Raise BundleError unless the bundle's certificate is there, holds, and is of these very files.

    ``widest`` are the limits that are accepted for what this machine is held to; default: those that 'pangu-cv export'
    writes, of another precision than fp32 as many flips as the points allow that it was given.
    """
    folder = predictor.bundle.folder
    path = folder / "parity.json"
    parity = _read(path, predictor)
    if parity.holds is not True or not parity.answers or not parity.difference.within(parity.limits):
        raise BundleError(f"{path}: the certificate does not hold; export the bundle again")
    accepted = (widest or parity.widest).to_json()
    stated = parity.recheck.to_json()
    stated["flips"] = max(stated["flips"], parity.limits.flips)
    for name, value in stated.items():
        if not value <= accepted[name]:
            raise BundleError(
                f"{path}: held to a limit of {value:g} for '{name}'; at most {accepted[name]:g} is accepted"
            )
    files = certified_files(predictor.precision)
    for key, digest in digests(folder, predictor.precision).items():
        if parity.digests.get(key) is None:
            raise BundleError(
                f"{path}: the certificate says nothing of {files[key]}: an earlier pangu_cv wrote it, or somebody cut "
                "it short; export the bundle again"
            )
        if parity.digests[key] != digest:
            raise BundleError(f"{path}: the certificate is of another {files[key]}; export the bundle again")


@dataclass(frozen=True)
class _Parity:
    """What a certificate says of one precision.

    ``difference``, the worst from the trained model, was held to ``limits``; this machine's answers are held to
    ``recheck``, for which nothing beyond ``widest`` is usual.
    """

    holds: Any
    difference: Difference
    limits: Limits
    answers: Mapping[str, Any]
    recheck: Limits
    widest: Limits
    digests: Mapping[str, Any]


def _read(path: Path, predictor: Predictor) -> _Parity:
    parity, precision = read_json(path), predictor.precision
    try:
        images = parity["images"]
        names = [image["sha256"] for image in images]
        if precision == "fp32":
            stated, limits = parity, Limits.from_json(parity["limits"])
            difference = worst(Difference.from_json(image["difference"]) for image in images)
            answers, again, widest = [image["answer"] for image in images], limits, Limits()
        else:
            stated = parity["precisions"][precision]
            limits, again = Limits.from_json(stated["limits"]), Limits.from_json(stated["recheck"])
            difference, answers = Difference.from_json(stated["worst"]), stated["answers"]
            points = float(stated["control"]["limit"])
            flips = flips_allowed(predictor.bundle.task, images=len(images), points=points)
            widest = replace(own_limits(precision), flips=flips)
        return _Parity(
            holds=stated.get("holds"),
            difference=difference,
            limits=limits,
            answers=dict(zip(names, answers, strict=True)),
            recheck=again,
            widest=widest,
            digests={key: stated.get(key) for key in certified_files(precision)},
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise BundleError(f"{path}: malformed ({type(error).__name__}: {error})") from None
