import json
from pathlib import Path

import pytest

from pangu_cv import cli
from tests.finetune.tiny import Made


def evaluated(model: Path, data: Path, out: Path, *more: object) -> tuple[dict, str]:
    with pytest.raises(SystemExit) as stopped:
        cli.main([str(word) for word in ("evaluate", model, data, "--out", out, *more)])
    assert not stopped.value.code
    return json.loads((out / "metrics.json").read_text()), (out / "report.html").read_text()


def test_a_classifier_is_a_gate_once_the_good_class_is_named(classify: Made, tmp_path: Path, capsys) -> None:
    costs = ("--escape-cost", 100, "--overkill-cost", 1)
    figures, page = evaluated(classify.run, classify.data, tmp_path, "--good", "blue", "--recall", 0.5, *costs)
    gate = figures["gate"]
    assert (gate["good_images"], gate["defective_images"]) == (4, 4)
    assert gate["at_recall"]["asked_recall"] == 0.5
    assert gate["at_recall"]["cross_fitted"]["overkill"]["n"] == 4
    assert gate["at_least_cost"]["escape_cost"] == 100
    assert figures["intervals"]["balanced_accuracy"]["n"] == 8
    told = capsys.readouterr().out
    assert "recall 0.5, cross-fitted: overkill" in told
    interval = figures["intervals"]["accuracy"]
    assert (f"[{interval['low']:.4f}, " in told) == (interval["low"] < interval["high"])
    for words in ("Escapes and overkill", "for least cost, 100 : 1", "Each class against the rest"):
        assert words in page


def test_images_that_were_learnt_from_are_counted(classify: Made, anomaly: Made, tmp_path: Path, capsys) -> None:
    figures, page = evaluated(classify.run, classify.data / "train", tmp_path / "a")
    assert figures["notes"] == ["8 of the 12 images are ones the model has learnt from: the figures are too good"]
    assert figures["notes"][0] in page
    assert f"! {figures['notes'][0]}" in capsys.readouterr().out
    assert evaluated(classify.run, classify.data, tmp_path / "b")[0]["notes"] == []
    [note] = evaluated(classify.bundle, classify.data / "train", tmp_path / "c")[0]["notes"]
    assert note.startswith("the dataset names no test part")


def test_without_a_good_class_there_is_no_gate(classify: Made, tmp_path: Path) -> None:
    figures, page = evaluated(classify.run, classify.data, tmp_path)
    assert figures["gate"] is None
    assert "--good CLASS names the class of good images" in page


def test_a_run_and_its_bundle_are_the_same_model(anomaly: Made, tmp_path: Path, capsys) -> None:
    figures, page = evaluated(anomaly.run, anomaly.data, tmp_path, "--against", anomaly.bundle)
    against = figures["against"]
    assert (against["images"], against["better"]) == (7, None)
    assert against["disagreement"]["only_a_right"] == against["disagreement"]["only_b_right"] == 0
    assert against["differences"]["image_auroc"]["difference"]["mean"] == pytest.approx(0, abs=1e-6)
    assert "Too few images to compare by: 7 images." in capsys.readouterr().out
    assert "run against bundle" in page
    assert figures["gate"]["at_own_threshold"]["thresholds"] == [pytest.approx(figures["threshold"])]


def test_segmenters_and_detectors_have_intervals_and_a_gate(segment: Made, detect: Made, tmp_path: Path) -> None:
    masks, page = evaluated(segment.run, segment.data, tmp_path / "masks")
    assert masks["intervals"]["f1"] == masks["f1_interval"]
    assert "no good image" in masks["gate"]["undefined"]
    assert "Not measured: there is no good image here" in page
    boxes, page = evaluated(detect.run, detect.data, tmp_path / "boxes")
    assert boxes["intervals"]["ap50"]["mean"] == pytest.approx(boxes["ap50"])
    assert (boxes["gate"]["good_images"], boxes["gate"]["defective_images"]) == (1, 2)
    assert boxes["gate"]["at_recall"]["cross_fitted"] is None
    assert "What a score is worth" in page


def test_a_bundle_is_measured_in_the_precision_asked_for(precise: Made, tmp_path: Path, capsys) -> None:
    given = ("--precision", "int8", "--against", precise.bundle)
    figures, page = evaluated(precise.bundle, precise.data, tmp_path / "int8", *given)
    own, _ = evaluated(precise.bundle, precise.data, tmp_path / "fp32")
    assert (figures["precision"], own["precision"]) == ("int8", "fp32")
    assert figures["negative_log_likelihood"] != own["negative_log_likelihood"]
    assert figures["against"]["images"] == len(precise.images)
    assert f"{precise.bundle.name} int8 against {precise.bundle.name}" in page


def test_a_precision_that_is_not_there_is_refused(classify: Made, tmp_path: Path, capsys) -> None:
    for model, told in ((classify.bundle, "holds no int8 model"), (classify.run, "is no bundle")):
        with pytest.raises(SystemExit) as stopped:
            cli.main(["evaluate", str(model), str(classify.data), "--precision", "int8", "--out", str(tmp_path)])
        assert stopped.value.code == 2
        assert told in " ".join(capsys.readouterr().err.split())
