"""An anomaly detector on a dataset."""

from collections.abc import Sequence

import numpy as np

from pangu_cv.data.sample import Sample
from pangu_cv.errors import DataError, ImageError
from pangu_cv.evaluate.decider import Decider, Evaluated, matching_mask, read_images
from pangu_cv.features import Progress, Skipped
from pangu_cv.metrics import AnomalyOutcome, PixelAuroc
from pangu_cv.tasks.anomaly import NORMAL
from pangu_runtime.decode import DecodeSpec


def evaluate_anomaly(
    decider: Decider,
    samples: Sequence[Sample],
    *,
    asked_rate: float,
    decode_spec: DecodeSpec,
    progress: Progress | None = None,
) -> Evaluated[AnomalyOutcome]:
    """Decide every image; label ``good`` is normal, any other a defect; masks give the pixel AUROC, one at a time."""
    samples = [sample for sample in samples if sample.label is not None]
    pixels = PixelAuroc()
    kept, skipped, outputs = [], [], []
    has_masks = any(s.mask is not None for s in samples)
    for done, (sample, image) in enumerate(read_images(samples, decode_spec), start=1):
        if isinstance(image, ImageError):
            skipped.append(Skipped(sample.path, image.reason, str(image)))
        else:
            out = decider.run(image[None])
            kept.append(sample)
            outputs.append((float(out["score"][0]), bool(out["is_anomalous"][0]), float(out["threshold_applied"][0])))
            if has_masks and (sample.label == NORMAL or sample.mask is not None):
                pixels.update(out["map"][0], matching_mask(sample, out["map"][0].shape))
        if progress:
            progress(done, len(samples))
    if not kept:
        raise DataError("none of the images to evaluate on can be read")
    scores, flags, thresholds = zip(*outputs, strict=True)
    outcome = AnomalyOutcome(
        paths=tuple(str(s.path) for s in kept),
        scores_N=np.array(scores),
        is_defect_N=np.array([s.label != NORMAL for s in kept]),
        is_anomalous_N=np.array(flags),
        threshold=thresholds[0],
        defect_N=tuple(str(s.label) for s in kept),
        asked_false_alarm_rate=asked_rate,
        pixels=pixels.scores() if has_masks else None,
    )
    return Evaluated(outcome, tuple(skipped))
