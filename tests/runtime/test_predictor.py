import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest

from pangu_runtime.bundle import open_bundle
from pangu_runtime.errors import BundleError, ImageError, RuntimeLimitError
from pangu_runtime.predictor import AnomalyPrediction, BoxPrediction, ClassPrediction, Predictor, TagPrediction, unpack
from tests.finetune.tiny import COLOURS, Made, copy_of, picture, save


def test_one_image_in_memory(classify: Made) -> None:
    found = Predictor(classify.bundle).predict_image(picture(COLOURS["red"], 9), source="camera 1")
    assert isinstance(found, ClassPrediction)
    assert (found.label, found.source) == ("red", "camera 1")
    assert found.scores_C.sum() == pytest.approx(1, abs=1e-5)
    assert found.score == found.scores_C.max()


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_other_arrays_are_refused(classify: Made, image: np.ndarray) -> None:
    with pytest.raises(ImageError, match="expected"):
        Predictor(classify.bundle).predict_image(image)


def test_map_has_the_size_of_the_image_and_shows_the_spot(anomaly: Made) -> None:
    predictor = Predictor(anomaly.bundle)
    path = anomaly.data / "test" / "stain" / "0.png"
    (found,) = predictor.predict([path])
    assert isinstance(found, AnomalyPrediction)
    assert found.map_HW.shape == (40, 48)
    assert found.is_anomalous
    assert found.map_HW[8:28, 8:28].mean() > found.map_HW[:, 36:].mean()


def test_batches_do_not_change_scores(anomaly: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [save(tmp_path / f"{n}.png", picture(COLOURS["blue"], n, width=48 if n % 3 else 60)) for n in range(8)]
    together = [p.score for p in Predictor(anomaly.bundle).predict(paths)]  # type: ignore[union-attr]
    monkeypatch.setattr("pangu_runtime.predictor.BATCH_PIXELS", 1)
    alone = [p.score for p in Predictor(anomaly.bundle).predict(paths)]  # type: ignore[union-attr]
    assert together == pytest.approx(alone, abs=1e-5)


def test_order_is_kept_among_unreadable_files(classify: Made, tmp_path: Path) -> None:
    good = classify.images[0]
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"")
    found = list(Predictor(classify.bundle).predict([bad, good, bad, good, good, tmp_path / "none.png"]))
    assert [isinstance(f, ImageError) for f in found] == [True, False, True, False, False, True]


def test_no_path_gives_nothing(classify: Made) -> None:
    assert list(Predictor(classify.bundle).predict([])) == []


def test_threshold_moves_without_a_new_export(anomaly: Made, caplog: pytest.LogCaptureFixture) -> None:
    image = picture(COLOURS["blue"], 5003)
    certified = Predictor(anomaly.bundle).predict_image(image)
    assert not caplog.records
    moved = Predictor(anomaly.bundle, threshold=0.01).predict_image(image)
    assert isinstance(certified, AnomalyPrediction)
    assert isinstance(moved, AnomalyPrediction)
    assert (certified.is_anomalous, moved.is_anomalous) == (False, True)
    assert moved.threshold == pytest.approx(0.01)
    assert moved.score == pytest.approx(certified.score)
    assert [r.levelname for r in caplog.records] == ["WARNING"]


def test_threshold_of_a_call_goes_before_the_moved_one(classify: Made) -> None:
    predictor, image = Predictor(classify.bundle, threshold=0.75), picture(COLOURS["red"], 9)[None]
    applied = [predictor.run(image, threshold=one)["threshold_applied"].tolist() for one in (0.25, None)]
    assert applied == [[0.25], [0.75]]


@pytest.mark.parametrize(("count", "expected"), [(1, 0.25), (0, 0.75), (3, -math.inf)])
def test_the_best_rejected_box_is_none_of_those_found(count: int, expected: float) -> None:
    out = {
        "boxes_xyxy": np.zeros((1, 3, 4), np.float32),
        "scores": np.array([[0.75, 0.25, 0.125]], np.float32),
        "labels": np.zeros((1, 3), np.int64),
        "count": np.array([count]),
        "threshold_applied": np.array([0.5], np.float32),
    }
    (found,) = unpack(["a.png"], out, task="detect", classes=("pit",))
    assert isinstance(found, BoxPrediction)
    assert (len(found.labels), found.best_rejected) == (count, expected)


def test_graph_of_the_other_task_is_refused(classify: Made, anomaly: Made, tmp_path: Path) -> None:
    from pangu_runtime.bundle import write_sums

    bundle = copy_of(anomaly.bundle, tmp_path / "bundle")
    (bundle / "model.onnx").write_bytes((classify.bundle / "model.onnx").read_bytes())
    write_sums(bundle)
    with pytest.raises(BundleError, match="are not those of 'anomaly'"):
        Predictor(bundle)


def test_a_class_is_answered_or_unknown_as_the_threshold_says(unknown: Made) -> None:
    predictor = Predictor(unknown.bundle)
    assert predictor.bundle.threshold
    assert predictor.bundle.threshold.false_alarm_rate == 0.2
    stated = predictor.bundle.threshold.value
    found = list(predictor.predict(unknown.images))
    assert {f.label for f in found} == {"blue", "red", "unknown"}  # type: ignore[union-attr]
    for one in found:
        assert isinstance(one, ClassPrediction)
        assert one.threshold == stated
        assert (one.label == "unknown") == (one.score < stated)
        assert one.score == one.scores_C.max()
        assert one.to_json()["threshold"] == stated
    answered = [f.label for f in Predictor(unknown.bundle, threshold=0).predict(unknown.images)]  # type: ignore[union-attr]
    silent = [f.label for f in Predictor(unknown.bundle, threshold=1.1).predict(unknown.images)]  # type: ignore[union-attr]
    assert set(answered) == {"blue", "red"}
    assert set(silent) == {"unknown"}


def test_threshold_of_a_classifier_that_answers_everything_can_be_moved(classify: Made) -> None:
    image = picture(COLOURS["red"], 9)
    known, unknown = Predictor(classify.bundle), Predictor(classify.bundle, threshold=1.01)
    assert [p.predict_image(image).label for p in (known, unknown)] == ["red", "unknown"]  # type: ignore[union-attr]
    assert known.bundle.threshold
    assert known.bundle.threshold.value == 0


def test_a_class_named_unknown_would_make_two_answers_one(classify: Made) -> None:
    bundle = open_bundle(classify.bundle)
    renamed = dataclasses.replace(bundle, classes=("blue", "unknown"))
    with pytest.raises((RuntimeLimitError, BundleError), match="unknown"):
        Predictor(renamed, threshold=0.5)


def test_tags_move_with_the_threshold(multilabel: Made) -> None:
    path = next(p for p in multilabel.images if p.stem == "test3")
    counts = []
    for threshold in (0.0, None, 1.1):
        (found,) = Predictor(multilabel.bundle, threshold=threshold).predict([path])
        assert isinstance(found, TagPrediction)
        assert found.to_json()["labels"] == list(found.labels)
        counts.append(len(found.labels))
    assert counts == [2, 2, 0]
