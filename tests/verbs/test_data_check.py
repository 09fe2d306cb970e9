import json
from pathlib import Path

import pytest
from PIL import Image

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
