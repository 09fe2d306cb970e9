"""How sure a decision is, from 0 (a coin's toss) to 1; what is below a limit is worth a person's look."""

import numpy as np

from pangu_runtime.predictor import AnomalyPrediction, BoxPrediction, ClassPrediction, Prediction, TagPrediction


def certainty(prediction: Prediction) -> float:
    """Task by task: how far the decision is from the one it would be next.

    classify: the lead of the best class, and not more than the distance from "unknown"; multilabel and detect: the
    score nearest to the threshold; anomaly: the score's distance from the threshold, as a share of it; segment: mean
    confidence of what is found, and of all where nothing is.
    """
    if isinstance(prediction, ClassPrediction):
        best = np.sort(prediction.scores_C)[::-1]
        lead = float(best[0] - best[1]) if len(best) > 1 else 1.0
        return min(lead, abs(prediction.score - prediction.threshold)) if prediction.threshold > 0 else lead
    if isinstance(prediction, TagPrediction):
        return _nearest(prediction.scores_C, prediction.threshold)
    if isinstance(prediction, BoxPrediction):
        return _nearest(np.append(prediction.scores_K, prediction.best_rejected), prediction.threshold)
    if isinstance(prediction, AnomalyPrediction):
        return min(1.0, abs(prediction.score / max(prediction.threshold, 1e-9) - 1))
    is_found = prediction.mask_HW > 0
    share = prediction.confidence_HW[is_found] if is_found.any() else prediction.confidence_HW
    return float(np.clip(2 * share.mean() - 1, 0, 1))


def _nearest(scores: np.ndarray, threshold: float) -> float:  # type: ignore[type-arg]
    """Of the distances from the threshold, each as a share of the room on its side."""
    room = np.where(scores >= threshold, 1 - threshold, threshold)
    return float((np.abs(scores - threshold) / np.maximum(room, 1e-9)).min(initial=1.0))
