"""Golden replay: generated images and the decisions the certified model gave for them.

A bundle whose weights, classes or threshold were changed answers differently, even where its sums were written anew.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pangu_runtime.bundle import Precision, file_sha256, in_precision, read_json
from pangu_runtime.compare import OWN_LIMITS, Difference, Limits, compare_recorded, recordable, worst
from pangu_runtime.errors import BundleError
from pangu_runtime.predictor import Predictor

# Tighter than a certificate's: the same graph on another processor differs by rounding only.
REPLAY_LIMITS = Limits(flips=0, score=2e-4, map=2e-4, mask=1e-2, box=1e-3)


def replay_limits(precision: Precision) -> Limits:
    """What a replay is held to: fp16 weights are computed with in full precision, int8 has steps to fall on.

    Of the golden images, which show nothing a model was made for, two undecided ones may fall the other way in int8.
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
    try:
        difference = worst(compare_recorded(answers[p.name], _answer(predictor, p)) for p in _images(folder))
    except ValueError as error:
        raise BundleError(f"{folder}: a recorded answer is malformed ({error}); export the bundle again") from None
    limits = replay_limits(predictor.precision)
    if not difference.within(limits):
        raise BundleError(
            f"{folder}: the model does not give its certified answers: {difference.flips} of {len(answers)} decisions "
            f"differ, scores by {difference.score:.2g} (limit {limits.score:.2g}). "
            "Weights, classes or threshold were changed, or this machine computes wrongly; export the bundle again"
        )
    return Replay(len(answers), difference)


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
