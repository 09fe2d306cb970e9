"""Golden replay: generated images and the decisions the certified model gave for them.

A bundle whose weights, classes or threshold were changed answers differently, even where its sums were written anew.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pangu_runtime.bundle import CONTRACT, Precision, file_sha256, in_precision, read_json
from pangu_runtime.compare import OWN_LIMITS, Difference, Limits, compact, compare, from_record, recordable, worst
from pangu_runtime.errors import BundleError
from pangu_runtime.predictor import Predictor

# Tighter than a certificate's: the same graph on another processor differs by rounding only.
REPLAY_LIMITS = Limits(flips=0, score=2e-4, map=2e-4, mask=1e-2, box=1e-3)


def replay_limits(precision: Precision) -> Limits:
    """What a replay is held to: fp16 weights are computed with in full precision, int8 has steps to fall on.

    Of the eight images, which show nothing a model was made for, two that are undecided may fall the other way in int8.
    """
    return replace(OWN_LIMITS, flips=2) if precision == "int8" else REPLAY_LIMITS


@dataclass(frozen=True)
class Replay:
    """What golden replay found."""

    images: int
    difference: Difference


def record(predictor: Predictor, folder: Path) -> None:
    """Write ``golden/expected.json``, or that of the predictor's precision, for the images that lie in ``golden/``."""
    import json

    answers = {path.name: recordable(_answer(predictor, path)) for path in _images(folder)}
    text = json.dumps(_identity(predictor) | {"answers": answers}, indent=1)
    folder.joinpath(in_precision("expected.json", predictor.precision)).write_text(text)


def replay(predictor: Predictor) -> Replay:
    """Run every golden image again; raises BundleError where the answers are not the recorded ones."""
    folder = predictor.bundle.folder / "golden"
    expected = read_json(folder / in_precision("expected.json", predictor.precision))
    for key, value in _identity(predictor).items():
        if expected.get(key) != value:
            raise BundleError(f"{folder}: recorded with {key} {expected.get(key)!r}, the bundle has {value!r}")
    answers = expected.get("answers")
    if not isinstance(answers, dict) or not answers or sorted(answers) != [p.name for p in _images(folder)]:
        raise BundleError(f"{folder}: golden images and recorded answers do not match; export the bundle again")
    recorded = {name: _recorded(folder, predictor, answer) for name, answer in answers.items()}
    difference = worst(compare(recorded[p.name], compact(_answer(predictor, p))) for p in _images(folder))
    limits = replay_limits(predictor.precision)
    if not difference.within(limits):
        raise BundleError(
            f"{folder}: the model does not give its certified answers: {difference.flips} of {len(answers)} decisions "
            f"differ, scores by {difference.score:.2g} (limit {limits.score:.2g}). "
            "Weights, classes or threshold were changed, or this machine computes wrongly; export the bundle again"
        )
    return Replay(len(answers), difference)


def _recorded(folder: Path, predictor: Predictor, answer: Any) -> dict[str, NDArray[Any]]:
    outputs = list(CONTRACT[predictor.bundle.task])
    try:
        if sorted(answer) != sorted(outputs):
            raise ValueError(f"outputs {sorted(answer)}, expected {sorted(outputs)}")
        return from_record(answer)
    except (TypeError, ValueError, AttributeError) as error:
        raise BundleError(f"{folder}: a recorded answer is malformed ({error}); export the bundle again") from None


def _identity(predictor: Predictor) -> dict[str, Any]:
    bundle = predictor.bundle
    return {
        "classes": list(bundle.classes),
        "threshold": None if bundle.threshold is None else bundle.threshold.value,
        "model_sha256": file_sha256(predictor.model),
    }


def _answer(predictor: Predictor, path: Path) -> dict[str, NDArray[Any]]:
    return predictor.run(np.ascontiguousarray(predictor.decode(path)[None]))


def _images(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.png"))
