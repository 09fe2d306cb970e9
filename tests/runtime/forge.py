"""Changed bundles, and how thoroughly a forger may hide the change."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import helper, numpy_helper

from pangu_runtime import golden
from pangu_runtime.bundle import Precision, file_sha256, in_precision, open_bundle, write_sums
from pangu_runtime.certificate import digests
from pangu_runtime.compare import recordable
from pangu_runtime.predictor import Predictor

if TYPE_CHECKING:
    from tests.finetune.tiny import Made

Alteration = Callable[[Path], None]


def edit_json(path: Path, change: Callable[[dict], object]) -> None:
    """A file in which nothing changes stays as it is, byte by byte."""
    value, before = json.loads(path.read_text()), json.loads(path.read_text())
    change(value)
    if value != before:
        path.write_text(json.dumps(value))


def edit_graph(
    folder: Path, change: Callable[[onnx.ModelProto], None], *, precisions: tuple[Precision, ...] = ("fp32",)
) -> None:
    for precision in precisions:
        path = folder / in_precision("model.onnx", precision)
        proto = onnx.load(path)
        change(proto)
        onnx.save(proto, path)


def set_initialiser(proto: onnx.ModelProto, name: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    (tensor,) = (t for t in proto.graph.initializer if t.name == name)
    tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor)), name))


def set_metadata(folder: Path, key: str, value: object) -> None:
    def change(proto: onnx.ModelProto) -> None:
        (entry,) = (p for p in proto.metadata_props if p.key == key)
        entry.value = json.dumps(value)

    edit_graph(folder, change)


def other_resize(attribute: str, value: object) -> Alteration:
    """Another way of bringing the image to the network's size."""

    def change(proto: onnx.ModelProto) -> None:
        node = next(n for n in proto.graph.node if n.op_type == "Resize")
        (found,) = (a for a in node.attribute if a.name == attribute)
        assert helper.get_attribute_value(found) != (value.encode() if isinstance(value, str) else value)
        found.CopyFrom(helper.make_attribute(attribute, value))

    return lambda folder: edit_graph(folder, change)


def swap_classes(folder: Path) -> None:
    edit_json(folder / "bundle.json", lambda b: b["classes"].reverse())


def swap_classes_everywhere(folder: Path) -> None:
    swap_classes(folder)
    set_metadata(folder, "pangu_cv.classes", json.loads((folder / "bundle.json").read_text())["classes"])


def state_threshold(value: float) -> Alteration:
    return lambda folder: edit_json(folder / "bundle.json", lambda b: b["thresholds"]["threshold"].update(value=value))


def change_threshold(value: float) -> Alteration:
    """In the graph alone."""

    def change(proto: onnx.ModelProto) -> None:
        set_initialiser(proto, "threshold", lambda _: np.array([value], np.float32))

    return lambda folder: edit_graph(folder, change)


def change_threshold_everywhere(value: float) -> Alteration:
    def alter(folder: Path) -> None:
        state_threshold(value)(folder)
        change_threshold(value)(folder)
        set_metadata(folder, "pangu_cv.threshold", value)

    return alter


def scale_convolution(factor: float) -> Alteration:
    def change(proto: onnx.ModelProto) -> None:
        weight = next(n for n in proto.graph.node if n.op_type == "Conv").input[1]
        set_initialiser(proto, weight, lambda values: values * np.float32(factor))

    return lambda folder: edit_graph(folder, change)


def nudge_weight(factor: float) -> Alteration:
    """The largest weight of the first convolution."""

    def nudged(values: np.ndarray) -> np.ndarray:
        values = values.copy()
        values.flat[np.abs(values).argmax()] *= np.float32(factor)
        return values

    def change(proto: onnx.ModelProto) -> None:
        set_initialiser(proto, next(n for n in proto.graph.node if n.op_type == "Conv").input[1], nudged)

    return lambda folder: edit_graph(folder, change)


def take_weights_of(other: Path) -> Alteration:
    """Those of a model of the same shape."""
    theirs = {t.name: t for t in onnx.load(other / "model.onnx").graph.initializer if t.name != "threshold"}

    def change(proto: onnx.ModelProto) -> None:
        for tensor in proto.graph.initializer:
            if tensor.name in theirs:
                assert tensor.dims == theirs[tensor.name].dims
                tensor.CopyFrom(theirs[tensor.name])

    return lambda folder: edit_graph(folder, change)


def other_normalisation(folder: Path) -> None:
    def change(proto: onnx.ModelProto) -> None:
        # "preprocess.mean/one" where the export found the three means equal, and one number faster.
        (mean,) = (t.name for t in proto.graph.initializer if t.name in ("preprocess.mean", "preprocess.mean/one"))
        set_initialiser(proto, mean, lambda values: values + np.float32(5))

    edit_graph(folder, change)


def _large_weights(proto: onnx.ModelProto, kind: type) -> list[onnx.TensorProto]:
    found = [t for t in proto.graph.initializer if len(t.dims) == 4]
    return [t for t in found if numpy_helper.to_array(t).dtype == kind]


def turn_weights(precision: Precision, kind: type) -> Alteration:
    """Turn the kernels of all layers that another precision than fp32 stores in its own type."""

    def change(proto: onnx.ModelProto) -> None:
        tensors = _large_weights(proto, kind)
        assert tensors
        for tensor in tensors:
            values = numpy_helper.to_array(tensor)
            tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values[..., ::-1, ::-1]), tensor.name))

    return lambda folder: edit_graph(folder, change, precisions=(precision,))


def nudge_by_a_step(folder: Path) -> None:
    """One weight of the int8 graph by the smallest step that there is."""

    def change(proto: onnx.ModelProto) -> None:
        tensor = _large_weights(proto, np.int8)[0]
        values = numpy_helper.to_array(tensor).copy()
        values.flat[0] += 1 if values.flat[0] < 0 else -1
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))

    edit_graph(folder, change, precisions=("int8",))


def state(**values: object) -> Alteration:
    return lambda folder: edit_json(folder / "bundle.json", lambda b: b.update(values))


def claim_false_alarms(rate: float) -> Alteration:
    return lambda folder: edit_json(
        folder / "bundle.json", lambda b: b["thresholds"]["threshold"].update(false_alarm_rate=rate)
    )


def resign(folder: Path) -> None:
    """Write the sums anew."""
    write_sums(folder)


def precisions_of(folder: Path) -> tuple[Precision, ...]:
    return tuple(json.loads((folder / "bundle.json").read_text())["precisions"])


def restate(folder: Path, *keys: str) -> None:
    """These digests of the certificate, of every precision."""

    def change(parity: dict) -> None:
        for precision in precisions_of(folder):
            stated = parity if precision == "fp32" else parity["precisions"][precision]
            stated.update({key: value for key, value in digests(folder, precision).items() if key in keys})

    edit_json(folder / "parity.json", change)


def restate_model(folder: Path) -> None:
    """State the changed model wherever the model is named, and write the sums anew."""
    manifest = json.loads((folder / "bundle.json").read_text())
    said = {"classes": manifest["classes"], "threshold": manifest["thresholds"].get("threshold", {}).get("value")}
    for precision in precisions_of(folder):
        stated = said | {"model_sha256": file_sha256(folder / in_precision("model.onnx", precision))}
        expected = folder / "golden" / in_precision("expected.json", precision)
        edit_json(expected, lambda record, stated=stated: record.update(stated))
    restate(folder, "model_sha256")
    write_sums(folder)


def record_golden_anew(folder: Path) -> None:
    """And let the changed model give the golden answers."""
    write_sums(folder)
    for precision in precisions_of(folder):
        golden.record(Predictor(folder, precision=precision), folder / "golden")
        write_sums(folder)
    restate(folder, "model_sha256")
    write_sums(folder)


def restate_everything(folder: Path) -> None:
    """And every digest that the certificate states; its answers are still those of the trained model."""
    record_golden_anew(folder)
    restate(folder, *digests(folder))
    write_sums(folder)


def forge_everything(folder: Path, made: "Made") -> None:
    """And the certified answers: nothing inside the folder tells any more."""
    forge_answers(folder, made.images)


def forge_answers(folder: Path, images: Sequence[Path]) -> None:
    """The same with the images that the bundle was certified on."""
    restate_everything(folder)
    opened = open_bundle(folder)
    answers: dict[Precision, dict[str, object]] = {}
    for precision in opened.precisions:
        predictor = Predictor(opened, precision=precision)
        answers[precision] = {
            file_sha256(path): recordable(predictor.run(predictor.decode(path)[None])) for path in images
        }

    def change(parity: dict) -> None:
        for image in parity["images"]:
            image["answer"] = answers["fp32"][image["sha256"]]
        for precision in opened.precisions[1:]:
            own = [answers[precision][image["sha256"]] for image in parity["images"]]
            parity["precisions"][precision]["answers"] = own

    edit_json(folder / "parity.json", change)
    write_sums(folder)
