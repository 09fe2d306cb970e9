"""Precisions of one model: milliseconds, megabytes and what is lost on test images, naive quantisation beside.

The export quantises by the labelled images of the pool and sees no test image but those it is certified on, whose
labels it does not know. Margins between classes grow with labels, and with them what survives rounding: classifiers are
measured on five labels a class and on all labels of the pool. *Naive* is ``quantize_static`` of ONNX Runtime with its
defaults on the plain graph and the same images.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.deploy_subjects import SUBJECTS, prepare
from benchmarks.latency import spread
from pangu_cv.data.sample import Sample
from pangu_cv.deploy import export
from pangu_cv.deploy.decider import GraphDecider, Kind
from pangu_cv.deploy.precisions import Made, Wanted
from pangu_cv.deploy.timing import by_operator, in_turn
from pangu_cv.errors import CertificateError
from pangu_cv.evaluate import (
    Decider,
    evaluate_anomaly,
    evaluate_classify,
    evaluate_detect,
    evaluate_segment,
    test_samples,
)
from pangu_cv.finetune import FinetuneRecipe, finetune
from pangu_cv.tasks.anomaly import AnomalyModel
from pangu_cv.tasks.classify import ClassifyModel
from pangu_cv.tasks.graph import write_graph
from pangu_cv.tasks.saved import SavedModel, load_model
from pangu_runtime.bundle import in_precision
from pangu_runtime.compare import compare
from pangu_runtime.decode import decode
from pangu_runtime.predictor import Predictor

PRECISIONS = ("fp16", "int8")
_CALIBRATION = 32
_ROUNDS = 300  # half a minute: three seconds of a shared machine may be slow ones, and not for all graphs alike


def measure(*, data: str, is_quick: bool, model: str, all_labels: bool = False) -> dict[str, Any]:
    """Every precision that the export allows, or why it refuses one; times of all in turn."""
    prepared, recipe = prepare(model, Path(data)), SUBJECTS[model].recipe(Path(data))
    dataset = recipe.data.read()
    test = [s for s in test_samples(dataset) if s.is_annotated]
    measured = {s.path for s in test}
    known = [s for s in dataset if s.path not in measured and s.is_annotated]
    test = list(spread(test, 30)) if is_quick else test
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        checkpoint = _fitted_to_all(recipe, folder / "run") if all_labels else prepared.checkpoint
        saved = load_model(checkpoint)
        kind = Kind(saved.model.config.kind)
        graphs, refused, made = _graphs(saved, checkpoint, prepared.certified, known, folder)
        naive = folder / "naive.onnx"
        write_naive(graphs["plain"], naive, [decode(s.path) for s in spread(known, _CALIBRATION)])
        graphs["naive"] = naive
        deciders: dict[str, Decider] = {name: GraphDecider(path, kind) for name, path in graphs.items()}
        reference = deciders["plain"]
        figures = {name: _figure(saved, Watched(decider, reference), test) for name, decider in deciders.items()}
        timings = in_turn(graphs, decode(test[0].path), kind, rounds=5 if is_quick else _ROUNDS)
        operators = {name: by_operator(path, decode(test[0].path), kind) for name, path in graphs.items()}
        return {
            "model": model,
            "images": len(test),
            "refused": refused,
            "bytes": {name: path.stat().st_size for name, path in graphs.items()},
            "bank_bytes": _bank_bytes(saved),
            "timings": {name: asdict(timing) for name, timing in timings.items()},
            "figures": figures,
            "operators": operators,
            "kept_fp32": made.int8.kept if made and made.int8 else None,
            "layers": len(made.int8.sensitivities) if made and made.int8 else None,
        }


def _bank_bytes(saved: SavedModel) -> int:
    """Of what every precision but the naive one leaves as it is: the examples that an anomaly is told by."""
    if not isinstance(saved.model, AnomalyModel):
        return 0
    return sum(tensor.nbytes for tensor in (saved.model.bank_MD, saved.model.half_norms_M))


def _fitted_to_all(recipe: FinetuneRecipe, output: Path) -> Path:
    """The same classifier from every label of the pool."""
    every = recipe.few_shot.model_copy(update={"shots": None})
    return finetune(recipe.model_copy(update={"few_shot": every, "output": output})).model


def _graphs(
    saved: SavedModel, checkpoint: Path, certified: Any, known: Any, folder: Path
) -> tuple[dict[str, Path], dict[str, str], Made | None]:
    """The plain graph and the bundle's, by precision; a precision that is refused is left out, with the reason."""
    graphs, refused, made = {"plain": folder / "plain.onnx"}, {}, None
    classes = saved.model.classes if isinstance(saved.model, ClassifyModel) else ()
    write_graph(saved.model, graphs["plain"], classes=classes)
    for precision in PRECISIONS:
        wanted = Wanted((precision,), samples=tuple(known), source="the pool")  # type: ignore[arg-type]
        bundle = folder / precision
        try:
            result = export(checkpoint, bundle, certified, wanted=wanted)
        except CertificateError as error:
            refused[precision] = str(error)
            continue
        made = result.made if precision == "int8" else made
        graphs["fp32"] = bundle / in_precision("model.onnx", "fp32")
        graphs[precision] = bundle / in_precision("model.onnx", precision)  # type: ignore[arg-type]
        Predictor(bundle, precision=precision)  # type: ignore[arg-type]
    return graphs, refused, made


def write_naive(plain: Path, path: Path, images: Any) -> None:
    """What one gets without further thought."""
    from onnxruntime.quantization import CalibrationDataReader, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = iter(images)

        def get_next(self) -> Any:
            image = next(self.left, None)
            return None if image is None else {"image": np.asarray(image)[None]}

    quantize_static(str(plain), str(path), Reader())


class Watched:
    """A decider that counts the images on which another decides otherwise."""

    def __init__(self, decider: Decider, reference: Decider) -> None:
        self._decider, self._reference = decider, reference
        self.flips = 0

    def run(self, images_NHW3: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        """Outputs by name, of one image."""
        found = self._decider.run(images_NHW3)
        if self._decider is not self._reference:
            self.flips += compare(self._reference.run(images_NHW3), found).flips
        return found


def _figure(saved: SavedModel, decider: Watched, test: Sequence[Sample]) -> dict[str, Any]:
    model, spec = saved.model, saved.provenance.decode
    outcome: Any
    if isinstance(model, AnomalyModel):
        outcome = evaluate_anomaly(decider, test, asked_rate=0.05, decode_spec=spec).outcome
        name, value = "image AUROC", outcome.image_auroc
    elif model.config.kind == "detect":
        outcome = evaluate_detect(decider, test, classes=model.classes, decode_spec=spec).outcome
        name, value = "AP50", outcome.ap50
    elif model.config.kind == "segment":
        outcome = evaluate_segment(decider, test, classes=model.classes, decode_spec=spec).outcome
        name, value = "F1", outcome.f1
    else:
        outcome = evaluate_classify(decider, test, classes=model.classes, decode_spec=spec).outcome
        name, value = "balanced accuracy", outcome.balanced_accuracy
    return {"name": name, "value": value, "flips": decider.flips}
