import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from pangu_cv.verbs.predict import _write_boxes, predict
from pangu_runtime.decode import decode
from pangu_runtime.predictor import BoxPrediction
from tests.finetune.tiny import Made


def test_masks_are_written_as_class_numbers(segment: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    predict(segment.bundle, segment.data / "images", out=tmp_path / "out")
    record = json.loads((tmp_path / "out" / "predictions.json").read_text())["predictions"][0]
    picture = Image.open(tmp_path / "out" / record["mask"])
    mask, seen = np.asarray(picture), np.asarray(picture.convert("RGB"))
    assert mask.shape == (record["height"], record["width"])
    assert (seen[mask == 0] == 0).all()
    assert (seen[mask == 1].max(1) > 200).all()  # class numbers as greys would all look black
    assert int((mask == 1).sum()) == record["pixels"]["crack"]
    assert "crack" in capsys.readouterr().out


def test_boxes_are_written_and_drawn(detect: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    predict(detect.bundle, detect.data / "JPEGImages", out=tmp_path / "out", threshold=0.05)
    found = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert found["threshold"] == {"certified": pytest.approx(0.3), "moved_to": 0.05}
    record = next(one for one in found["predictions"] if one["boxes"])
    drawn = np.asarray(Image.open(tmp_path / "out" / record["picture"]).convert("RGB")).astype(int)
    original = np.asarray(Image.open(record["image"]).convert("RGB")).astype(int)
    assert drawn.shape == original.shape
    assert np.abs(drawn - original).max() > 60
    assert any(word in capsys.readouterr().out for word in ("dark", "light"))


def test_a_class_whose_name_cannot_be_drawn_is_drawn_as_its_number(tmp_path: Path) -> None:
    Image.new("RGB", (120, 60), (90, 90, 90)).save(tmp_path / "a.png")
    predictor = SimpleNamespace(bundle=SimpleNamespace(classes=("划痕", "凹坑")), decode=decode)
    drawn = []
    for number, label in enumerate(predictor.bundle.classes):
        result = BoxPrediction("a.png", (label,), np.array([0.9]), np.array([[5, 5, 100, 50]]), 0.5)
        name = _write_boxes(predictor, tmp_path / "a.png", result, tmp_path, number)  # type: ignore[arg-type]
        drawn.append(np.asarray(Image.open(tmp_path / name)))
    assert not np.array_equal(*drawn)
