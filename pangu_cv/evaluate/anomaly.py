"""An anomaly detector on a dataset."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from pangu_cv.data.sample import Sample
from pangu_cv.errors import ImageError
from pangu_cv.evaluate.decider import Decider, Evaluated, Outputs, decide_all, is_masked, matching_mask
from pangu_cv.features import Progress
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
    """Decide every image; label ``good`` is normal, any other a defect; masks give the pixel AUROC, one at a time.

    An image whose mask cannot be used is left out of the figures over pixels alone, which ``notes`` tell.
    """
    samples = [sample for sample in samples if sample.label is not None]
    pixels, unfit = PixelAuroc(), list[ImageError]()
    has_masks = any(s.mask is not None for s in samples)

    def keep(sample: Sample, _: Any, out: Outputs) -> tuple[float, bool, float]:
        if has_masks and is_masked(sample):
            try:
                pixels.update(out["map"][0], matching_mask(sample, out["map"][0].shape))
            except ImageError as error:
                unfit.append(error)
        return float(out["score"][0]), bool(out["is_anomalous"][0]), float(out["threshold_applied"][0])

    decided = decide_all(decider, samples, keep, spec=decode_spec, progress=progress)
    scores, flags, thresholds = zip(*decided.rows, strict=True)
    outcome = AnomalyOutcome(
        paths=decided.paths,
        scores_N=np.array(scores),
        is_defect_N=np.array([s.label != NORMAL for s in decided.samples]),
        is_anomalous_N=np.array(flags),
        threshold=thresholds[0],
        defect_N=tuple(str(s.label) for s in decided.samples),
        asked_false_alarm_rate=asked_rate,
        pixels=pixels.scores() if has_masks else None,
        groups=decided.groups,
    )
    return Evaluated(outcome, decided.skipped, _told(unfit))


def _told(unfit: Sequence[ImageError]) -> tuple[str, ...]:
    if not unfit:
        return ()
    return (
        f"{len(unfit)} mask(s) cannot be used, so their images count in no figure over pixels; the first is "
        f"{unfit[0]}; 'pangu-cv data check' lists all such masks",
    )
