import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, numpy_helper
from sklearn.linear_model import Ridge

from pangu_cv import cli
from pangu_cv.data.sample import Sample
from pangu_cv.deploy import Wanted, export, left_out
from pangu_cv.deploy.control import Control, Loss
from pangu_cv.deploy.decider import GraphDecider, Kind
from pangu_cv.deploy.fallback import int8_within
from pangu_cv.deploy.half import halved
from pangu_cv.deploy.left_out import AsLeftOut, judges, shifts_of
from pangu_cv.deploy.onnx_graph import Graph, attribute, scope
from pangu_cv.deploy.precisions import _shared_out
from pangu_cv.deploy.quantise import Quantiser, quantiser
from pangu_cv.deploy.ranges import Ranges, watched
from pangu_cv.deploy.rounding import added, correct
from pangu_cv.errors import CertificateError, DataError
from pangu_cv.features import FeatureStore, content_digest, extract
from pangu_cv.tasks.classify import ClassifyModel
from pangu_cv.tasks.graph import write_graph
from pangu_cv.tasks.saved import load_model
from pangu_cv.verbs.export import _dataset_of_run, _samples_in
from pangu_runtime import golden
from pangu_runtime.decode import decode
from pangu_runtime.predictor import Predictor
from tests.finetune.tiny import Made, copy_of


def weights(path: Path) -> dict[str, np.ndarray]:
    return {t.name: numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}


def of_kind(path: Path, kind: type) -> int:
    """How many numbers of large tensors are of a type."""
    return sum(w.size for w in weights(path).values() if w.dtype == kind and w.size >= 256)


@pytest.fixture(scope="module")
def observed(anomaly: Made, tmp_path_factory: pytest.TempPathFactory) -> Quantiser:
    """The anomaly detector's graph, fresh from the exporter, its activations seen on four images."""
    path = tmp_path_factory.mktemp("graph") / "model.onnx"
    write_graph(load_model(anomaly.run / "model").model, path, classes=())
    return quantiser(onnx.load(path), Kind("anomaly"), [decode(one) for one in anomaly.images[:4]])


class Strict:
    """In place of a ``Control``: nothing is lost once a layer is in fp32."""

    def __init__(self, path: Path, layer: str | None) -> None:
        self.path, self.layer = path, layer

    def loss(self, _: object) -> Loss:
        quantised = {node.name for node in onnx.load(self.path).graph.node if reads_int8(self.path, node)}
        return Loss(5.0 if self.layer is None or self.layer in quantised else 0.0, 0, 10, None)


def reads_int8(path: Path, node: onnx.NodeProto) -> bool:
    made_by = {name: one.op_type for one in onnx.load(path).graph.node for name in one.output}
    return len(node.input) > 1 and made_by.get(node.input[1]) == "DequantizeLinear"


@pytest.mark.slow
def test_int8_holds_int8_weights_and_fp16_half_ones(precise: Made) -> None:
    full, half, small = (precise.bundle / f"model{p}.onnx" for p in ("", ".fp16", ".int8"))
    assert of_kind(small, np.int8) > 0.8 * of_kind(full, np.float32)
    assert of_kind(half, np.float16) > 0.8 * of_kind(full, np.float32)
    assert small.stat().st_size < 0.5 * full.stat().st_size  # a tiny network has more graph than weights
    assert half.stat().st_size < 0.7 * full.stat().st_size
    operators = {node.op_type for node in onnx.load(small).graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= operators
    assert not {node.domain for node in onnx.load(full).graph.node} - {"", "ai.onnx"}


def test_certificate_says_what_each_precision_was_held_to(precise: Made) -> None:
    parity = json.loads((precise.bundle / "parity.json").read_text())
    assert list(parity["precisions"]) == ["fp32", "fp16", "int8"]
    int8 = parity["precisions"]["int8"]
    assert int8["holds"] is True
    assert len(int8["answers"]) == int8["images"] == len(precise.images)
    assert int8["control"]["source"] == "the test's images"
    assert int8["control"]["points"] <= int8["control"]["limit"] == 2.0
    assert int8["worst"]["flips"] <= int8["limits"]["flips"] == 1


def test_tail_bank_and_preprocessing_are_left_alone(observed: Quantiser) -> None:
    before = Graph(observed.proto)
    assert all(layer.scope.startswith("backbone") for layer in observed.layers)
    after = observed.int8(observed.layers, method="minmax")
    made_by = {name: node for node in after.graph.node for name in node.output}
    outside = [node for node in before.nodes if not scope(node).startswith("backbone")]
    assert {"Resize", "MatMul", "TopK"} <= {node.op_type for node in outside}
    later = {node.name: node for node in after.graph.node}
    for node in outside:
        kinds = {made_by[name].op_type for name in later[node.name].input[1:] if name in made_by}
        assert "DequantizeLinear" not in kinds, node.name
        assert [name for name in node.input if before.is_constant(name)] == [
            name for name in later[node.name].input if name in {t.name for t in after.graph.initializer} - {"threshold"}
        ]
    bank = max((before.constant(n) for node in outside for n in node.input if before.is_constant(n)), key=np.size)
    kept = {t.name: numpy_helper.to_array(t) for t in after.graph.initializer}
    assert any(one.shape == bank.shape and np.array_equal(one, bank) for one in kept.values())
    half = halved(observed.proto, "anomaly")
    assert all(t.data_type != TensorProto.FLOAT16 for t in half.graph.initializer if tuple(t.dims) == bank.shape)


def test_first_convolution_of_few_pixels_stays(observed: Quantiser) -> None:
    first = next(node for node in observed.proto.graph.node if node.op_type == "Conv")
    assert first.name not in {layer.name for layer in observed.layers}


def test_biases_take_back_what_rounding_weights_adds_on_average(observed: Quantiser, anomaly: Made) -> None:
    plain = dataclasses.replace(observed, shifts={})
    images = [decode(one) for one in anomaly.images[:4]]
    nodes = {one.name: one for one in observed.proto.graph.node}
    before, after = [], []
    for layer in observed.layers:
        name = nodes[layer.name].output[0]
        means = [
            channel_means(proto, name, images)
            for proto in (observed.proto, *(one.int8([layer], method="minmax") for one in (plain, observed)))
        ]
        before.append(np.abs(means[1] - means[0]).mean())
        after.append(np.abs(means[2] - means[0]).mean())
    assert len(observed.shifts) == len(observed.layers)
    shares, groups = (
        np.array(after) / np.array(before),
        [attribute(nodes[one.name], "group", 1) for one in observed.layers],
    )
    for is_grouped in (True, False):
        these = shares[(np.array(groups) > 1) == is_grouped]
        assert len(these)
        assert np.median(these) < 0.5


def channel_means(proto: onnx.ModelProto, tensor: str, images: list[np.ndarray]) -> np.ndarray:
    """What a layer gives, per output channel."""
    seen = watched(proto, [tensor], images, Kind("anomaly"))
    return np.mean([one[tensor].mean((0, 2, 3)) for one in seen], 0)


@pytest.mark.parametrize("transposed", [False, True])
def test_shift_of_a_product_is_the_mean_input_times_the_error(transposed: bool) -> None:
    random = np.random.default_rng(0)
    weights, bias = random.normal(size=(6, 4)).astype(np.float32), np.zeros(4, np.float32)
    stored = weights.T.copy() if transposed else weights
    layer = onnx.helper.make_node("Gemm", ["x", "w", "b"], ["y"], name="product", transB=int(transposed))
    graph = onnx.helper.make_graph(
        [layer],
        "one",
        [onnx.helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 6])],
        [onnx.helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 4])],
        [numpy_helper.from_array(stored, "w"), numpy_helper.from_array(bias, "b")],
    )
    proto = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)])
    error, mean = random.normal(size=(6, 4)), random.normal(size=6)
    np.testing.assert_allclose(added(layer, error.T if transposed else error, mean), mean @ error)
    correct(proto, {"product": np.arange(4.0)})
    made = {one.name: numpy_helper.to_array(one) for one in proto.graph.initializer}
    np.testing.assert_allclose(made[proto.graph.node[0].input[2]], -np.arange(4.0))
    assert sorted(made) == ["product/bias", "w"]


def test_layer_with_a_pathological_range_falls_back(observed: Quantiser, anomaly: Made, tmp_path: Path) -> None:
    victim = observed.layers[len(observed.layers) // 2]
    node = next(one for one in observed.proto.graph.node if one.name == victim.name)
    seen = dict(observed.ranges.seen_I4)
    seen[node.input[0]] = np.array([[-1e5, 1e5, -1e5, 1e5]])
    spoilt = dataclasses.replace(observed, ranges=Ranges(seen))
    path, images = tmp_path / "model.onnx", [decode(one) for one in anomaly.images[:2]]
    found = int8_within(0.5, spoilt, Kind("anomaly"), Strict(path, victim.name), images, path)  # type: ignore[arg-type]
    # The layer before suffers too: it writes what the victim reads.
    assert victim in [one.layer for one in found.sensitivities[: found.kept]]
    assert found.kept <= 2
    assert found.loss.points == 0.0
    assert found.tried[0].points == 5.0
    assert found.method_errors[found.method] == min(found.method_errors.values()) < max(found.method_errors.values())
    quantised = [one for one in onnx.load(path).graph.node if reads_int8(path, one)]
    assert victim.name not in {one.name for one in quantised}
    assert len(quantised) == len(observed.layers) - found.kept


def test_what_no_fallback_mends_is_refused(observed: Quantiser, anomaly: Made, tmp_path: Path) -> None:
    path, images = tmp_path / "model.onnx", [decode(anomaly.images[0])]
    with pytest.raises(CertificateError, match=r"int8 loses 5\.00 .* Allowed are 0\.5 points .*--max-loss"):
        int8_within(0.5, observed, Kind("anomaly"), Strict(path, None), images, path)  # type: ignore[arg-type]
    assert not path.exists()


@pytest.mark.slow
def test_refusal_leaves_no_bundle_and_the_earlier_one_alone(
    precise: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = copy_of(precise.bundle, tmp_path / "bundle")
    monkeypatch.setattr(Control, "loss", lambda *_: Loss(0.1, 1, 8, "balanced_accuracy", 1.0, 0.999))
    for target in (bundle, tmp_path / "new"):
        with pytest.raises(CertificateError, match="fp16 loses"):
            export(precise.run / "model", target, precise.images, wanted=Wanted(("fp16", "int8"), 0.0))
    golden.replay(Predictor(bundle, precision="int8"))
    assert [one.name for one in tmp_path.iterdir()] == ["bundle"]


def test_loss_is_of_the_figure_where_labels_are_and_of_decisions_where_not(classify: Made) -> None:
    saved = load_model(classify.run / "model")
    reference = GraphDecider(classify.bundle / "model.onnx", Kind("classify"))
    labelled = [Sample(path, label=path.parent.name) for path in classify.images]

    class Flipped(GraphDecider):
        def run(self, images_NHW3: np.ndarray) -> dict[str, np.ndarray]:
            outputs = super().run(images_NHW3)
            return outputs | {"label": 1 - outputs["label"], "scores": outputs["scores"][:, ::-1].copy()}

    for samples, figure in ((labelled, "balanced_accuracy"), ([Sample(p) for p in classify.images], None)):
        control = Control(saved, samples, reference)
        same = control.loss(reference)
        assert (same.points, same.flips, same.figure) == (0.0, 0, figure)
        other = control.loss(Flipped(classify.bundle / "model.onnx", Kind("classify")))
        assert (other.points, other.flips, other.images) == (100.0, 8, 8)
        assert same.within(0.0)
        assert not other.within(50.0)


def test_images_that_taught_the_head_are_judged_as_left_out(classify: Made) -> None:
    saved = load_model(classify.run / "model")
    model, memory = saved.model, saved.memory
    assert memory is not None
    assert isinstance(model, ClassifyModel)
    reference, spec = GraphDecider(classify.bundle / "model.onnx", Kind("classify")), saved.provenance.decode
    images = {content_digest(path): path for path in (classify.data / "train").rglob("*.png")}
    taught = [images[digest] for digest in memory.known]
    new = next(path for path in classify.images if path not in taught)
    shifts = shifts_of(saved, [Sample(path) for path in (*taught, new)], reference)
    assert len(shifts) == len(taught) > 2
    judge = AsLeftOut(reference, shifts)
    views, store = model.config.fit_views, FeatureStore(None, model.fingerprint)
    features_NVD = torch.from_numpy(extract(taught, model, views=views, store=store, decode_spec=spec).features_NVD)
    unit_NVD = model.head.normalised(features_NVD.double().flatten(0, 1), memory.statistics).unflatten(
        0, (-1, len(views))
    )
    target_NC = np.eye(2)[[model.classes.index(path.parent.name) for path in taught]]
    for at, path in enumerate(taught):
        others = [one for one in range(len(taught)) if one != at]
        ridge = Ridge(alpha=model.head.config.penalty)
        ridge.fit(unit_NVD[others].flatten(0, 1).numpy(), target_NC[others].repeat(len(views), 0))
        outputs_VC = torch.from_numpy(ridge.predict(unit_NVD[at].numpy()))
        expected = (model.at_decision(outputs_VC[None]) / model.head.temperature).softmax(-1)[0]
        found = judge.run(decode(path, spec=spec)[None])["scores"][0]
        np.testing.assert_allclose(found, expected, atol=1e-5)
        assert abs(found - reference.run(decode(path, spec=spec)[None])["scores"][0]).max() > 1e-4
    image = decode(new, spec=spec)[None]
    np.testing.assert_array_equal(judge.run(image)["scores"], reference.run(image)["scores"])


def test_images_that_a_folded_memory_has_dropped_judge_nothing(classify: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = load_model(classify.run / "model")
    assert saved.memory is not None
    folded = saved.memory.folded()
    train = [Sample(path) for path in (classify.data / "train").rglob("*.png")]
    taught = [one for one in train if content_digest(one.path) in folded.known]
    new = [Sample(path) for path in classify.images if content_digest(path) not in folded.known]
    stays = taught[0]
    held = {content_digest(stays.path): folded.replay[content_digest(stays.path)]}
    dropped = dataclasses.replace(saved, memory=dataclasses.replace(folded, replay=held))
    assert len(taught) > 1
    assert judges(dropped, [*taught, *new], most=100) == [*taught, *new]  # too few would be left
    monkeypatch.setattr(left_out, "_ENOUGH", 1)
    assert judges(dropped, [*taught, *new], most=100) == [stays, *new]


def test_control_passes_over_what_cannot_be_read_and_never_more_than_asked(classify: Made, tmp_path: Path) -> None:
    saved = load_model(classify.run / "model")
    assert saved.memory is not None
    folded = dataclasses.replace(saved, memory=saved.memory.folded())
    gone = Sample(tmp_path / "gone.png", label="red")
    samples = [gone, *(Sample(path, label=path.parent.name) for path in classify.images)]
    for one in (saved, folded):
        assert judges(one, samples, most=100) == samples  # too few to choose among
        assert len(judges(one, samples, most=3)) == 3
    reference = GraphDecider(classify.bundle / "model.onnx", Kind("classify"))
    assert Control(saved, samples, reference).loss(reference).images == len(classify.images)


def test_shift_of_every_anomaly_score_is_seen_without_a_label(anomaly: Made) -> None:
    saved = load_model(anomaly.run / "model")
    graph = anomaly.bundle / "model.onnx"

    class Shifted(GraphDecider):
        def run(self, images_NHW3: np.ndarray) -> dict[str, np.ndarray]:
            outputs = super().run(images_NHW3)
            return outputs | {"score": outputs["score"] * np.float32(1.03)}

    normals = [Sample(path, label="good") for path in (anomaly.data / "train" / "good").iterdir()]
    control = Control(saved, normals, GraphDecider(graph, Kind("anomaly")))
    found = control.loss(Shifted(graph, Kind("anomaly")))
    assert (found.figure, found.flips) == (None, 0)
    assert found.moved == pytest.approx(0.03, abs=1e-4)
    assert not found.within(0.5)
    assert control.loss(GraphDecider(graph, Kind("anomaly"))).within(0.0)


def test_int8_is_not_judged_on_the_images_it_was_calibrated_on() -> None:
    samples = [Sample(Path(f"{number}.png")) for number in range(40)]
    seen, judged = _shared_out(samples)
    assert (len(seen), len(judged)) == (10, 30)
    assert {one.path for one in (*seen, *judged)} == {one.path for one in samples}
    assert _shared_out(samples[:15]) == (samples[:15], samples[:15])  # too few to be apart


def test_gains_do_not_hide_decisions_that_changed() -> None:
    assert Loss(-1.0, 8, 1000, "balanced_accuracy").within(0.5)
    assert not Loss(-1.0, 14, 1000, "balanced_accuracy").within(0.5)
    assert Loss(0.1, 900, 1000, "f1", is_dense=True).within(0.5)


@pytest.mark.slow
def test_shell_exports_precisions_with_a_report_beside(
    classify: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle, images = tmp_path / "bundle", classify.data / "train"
    with pytest.raises(SystemExit) as stopped:
        cli.main(
            [
                *("export", str(classify.run), "--out", str(bundle), "--precision", "fp32,int8", "--json"),
                *("--calibrate", str(images), "--max-loss", "5", "--profile", "cloud"),
            ]
        )
    assert not stopped.value.code
    told = json.loads(capsys.readouterr().out)
    assert told["int8"]["figure"] == "balanced_accuracy"
    assert {one.name for one in tmp_path.iterdir()} == {"bundle", "bundle.report.html", "bundle.triton"}
    (graph,) = (tmp_path / "bundle.triton").rglob("*.onnx")
    assert graph.read_bytes() == (bundle / "model.onnx").read_bytes()
    with pytest.raises(SystemExit) as stopped:
        cli.main(["verify", str(bundle), "--images", str(classify.data / "test"), "--sha256", told["fingerprint"]])
    assert not stopped.value.code
    assert "golden replay     ok (int8: 8 images" in capsys.readouterr().out
    page = (tmp_path / "bundle.report.html").read_text()
    for words in ("plain export", "QLinearConv", "stayed in fp32", "points lost", "of &#x27;train&#x27;"):
        assert words in page, words
    assert not (bundle / "model.fp16.onnx").exists()


def test_the_test_part_is_not_what_int8_is_chosen_on(classify: Made, tmp_path: Path) -> None:
    every = _samples_in(classify.data)
    assert {sample.split for sample in every} == {"train"}
    shutil.copytree(classify.data / "test", tmp_path / "data" / "test")
    with pytest.raises(DataError, match=r"--calibrate: .* holds a test part alone"):
        _samples_in(tmp_path / "data")


def test_images_of_a_run_are_found_whatever_made_it(classify: Made, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "recipe.yaml").write_text(f"data: {{path: {classify.data}, splits: [train], most: 3}}\nbudget: {{}}\n")
    assert len(_dataset_of_run(run)) == 20
    (run / "recipe.yaml").write_text("data: images\n")
    with pytest.raises(DataError, match="names no images; give --images and --calibrate"):
        _dataset_of_run(run)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--precision", "int4"], "'int4' found; allowed"),
        (["--max-loss", "-1"], "from 0 to 100"),
        (["--max-loss", "inf"], "from 0 to 100"),
        (["--max-loss", "1"], "--max-loss is for other precisions than fp32"),
        (["--calibrate", "line", "--precision", "fp32"], "--calibrate is for other precisions than fp32"),
    ],
)
def test_shell_says_what_is_allowed(
    classify: Made, tmp_path: Path, given: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["export", str(classify.run), "--out", str(tmp_path / "b"), *given])
    assert stopped.value.code == 2
    assert told in capsys.readouterr().err
