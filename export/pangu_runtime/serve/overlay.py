"""A decision's map as a transparent picture to lay over the image: PNG, RGBA."""

import base64
import io

import numpy as np
from PIL import Image

from pangu_runtime.predictor import AnomalyPrediction, MaskPrediction, Prediction

_MOST_PX = 1024
_COLOURS = np.array([(0, 0, 0), (230, 60, 40), (40, 120, 230), (60, 170, 70), (240, 170, 30), (150, 70, 190)], np.uint8)


def overlay_png(prediction: Prediction) -> str | None:
    """Base64; None for a task whose decision has no map. At most 1024 pixels a side: it is to be looked at."""
    if isinstance(prediction, MaskPrediction):
        classes = prediction.mask_HW
        colours = _COLOURS[np.where(classes > 0, (classes - 1) % (len(_COLOURS) - 1) + 1, 0)]
        opacity = np.where(classes > 0, 130, 0)
    elif isinstance(prediction, AnomalyPrediction):
        over_HW = np.maximum(prediction.map_HW - prediction.threshold, 0)  # what is below it is not to be seen
        opacity = 190 * over_HW / max(float(over_HW.max()), 1e-9)
        colours = np.broadcast_to(_COLOURS[1], (*opacity.shape, 3))
    else:
        return None
    picture = Image.fromarray(np.dstack([colours, opacity.astype(np.uint8)]), "RGBA")
    picture.thumbnail((_MOST_PX, _MOST_PX), Image.Resampling.BOX)
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()
