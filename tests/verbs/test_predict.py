import gc
import json
import struct
import weakref
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pangu_cv import cli
from pangu_runtime.predictor import ClassPrediction, Predictor
from tests.finetune.tiny import COLOURS, Made, picture

UNREADABLE = {"06_truncated.jpg": "truncated", "07_bomb.png": "too_large", "08_text.png": "not_an_image"}


def predict(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["predict", *map(str, arguments)])
    return int(stopped.value.code or 0)


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """What plants really have in one folder."""
    folder = tmp_path / "mixed"
    folder.mkdir()
    red, blue = Image.fromarray(picture(COLOURS["red"], 1)), Image.fromarray(picture(COLOURS["blue"], 2))
    red.save(folder / "00_rgb.png")
    Image.fromarray(picture(COLOURS["blue"], 3)[..., 0].astype(np.uint16) * 257).save(folder / "01_16bit.png")
    blue.quantize(16).save(folder / "02_palette.png")
    red.convert("CMYK").save(folder / "03_cmyk.jpg")
    blue.convert("LA").save(folder / "04_grey_alpha.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    red.save(folder / "05_rotated.jpg", exif=exif, quality=95)
    red.save(folder / "06_truncated.jpg")
    data = (folder / "06_truncated.jpg").read_bytes()
    (folder / "06_truncated.jpg").write_bytes(data[: len(data) // 2])
    (folder / "07_bomb.png").write_bytes(bomb(60_000, 60_000))
    (folder / "08_text.png").write_text("this is no image")
    Image.fromarray(picture(COLOURS["red"], 4, height=9, width=700)).save(folder / "09_wide.png")
    Image.fromarray(picture(COLOURS["blue"], 5)).save(folder / "10_rgb.png")
    Image.fromarray(picture(COLOURS["red"], 6)).save(folder / "11_rgb.png")
    return folder


def bomb(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", ["classify", "anomaly"])
def test_mixed_folder_is_decided_in_order(
    kind: str, mixed: Path, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = request.getfixturevalue(kind).bundle
    assert predict(bundle, mixed, "--json") == 0
    out, told = capsys.readouterr()
    records = [json.loads(line) for line in out.splitlines()]
    assert [Path(r["image"]).name for r in records] == sorted(p.name for p in mixed.iterdir())
    assert {Path(r["image"]).name: r["error"] for r in records if "error" in r} == UNREADABLE
    assert told.count("skipped: ") == len(UNREADABLE)
    alone = Predictor(bundle)
    for record in records:
        if "error" not in record:
            path = Path(record["image"])
            single = alone.predict_image(alone.decode(path)).to_json()
            assert record["score"] == pytest.approx(single["score"], abs=1e-5)
            decision = "label" if kind == "classify" else "is_anomalous"
            assert record[decision] == single[decision]


def test_colours_survive_every_kind_of_file(classify: Made, mixed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert predict(classify.bundle, mixed, "--json") == 0
    labels = {Path(r["image"]).name: r.get("label") for r in map(json.loads, capsys.readouterr().out.splitlines())}
    for name in ("00_rgb.png", "03_cmyk.jpg", "05_rotated.jpg", "09_wide.png", "11_rgb.png"):
        assert labels[name] == "red", name
    assert labels["02_palette.png"] == labels["10_rgb.png"] == "blue"


def test_people_read_one_line_per_image(anomaly: Made, mixed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert predict(anomaly.bundle, mixed) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(list(mixed.iterdir())) - len(UNREADABLE)
    assert any(line.startswith("ANOMALY") for line in lines)


def test_out_holds_predictions_and_heat_maps_and_is_never_overwritten(
    anomaly: Made, mixed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert predict(anomaly.bundle, mixed, "--out", out) == 0
    written = json.loads((out / "predictions.json").read_text())
    maps = [r["heat_map"] for r in written["predictions"] if "error" not in r]
    assert len(maps) == len(set(maps)) == 9
    assert all((out / name).is_file() for name in maps)
    before = {p: p.stat().st_mtime_ns for p in out.iterdir()}
    capsys.readouterr()
    assert predict(anomaly.bundle, mixed, "--out", out) == 2
    assert "exists already" in capsys.readouterr().err
    assert {p: p.stat().st_mtime_ns for p in out.iterdir()} == before


class Record(dict[str, Any]):
    """A dictionary whose end can be seen."""

    def __or__(self, more: dict[str, Any]) -> "Record":  # type: ignore[override]
        self.update(more)
        return self


@pytest.mark.parametrize("with_out", [False, True])
def test_records_are_let_go_image_by_image(
    classify: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_out: bool
) -> None:
    made, alive, plain = [], [], ClassPrediction.to_json

    def to_json(self: ClassPrediction) -> Record:
        gc.collect()
        alive.append(sum(record() is not None for record in made))
        record = Record(plain(self))
        made.append(weakref.ref(record))
        return record

    monkeypatch.setattr(ClassPrediction, "to_json", to_json)
    out = tmp_path / "out"
    assert predict(classify.bundle, classify.data / "test", *(["--out", out] if with_out else [])) == 0
    assert len(made) > 3
    assert max(alive) <= 1
    if with_out:
        written = json.loads((out / "predictions.json").read_text())
        assert list(written) == ["bundle", "classes", "threshold", "predictions"]
        assert len(written["predictions"]) == len(made)


def test_a_run_that_is_broken_off_leaves_nothing(
    classify: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told, plain = [], ClassPrediction.to_json

    def to_json(self: ClassPrediction) -> dict[str, Any]:
        told.append(1)
        if len(told) > 2:
            raise MemoryError
        return plain(self)

    monkeypatch.setattr(ClassPrediction, "to_json", to_json)
    with pytest.raises(MemoryError):
        cli.main(["predict", str(classify.bundle), str(classify.data / "test"), "--out", str(tmp_path / "out")])
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_left_where_no_image_can_be_read(anomaly: Made, mixed: Path, tmp_path: Path) -> None:
    assert predict(anomaly.bundle, mixed / "08_text.png") == 2
    assert predict(anomaly.bundle, tmp_path / "nowhere") == 2


def test_moved_threshold_changes_decisions_and_is_told(
    anomaly: Made, tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    normal = anomaly.data / "test" / "good"
    assert predict(anomaly.bundle, normal, "--json", "--threshold", "0.01", "--out", tmp_path / "out") == 0
    assert "threshold moved from" in caplog.text
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert all(r["is_anomalous"] and r["threshold"] == pytest.approx(0.01) for r in records)
    written = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert written["threshold"]["moved_to"] == 0.01
    assert written["threshold"]["certified"] > 1


def test_segmenter_has_no_threshold_to_move(segment: Made, capsys: pytest.CaptureFixture[str]) -> None:
    assert predict(segment.bundle, segment.data / "images", "--threshold", "0.5") == 2
    assert "no threshold to move" in capsys.readouterr().err


def test_what_a_classifier_does_not_know_is_told(unknown: Made, capsys: pytest.CaptureFixture[str]) -> None:
    assert predict(unknown.bundle, unknown.data / "test") == 0
    lines = capsys.readouterr().out.splitlines()
    for line in lines:
        assert line.startswith(("blue", "red", "unknown"))
        assert line.startswith("unknown") == ("(threshold" in line)
    assert any(line.startswith("unknown") and "white" in line for line in lines)


def test_tags_are_listed(multilabel: Made, capsys: pytest.CaptureFixture[str]) -> None:
    assert predict(multilabel.bundle, multilabel.images[0].parent) == 0
    told = {Path(line.split()[-1]).stem: line.split("(")[0].strip() for line in capsys.readouterr().out.splitlines()}
    assert (told["test0"], told["test1"], told["test3"]) == ("nothing", "dark", "dark, light")


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_threshold_must_be_a_number(anomaly: Made, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert predict(anomaly.bundle, anomaly.data, "--threshold", value, "--json") == 2
