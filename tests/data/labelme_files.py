"""labelme's files, made for tests."""

import base64
import io
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pangu_cv.data.masks import read_class_mask
from pangu_cv.data.readers import read_dataset
from pangu_cv.data.sample import Box, Dataset
from pangu_cv.verbs.convert import convert
from tests.data.test_readers_annotated import HEIGHT, WIDTH, boxes_of, image

SQUARE = [[10.0, 5.0], [29.9, 5.0], [29.9, 14.9], [10.0, 14.9]]


def shape(label: str = "crack", points: Any = SQUARE, **more: Any) -> dict[str, Any]:
    return {"label": label, "points": points, "group_id": None, "shape_type": "polygon", "flags": {}} | more


def drawing(*shapes: dict[str, Any], **more: Any) -> dict[str, Any]:
    about = {"version": "5.5.0", "flags": {}, "shapes": list(shapes), "imagePath": "a.jpg", "imageData": None}
    return about | {"imageHeight": HEIGHT, "imageWidth": WIDTH} | more


def labelled(root: Path, *shapes: dict[str, Any], at: str = "a", **more: Any) -> Path:
    image(root / f"{at}.jpg")
    (root / f"{at}.json").write_text(json.dumps(drawing(*shapes, **more)), encoding="utf-8")
    return root


def png(inside_hw: np.ndarray, kind: Any = np.uint8, *, form: str = "PNG") -> str:
    stream = io.BytesIO()
    Image.fromarray(inside_hw.astype(kind) * kind(255)).save(stream, form)
    return base64.b64encode(stream.getvalue()).decode()


def bomb(side_px: int) -> str:
    """A picture of two pixels whose header says that it is huge."""
    content = bytearray(base64.b64decode(png(np.ones((1, 2)))))
    content[16:24] = side_px.to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(bytes(content[12:29])).to_bytes(4, "big")
    return base64.b64encode(bytes(content)).decode()


def mask_of(root: Path, *, classes: int = 2) -> np.ndarray:
    out = root.parent / f"{root.name}-masks"
    convert(root, out, masks=True)
    (mask,) = [s.mask for s in read_dataset(out) if s.path.stem == "a"]
    assert mask is not None
    return read_class_mask(mask, classes=classes)


def only(dataset: Dataset) -> tuple[Box, ...] | None:
    return boxes_of(dataset)["a.jpg"]
