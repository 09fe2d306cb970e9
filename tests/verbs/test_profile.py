import json
from pathlib import Path

import pytest

from pangu_cv import cli
from tests.finetune.tiny import Made
from tests.runtime.test_probes import graph, probe, write


def profile(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["profile", *map(str, arguments)])
    return int(stopped.value.code or 0)


def test_bundle_is_shown_and_written(detect: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = (detect.bundle, "--runs", 2, "--size", "96x64", "--threads", 1, "--out", tmp_path / "figures.json")
    assert profile(*line) == 0
    shown = capsys.readouterr().out
    assert "detect, fp32, 96x64 pixels, 2 runs, 1 threads" in shown
    for word in ("pixels to decision", "JPEG file to decision", "graph loaded", "Conv", "peak memory"):
        assert word in shown
    written = json.loads((tmp_path / "figures.json").read_text())
    assert profile(*line, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told.keys() == written.keys()
    assert told["operators"]


def test_precision_is_measured_that_was_asked_for(precise: Made, capsys: pytest.CaptureFixture[str]) -> None:
    line = (precise.bundle, "--runs", 1, "--size", "96x64", "--json")
    found = {}
    for precision in ("fp32", "int8"):
        assert profile(*line, "--precision", precision) == 0
        found[precision] = json.loads(capsys.readouterr().out)
        assert found[precision]["precision"] == precision
    names = {precision: {one["name"] for one in told["operators"]} for precision, told in found.items()}
    assert "QLinearConv" in names["int8"] - names["fp32"]


def test_kit_is_measured_and_answered(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    graph(tmp_path / "a.onnx", layers=2)
    write(tmp_path, probe("a", "a.onnx"))
    assert profile(tmp_path, "--rounds", 1, "--threads", 1) == 0
    assert "quartiles" in capsys.readouterr().out
    answer = json.loads((tmp_path / "latency.json").read_text())
    assert (answer["format"], list(answer["probes"])) == ("pangu-cv-latency", ["a"])
    assert profile(tmp_path, "--rounds", 1, "--out", tmp_path / "there.json", "--json") == 0
    assert json.loads(capsys.readouterr().out) == json.loads((tmp_path / "there.json").read_text())
    assert profile(tmp_path, "--precision", "int8") == 2
    assert "kit of probes" in capsys.readouterr().err
