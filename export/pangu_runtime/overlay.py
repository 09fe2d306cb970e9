"""A decision as a picture: its map as a transparent layer, or drawn over the image with boxes and a caption."""

import base64
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from pangu_runtime.predictor import (
    AnomalyPrediction,
    BoxPrediction,
    ClassPrediction,
    MaskPrediction,
    Prediction,
    TagPrediction,
)

_MOST_PX = 1024
_COLOURS = np.array([(0, 0, 0), (230, 60, 40), (40, 120, 230), (60, 170, 70), (240, 170, 30), (150, 70, 190)], np.uint8)


def layer(prediction: Prediction) -> Image.Image | None:
    """RGBA, of the image's size; None for a task whose decision has no map."""
    if isinstance(prediction, MaskPrediction):
        classes = prediction.mask_HW
        colours: NDArray[Any] = _COLOURS[np.where(classes > 0, (classes - 1) % (len(_COLOURS) - 1) + 1, 0)]
        opacity: NDArray[Any] = np.where(classes > 0, 130, 0)
    elif isinstance(prediction, AnomalyPrediction):
        over_HW = np.maximum(prediction.map_HW - prediction.threshold, 0)  # what is below it is not to be seen
        opacity = 190 * over_HW / max(float(over_HW.max()), 1e-9)
        colours = np.broadcast_to(_COLOURS[1], (*opacity.shape, 3))
    else:
        return None
    return Image.fromarray(np.dstack([colours, opacity.astype(np.uint8)]), "RGBA")


def layer_png(prediction: Prediction) -> str | None:
    """``layer`` as PNG in base64, at most 1024 pixels a side: it is to be looked at."""
    picture = layer(prediction)
    if picture is None:
        return None
    picture.thumbnail((_MOST_PX, _MOST_PX), Image.Resampling.BOX)
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()


def annotated_jpeg(image_HW3: NDArray[np.uint8], prediction: Prediction) -> bytes:
    """The image with the decision drawn on it, at most 1024 pixels a side."""
    picture, over = Image.fromarray(image_HW3), layer(prediction)
    if over is not None:
        picture.paste(over, (0, 0), over)
    scale = min(1.0, _MOST_PX / max(picture.size))
    picture = picture.resize((max(1, round(picture.width * scale)), max(1, round(picture.height * scale))))
    pen = ImageDraw.Draw(picture)
    if isinstance(prediction, BoxPrediction):
        for label, score, box in zip(prediction.labels, prediction.scores_K, prediction.boxes_xyxy, strict=True):
            x0, y0, x1, y1 = (float(value) * scale for value in box)
            pen.rectangle((x0, y0, max(x0, x1), max(y0, y1)), outline=tuple(_COLOURS[1].tolist()), width=2)
            _write(pen, (x0, max(0.0, y0 - 14)), f"{label} {score:.0%}")
    _write(pen, (0, 0), caption(prediction))
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=88)
    return stream.getvalue()


def caption(prediction: Prediction) -> str:
    """The decision in a few words."""
    if isinstance(prediction, AnomalyPrediction):
        verdict = "ANOMALY" if prediction.is_anomalous else "normal"
        return f"{verdict} {prediction.score:.2f} (threshold {prediction.threshold:.2f})"
    if isinstance(prediction, ClassPrediction):
        return f"{prediction.label} {prediction.score:.0%}"
    if isinstance(prediction, TagPrediction):
        return ", ".join(prediction.labels) or "nothing"
    if isinstance(prediction, BoxPrediction):
        return f"{len(prediction.labels)} found"
    size = prediction.mask_HW.size
    return ", ".join(f"{name} {count / size:.1%}" for name, count in prediction.pixels.items() if count) or "nothing"


def _write(pen: ImageDraw.ImageDraw, at: tuple[float, float], text: str) -> None:
    font = ImageFont.load_default(12)
    pen.rectangle(pen.textbbox(at, text, font=font), fill=(0, 0, 0))
    pen.text(at, text, fill=(255, 255, 255), font=font)
