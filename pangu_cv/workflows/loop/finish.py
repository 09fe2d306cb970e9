"""After the last round: a smaller model where one is asked for, the certified bundle, its replay, its decisions."""

import shutil
from pathlib import Path
from typing import Any

from pangu_cv import deploy
from pangu_cv.data.config import DataConfig
from pangu_cv.distill import DistillRecipe, distill
from pangu_cv.distill.recipe import ImagesConfig
from pangu_cv.errors import DataError
from pangu_cv.evaluate import test_samples
from pangu_cv.iterate.ledger import Ledger
from pangu_cv.iterate.records import model_digest
from pangu_cv.progress import bar
from pangu_cv.workflows.loop.measure import measured
from pangu_cv.workflows.loop.rounds import Round
from pangu_cv.workflows.loop.steps import Figures, Loop, once
from pangu_runtime import certificate, golden
from pangu_runtime.bundle import fingerprint
from pangu_runtime.predictor import ClassPrediction, Predictor

_SHOWN = 24


def finish(loop: Loop, last: Round) -> dict[str, Figures]:
    """Figures of each step; raises CertificateError or BundleError where the bundle is not what it must be."""
    if last.model is None:
        raise DataError(f"{loop.home}: {last.learnt['verdict']} Ask for more rounds, or a larger count")
    model, found = last.model, {}
    wish = loop.recipe.distill
    key = model_digest(model / "model")
    if wish is not None:
        key = f"{key} {wish.model_dump_json()}"
        found["smaller"] = once(loop.home / "smaller.json", lambda: _smaller(loop, last), key=key)
        model = loop.home / found["smaller"]["model"]
    found["bundle"] = once(loop.home / "bundle.json", lambda: _export(loop, model), key=key)
    found["verified"] = _verified(loop)
    return found


def _smaller(loop: Loop, last: Round) -> Figures:
    wish = loop.recipe.distill
    assert wish is not None
    assert last.model is not None
    loop.say("teaching a smaller model")
    if (loop.home / "smaller" / "model").exists():  # of a model before this one, or of one whose figures were not kept
        shutil.rmtree(loop.home / "smaller")
    result = distill(
        DistillRecipe(
            model=last.model,
            data=ImagesConfig(path=loop.pool),
            budget=wish.budget,
            student=wish.student,
            train=wish.train,
            seed=loop.recipe.seed,
            output=loop.home / "smaller",
        )
    )
    assert result is not None, "no kit of probes was asked for"
    figures: dict[str, Any] = result.metrics
    kept = {name: figures[name] for name in ("teacher", "student", "ratio", "agreement", "within")}
    return kept | {
        "model": loop.name(result.folder),
        "report": loop.name(result.report),
        "measured": measured(loop, result.folder),
    }


def _export(loop: Loop, model: Path) -> Figures:
    """Certified on the frozen images; decisions of images that nobody was asked about."""
    loop.say("exporting and certifying on the frozen set")
    frozen = [sample.path for sample in test_samples(DataConfig(path=loop.frozen).read())]
    with bar("certifying") as progress:
        made = deploy.export(model / "model", loop.home / "bundle", frozen, progress=progress)
    predictor = Predictor(made.bundle)
    return {
        "bundle": loop.name(made.bundle),
        "model": loop.name(model),
        "fingerprint": fingerprint(made.bundle),
        "images": made.certificate.images,
        **made.certificate.difference.to_json(),
        "decisions": [one.to_json() for one in predictor.predict(_unasked(loop)) if isinstance(one, ClassPrediction)],
    }


def _unasked(loop: Loop) -> list[Path]:
    """Images of the pool without a label, drawn evenly."""
    labelled = {s.path for s in DataConfig(path=loop.versions).read() if s.label is not None}
    left = [sample.path for sample in DataConfig(path=loop.pool).read() if sample.path not in labelled]
    return left[:: max(1, len(left) // _SHOWN)][:_SHOWN]


def _verified(loop: Loop) -> Figures:
    """What ``pangu-cv verify --images`` and ``pangu-cv ledger check`` say, every time the loop is run."""
    loop.say("verifying the bundle and the ledger")
    predictor = Predictor(loop.home / "bundle")
    replay = golden.replay(predictor)
    certificate.check(predictor)
    frozen = [sample.path for sample in test_samples(DataConfig(path=loop.frozen).read())]
    again = certificate.recheck(predictor, frozen)
    ledger = Ledger(loop.ledger)
    return {
        "golden_images": replay.images,
        "golden_score": replay.difference.score,
        "checked": again.checked,
        "holds": again.holds,
        "flips": again.difference.flips,
        "score": again.difference.score,
        "ledger_entries": len(ledger.entries()),
        "ledger_head": ledger.head,
    }
