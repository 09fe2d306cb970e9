"""Golden vectors of tiles, ``export/end/tiles.json``: what every implementation of cutting and merging must give.

Run this file to write them anew from ``pangu_runtime.tiles``:

``windows``: [left, top, right, bottom] of every tile of an image, in the order in which they are merged.
``boxes``: per tile the outputs of a graph (K boxes, those of score 0 are none), and those of the whole image.
``masks``: every tile says its own number in the mask and number/8 as confidence; of the image the rows of the mask.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pangu_runtime.tiles import Outputs, Tiling, run_tiled

PATH = Path(__file__).parents[2] / "export" / "end" / "tiles.json"
SIZES_HW = ((64, 64), (65, 64), (113, 20), (112, 113), (150, 170), (161, 257))  # halves of pixels among the starts
TILINGS = (Tiling(64, 0.25), Tiling(64, 0.0), Tiling(100, 0.5))
LARGE = (Tiling(640, 0.2), (3456, 4097))
# What two tiles of 64 pixels, 48 apart, see: x0, y0, x1, y1, class, score.
CUT, WHOLE, SMALL = (51, 5, 64, 20, 0), (3, 5, 32, 20, 0), (45, 8, 50, 12, 0)
WHOLE_AND_CUT: dict[str, list[list[tuple[float, ...]]]] = {
    "a poor box in a long one": [[(10, 5, 64, 20, 0, 0.95), (*SMALL, 0.02)], [(0, 5, 64, 20, 0, 0.9), (*WHOLE, 0.02)]],
    "a good box in a long one": [[(10, 5, 64, 20, 0, 0.95), (*SMALL, 0.9)], [(0, 5, 50, 20, 0, 0.9)]],
    "whole, of half the score": [[(*CUT, 1.0)], [(*WHOLE, 0.5)]],
    "whole, of less than half": [[(*CUT, 0.45)], [(*WHOLE, 0.2)]],
    "whole, but rejected": [[(*CUT, 0.6)], [(*WHOLE, 0.45)]],
    "both rejected": [[(*CUT, 0.45)], [(*WHOLE, 0.3)]],
}
DTYPES = {
    "boxes_xyxy": np.float32,
    "scores": np.float32,
    "labels": np.int64,
    "count": np.int64,
    "threshold_applied": np.float32,
}


def about(tiling: Tiling, height: int, width: int) -> dict[str, Any]:
    return {"tile": tiling.to_json(), "height": height, "width": width}


def window_cases() -> Iterator[dict[str, Any]]:
    for tiling in TILINGS:
        for size in SIZES_HW:
            yield about(tiling, *size) | {"windows": tiling.windows(*size)}
    tiling, size = LARGE
    yield about(tiling, *size) | {"windows": tiling.windows(*size)}


def outputs(rows: list[tuple[float, ...]], room: int, threshold: float = 0.5) -> Outputs:
    """Rows of x0, y0, x1, y1, class, score, the best first; the room that is left has score 0."""
    table = np.zeros((room, 6))
    table[: len(rows)] = sorted(rows, key=lambda row: -row[5])[:room] if rows else np.zeros((0, 6))
    return {
        "boxes_xyxy": table[None, :, :4].astype(np.float32),
        "scores": table[None, :, 5].astype(np.float32),
        "labels": table[None, :, 4].astype(np.int64),
        "count": np.array([int((table[:, 5] >= threshold).sum())]),
        "threshold_applied": np.array([threshold], np.float32),
    }


def objects_seen(tiling: Tiling, height: int, width: int, *, objects: int, seed: int, room: int) -> list[Outputs]:
    """What a detector that errs by parts of a pixel gives for every tile; some scores are equal."""
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, (width, height), (objects, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(3, 90, (objects, 2))], 1)
    scores, labels = rng.integers(2, 20, objects) / 20, rng.integers(0, 2, objects)
    parts = []
    for x0, y0, x1, y1 in tiling.windows(height, width):
        rows = []
        for box, label, score in zip(boxes, labels, scores, strict=True):
            seen = np.clip(box - (x0, y0, x0, y0), 0, (x1 - x0, y1 - y0) * 2)
            if min(seen[2:] - seen[:2]) > 1:
                rows.append((*(seen + rng.normal(0, 0.4, 4)), label, score - (0.05 if rng.random() < 0.5 else 0)))
        parts.append(outputs(rows, room))
    return parts


def box_cases() -> Iterator[dict[str, Any]]:
    two, tiling = (64, 112), Tiling(64, 0.25)  # two tiles side by side, 48 pixels apart
    at_edge = [[(40, 5, 62, 20, 0, 0.9)], [(0, 5, 20, 20, 0, 0.6)]]
    whole = [(50, 10, 60, 20, 0, 0.9), (50, 30, 60, 40, 0, 0.9), (50, 45, 60, 55, 0, 0.9)]
    covered = [whole, [(5, 10, 15, 20, 0, 0.8), (5.01, 30, 15.01, 40, 0, 0.7), (5, 45, 15, 55, 1, 0.6)]]
    equal = [[(50, 10, 60, 20, 0, 0.5)], [(2, 10, 12, 20, 0, 0.5), (20, 40, 30, 50, 0, 0.5)]]
    two_px = [[(40, 5, 62, 20, 0, 0.9), (40, 25, 61.99, 40, 0, 0.9)], [(3, 5, 14, 20, 0, 0.6), (3, 25, 14, 40, 0, 0.6)]]
    named = {"cut at an edge": at_edge, "two pixels away": two_px, "covered by 0.7": covered, "equal scores": equal}
    named |= WHOLE_AND_CUT
    for name, rows in named.items():
        yield merged(name, tiling, *two, [outputs(part, 4) for part in rows])
    yield merged("nothing", tiling, *two, [outputs([], 3), outputs([], 3)])
    for seed, (objects, room) in enumerate(((12, 8), (30, 20), (60, 3))):
        size = (150 + 7 * seed, 170 - 5 * seed)
        parts = objects_seen(tiling, *size, objects=objects, seed=seed, room=room)
        yield merged(f"{objects} objects, room for {room}", tiling, *size, parts)


def merged(name: str, tiling: Tiling, height: int, width: int, parts: list[Outputs]) -> dict[str, Any]:
    whole = merge(tiling, height, width, parts)
    plain = [{key: value.tolist() for key, value in one.items()} for one in (*parts, whole)]
    return {"name": name, **about(tiling, height, width), "tiles": plain[:-1], "image": plain[-1]}


def merge(tiling: Tiling, height: int, width: int, parts: list[Outputs]) -> Outputs:
    answers = iter(parts)
    return run_tiled(lambda _: next(answers), np.zeros((1, height, width, 3), np.uint8), tiling)


def from_plain(values: dict[str, Any]) -> Outputs:
    shapes = {"boxes_xyxy": (1, -1, 4), "scores": (1, -1), "labels": (1, -1)}
    return {name: np.array(values[name], dtype).reshape(shapes.get(name, -1)) for name, dtype in DTYPES.items()}


def numbered(tiling: Tiling, height: int, width: int) -> Outputs:
    numbers = iter(range(256))

    def answer(tile: np.ndarray) -> Outputs:
        number = next(numbers)
        shape = tile.shape[:3]
        return {"mask": np.full(shape, number, np.uint8), "confidence": np.full(shape, number / 8, np.float32)}

    return run_tiled(answer, np.zeros((1, height, width, 3), np.uint8), tiling)


def mask_cases() -> Iterator[dict[str, Any]]:
    for tiling, size in ((Tiling(32, 0.25), (50, 70)), (Tiling(32, 0.5), (49, 33)), (Tiling(33, 0.0), (67, 40))):
        rows = [" ".join(map(str, row)) for row in numbered(tiling, *size)["mask"][0].tolist()]
        yield about(tiling, *size) | {"rows": rows}


def vectors() -> dict[str, Any]:
    return {
        "format": "pangu-cv-tiles",
        "version": 1,
        "windows": list(window_cases()),
        "boxes": list(box_cases()),
        "masks": list(mask_cases()),
    }


def text() -> str:
    """One case a line, so that a change shows where it is."""
    found = vectors()
    lists = ("windows", "boxes", "masks")
    lines = {name: ",\n".join(json.dumps(case, separators=(",", ":")) for case in found[name]) for name in lists}
    parts = ",\n".join(f'"{name}": [\n{lines[name]}\n]' for name in lists)
    return f'{{"format": "{found["format"]}", "version": {found["version"]},\n{parts}}}\n'


if __name__ == "__main__":
    PATH.write_text(text(), encoding="utf-8")
