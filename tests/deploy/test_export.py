import importlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pangu_cv import cli
from pangu_cv.deploy import export
from pangu_cv.errors import CertificateError, CheckpointError, PanguError
from pangu_runtime import golden
from pangu_runtime.bundle import fingerprint, open_bundle
from pangu_runtime.predictor import Predictor
from tests.finetune.tiny import Made, copy_of

Outputs = dict[str, np.ndarray]


@pytest.fixture
def quick_graph(monkeypatch: pytest.MonkeyPatch, classify: Made, anomaly: Made) -> None:
    """Take the graph that was exported already; tracing anew takes seconds."""

    def copy(_: object, path: Path, *, classes: tuple[str, ...]) -> None:
        shutil.copy((classify if classes else anomaly).bundle / "model.onnx", path)

    module = importlib.import_module("pangu_cv.deploy.export")  # its function hides it in the package
    monkeypatch.setattr(module, "write_graph", copy)


def perturb(monkeypatch: pytest.MonkeyPatch, change: Callable[[Outputs], Any]) -> None:
    run = Predictor.run

    def perturbed(self: Predictor, images: np.ndarray) -> Outputs:
        outputs = run(self, images)
        change(outputs)
        return outputs

    monkeypatch.setattr(Predictor, "run", perturbed)


def shift_scores(outputs: Outputs) -> None:
    for name in {"scores", "score"} & set(outputs):
        outputs[name] = outputs[name] + np.float32(0.01)


def flip(outputs: Outputs) -> None:
    name = "label" if "label" in outputs else "is_anomalous"
    outputs[name] = 1 - outputs[name] if name == "label" else ~outputs[name]


def lose_numbers(outputs: Outputs) -> None:
    for name in {"scores", "score"} & set(outputs):
        outputs[name] = outputs[name] * np.float32("nan")


def move_map(outputs: Outputs) -> None:
    outputs["map"] = outputs["map"] + np.float32(0.1)


@pytest.mark.usefixtures("quick_graph")
@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("classify", shift_scores),
        ("classify", lose_numbers),
        ("anomaly", flip),
        ("anomaly", move_map),
    ],
)
def test_no_bundle_outside_the_limits(
    kind: str,
    change: Callable[[Outputs], Any],
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: Made = request.getfixturevalue(kind)
    run = copy_of(made.run, tmp_path / "run")
    perturb(monkeypatch, change)
    with pytest.raises(CertificateError, match="does not decide like the trained model"):
        export(run / "model", tmp_path / "out" / "bundle", made.images[:3])
    assert list((tmp_path / "out").iterdir()) == []
    assert json.loads((run / "parity-failed.json").read_text())["holds"] is False


@pytest.mark.usefixtures("quick_graph")
def test_shell_ends_with_2_and_says_where_the_certificate_is(
    classify: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = copy_of(classify.run, tmp_path / "run")
    perturb(monkeypatch, flip)
    with pytest.raises(SystemExit) as stopped:
        cli.main(["export", str(run), "--out", str(tmp_path / "bundle")])
    told = capsys.readouterr().err
    assert stopped.value.code == 2
    assert told.startswith("error: the exported graph does not decide like the trained model")
    assert "parity-failed.json" in told
    assert "8 of 8 decisions" in told
    assert not (tmp_path / "bundle").exists()


@pytest.mark.usefixtures("quick_graph")
def test_failing_leaves_the_earlier_bundle_alone(
    classify: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = copy_of(classify.bundle, tmp_path / "bundle")
    run = copy_of(classify.run, tmp_path / "run")
    perturb(monkeypatch, flip)
    with pytest.raises(CertificateError):
        export(run / "model", bundle, classify.images[:1])
    monkeypatch.undo()
    golden.replay(Predictor(open_bundle(bundle)))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bundle", "run"]


@pytest.mark.usefixtures("quick_graph")
def test_shell_exports_a_run_on_its_own_test_images(
    anomaly: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = tmp_path / "bundle"
    for _ in range(2):  # the second replaces the first
        with pytest.raises(SystemExit) as stopped:
            cli.main(["export", str(anomaly.run), "--out", str(bundle), "--json"])
        assert not stopped.value.code
        told = json.loads(capsys.readouterr().out)
        assert (told["images"], told["flips"]) == (len(anomaly.images), 0)
        assert told["fingerprint"] == fingerprint(bundle)
    golden.replay(Predictor(bundle))
    assert [p.name for p in tmp_path.iterdir()] == ["bundle"]


@pytest.mark.usefixtures("quick_graph")
def test_of_very_many_test_images_some_are_certified(
    classify: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("pangu_cv.verbs.export._MOST_CERTIFIED", 3)
    counts = []
    for given in ([], ["--images", str(classify.images[0].parents[1])]):
        with pytest.raises(SystemExit):
            cli.main(["export", str(classify.run), "--out", str(tmp_path / "bundle"), "--json", *given])
        counts.append(json.loads(capsys.readouterr().out)["images"])
    assert counts[0] == 3 < counts[1]  # named images are all certified


@pytest.mark.usefixtures("quick_graph")
@pytest.mark.parametrize("kind", ["folder", "file"])
def test_out_that_is_no_bundle_is_never_replaced(classify: Made, tmp_path: Path, kind: str) -> None:
    target = tmp_path / "my_images"
    if kind == "folder":
        target.mkdir()
        (target / "precious.txt").write_text("the only copy")
    else:
        target.write_text("the only copy")
    with pytest.raises(PanguError):
        export(classify.run / "model", target, classify.images[:1])
    kept = target / "precious.txt" if kind == "folder" else target
    assert kept.read_text() == "the only copy"


def test_threshold_stands_in_manifest_graph_and_golden_record(anomaly: Made) -> None:
    threshold = float(load_threshold(anomaly.run))
    manifest = json.loads((anomaly.bundle / "bundle.json").read_text())
    predictor = Predictor(anomaly.bundle)
    assert manifest["thresholds"]["threshold"]["value"] == pytest.approx(threshold, rel=1e-6)
    assert float(predictor.run(np.zeros((1, 8, 8, 3), np.uint8))["threshold_applied"][0]) == pytest.approx(threshold)
    assert predictor.session.get_overridable_initializers()[0].name == "threshold"
    assert json.loads((anomaly.bundle / "golden" / "expected.json").read_text())["threshold"] == pytest.approx(
        threshold
    )


def load_threshold(run: Path) -> float:
    return float(json.loads((run / "metrics.json").read_text())["threshold"]["value"])


def test_golden_replay_of_a_fresh_bundle_is_exact(classify: Made) -> None:
    replay = golden.replay(Predictor(classify.bundle))
    assert (replay.images, replay.difference.flips) == (8, 0)
    assert replay.difference.score < 1e-5


def test_nothing_to_export(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"holds no model\.json"):
        export(tmp_path, tmp_path / "bundle", [])
    assert list(tmp_path.iterdir()) == []
