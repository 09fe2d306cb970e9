"""Any dataset with boxes as COCO: ``annotations/instances_<split>.json`` beside copies of the images."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pangu_cv.data.duplicates import relative
from pangu_cv.data.sample import Dataset, Sample
from pangu_cv.errors import DataError, ImageError
from pangu_runtime.decode import DEFAULT_SPEC, DecodeSpec, peek

WHOLE = "all"
"""The name of the file where a dataset has no splits."""


@dataclass(frozen=True)
class Written:
    """How many images and boxes were written, and the images that could not be read."""

    images: int
    boxes: int
    skipped: tuple[str, ...]


def write_coco(dataset: Dataset, folder: Path, *, spec: DecodeSpec = DEFAULT_SPEC) -> Written:
    """Write into an empty folder. Images keep their names below the dataset's root; unlabelled ones are left out.

    Raises DataError where no image has boxes.
    """
    boxed = [sample for sample in dataset if sample.boxes is not None]
    if not boxed:
        raise DataError(f"{dataset.root}: no image has boxes (layout {dataset.layout}); COCO would hold nothing")
    numbers = {name: number for number, name in enumerate(dataset.classes, start=1)}
    images = boxes = 0
    skipped: list[str] = []
    (folder / "annotations").mkdir(parents=True)
    for split in sorted({sample.split or WHOLE for sample in boxed}):
        chosen = [sample for sample in boxed if (sample.split or WHOLE) == split]
        tree, lost = _tree(chosen, dataset.root, numbers, spec)
        for sample in chosen:
            name = relative(sample.path, dataset.root)
            if name not in lost:
                target = folder / "images" / name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(sample.path, target)
        text = json.dumps(tree, ensure_ascii=False)
        file = folder / "annotations" / f"instances_{split}.json"
        # backslashreplace: of a name that is no UTF-8 the bytes become JSON's own escapes
        file.write_text(text, encoding="utf-8", errors="backslashreplace")
        images, boxes = images + len(tree["images"]), boxes + len(tree["annotations"])
        skipped += lost
    return Written(images, boxes, tuple(skipped))


def _tree(
    samples: Sequence[Sample], root: Path, numbers: dict[str, int], spec: DecodeSpec
) -> tuple[dict[str, Any], list[str]]:
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    lost: list[str] = []
    for sample in samples:
        name = relative(sample.path, root)
        try:
            header = peek(sample.path, spec=spec)
        except ImageError:
            lost.append(name)
            continue
        number = len(images) + 1
        images.append({"id": number, "file_name": name, "width": header.width_px, "height": header.height_px})
        for box in sample.boxes or ():
            x0, y0, x1, y1 = (round(value, 3) for value in box.xyxy)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": numbers[box.label],
                    "bbox": [x0, y0, round(x1 - x0, 3), round(y1 - y0, 3)],
                    "area": round((x1 - x0) * (y1 - y0), 3),
                    "iscrowd": 0,
                }
            )
    categories = [{"id": number, "name": name} for name, number in numbers.items()]
    info = {"description": root.name}
    return {"info": info, "images": images, "annotations": annotations, "categories": categories}, lost
