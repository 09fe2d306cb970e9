"""``pangu-cv predict``: decisions for images, without torch."""

import colorsys
import json
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from cyclopts import Parameter
from PIL import Image

from pangu_cv.errors import DataError, ImageError
from pangu_cv.json_stream import json_list
from pangu_cv.progress import bar
from pangu_cv.report.boxes import Drawn, draw_boxes, drawn_names
from pangu_cv.report.heat_map import overlay
from pangu_cv.staging import staged_folder
from pangu_runtime.bundle import Precision
from pangu_runtime.images import list_images
from pangu_runtime.predictor import (
    AnomalyPrediction,
    BoxPrediction,
    MaskPrediction,
    Prediction,
    Predictor,
    TagPrediction,
)


def predict(
    bundle: Path,
    images: Path,
    *,
    as_json: Annotated[bool, Parameter(name="--json")] = False,
    out: Path | None = None,
    threshold: float | None = None,
    threads: int | None = None,
    precision: Precision | None = None,
) -> None:
    """Decide an image or a folder of images with a bundle. Runs without torch.

    Parameters
    ----------
    bundle
        The folder that 'pangu-cv export' wrote.
    images
        An image or a folder, searched with its sub-folders.
    as_json
        Print one JSON object per image.
    out
        A new folder for predictions.json and, beside it, heat maps of anomalies, masks of class numbers (PNG with
        a palette: Pillow reads the numbers, OpenCV the colours) or images with their boxes. There, #2 is a name that
        cannot be drawn: class 2, from 0, in predictions.json.
    threshold
        Move the threshold of a bundle (all tasks but segment) for this run; the move is logged and stands in every
        prediction. A classifier answers 'unknown' below it.
    threads
        Threads of the runtime; default all cores.
    precision
        Which of the bundle's precisions runs: fp32, fp16 or int8; default: the one it names.
    """
    paths = list_images(images)
    if out is not None and out.exists():
        raise DataError(f"'{out}' exists already; give --out a new folder")
    predictor = Predictor(bundle, threshold=threshold, threads=threads, precision=precision)
    if out is None:
        decided = _run(predictor, paths, as_json=as_json, folder=None)
    else:
        with staged_folder(out) as staging:
            decided = _run(predictor, paths, as_json=as_json, folder=staging)
        print(f"wrote {out}", file=sys.stderr)
    if not decided:
        raise DataError(f"none of the {len(paths)} images could be read")


def _run(predictor: Predictor, paths: tuple[Path, ...], *, as_json: bool, folder: Path | None) -> int:
    """How many images were decided. Each is told and written before the next one: nothing of it stays."""
    decided = 0
    with bar("predicting") as progress, _records(predictor, folder) as write:
        for done, (path, result) in enumerate(zip(paths, predictor.predict(paths), strict=True), start=1):
            if isinstance(result, ImageError):
                print(f"skipped: {result}", file=sys.stderr)
                record = {"image": str(path), "error": result.reason, "message": str(result)}
            else:
                decided += 1
                record = result.to_json() | _pictured(predictor, path, result, folder, done)
                if not as_json:
                    print(_line(result))
            if as_json:
                print(json.dumps(record))
            write(record)
            progress(done, len(paths))
    return decided


def _records(predictor: Predictor, folder: Path | None) -> AbstractContextManager[Callable[[Any], None]]:
    """What takes the record of every image: predictions.json in a folder, or nothing."""
    if folder is None:
        return nullcontext(lambda _: None)
    threshold, moved = predictor.bundle.threshold, predictor.moved_threshold
    about = {
        "bundle": str(predictor.bundle.folder),
        "classes": list(predictor.bundle.classes),
        "threshold": None if threshold is None else {"certified": threshold.value, "moved_to": moved},
    }
    return json_list(folder / "predictions.json", about, "predictions")


def _pictured(predictor: Predictor, path: Path, result: Prediction, folder: Path | None, number: int) -> dict[str, str]:
    """The name of what was drawn in the folder, by its kind."""
    if folder is None:
        return {}
    match result:
        case AnomalyPrediction():
            return {"heat_map": _write_map(predictor, path, result, folder, number)}
        case BoxPrediction():
            return {"picture": _write_boxes(predictor, path, result, folder, number)}
        case MaskPrediction():
            return {"mask": _write_mask(path, result, folder, number)}
        case _:
            return {}


def _line(result: Prediction) -> str:
    if isinstance(result, AnomalyPrediction):
        verdict = "ANOMALY" if result.is_anomalous else "normal"
        return f"{verdict:8} {result.score:7.3f} (threshold {result.threshold:.3f})  {result.source}"
    if isinstance(result, BoxPrediction):
        found = (f"{label} {score:.0%}" for label, score in zip(result.labels, result.scores_K, strict=True))
        return f"{', '.join(found) or 'nothing':24} {result.source}"
    if isinstance(result, MaskPrediction):
        shares = (f"{name} {count / result.mask_HW.size:.1%}" for name, count in result.pixels.items() if count)
        return f"{', '.join(shares) or 'nothing':24} {result.source}"
    if isinstance(result, TagPrediction):
        best = f"best score {result.scores_C.max():.0%}"
        return f"{', '.join(result.labels) or 'nothing':40} ({best}, threshold {result.threshold:.0%})  {result.source}"
    below = f" (threshold {result.threshold:.1%})" if result.score < result.threshold else ""
    return f"{result.label:24} {result.score:6.1%}{below}  {result.source}"


def _write_map(predictor: Predictor, path: Path, result: AnomalyPrediction, folder: Path, number: int) -> str:
    name = f"{number:05d}_{path.stem}.jpg"
    picture = overlay(predictor.decode(path), result.map_HW.astype(np.float64), threshold=result.threshold)
    Image.fromarray(picture).save(folder / name, quality=90)
    return name


def _write_boxes(predictor: Predictor, path: Path, result: BoxPrediction, folder: Path, number: int) -> str:
    name = f"{number:05d}_{path.stem}.jpg"
    found = zip(result.boxes_xyxy, result.labels, result.scores_K, strict=True)
    names = drawn_names(predictor.bundle.classes)
    boxes = [Drawn(box.tolist(), f"{names[label]} {score:.0%}") for box, label, score in found]
    Image.fromarray(draw_boxes(predictor.decode(path), boxes)).save(folder / name, quality=90)
    return name


def _write_mask(path: Path, result: MaskPrediction, folder: Path, number: int) -> str:
    """Class numbers as they are, which a palette makes visible: as greys they would all look black."""
    name = f"{number:05d}_{path.stem}.png"
    picture = Image.fromarray(result.mask_HW)
    picture.putpalette([level for at in range(256) for level in _colour(at)])
    picture.save(folder / name)
    return name


def _colour(number: int) -> tuple[int, ...]:
    """Red, green and blue of a class: black for 0, then hues far from those before."""
    return tuple(round(255 * level) for level in colorsys.hsv_to_rgb(number * 0.618 % 1, 0.75, float(number > 0)))
