import json
from pathlib import Path

import pytest
from PIL import Image

from pangu_cv.errors import DataError
from pangu_cv.verbs.convert import convert
from pangu_cv.verbs.data import check


@pytest.mark.parametrize(
    ("name", "shown"), [("[/x]", "[/x]"), (":warning:", ":warning:"), ("a\x1b[31m", "a\ufffd[31m")]
)
def test_names_of_classes_and_folders_are_printed_as_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, shown: str
) -> None:
    root = tmp_path / "[bold]set"
    (root / "annotations").mkdir(parents=True)
    Image.new("RGB", (64, 48)).save(root / "a.png")
    tree = {
        "images": [{"id": 0, "file_name": "a.png"}],
        "annotations": [{"id": 0, "image_id": 0, "category_id": 1, "bbox": [1, 1, 20, 20]}],
        "categories": [{"id": 1, "name": name}],
    }
    (root / "annotations" / "instances_train.json").write_text(json.dumps(tree))
    check(root)
    printed = capsys.readouterr().out
    assert "1 images, layout coco" in printed
    assert "[bold]set" in printed.replace("\n", "")
    assert shown in printed


def two_layouts(root: Path) -> Path:
    """Boxes as YOLO and masks, of the same image."""
    for name in ("images", "labels", "masks"):
        (root / name).mkdir(parents=True)
    Image.new("RGB", (40, 20)).save(root / "images" / "a.png")
    Image.new("L", (40, 20)).save(root / "masks" / "a.png")
    (root / "labels" / "a.txt").write_text("0 0.5 0.5 0.5 0.5")
    return root


def test_a_layout_that_is_named_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = two_layouts(tmp_path / "set")
    for layout in ("yolo", "image_masks"):
        check(root, layout=layout, report=tmp_path / f"{layout}.html", as_json=True)
        assert json.loads(capsys.readouterr().out)["layout"] == layout
        assert f"layout {layout}" in (tmp_path / f"{layout}.html").read_text()
    check(root, layout="image_masks")
    assert f"check {root} --layout image_masks --report" in " ".join(capsys.readouterr().out.split())


def test_boxes_of_the_layout_named_are_converted(tmp_path: Path) -> None:
    root = two_layouts(tmp_path / "set")
    convert(root, tmp_path / "coco", layout="yolo")
    assert (tmp_path / "coco" / "annotations" / "instances_all.json").is_file()
    with pytest.raises(DataError, match="layout image_masks"):
        convert(root, tmp_path / "none", layout="image_masks")
