"""Checkpoint to bundle: write the graph, record golden answers, certify, and only then let the bundle appear."""

import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pangu_cv import __version__
from pangu_cv.deploy.certify import Certificate, certify
from pangu_cv.deploy.golden_images import write_golden_images
from pangu_cv.deploy.precisions import Made, Wanted, make
from pangu_cv.deploy.triton import require_whole, write_repository
from pangu_cv.errors import CertificateError, PrecisionError
from pangu_cv.features import Progress
from pangu_cv.runs import environment
from pangu_cv.staging import staged_folder, write_json
from pangu_cv.tasks import TaskModel, tiling_of
from pangu_cv.tasks.anomaly import AnomalyModel
from pangu_cv.tasks.classify import ClassifyModel
from pangu_cv.tasks.graph import OPSET, write_graph
from pangu_cv.tasks.saved import SavedModel, load_model
from pangu_cv.tasks.segment import SegmentModel
from pangu_cv.tasks.threshold import SET_BY_HAND
from pangu_runtime import golden
from pangu_runtime.bundle import FORMAT, VERSION, Precision, contract, open_bundle, write_sums
from pangu_runtime.certificate import digests
from pangu_runtime.compare import Limits
from pangu_runtime.predictor import Predictor


@dataclass(frozen=True)
class ExportResult:
    """Where the bundle is, its certificate, and what each precision costs and buys."""

    bundle: Path
    certificate: Certificate
    made: Made


def export(
    checkpoint: Path,
    bundle: Path,
    images: Sequence[Path],
    *,
    limits: Limits | None = None,
    wanted: Wanted | None = None,
    repository: Path | None = None,
    progress: Progress | None = None,
) -> ExportResult:
    """Export a checkpoint, in full precision and others that are ``wanted``, and certify it on the user's images.

    ``repository`` is where a model repository of Triton appears too, with the bundle's default precision under the
    bundle's name.

    Raises CertificateError outside the limits, of any precision: then no bundle appears, and the certificate lies
    beside the checkpoint as ``parity-failed.json``.
    """
    wanted = wanted or Wanted()
    saved = load_model(checkpoint)
    classes = () if isinstance(saved.model, AnomalyModel) else saved.model.classes
    name = bundle.resolve().name
    with ExitStack() as stack:
        staging = stack.enter_context(staged_folder(bundle, replaces="bundle.json"))
        if repository is not None:
            require_whole(tiling_of(saved.model))
            elsewhere = stack.enter_context(staged_folder(repository, replaces=f"{name}/config.pbtxt"))
        write_graph(saved.model, staging / "model.onnx", classes=classes)
        made = make(saved, staging, wanted, images, progress=progress)
        precisions: tuple[Precision, ...] = ("fp32", *made.losses)
        manifest = json.dumps(_manifest(saved, classes, precisions), indent=2)
        staging.joinpath("bundle.json").write_text(manifest, encoding="utf-8")
        write_golden_images(staging / "golden", tiling=tiling_of(saved.model))
        write_sums(staging)
        opened = open_bundle(staging)
        predictor, *others = [Predictor(opened, precision=one) for one in precisions]
        limits, most = limits or Limits(), wanted.points(saved)
        certificate = certify(saved, predictor, images, limits=limits, others=others, max_loss=most, progress=progress)
        if not certificate.holds or not all(one.holds for one in certificate.others.values()):
            _refuse(checkpoint, certificate)
        for each in (predictor, *others):
            golden.record(each, staging / "golden")
        record = certificate.record | digests(staging) | {"environment": environment()}
        for other, loss in made.losses.items():
            control = loss.to_json() | {"limit": most, "source": wanted.source, "calibrated_on": made.calibrated_on}
            record["precisions"][other] |= digests(staging, other) | {"control": control}
        staging.joinpath("parity.json").write_text(json.dumps(record, allow_nan=False), encoding="utf-8")
        write_sums(staging)
        finished = open_bundle(staging)
        for one in precisions:
            golden.replay(Predictor(finished, precision=one))
        if repository is not None:
            write_repository(Predictor(finished), elsewhere, name=name)
    return ExportResult(bundle, certificate, made)


def _refuse(checkpoint: Path, certificate: Certificate) -> None:
    path = checkpoint.parent / "parity-failed.json"
    write_json(path, certificate.record)
    if certificate.holds:
        name, other = next((name, one) for name, one in certificate.others.items() if not one.holds)
        raise PrecisionError(
            name,
            f"{name} decides {other.difference.flips} of {certificate.images} images differently from the model "
            f"(limit {other.limits.flips}); the certificate is {path}",
            f"allow more (--max-loss), calibrate on more images (--calibrate), or export without --precision {name}",
        )
    worst, limits = certificate.difference, certificate.limits
    told = [
        f"{name}s by {getattr(worst, name):.2g} (limit {getattr(limits, name):.2g})"
        for name in ("score", "map", "mask", "box")
        if getattr(worst, name) > 0
    ]
    raise CertificateError(
        f"the exported graph does not decide like the trained model: {worst.flips} of {certificate.images} decisions "
        f"differ (limit {limits.flips}){''.join(f', {one}' for one in told)}. No bundle was written; the certificate "
        f"is {path}"
    )


def _manifest(saved: SavedModel, classes: tuple[str, ...], precisions: Sequence[Precision]) -> dict[str, Any]:
    model, provenance = saved.model, saved.provenance
    task = model.config.kind
    return {
        "format": FORMAT,
        "version": VERSION,
        "task": task,
        "contract": contract(task),
        "precisions": list(precisions),
        "default_precision": "fp32",
        "classes": list(classes),
        "thresholds": _thresholds(model),
        "decode": provenance.decode.to_json(),
        "tile": None if (tiling := tiling_of(model)) is None else tiling.to_json(),
        "fingerprints": {
            "recipe": provenance.recipe_hash,
            "data": provenance.data_hash,
            "weights": saved.parent["sha256"],
        },
        "backbone": saved.parent["name"],
        "licences": {"code": "Apache-2.0", "weights": saved.parent["licence"], "data": provenance.data_licence},
        "made_by": {"pangu_cv": __version__, "opset": OPSET},
    }


def _thresholds(model: TaskModel) -> dict[str, Any]:
    """What ``bundle.json`` says of the graph's threshold: its value, the rate it keeps, a sentence for people."""
    if isinstance(model, SegmentModel):
        return {}
    rate, statement = None, SET_BY_HAND
    if isinstance(model, AnomalyModel):
        assert model.calibration is not None, "an anomaly checkpoint is calibrated"
        rate, statement = model.calibration.certified_rate, model.calibration.explain()
    if isinstance(model, ClassifyModel):
        rate, statement = model.certified_rate, model.statement
    return {"threshold": {"value": float(model.threshold), "false_alarm_rate": rate, "statement": statement}}
