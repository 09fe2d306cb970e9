"""The certificate of a bundle (``parity.json``): written where torch is, checked again where it is not.

It holds, per image (by SHA-256; images are not stored), the answers of the trained model and how far the exported graph
was from them, and the digests of the files it was given for.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pangu_runtime.bundle import file_sha256, read_json
from pangu_runtime.compare import Difference, Limits, compare_recorded, worst
from pangu_runtime.errors import BundleError, ImageError
from pangu_runtime.predictor import Predictor

# What a certificate is of: its keys, and the files whose digests stand there.
OF = {"model_sha256": "model.onnx", "manifest_sha256": "bundle.json", "golden_sha256": "golden/expected.json"}


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


def digests(folder: Path) -> dict[str, str]:
    """What a certificate states of the files it is given for."""
    return {key: file_sha256(folder / name) for key, name in OF.items()}


def recheck(predictor: Predictor, paths: Sequence[Path]) -> Recheck:
    """Compare this machine's answers on the user's images with the trained model's recorded ones."""
    where = predictor.bundle.folder / "parity.json"
    parity = _read(where)
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
    return Recheck(len(differences), counts["unknown"], counts["unreadable"], worst(differences), parity.limits)


def check(predictor: Predictor, *, widest: Limits | None = None) -> None:
    """Raise BundleError unless the bundle's certificate is there, holds, and is of these very files.

    ``widest`` are the limits that are accepted; default: those that 'pangu-cv export' holds a certificate to.
    """
    folder = predictor.bundle.folder
    path = folder / "parity.json"
    parity = _read(path)
    if parity.holds is not True or not parity.answers or not parity.difference.within(parity.limits):
        raise BundleError(f"{path}: the certificate does not hold; export the bundle again")
    accepted = (widest or Limits()).to_json()
    for name, value in parity.limits.to_json().items():
        if not value <= accepted[name]:
            raise BundleError(
                f"{path}: held to a limit of {value:g} for '{name}'; at most {accepted[name]:g} is accepted"
            )
    for key, digest in digests(folder).items():
        if parity.digests.get(key) is None:
            raise BundleError(
                f"{path}: the certificate says nothing of {OF[key]}: an earlier pangu_cv wrote it, or somebody cut it "
                "short; export the bundle again"
            )
        if parity.digests[key] != digest:
            raise BundleError(f"{path}: the certificate is of another {OF[key]}; export the bundle again")


@dataclass(frozen=True)
class _Parity:
    """A certificate as read; ``difference`` is the worst of what it says of its images."""

    holds: Any
    limits: Limits
    answers: Mapping[str, Any]
    difference: Difference
    digests: Mapping[str, Any]


def _read(path: Path) -> _Parity:
    parity = read_json(path)
    try:
        images = parity["images"]
        return _Parity(
            holds=parity.get("holds"),
            limits=Limits.from_json(parity["limits"]),
            answers={image["sha256"]: image["answer"] for image in images},
            difference=worst(Difference.from_json(image["difference"]) for image in images),
            digests={key: parity.get(key) for key in OF},
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise BundleError(f"{path}: malformed ({type(error).__name__}: {error})") from None
