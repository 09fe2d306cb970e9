import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from pangu_runtime.errors import PanguError
from pangu_runtime.probes import Probe, measure_probes, read_probes


def graph(path: Path, *, layers: int, width: int = 256, dtype: int = TensorProto.FLOAT) -> Path:
    """Products with one square matrix."""
    weight = numpy_helper.from_array(np.eye(width, dtype=np.float32), "weight")
    nodes = [helper.make_node("Cast", ["x"], ["x0"], to=TensorProto.FLOAT)]
    nodes += [helper.make_node("MatMul", [f"x{at}", "weight"], [f"x{at + 1}"]) for at in range(layers)]
    shape = ["N", width]
    body = helper.make_graph(
        nodes,
        "probe",
        [helper.make_tensor_value_info("x", dtype, shape)],
        [helper.make_tensor_value_info(f"x{layers}", TensorProto.FLOAT, shape)],
        [weight],
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(helper.make_model(body, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


def probe(name: str, file: str, /, **changes: Any) -> dict[str, Any]:
    return {"name": name, "file": file, "input": {"name": "x", "dtype": "float32", "shape": [64, 256]} | changes}


def write(kit: Path, *probes: Any, **changes: Any) -> Path:
    about = {"format": "pangu-cv-probes", "version": 1, "probes": list(probes)} | changes
    (kit / "probes.json").write_text(json.dumps(about))
    return kit


@pytest.fixture
def kit(tmp_path: Path) -> Path:
    """Two products of matrices and forty of them; one takes bytes."""
    graph(tmp_path / "small.onnx", layers=2)
    graph(tmp_path / "deep" / "large.onnx", layers=40)
    graph(tmp_path / "bytes.onnx", layers=2, dtype=TensorProto.UINT8)
    return write(
        tmp_path,
        probe("small", "small.onnx"),
        probe("large", "deep/large.onnx"),
        probe("bytes", "bytes.onnx", dtype="uint8"),
    )


def test_every_probe_is_measured_and_the_larger_takes_longer(kit: Path) -> None:
    seen: list[tuple[int, int]] = []
    found = measure_probes(kit, threads=1, rounds=2, progress=lambda *at: seen.append(at))
    assert (found["format"], found["version"], found["threads"]) == ("pangu-cv-latency", 1, 1)
    assert list(found["probes"]) == ["small", "large", "bytes"]
    for one in found["probes"].values():
        assert 0 < one["low"] <= one["ms"] <= one["high"]
    assert found["probes"]["large"]["ms"] > 3 * found["probes"]["small"]["ms"]
    assert seen == [(at, 6) for at in range(1, 7)]
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert measure_probes(kit, rounds=1)["threads"] >= 1


def test_probes_take_turns(kit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    turns: list[str] = []
    monkeypatch.setattr("pangu_runtime.probes._turn", lambda one, threads: turns.append(one.name) or [len(turns)])
    found = measure_probes(kit, rounds=3)
    assert turns == ["small", "large", "bytes", "bytes", "large", "small", "small", "large", "bytes"]
    assert found["probes"]["small"] == {"ms": 6.0, "low": 3.5, "high": 6.5}


def test_kit_is_read(kit: Path) -> None:
    small, large, raw = read_probes(kit)
    assert small == Probe("small", kit / "small.onnx", "x", "float32", (64, 256))
    assert (large.file, raw.dtype) == (kit / "deep" / "large.onnx", "uint8")


@pytest.mark.parametrize(
    ("probes", "because"),
    [
        ([], "at least one"),
        ("x", "a list"),
        ([3], r"probes\[0\]: malformed"),
        ([{}], "malformed"),
        ([probe("a", "small.onnx"), probe("a", "small.onnx")], "two probes have the name 'a'"),
        ([probe("", "small.onnx")], "are texts"),
        ([probe("a", "small.onnx") | {"input": None}], "malformed"),
        ([probe("a", "../small.onnx")], "outside the kit"),
        ([probe("a", "deep/../../x.onnx")], "outside the kit"),
        ([probe("a", "/etc/x.onnx")], "outside the kit"),
        ([probe("a", "link.onnx")], "outside the kit"),
        ([probe("a", "way/small.onnx")], "outside the kit"),
        ([probe("a", "nowhere.onnx")], "no ONNX file"),
        ([probe("a", "probes.json")], "no ONNX file"),
        ([probe("a", "deep")], "no ONNX file"),
        ([probe("a", "small.onnx", dtype="float64")], "allowed: float32, uint8"),
        ([probe("a", "small.onnx", dtype=[])], "are texts"),
        ([probe("a", "nul\0.onnx")], "cannot be found"),
        ([probe("a", "small.onnx", shape=[0, 256])], "positive whole numbers"),
        ([probe("a", "small.onnx", shape=[True, 256])], "positive whole numbers"),
        ([probe("a", "small.onnx", shape="64")], "positive whole numbers"),
        ([probe("a", "small.onnx", shape=[2**20, 2**20])], "at most"),
        ([probe("a", "small.onnx", name="y")], "its inputs are"),
        ([probe("a", "small.onnx", shape=[64, 255])], "cannot be run with float32"),
        ([probe("a", "small.onnx", dtype="uint8")], "cannot be run with uint8"),
        ([probe("a", "broken.onnx")], "cannot load it"),
    ],
)
def test_kit_from_anyone_is_told_in_words(
    kit: Path, tmp_path_factory: pytest.TempPathFactory, probes: Any, because: str
) -> None:
    elsewhere = graph(tmp_path_factory.mktemp("elsewhere") / "small.onnx", layers=1)
    (kit / "link.onnx").symlink_to(elsewhere)
    (kit / "way").symlink_to(elsewhere.parent)
    (kit / "broken.onnx").write_bytes(b"no graph")
    write(kit, probes=probes)
    with pytest.raises(PanguError, match=because):
        measure_probes(kit, threads=1, rounds=1)


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.write_text(json.dumps({"format": "another", "version": 1})),
        lambda path: path.write_text(json.dumps({"format": "pangu-cv-probes", "version": 2})),
        lambda path: path.write_text("[]"),
        lambda path: path.write_bytes(b"\xff"),
        lambda path: path.unlink(),
    ],
)
def test_file_that_is_no_kit_is_told(kit: Path, change: Callable[[Path], None]) -> None:
    change(kit / "probes.json")
    with pytest.raises(PanguError):
        read_probes(kit)


def test_answer_says_what_the_kit_is_of(kit: Path) -> None:
    about = {"model": "0123abcd", "image_hw": [480, 640]}
    write(kit, probe("small", "small.onnx"), **about)
    assert measure_probes(kit, threads=1, rounds=1).items() >= about.items()


@pytest.mark.parametrize("about", [{"model": 3}, {"image_hw": [480]}, {"image_hw": [0, 640]}, {"image_hw": "large"}])
def test_kit_of_nothing_known_is_told(kit: Path, about: dict[str, Any]) -> None:
    write(kit, probe("small", "small.onnx"), **about)
    with pytest.raises(PanguError, match=f"{next(iter(about))}: .* is needed|{next(iter(about))}: .* are needed"):
        measure_probes(kit, threads=1, rounds=1)
