import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pangu_cv.verbs.predict import predict
from tests.finetune.tiny import Made


def test_masks_are_written_as_class_numbers(segment: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    predict(segment.bundle, segment.data / "images", out=tmp_path / "out")
    record = json.loads((tmp_path / "out" / "predictions.json").read_text())["predictions"][0]
    mask = np.asarray(Image.open(tmp_path / "out" / record["mask"]))
    assert mask.shape == (record["height"], record["width"])
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
