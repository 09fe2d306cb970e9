"""A bundle: one folder that holds a model and everything needed to trust its decisions.

``model.onnx``, ``bundle.json``, ``golden/``, ``parity.json`` and ``SHA256SUMS`` over all of it (see ``CONTRACT``).
Beside them, where they were asked for, the model in other precisions: ``model.int8.onnx``, ``model.fp16.onnx``.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal, cast

from pangu_runtime.decode import DecodeSpec
from pangu_runtime.errors import BundleError, DataError
from pangu_runtime.tiles import Tiling

FORMAT = "pangu-cv-bundle"
VERSION = 1
SUMS = "SHA256SUMS"
_OTHERS = r"(\.(int8|fp16))?"
_MEMBERS = re.compile(rf"model{_OTHERS}\.onnx|bundle\.json|parity\.json|golden/(\d+\.png|expected{_OTHERS}\.json)")

Precision = Literal["fp32", "fp16", "int8"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")
Task = Literal["classify", "multilabel", "anomaly", "segment", "detect"]
TILED = ("segment", "detect")  # tasks whose answers on the tiles of an image can be merged
UNKNOWN = "unknown"  # what label -1 of a classifier is called

# Outputs of the graph per task: name, shape. The input is always ``image: uint8[N,H,W,3]``, RGB, one size per call.
# ``threshold_applied`` echoes the threshold a decision was made with, so that a moved one cannot go unseen.
CONTRACT: dict[str, dict[str, list[str | int]]] = {
    "classify": {"scores": ["N", "C"], "label": ["N"], "threshold_applied": [1]},
    "multilabel": {"scores": ["N", "C"], "is_present": ["N", "C"], "threshold_applied": [1]},
    "anomaly": {"score": ["N"], "map": ["N", "H", "W"], "is_anomalous": ["N"], "threshold_applied": [1]},
    "segment": {"mask": ["N", "H", "W"], "confidence": ["N", "H", "W"]},
    "detect": {
        "boxes_xyxy": ["N", "K", 4],
        "scores": ["N", "K"],
        "labels": ["N", "K"],
        "count": ["N"],
        "threshold_applied": [1],
    },
}
DTYPES = {
    "image": "uint8",
    "scores": "float32",
    "label": "int64",
    "is_present": "bool",
    "score": "float32",
    "map": "float32",
    "is_anomalous": "bool",
    "threshold_applied": "float32",
    "mask": "uint8",
    "confidence": "float32",
    "boxes_xyxy": "float32",
    "labels": "int64",
    "count": "int64",
}


@dataclass(frozen=True)
class Threshold:
    """A named threshold of the graph: its certified value, and the false-alarm rate it keeps (None: none is stated).

    A classifier's false alarm is an image of a known class that is answered unknown.
    """

    value: float
    false_alarm_rate: float | None


@dataclass(frozen=True)
class Bundle:
    """A bundle whose files agree with their sums and whose format this runtime speaks."""

    folder: Path
    task: Task
    classes: tuple[str, ...]
    decode: DecodeSpec
    threshold: Threshold | None
    tiling: Tiling | None
    manifest: Mapping[str, Any]
    precisions: tuple[Precision, ...] = ("fp32",)
    default_precision: Precision = "fp32"

    @property
    def model(self) -> Path:
        """The graph in full precision."""
        return self.graph("fp32")

    @property
    def fixed(self) -> str | None:
        """Why its threshold cannot be moved; None where it can."""
        if self.threshold is None:
            return f"a '{self.task}' bundle has no threshold to move"
        if self.task == "classify" and UNKNOWN in self.classes:
            return f"has a class '{UNKNOWN}', so that answer would be two"
        return None

    def graph(self, precision: Precision) -> Path:
        """The graph in one of ``precisions``."""
        return self.folder / in_precision("model.onnx", precision)


def in_precision(name: str, precision: Precision) -> str:
    """A file's name for a precision: ``model.int8.onnx`` beside ``model.onnx``."""
    stem, _, suffix = name.rpartition(".")
    return name if precision == "fp32" else f"{stem}.{precision}.{suffix}"


def contract(task: Task) -> dict[str, Any]:
    """What ``bundle.json`` says of the graph's input and outputs."""
    outputs = [{"name": n, "dtype": DTYPES[n], "shape": shape} for n, shape in CONTRACT[task].items()]
    return {
        "input": {"name": "image", "dtype": "uint8", "shape": ["N", "H", "W", 3], "colour": "RGB"},
        "outputs": outputs,
    }


def open_bundle(folder: Path | str) -> Bundle:
    """Check every sum, read ``bundle.json`` and return the bundle.

    Raises BundleError when a file is missing, added or altered, or the format or contract is another one.
    """
    folder = Path(folder)
    if not (folder / "bundle.json").is_file():
        found = "is not a folder" if not folder.is_dir() else "holds no bundle.json"
        raise BundleError(f"'{folder}' is not a bundle: it {found}; 'pangu-cv export' writes one")
    check_sums(folder)
    manifest = read_json(folder / "bundle.json")
    if manifest.get("format") != FORMAT or manifest.get("version") != VERSION:
        raise BundleError(
            f"{folder / 'bundle.json'}: format {manifest.get('format')!r} version {manifest.get('version')!r} found; "
            f"this runtime speaks {FORMAT!r} version {VERSION}"
        )
    return _parsed(folder, manifest)


def _parsed(folder: Path, manifest: dict[str, Any]) -> Bundle:
    where = folder / "bundle.json"
    task = manifest.get("task")
    if not isinstance(task, str) or task not in CONTRACT:
        raise BundleError(f"{where}: task {task!r} found; allowed: {', '.join(CONTRACT)}")
    if manifest.get("contract") != contract(cast(Task, task)):
        raise BundleError(
            f"{where}: the contract of the graph is not the one of task '{task}' in version {VERSION}: another version "
            "of pangu_cv wrote it; export the bundle again from its checkpoint"
        )
    try:
        classes = tuple(str(name) for name in manifest["classes"])
        spec = DecodeSpec.from_json(manifest["decode"])
        raw = manifest["thresholds"].get("threshold")
        rate = None if raw is None else raw["false_alarm_rate"]
        tile = manifest["tile"]
        tiling = None if tile is None else Tiling.from_json(tile)
        threshold = None if raw is None else Threshold(float(raw["value"]), None if rate is None else float(rate))
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError, DataError) as error:
        raise BundleError(f"{where}: malformed ({type(error).__name__}: {error})") from None
    if ("threshold_applied" in CONTRACT[task]) != (threshold is not None):
        raise BundleError(f"{where}: task '{task}' with thresholds {manifest['thresholds']!r}")
    if tiling is not None and task not in TILED:
        raise BundleError(f"{where}: tile {tile!r} with task '{task}'; only {' and '.join(TILED)} work in tiles")
    precisions, default = _precisions(where, manifest)
    return Bundle(folder, cast(Task, task), classes, spec, threshold, tiling, manifest, precisions, default)


def _precisions(where: Path, manifest: dict[str, Any]) -> tuple[tuple[Precision, ...], Precision]:
    """Bundles that came first say nothing of precisions: they have the one."""
    listed, default = manifest.get("precisions", ["fp32"]), manifest.get("default_precision", "fp32")
    known = [one for one in PRECISIONS if isinstance(listed, list) and one in listed]
    if "fp32" not in known or len(known) != len(listed) or default not in known:
        raise BundleError(f"{where}: precisions {listed!r}, default {default!r}; known here: {', '.join(PRECISIONS)}")
    for one in PRECISIONS[1:]:
        if (where.parent / in_precision("model.onnx", one)).is_file() != (one in known):
            raise BundleError(f"{where}: precisions {listed!r} are not those of the model files beside it")
    return tuple(known), cast(Precision, default)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file of a bundle; raises BundleError for anything else."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:  # ValueError: no UTF-8, no JSON, a number of many digits
        raise BundleError(f"{path}: cannot be read as JSON ({error})") from None
    if not isinstance(value, dict):
        raise BundleError(f"{path}: expected an object, found {type(value).__name__}")
    return value


def file_sha256(path: Path) -> str:
    """Hex digest, read in blocks."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_sums(folder: Path) -> None:
    """Write ``SHA256SUMS`` over every other file, in the format of ``sha256sum -c``."""
    lines = [f"{file_sha256(folder / name)}  {name}\n" for name in _files(folder)]
    (folder / SUMS).write_text("".join(lines), encoding="utf-8")


def fingerprint(folder: Path) -> str:
    """SHA-256 of ``SHA256SUMS``: it stands for the whole bundle, once ``check_sums`` has passed.

    Whoever can change a bundle can write its sums and records anew. Kept elsewhere, this is what he cannot change.
    """
    return file_sha256(folder / SUMS)


def check_sums(folder: Path) -> None:
    """Compare every file with ``SHA256SUMS``; raises BundleError naming what is altered, missing or not listed."""
    try:
        lines = (folder / SUMS).read_text(encoding="utf-8").splitlines()
        listed = {name: digest for digest, name in (line.split("  ", 1) for line in lines)}
    except (OSError, UnicodeDecodeError, ValueError):
        raise BundleError(f"{folder}: {SUMS} is missing or malformed; export the bundle again") from None
    unsafe = [name for name in listed if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts]
    if unsafe:
        raise BundleError(f"{folder}: {SUMS} names a file outside the bundle: {unsafe[0]!r}")
    present = set(_files(folder))
    problems = [f"'{name}' is missing" for name in sorted(set(listed) - present)]
    problems += [f"'{name}' is not listed" for name in sorted(present - set(listed))]
    problems += [
        f"'{name}' is no part of a bundle" for name in sorted(present & set(listed)) if not _MEMBERS.fullmatch(name)
    ]
    problems += [f"'{n}' is altered" for n in sorted(present & set(listed)) if file_sha256(folder / n) != listed[n]]
    if problems:
        raise BundleError(f"{folder}: {'; '.join(problems)}. Use the bundle as it was exported, or export it again")


def _files(folder: Path) -> list[str]:
    return sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file() and path != folder / SUMS
    )
