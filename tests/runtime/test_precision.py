"""Bundles of several precisions: which one runs, and that each is held to its own certificate and golden answers."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from pangu_cv import cli
from pangu_runtime import certificate, golden
from pangu_runtime.bundle import Precision, file_sha256, open_bundle, write_sums
from pangu_runtime.errors import BundleError, RuntimeLimitError
from pangu_runtime.predictor import ClassPrediction, Predictor
from tests.finetune.tiny import COLOURS, Made, copy_of, picture

OTHERS: tuple[Precision, ...] = ("fp16", "int8")


def edit_json(path: Path, change: dict) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | change))


def change_a_weight(path: Path, kind: type) -> None:
    proto = onnx.load(path)
    weight = next(t for t in proto.graph.initializer if numpy_helper.to_array(t).dtype == kind and len(t.dims) == 4)
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight)[..., ::-1] // 2, weight.name))
    onnx.save(proto, path)


def test_fp32_runs_unless_another_is_asked_for(precise: Made) -> None:
    assert open_bundle(precise.bundle).precisions == ("fp32", "fp16", "int8")
    image = picture(COLOURS["red"], 9)
    answers = {}
    for precision in (None, "fp32", "fp16", "int8"):
        predictor = Predictor(precise.bundle, precision=precision)
        found = predictor.predict_image(image)
        assert isinstance(found, ClassPrediction)
        answers[precision] = (predictor.model.name, found.label, found.score)
    assert answers[None] == answers["fp32"]
    names = {"fp32": "model.onnx", "fp16": "model.fp16.onnx", "int8": "model.int8.onnx"}
    assert {p: (name, label) for p, (name, label, _) in answers.items() if p} == {
        p: (n, "red") for p, n in names.items()
    }
    assert answers["int8"][2] != answers["fp32"][2]


def test_a_precision_that_is_not_there_is_refused_in_words(classify: Made) -> None:
    with pytest.raises(RuntimeLimitError, match=r"holds no int8 model, only fp32; .* --precision int8"):
        Predictor(classify.bundle, precision="int8")


def test_a_certificate_lets_three_flips_by_for_every_one_that_may_be_lost() -> None:
    assert certificate.flips_allowed("classify", images=1000, points=0.5) == 15
    assert certificate.flips_allowed("anomaly", images=8, points=0.3) == 1
    assert certificate.flips_allowed("anomaly", images=1000, points=0) == 0
    assert certificate.flips_allowed("segment", images=1000, points=0) == 1000


@pytest.mark.parametrize("precision", OTHERS)
def test_each_precision_is_held_to_its_own_record(precise: Made, precision: Precision) -> None:
    predictor = Predictor(precise.bundle, precision=precision)
    assert golden.replay(predictor).images == 8
    certificate.check(predictor)
    again = certificate.recheck(predictor, precise.images)
    assert again.holds
    assert (again.checked, again.difference.flips) == (len(precise.images), 0)
    record = json.loads((precise.bundle / "parity.json").read_text())["precisions"][precision]
    assert {key: record[key] for key in certificate.certified_files(precision)} == {
        "model_sha256": file_sha256(predictor.model),
        "manifest_sha256": file_sha256(precise.bundle / "bundle.json"),
        "golden_sha256": file_sha256(precise.bundle / "golden" / f"expected.{precision}.json"),
    }
    assert again.limits.to_json() == record["recheck"]
    assert record["control"]["limit"] == 2.0


@pytest.mark.parametrize(("precision", "kind"), [("int8", np.int8), ("fp16", np.float16)])
def test_altered_model_of_a_precision_is_caught(
    precise: Made, tmp_path: Path, precision: Precision, kind: type, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = copy_of(precise.bundle, tmp_path / "bundle")
    change_a_weight(bundle / f"model.{precision}.onnx", kind)
    with pytest.raises(BundleError, match=rf"'model\.{precision}\.onnx' is altered"):
        open_bundle(bundle)
    write_sums(bundle)
    golden.replay(Predictor(bundle))  # full precision is what it was
    with pytest.raises(BundleError, match="model_sha256"):
        golden.replay(Predictor(bundle, precision=precision))
    with pytest.raises(BundleError, match=rf"of another model\.{precision}\.onnx"):
        certificate.check(Predictor(bundle, precision=precision))
    edit_json(
        bundle / "golden" / f"expected.{precision}.json",
        {"model_sha256": file_sha256(bundle / f"model.{precision}.onnx")},
    )
    write_sums(bundle)
    with pytest.raises(SystemExit) as stopped:
        cli.main(["verify", str(bundle)])
    assert stopped.value.code == 2
    assert str(bundle) in capsys.readouterr().err


def test_verify_checks_all_precisions_or_one(precise: Made, capsys: pytest.CaptureFixture[str]) -> None:
    for asked in ([], ["--precision", "int8"]):
        with pytest.raises(SystemExit) as stopped:
            cli.main(["verify", str(precise.bundle), "--images", str(precise.data / "test"), "--json", *asked])
        assert not stopped.value.code
        told = json.loads(capsys.readouterr().out)
        assert ("golden" in told, "fp16" in told, "int8" in told) == (not asked, not asked, True)
        assert told["int8"]["certificate"]["checked"] == len(precise.images)


def test_bundle_that_says_nothing_of_precisions_has_one(classify: Made, tmp_path: Path) -> None:
    bundle = copy_of(classify.bundle, tmp_path / "bundle")
    manifest = json.loads((bundle / "bundle.json").read_text())
    del manifest["precisions"], manifest["default_precision"]
    (bundle / "bundle.json").write_text(json.dumps(manifest))
    write_sums(bundle)
    predictor = Predictor(bundle)
    assert (predictor.precision, predictor.bundle.precisions) == ("fp32", ("fp32",))
    golden.replay(predictor)


@pytest.mark.parametrize(
    "change",
    [
        {"precisions": ["fp32", "int8"]},
        {"precisions": ["fp16", "int8"]},
        {"precisions": ["fp32", "fp16", "int8", "int4"]},
        {"precisions": None},
        {"default_precision": "int4"},
    ],
)
def test_precisions_that_are_not_those_of_the_files_are_refused(precise: Made, tmp_path: Path, change: dict) -> None:
    bundle = copy_of(precise.bundle, tmp_path / "bundle")
    edit_json(bundle / "bundle.json", change)
    write_sums(bundle)
    with pytest.raises(BundleError, match="precisions"):
        open_bundle(bundle)


def test_default_precision_is_the_bundles(precise: Made, tmp_path: Path) -> None:
    bundle = copy_of(precise.bundle, tmp_path / "bundle")
    edit_json(bundle / "bundle.json", {"default_precision": "int8"})
    write_sums(bundle)
    assert Predictor(bundle).model.name == "model.int8.onnx"
