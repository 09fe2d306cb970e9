"""An image and what is known of it as a sample of FiftyOne."""

import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pangu_cv.data.readers.mvtec import NORMAL
from pangu_cv.data.shown import SEPARATOR
from pangu_cv.iterate.inspect.look import Look
from pangu_cv.iterate.inspect.sent import FIELD, Sent, SentBox, mask_digest, sent_of, share_of
from pangu_runtime.edge.doubt import certainty
from pangu_runtime.predictor import AnomalyPrediction, BoxPrediction, ClassPrediction, MaskPrediction, TagPrediction

LABEL, LABELS, BOXES, MASK = "label", "labels", "boxes", "mask"
PREDICTED, PREDICTED_LABELS, PREDICTED_BOXES = "predicted", "predicted_labels", "predicted_boxes"
PREDICTED_MASK, HEAT_MAP, EMBEDDING = "predicted_mask", "heat_map", "embedding"
MAP_PX = 512
_MOST_BYTES = 6 << 20  # MongoDB's documents end at 16 MB, and a sample has two masks


def as_sample(fiftyone: Any, look: Look, *, is_multilabel: bool) -> Any:
    """The sample: labels, answers, features; what was sent stands in the field ``pangu_sent``."""
    sample = look.sample
    one = fiftyone.Sample(filepath=str(sample.path.absolute()))
    one["split"], one["group"], one["caption"] = sample.split, sample.group, sample.caption
    one["sha256"] = look.sha256
    if look.width_px:
        one.metadata = fiftyone.ImageMetadata(width=look.width_px, height=look.height_px, num_channels=3)
    if sample.label is not None and is_multilabel:
        names = [name.strip() for name in sample.label.split(SEPARATOR) if name.strip()]
        one[LABELS] = fiftyone.Classifications(classifications=[fiftyone.Classification(label=n) for n in names])
    elif sample.label is not None:
        one[LABEL] = fiftyone.Classification(label=sample.label)
    more: dict[str, Any] = {}
    if sample.boxes is not None and look.width_px:
        found = [(box.label, box.xyxy, None) for box in sample.boxes]
        one[BOXES], more["boxes"] = _detections(fiftyone, found, look)
    if look.mask_HW is not None and fits(look.mask_HW):
        one[MASK] = fiftyone.Segmentation(mask=look.mask_HW)
        more["mask"] = mask_digest(look.mask_HW)
    if look.features_D is not None:
        one[EMBEDDING] = look.features_D
    more |= _answered(fiftyone, one, look)
    one[FIELD] = sent_of(look, **more).to_text()
    return one


def _answered(fiftyone: Any, one: Any, look: Look) -> dict[str, Any]:
    """Put the model's answer on the sample; what of it must be kept exactly."""
    found = look.prediction
    if found is None:
        return {}
    one["doubt"] = float(1 - certainty(found))
    match found:
        case ClassPrediction():
            one[PREDICTED] = fiftyone.Classification(label=found.label, confidence=found.score)
        case TagPrediction():
            one[PREDICTED_LABELS] = fiftyone.Classifications(
                classifications=[fiftyone.Classification(label=name) for name in found.labels]
            )
        case BoxPrediction():
            boxes = zip(found.labels, found.boxes_xyxy.astype(float).tolist(), found.scores_K.tolist(), strict=True)
            one[PREDICTED_BOXES], sent = _detections(fiftyone, boxes, look)
            return {"predicted": sent}
        case AnomalyPrediction():
            label = "anomaly" if found.is_anomalous else NORMAL
            one[PREDICTED], one["score"] = fiftyone.Classification(label=label), found.score
            top = max(2 * found.threshold, 1e-9)
            one[HEAT_MAP] = fiftyone.Heatmap(map=small(found.map_HW), range=[0.0, float(top)])
        case MaskPrediction() if fits(found.mask_HW):
            one[PREDICTED_MASK] = fiftyone.Segmentation(mask=found.mask_HW)
            one[HEAT_MAP] = fiftyone.Heatmap(map=small(1 - found.confidence_HW), range=[0.0, 1.0])
    return {}


def _detections(fiftyone: Any, found: Any, look: Look) -> tuple[Any, tuple[SentBox, ...]]:
    detections, sent = [], []
    for label, xyxy, score in found:
        share = share_of(xyxy, (look.width_px, look.height_px))
        one = fiftyone.Detection(label=label, bounding_box=list(share), confidence=score)
        detections.append(one)
        sent.append(SentBox(one.id, label, tuple(xyxy), share))
    return fiftyone.Detections(detections=detections), tuple(sent)


def small(map_HW: NDArray[Any]) -> NDArray[np.float32]:
    """A map float32 of at most ``MAP_PX`` a side: the App stretches it over the image."""
    scores = np.asarray(map_HW, np.float32)
    height, width = scores.shape
    scale = MAP_PX / max(height, width)
    if scale >= 1:
        return scores
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(Image.fromarray(scores).resize(size, Image.Resampling.BOX))


def fits(mask_HW: NDArray[Any]) -> bool:
    """Whether a mask has room in a document; a larger one is not shown, and stays as it is."""
    return mask_HW.nbytes <= _MOST_BYTES or len(zlib.compress(mask_HW.tobytes(), 1)) <= _MOST_BYTES


def sent_on(sample: Any) -> Sent | None:
    """What was sent of a sample; None where another hand added it."""
    try:
        return Sent.from_text(sample[FIELD])
    except (KeyError, TypeError, ValueError):
        return None
