"""Changed bundles, each hidden ever better: which check of ``verify`` catches how many."""

import contextlib
import io
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from benchmarks.deploy_subjects import prepare
from benchmarks.latency import spread
from pangu_cv.verbs.verify import verify
from pangu_runtime.bundle import fingerprint
from pangu_runtime.errors import BundleError
from tests.runtime import forge
from tests.runtime.forge import Alteration

CHECKS = {  # by what they say, in the order in which verify makes them
    "sums": ("SHA256SUMS", "is altered", "is missing", "is not listed", "is no part"),
    "--sha256": ("not the one that was asked for",),
    "format": ("bundle.json says", "malformed", "cannot load it", "are not those of", "the contract of"),
    "golden record": ("recorded with", "do not match"),
    "golden answers": ("does not give its certified answers",),
    "certificate": ("the certificate", "is accepted"),
    "--images": ("certified images this machine",),
}
PASSED, OTHER = "passed", "another refusal"
WEIGHTS = 5  # tensors drawn from the graph, each changed in every way below
_SHOWN = 10  # certified images that the one who verifies has


@dataclass(frozen=True)
class Mutant:
    """A change, and the kind it is counted under."""

    name: str
    kind: str
    alter: Alteration


@dataclass(frozen=True)
class Asked:
    """How a bundle is verified: with certified images, with the fingerprint that was kept."""

    label: str
    has_images: bool = False
    has_pin: bool = False


@dataclass(frozen=True)
class Level:
    """How thoroughly a change is hidden, and how it is then looked for."""

    hide: Callable[[Path], object]
    asked: tuple[Asked, ...]


def levels(certified: Sequence[Path]) -> tuple[Level, ...]:
    """From a plain change to a bundle that was written anew throughout."""
    return (
        Level(lambda folder: None, (Asked("as changed"),)),
        Level(forge.resign, (Asked("sums written anew"),)),
        Level(forge.restate_model, (Asked("model restated in every record"),)),
        Level(forge.record_golden_anew, (Asked("golden answers recorded anew"),)),
        Level(
            forge.restate_everything,
            (Asked("all digests restated"), Asked("the same, with --images", has_images=True)),
        ),
        Level(
            lambda folder: forge.forge_answers(folder, certified),
            (
                Asked("certified answers forged too, with --images", has_images=True),
                Asked("the same, with --sha256", has_images=True, has_pin=True),
            ),
        ),
    )


LABELS = tuple(asked.label for level in levels(()) for asked in level.asked)


def measure(*, data: str, is_quick: bool, model: str, seed: int) -> dict[str, Any]:
    """Mutants of a classifier's bundle."""
    prepared = prepare(model, Path(data))
    return {"model": model} | mutated(prepared.bundle, prepared.certified, seed=seed, most=4 if is_quick else None)


def mutated(bundle: Path, certified: Sequence[Path], *, seed: int, most: int | None = None) -> dict[str, Any]:
    """By level, how many each check caught; ``most`` keeps some of the mutants."""
    chosen = list(mutants(bundle, seed=seed))
    chosen = chosen if most is None else spread(chosen, most)
    with tempfile.TemporaryDirectory() as scratch:
        shown = Path(scratch) / "images"
        shown.mkdir()
        for path in certified[:_SHOWN]:
            (shown / f"{len(list(shown.iterdir()))}{path.suffix}").symlink_to(path.resolve())
        outcomes = [_outcomes(mutant, bundle, Path(scratch) / "bundle", certified, shown) for mutant in chosen]
        original = _refusal(bundle, shown, fingerprint(bundle))
    return {
        "seed": seed,
        "original": original,
        "mutants": len(chosen),
        "kinds": dict(Counter(mutant.kind for mutant in chosen)),
        "checks": [*CHECKS, OTHER, PASSED],
        "levels": {label: dict(Counter(one[label] for one in outcomes if label in one)) for label in LABELS},
        "each": [{"name": m.name, "kind": m.kind, **one} for m, one in zip(chosen, outcomes, strict=True)],
    }


def _outcomes(mutant: Mutant, bundle: Path, folder: Path, certified: Sequence[Path], shown: Path) -> dict[str, str]:
    """What caught it at every level; one that cannot be reached, since no runtime loads the change, is left out."""
    found, pin = {}, fingerprint(bundle)
    for level in levels(certified):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(bundle, folder)
        mutant.alter(folder)
        try:
            level.hide(folder)
        except BundleError:
            continue
        for asked in level.asked:
            found[asked.label] = _refusal(folder, shown if asked.has_images else None, pin if asked.has_pin else None)
    return found


def _refusal(bundle: Path, images: Path | None, pin: str | None) -> str:
    """The check of ``pangu-cv verify`` that refuses a bundle."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            verify(bundle, images=images, sha256=pin)
    except BundleError as error:
        return check_of(str(error))
    return PASSED


def check_of(message: str) -> str:
    """Which check says so."""
    return next((check for check, told in CHECKS.items() if any(part in message for part in told)), OTHER)


def mutants(bundle: Path, *, seed: int) -> Iterator[Mutant]:
    """Of a classifier: preprocessing, weights drawn by ``seed``, classes, threshold, decoding, promises, records."""
    for attribute, value in (("antialias", 0), ("mode", "linear"), ("cubic_coeff_a", -0.6)):
        yield Mutant(f"resize: {attribute}", "resize", forge.other_resize(attribute, value))
    aligned = forge.other_resize("coordinate_transformation_mode", "align_corners")
    yield Mutant("resize: corners", "resize", aligned)
    yield Mutant("normalisation", "normalisation", forge.other_normalisation)
    yield from _weights(bundle, np.random.default_rng(seed))
    yield Mutant("classes in bundle.json", "classes", forge.swap_classes)
    yield Mutant("classes everywhere", "classes", forge.swap_classes_everywhere)
    yield Mutant("threshold in bundle.json", "threshold", forge.state_threshold(0.9))
    yield Mutant("threshold in the graph", "threshold", forge.change_threshold(0.9))
    yield Mutant("threshold everywhere", "threshold", forge.change_threshold_everywhere(0.9))
    yield Mutant("decoding", "statements", forge.state(decode={"range_16bit": [0, 4095]}))
    yield Mutant("promised rate", "statements", forge.claim_false_alarms(1e-6))
    yield Mutant("licences", "statements", forge.state(licences={"code": "none"}))
    yield Mutant("a file more", "files", lambda folder: (folder / "more.txt").write_text("more"))
    yield Mutant("a golden image less", "files", lambda folder: (folder / "golden" / "3.png").unlink())
    yield Mutant("half of the model", "files", _halve)


def _weights(bundle: Path, random: np.random.Generator) -> Iterator[Mutant]:
    """Some tensors of at least 100 numbers, each in four ways."""
    tensors = onnx.load(bundle / "model.onnx").graph.initializer
    large = [one.name for one in tensors if one.data_type == onnx.TensorProto.FLOAT and np.prod(one.dims) >= 100]
    ways: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "negated": lambda values: -values,
        "by a tenth more": lambda values: values * np.float32(1.1),
        "one number by half": lambda values: _one(values, 1.5),
        "one number by a hair": lambda values: _one(values, 1.0001),
    }
    for name in sorted(random.choice(sorted(large), min(WEIGHTS, len(large)), replace=False).tolist()):
        for way, change in ways.items():
            yield Mutant(f"{name}: {way}", f"weights, {way}", _changed(name, change))


def _changed(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Alteration:
    return lambda folder: forge.edit_graph(folder, lambda proto: forge.set_initialiser(proto, name, change))


def _one(values: np.ndarray, factor: float) -> np.ndarray:
    """The largest."""
    values = values.copy()
    values.flat[np.abs(values).argmax()] *= np.float32(factor)
    return values


def _halve(folder: Path) -> None:
    content = (folder / "model.onnx").read_bytes()
    (folder / "model.onnx").write_bytes(content[: len(content) // 2])
