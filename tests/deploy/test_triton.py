"""The repository against Triton's own schema and the rules of its onnxruntime backend; no Triton is run."""

import importlib.util
import json
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import onnx
import pytest
from onnx import TensorProto

from pangu_cv import cli
from pangu_cv.deploy.triton import MAX_BATCH, require_whole, write_repository
from pangu_cv.errors import SettingsError
from pangu_runtime.bundle import file_sha256
from pangu_runtime.predictor import Predictor
from pangu_runtime.serve.protocol import model_metadata
from pangu_runtime.tiles import Tiling
from tests.finetune.tiny import Made, copy_of, made

KINDS = ("classify", "unknown", "multilabel", "anomaly", "segment", "detect")
TYPES = {TensorProto.UINT8: "UINT8", TensorProto.FLOAT: "FP32", TensorProto.INT64: "INT64", TensorProto.BOOL: "BOOL"}


@pytest.fixture(scope="module")
def schema() -> ModuleType:
    """Triton's model_config.proto, as its client carries it; the package around it needs grpc, which we do not."""
    pytest.importorskip("google.protobuf")
    found = importlib.util.find_spec("tritonclient")
    path = Path(found.submodule_search_locations[0]) / "grpc" / "model_config_pb2.py" if found else Path()
    if not path.is_file():
        pytest.skip("no tritonclient here")
    spec = importlib.util.spec_from_file_location("model_config_pb2", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read(schema: ModuleType, model: Path) -> Any:
    from google.protobuf import text_format

    return text_format.Parse((model / "config.pbtxt").read_text(encoding="utf-8"), schema.ModelConfig())


@pytest.fixture
def repository(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Made, Path]:
    bundle = made(request.param)
    write_repository(Predictor(bundle.bundle), tmp_path, name="größe 1")
    return bundle, tmp_path / "größe 1"


def shape(value: onnx.ValueInfoProto) -> list[int]:
    return [d.dim_value if d.HasField("dim_value") else -1 for d in value.type.tensor_type.shape.dim]


@pytest.mark.parametrize("repository", KINDS, indirect=True)
def test_configuration_says_what_the_graph_says(schema: ModuleType, repository: tuple[Made, Path]) -> None:
    """The checks that the backend makes when it loads a model."""
    config, graph = read(schema, repository[1]), onnx.load(repository[1] / "1" / "model.onnx").graph
    assert (config.name, config.backend, config.platform) == ("größe 1", "onnxruntime", "onnxruntime_onnx")
    defaults = {tensor.name for tensor in graph.initializer}
    assert {one.name for one in config.input if one.optional} == {i.name for i in graph.input} & defaults
    assert config.max_batch_size == (0 if any(one.optional for one in config.input) else MAX_BATCH)
    own = [-1] if config.max_batch_size else []
    for stated, found in ((config.input, graph.input), (config.output, graph.output)):
        assert [one.name for one in stated] == [one.name for one in found]
        for one, value in zip(stated, found, strict=True):
            assert schema.DataType.Name(one.data_type) == f"TYPE_{TYPES[value.type.tensor_type.elem_type]}"
            assert own + list(one.dims) == shape(value)
    if config.max_batch_size:  # Triton puts requests together only along a first dimension that is free everywhere
        assert all(shape(value)[0] == -1 for value in [*graph.input, *graph.output])
    assert config.HasField("dynamic_batching") == (config.max_batch_size > 0)
    assert [schema.ModelInstanceGroup.Kind.Name(g.kind) for g in config.instance_group] == ["KIND_CPU"]


@pytest.mark.parametrize("repository", KINDS, indirect=True)
def test_clients_of_our_server_find_the_same(schema: ModuleType, repository: tuple[Made, Path]) -> None:
    """What Triton answers to a request for metadata, by its rules, against what 'pangu-cv serve' answers."""
    bundle, model = repository
    config, predictor = read(schema, model), Predictor(bundle.bundle)
    own = [-1] if config.max_batch_size else []
    theirs = {
        part: [
            {
                "name": one.name,
                "datatype": schema.DataType.Name(one.data_type).removeprefix("TYPE_"),
                "shape": own + list(one.dims),
            }
            for one in tensors
        ]
        for part, tensors in (("inputs", config.input), ("outputs", config.output))
    }
    ours = model_metadata(predictor.bundle, name=config.name, version="1", boxes=predictor.boxes)
    assert ours["versions"] == [one.name for one in model.iterdir() if one.is_dir()]
    assert {part: ours[part] for part in theirs} == theirs
    assert (ours["name"], ours["platform"]) == (config.name, config.platform)
    assert ours["parameters"]["task"] == config.parameters["task"].string_value
    assert json.loads(ours["parameters"]["classes"]) == json.loads(config.parameters["classes"].string_value)


@pytest.mark.parametrize("repository", ["classify", "anomaly"], indirect=True)
def test_files_are_the_graph_and_its_labels(schema: ModuleType, repository: tuple[Made, Path]) -> None:
    bundle, model = repository
    assert file_sha256(model / "1" / "model.onnx") == file_sha256(bundle.bundle / "model.onnx")
    labelled = [one.label_filename for one in read(schema, model).output if one.label_filename]
    if labelled:
        assert (model / labelled[0]).read_text().splitlines() == ["blue", "red"]
    assert sorted(one.name for one in model.iterdir()) == ["1", "config.pbtxt", *labelled]


@pytest.fixture
def quick_graph(monkeypatch: pytest.MonkeyPatch, classify: Made) -> None:
    """Take the graph that was exported already; tracing anew takes seconds."""
    import importlib

    module = importlib.import_module("pangu_cv.deploy.export")  # its function hides it in the package
    monkeypatch.setattr(
        module, "write_graph", lambda _, path, *, classes: shutil.copy(classify.bundle / "model.onnx", path)
    )


def shell(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stopped:
        cli.main([str(a) for a in arguments])
    return int(stopped.value.code or 0)


@pytest.mark.usefixtures("quick_graph")
def test_profile_cloud_writes_it_beside_the_bundle(
    classify: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["export", classify.run, "--out", tmp_path / "colours", "--profile", "cloud"]
    for _ in range(2):  # the second replaces the first
        assert shell(*line, "--json") == 0
        assert json.loads(capsys.readouterr().out)["triton"] == str(tmp_path / "colours.triton")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["colours", "colours.triton"]
    assert (tmp_path / "colours.triton" / "colours" / "1" / "model.onnx").is_file()


@pytest.mark.usefixtures("quick_graph")
def test_neither_appears_without_a_certificate_or_in_place_of_what_is_not_ours(
    classify: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = copy_of(classify.run, tmp_path / "run")
    out = tmp_path / "out"
    line = ["export", run, "--out", out / "bundle", "--images", classify.images[0], "--profile", "cloud"]
    monkeypatch.setattr(Predictor, "run", lambda self, images, _run=Predictor.run: _run(self, images) | {"label": [7]})
    assert shell(*line) == 2
    assert "does not decide like" in capsys.readouterr().err
    assert list(out.iterdir()) == []
    monkeypatch.undo()
    (out / "bundle.triton").mkdir()
    (out / "bundle.triton" / "precious.txt").write_text("the only copy")
    assert shell(*line) == 2
    assert "not ours to replace" in capsys.readouterr().err
    assert [one.name for one in out.iterdir()] == ["bundle.triton"]


def test_models_with_tiles_are_refused() -> None:
    require_whole(None)
    with pytest.raises(SettingsError, match="works in tiles"):
        require_whole(Tiling(640, 0.2))
