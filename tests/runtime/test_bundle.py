"""A bundle that anyone has touched since its certificate is refused, whether or not its sums were written anew."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pangu_cv import cli
from pangu_runtime.bundle import SUMS, VERSION, contract, file_sha256, open_bundle, read_json, write_sums
from pangu_runtime.errors import BundleError
from pangu_runtime.predictor import Predictor
from tests.finetune.tiny import Made, copy_of
from tests.runtime.forge import (
    Alteration,
    change_threshold,
    change_threshold_everywhere,
    edit_json,
    scale_convolution,
    state_threshold,
    swap_classes,
    swap_classes_everywhere,
)

change_one_convolution = scale_convolution(1.5)
lower_everywhere = change_threshold_everywhere(0.5)


def change_golden_image(folder: Path) -> None:
    Image.fromarray(np.full((64, 64, 3), 200, np.uint8)).save(folder / "golden" / "3.png")


def add_golden_image(folder: Path) -> None:
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(folder / "golden" / "9.png")


def drop(name: str) -> Alteration:
    return lambda folder: (folder / name).unlink()


def future_version(folder: Path) -> None:
    edit_json(folder / "bundle.json", lambda b: b.update(version=VERSION + 1))


def other_contract(folder: Path) -> None:
    edit_json(folder / "bundle.json", lambda b: b["contract"]["input"].update(colour="BGR"))


CLASSIFY = [
    pytest.param(change_one_convolution, "model_sha256", id="one convolution changed"),
    pytest.param(swap_classes, "bundle.json says", id="classes swapped"),
    pytest.param(swap_classes_everywhere, "recorded with classes", id="classes swapped in the graph too"),
    pytest.param(change_golden_image, "does not give its certified answers", id="golden image changed"),
    pytest.param(add_golden_image, "do not match", id="golden image added"),
    pytest.param(drop("golden/0.png"), "do not match", id="golden image missing"),
    pytest.param(drop("golden/expected.json"), "cannot be read as JSON", id="golden answers missing"),
    pytest.param(drop("model.onnx"), "cannot load it", id="model missing"),
    pytest.param(drop("bundle.json"), "not a bundle", id="bundle.json missing"),
    pytest.param(future_version, "this runtime speaks", id="future version"),
    pytest.param(other_contract, "contract", id="other contract"),
]
ANOMALY = [
    pytest.param(change_one_convolution, "model_sha256", id="one convolution changed"),
    pytest.param(state_threshold(0.5), "bundle.json says 0.5", id="threshold in bundle.json"),
    pytest.param(change_threshold(0.5), "model_sha256", id="threshold in the initialiser"),
    pytest.param(lower_everywhere, "recorded with threshold", id="threshold everywhere"),
]


def refusal(bundle: Path, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["verify", str(bundle)])
    told = capsys.readouterr().err
    assert stopped.value.code == 2
    assert told.startswith("error: ")
    assert "Traceback" not in told
    return told


@pytest.mark.parametrize(("alter", "because"), CLASSIFY)
@pytest.mark.parametrize("resign", [False, True], ids=["old sums", "sums written anew"])
def test_altered_classifier_is_refused(
    classify: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str], alter: Alteration, because: str, resign: bool
) -> None:
    check_refused(classify, tmp_path, capsys, alter, because, resign)


@pytest.mark.parametrize(("alter", "because"), ANOMALY)
@pytest.mark.parametrize("resign", [False, True], ids=["old sums", "sums written anew"])
def test_altered_anomaly_bundle_is_refused(
    anomaly: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str], alter: Alteration, because: str, resign: bool
) -> None:
    check_refused(anomaly, tmp_path, capsys, alter, because, resign)


def check_refused(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str], alter: Alteration, because: str, resign: bool
) -> None:
    bundle = copy_of(made.bundle, tmp_path / "bundle")
    alter(bundle)
    if resign:
        write_sums(bundle)
    told = refusal(bundle, capsys)
    by_sums = "is altered" in told or "is missing" in told or "is not listed" in told
    assert because in told if resign else (by_sums or "not a bundle" in told), told


@pytest.mark.parametrize(
    ("kind", "alter"),
    [("classify", change_one_convolution), ("anomaly", change_one_convolution), ("anomaly", lower_everywhere)],
)
def test_forger_who_restates_the_golden_record_is_caught_by_the_answers(
    kind: str, alter: Alteration, request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = copy_of(request.getfixturevalue(kind).bundle, tmp_path / "bundle")
    alter(bundle)
    thresholds = json.loads((bundle / "bundle.json").read_text())["thresholds"]
    identity = {
        "model_sha256": file_sha256(bundle / "model.onnx"),
        "threshold": thresholds["threshold"]["value"],
    }
    edit_json(bundle / "golden" / "expected.json", lambda record: record.update(identity))
    write_sums(bundle)
    assert "does not give its certified answers" in refusal(bundle, capsys)


def test_added_file_is_refused(classify: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = copy_of(classify.bundle, tmp_path / "bundle")
    (bundle / "extra.bin").write_bytes(b"x")
    assert "'extra.bin' is not listed" in refusal(bundle, capsys)


def test_added_file_is_refused_when_the_sums_list_it(
    classify: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = copy_of(classify.bundle, tmp_path / "bundle")
    (bundle / "extra.bin").write_bytes(b"x")
    write_sums(bundle)
    assert "extra.bin" in refusal(bundle, capsys)


def test_bundle_without_its_certificate_is_refused(
    classify: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = copy_of(classify.bundle, tmp_path / "bundle")
    (bundle / "parity.json").unlink()
    write_sums(bundle)
    assert "parity.json" in refusal(bundle, capsys)


@pytest.mark.parametrize("change", [{"holds": False}, {"model_sha256": "0" * 64}])
def test_certificate_of_another_graph_is_refused(
    classify: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict
) -> None:
    bundle = copy_of(classify.bundle, tmp_path / "bundle")
    edit_json(bundle / "parity.json", lambda parity: parity.update(change))
    write_sums(bundle)
    assert "parity.json" in refusal(bundle, capsys)


@pytest.mark.parametrize("name", ["../bundle.json", "golden/../../secret", "/etc/hostname"])
def test_sums_cannot_point_outside(
    classify: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    bundle = copy_of(classify.bundle, tmp_path / "bundle")
    with (bundle / SUMS).open("a") as stream:
        stream.write(f"{'0' * 64}  {name}\n")
    assert "outside the bundle" in refusal(bundle, capsys)


@pytest.mark.parametrize("text", ["", "no sums here\n", "\0\xff"])
def test_sums_that_are_none_are_refused(
    classify: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    bundle = copy_of(classify.bundle, tmp_path / "bundle")
    (bundle / SUMS).write_bytes(text.encode("latin-1"))
    told = refusal(bundle, capsys)
    assert SUMS in told if text else "is not listed" in told


@pytest.mark.parametrize(
    "answers",
    [
        pytest.param({}, id="none"),
        pytest.param([], id="a list"),
        pytest.param("blank", id="no outputs"),
        pytest.param("ragged", id="ragged"),
        pytest.param("numbers", id="not a mapping"),
    ],
)
def test_golden_answers_that_are_none_are_refused(
    classify: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str], answers: object
) -> None:
    bundle = copy_of(classify.bundle, tmp_path / "bundle")
    kinds = {"blank": {}, "ragged": {"scores": [[1], [1, 2]], "label": [0]}, "numbers": 7}

    def change(record: dict) -> None:
        record["answers"] = dict.fromkeys(record["answers"], kinds[answers]) if isinstance(answers, str) else answers

    edit_json(bundle / "golden" / "expected.json", change)
    write_sums(bundle)
    refusal(bundle, capsys)


@pytest.mark.parametrize(
    "change",
    [
        {"task": "detect"},
        {"task": []},
        {"tile": {"px": 8, "overlap": 0.2}},
        {"tile": []},
        {"classes": None},
        {"decode": {"max_pixels": 0}},
        {"decode": {"unknown": 1}},
        {"thresholds": {}},
        {"thresholds": None},
        {"format": "another"},
    ],
)
def test_malformed_manifest_is_refused_in_words(classify: Made, tmp_path: Path, change: dict) -> None:
    bundle = copy_of(classify.bundle, tmp_path / "bundle")
    edit_json(bundle / "bundle.json", lambda manifest: manifest.update(change))
    write_sums(bundle)
    with pytest.raises(BundleError):
        open_bundle(bundle)


def test_bundle_of_an_older_contract_says_to_export_again(classify: Made, tmp_path: Path) -> None:
    """Classifiers once gave scores and a label, and no threshold."""
    bundle = copy_of(classify.bundle, tmp_path / "bundle")
    edit_json(bundle / "bundle.json", lambda b: (b["contract"]["outputs"].pop(), b.update(thresholds={})))
    write_sums(bundle)
    with pytest.raises(BundleError, match="export the bundle again from its checkpoint"):
        open_bundle(bundle)


def test_intact_bundles_are_what_their_contract_says(classify: Made, anomaly: Made, multilabel: Made) -> None:
    for made, task in ((classify, "classify"), (anomaly, "anomaly"), (multilabel, "multilabel")):
        manifest = json.loads((made.bundle / "bundle.json").read_text())
        assert manifest["contract"] == contract(task)
        assert manifest["tile"] is None
        assert set(manifest["licences"]) == {"code", "weights", "data"}
        session = Predictor(made.bundle).session
        types = {"tensor(uint8)": "uint8", "tensor(float)": "float32", "tensor(int64)": "int64", "tensor(bool)": "bool"}
        found = [{"name": o.name, "dtype": types[o.type]} for o in session.get_outputs()]
        stated = [{"name": o["name"], "dtype": o["dtype"]} for o in manifest["contract"]["outputs"]]
        assert found == stated
        listed = {line.split("  ")[1] for line in (made.bundle / SUMS).read_text().splitlines()}
        golden = {f"golden/{n}.png" for n in range(8)} | {"golden/expected.json"}
        assert listed == {"model.onnx", "bundle.json", "parity.json"} | golden


@pytest.mark.parametrize("text", ['{"version": ' + "9" * 5000 + "}", "[" * 100_000, '{"version": "\udcff"}'])
def test_json_that_python_does_not_read_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "parity.json").write_text(text, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(BundleError, match=r"parity\.json: cannot be read as JSON"):
        read_json(tmp_path / "parity.json")


def test_folder_that_is_no_bundle_says_so(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"holds no bundle\.json"):
        open_bundle(tmp_path)
    with pytest.raises(BundleError, match="is not a folder"):
        open_bundle(tmp_path / "nowhere")
