import importlib
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from pangu_cv.deploy.attention import fuse_attention
from pangu_cv.deploy.decider import GraphDecider, Kind
from pangu_cv.deploy.golden_images import golden_image
from pangu_cv.deploy.lean import lean
from pangu_cv.deploy.onnx_graph import Graph, attribute, stripped
from pangu_cv.deploy.optimise import optimise
from pangu_cv.deploy.timing import Timing, by_operator
from pangu_cv.models.backbone import BackboneConfig
from pangu_cv.models.preprocess import PreprocessConfig
from pangu_cv.tasks.classify import ClassifyConfig
from pangu_cv.tasks.graph import write_graph
from tests.finetune.tiny import Made

KIND = Kind("classify")
IMAGES = [golden_image(at, 60 + 7 * at, 80) for at in range(2)]


@pytest.fixture(scope="module")
def transformer(tmp_path_factory: pytest.TempPathFactory) -> onnx.ModelProto:
    """A tiny ViT with a random head, fresh from the exporter."""
    torch.manual_seed(0)
    backbone = BackboneConfig(name="test_vit", weights="random", levels=(1, 4))
    config = ClassifyConfig(backbone=backbone, preprocess=PreprocessConfig(image_px=64))
    model = config.build(("a", "b"))
    for buffer in model.head.state_dict().values():
        if buffer.ndim == 2:
            buffer.normal_()
    path = tmp_path_factory.mktemp("graph") / "model.onnx"
    write_graph(model, path, classes=("a", "b"))
    return onnx.load(path)


def copy(proto: onnx.ModelProto) -> onnx.ModelProto:
    other = onnx.ModelProto()
    other.CopyFrom(proto)
    return other


def answers(proto: onnx.ModelProto) -> list[np.ndarray]:
    decider = GraphDecider(stripped(proto).SerializeToString(), KIND)
    return [decider.run(np.stack([image, image[::-1]]))["scores"] for image in IMAGES]


def test_rewritten_graph_is_shorter_standard_and_answers_the_same(transformer: onnx.ModelProto) -> None:
    rewritten = copy(transformer)
    found = lean(Graph(rewritten))
    blocks = sum(node.op_type == "Softmax" for node in transformer.graph.node) - 1
    assert found["linear layers as Gemm"] == 4 * blocks
    assert {node.domain for node in rewritten.graph.node} <= {"", "ai.onnx"}
    onnx.checker.check_model(stripped(rewritten), full_check=True)
    for expected, got in zip(answers(transformer), answers(rewritten), strict=True):
        assert expected.std() > 0.01
        np.testing.assert_allclose(got, expected, atol=1e-5)


def test_attention_becomes_one_operator(transformer: onnx.ModelProto) -> None:
    fused = copy(transformer)
    assert fuse_attention(Graph(fused)) == sum(node.op_type == "Softmax" for node in transformer.graph.node) - 1
    assert len(fused.graph.node) < 0.8 * len(transformer.graph.node)
    for expected, got in zip(answers(transformer), answers(fused), strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-5)


def test_distances_of_anomaly_become_one_operator(anomaly: Made) -> None:
    proto = onnx.load(anomaly.bundle / "model.onnx")
    gemms = [node for node in proto.graph.node if node.op_type == "Gemm" and attribute(node, "alpha") == -1]
    matmuls = [node for node in proto.graph.node if node.op_type == "MatMul"]
    assert len(gemms) + len(matmuls) == 1  # rewritten where that was faster
    lean(Graph(proto))
    assert not any(node.op_type == "MatMul" for node in proto.graph.node)


@pytest.mark.parametrize(("ratio", "high"), [(0.8, 0.9), (0.8, 1.1), (1.0, 1.0), (1.2, 1.3)])
def test_plain_graph_is_kept_unless_the_other_is_surely_faster(
    transformer: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch, ratio: float, high: float
) -> None:
    module = importlib.import_module("pangu_cv.deploy.optimise")
    timed = Timing(1.0, ratio, high, 1.0)
    monkeypatch.setattr(module, "in_turn", lambda graphs, *_, **__: dict.fromkeys(graphs, timed))
    found = optimise(transformer, IMAGES, KIND)
    assert found.is_lean == (high < 1)
    assert len(found.chosen.graph.node) != len(found.fused.graph.node)
    assert any(node.op_type == "MultiHeadAttention" for node in found.fused.graph.node)
    assert not any(node.op_type == "MultiHeadAttention" for node in found.chosen.graph.node)


def test_rewriting_that_decides_otherwise_is_dropped(
    transformer: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoil(graph: Graph) -> dict[str, int]:
        softmax = next(node for node in reversed(graph.proto.graph.node) if node.op_type == "Softmax")
        made = graph.made_by(softmax.input[0])
        assert made is not None
        softmax.input[0] = made.input[0]
        return {"wrong": 1}

    monkeypatch.setattr(importlib.import_module("pangu_cv.deploy.optimise"), "lean", spoil)
    found = optimise(transformer, IMAGES, KIND)
    assert not found.is_lean
    assert list(found.timings) == ["plain"]
    assert found.fused is found.chosen is transformer


def test_stripped_graph_says_nothing_of_its_makers(transformer: onnx.ModelProto, classify: Made) -> None:
    assert b".py" in transformer.SerializeToString()
    assert b".py" not in stripped(transformer).SerializeToString()
    kept = stripped(transformer, keeps_shapes=True)
    assert b".py" not in kept.SerializeToString()
    assert {value.name for value in kept.graph.value_info} <= {name for node in kept.graph.node for name in node.output}
    assert len(kept.graph.value_info) > 100
    assert b".py" not in (classify.bundle / "model.onnx").read_bytes()


def test_profile_names_operators(classify: Made, tmp_path: Path) -> None:
    found = by_operator(classify.bundle / "model.onnx", IMAGES[0], KIND, rounds=3)
    assert "Conv" in found
    assert list(found.values()) == sorted(found.values(), reverse=True)


def test_threads_of_one_graph_do_not_wait_busily_while_another_is_timed(classify: Made) -> None:
    options = GraphDecider(classify.bundle / "model.onnx", KIND).session.get_session_options()
    assert options.get_session_config_entry("session.force_spinning_stop") == "1"
