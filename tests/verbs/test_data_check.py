import json
import re
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


def test_the_page_shows_the_first_of_very_many_findings_and_says_where_all_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pangu_cv.report.long_table.MOST_ROWS", 3)
    root = tmp_path / "set"
    root.mkdir()
    for at in range(5):
        (root / f"bad{at}.png").write_text(f"no image {at}")
        for name in ("one", "two"):
            Image.new("RGB", (8 + at, 8), (at, 0, 0)).save(root / f"{name}{at}.png")
    for at in range(30):
        Image.new("RGB", (4, 4)).save(root / f"a{at:02}.png")
    with pytest.raises(SystemExit):
        check(root, report=tmp_path / "check.html", as_json=True)
    html = (tmp_path / "check.html").read_text()
    rows = re.findall(r"<tr><td[^>]*>(.*?)</td>", html)
    assert sum(row.startswith("bad") for row in rows) == sum(row in ("bytes", "pixels") for row in rows) == 3
    assert html.count("2 more are not shown; &#x27;pangu-cv data check --json&#x27; names all") == 1
    assert html.count("3 more are not shown") == 1  # five pairs and the thirty
    assert "a19.png and 10 more" in html
    told = json.loads(capsys.readouterr().out)
    assert (len(told["unreadable"]), len(told["duplicates"])) == (5, 6)
