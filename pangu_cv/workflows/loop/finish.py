"""After the last round: a smaller model where one is asked for, the certified bundle, its replay, its decisions."""

import shutil
from pathlib import Path
from typing import Any

from pangu_cv import deploy
from pangu_cv.data.config import DataConfig
from pangu_cv.deploy.told import precision_page
from pangu_cv.distill import DistillRecipe, distill
from pangu_cv.distill.recipe import ImagesConfig
from pangu_cv.errors import DataError, PrecisionError
from pangu_cv.evaluate import test_samples
from pangu_cv.iterate.ledger import Ledger
from pangu_cv.iterate.records import model_digest
from pangu_cv.progress import bar
from pangu_cv.workflows.loop.measure import measured
from pangu_cv.workflows.loop.rounds import Round
from pangu_cv.workflows.loop.steps import Figures, Loop, once
from pangu_runtime import certificate, golden
from pangu_runtime.bundle import PRECISIONS, fingerprint, open_bundle
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
    key = " ".join((key, *sorted(loop.recipe.precisions)))
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
    wanted = _wanted(loop)
    try:
        with bar("certifying") as progress:
            made = deploy.export(model / "model", loop.home / "bundle", frozen, wanted=wanted, progress=progress)
    except PrecisionError as error:  # what the export advises are options that a loop does not have
        advice = f"take {error.precision} out of precisions"
        raise PrecisionError(error.precision, error.found, advice) from None
    if wanted.precisions:
        precision_page(made, wanted, title="bundle").write(loop.home / "bundle.report.html")
    predictor = Predictor(made.bundle)
    return {
        "bundle": loop.name(made.bundle),
        "model": loop.name(model),
        "fingerprint": fingerprint(made.bundle),
        "images": made.certificate.images,
        **made.certificate.difference.to_json(),
        "precisions": {name: loss.to_json() for name, loss in made.made.losses.items()},
        "decisions": [one.to_json() for one in predictor.predict(_unasked(loop)) if isinstance(one, ClassPrediction)],
    }


def _wanted(loop: Loop) -> deploy.Wanted:
    """Precisions beside fp32, on images without labels: a class may be labelled that the last model does not know."""
    others = tuple(one for one in PRECISIONS[1:] if one in loop.recipe.precisions)
    if not others:
        return deploy.Wanted()
    samples = DataConfig(path=loop.pool).read().samples
    return deploy.Wanted(others, samples=samples, source="the images that may be asked about")


def _unasked(loop: Loop) -> list[Path]:
    """Images of the pool without a label, drawn evenly."""
    labelled = {s.path for s in DataConfig(path=loop.versions).read() if s.label is not None}
    left = [sample.path for sample in DataConfig(path=loop.pool).read() if sample.path not in labelled]
    return left[:: max(1, len(left) // _SHOWN)][:_SHOWN]


def _verified(loop: Loop) -> Figures:
    """What ``pangu-cv verify --images`` and ``pangu-cv ledger check`` say, every time the loop is run."""
    loop.say("verifying the bundle and the ledger")
    opened = open_bundle(loop.home / "bundle")
    frozen = [sample.path for sample in test_samples(DataConfig(path=loop.frozen).read())]
    predictors = [Predictor(opened, precision=one) for one in opened.precisions]
    replay, *_ = [golden.replay(predictor) for predictor in predictors]
    for predictor in predictors:
        certificate.check(predictor)
    again = {predictor.precision: certificate.recheck(predictor, frozen) for predictor in predictors}
    ledger = Ledger(loop.ledger)
    return {
        "golden_images": replay.images,
        "golden_score": replay.difference.score,
        "checked": again["fp32"].checked,
        "holds": all(one.holds for one in again.values()),
        "precisions": {
            name: {
                "checked": one.checked,
                "holds": one.holds,
                "flips": one.difference.flips,
                "score": one.difference.score,
            }
            for name, one in again.items()
        },
        "ledger_entries": len(ledger.entries()),
        "ledger_head": ledger.head,
    }
