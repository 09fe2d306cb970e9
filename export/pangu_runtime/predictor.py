"""From images to decisions: decode, group by size, run the graph.

Shapes: N images of one size H×W, C classes.
"""

import json
import logging
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from pangu_runtime.bundle import CONTRACT, UNKNOWN, Bundle, Precision, open_bundle
from pangu_runtime.decode import decode
from pangu_runtime.errors import BundleError, ImageError, RuntimeLimitError
from pangu_runtime.tiles import run_tiled

log = logging.getLogger("pangu_runtime")

Pixels = NDArray[np.uint8]
_PER_IMAGE = ("boxes_xyxy", "scores", "labels", "count")
# Images of one size share a call, so many of them and so many pixels: a graph brings each to its own size.
BATCH_IMAGES, BATCH_PIXELS = 16, 4_000_000


@dataclass(frozen=True)
class ClassPrediction:
    """``scores_C`` are calibrated probabilities in the order of the bundle's classes; ``score`` is the best one.

    ``label`` is the class of the best score, or ``unknown`` where that is below ``threshold``.
    """

    source: str
    label: str
    score: float
    scores_C: NDArray[np.float32]
    threshold: float

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        scores = [round(float(s), 6) for s in self.scores_C]
        return {
            "image": self.source,
            "label": self.label,
            "score": round(self.score, 6),
            "scores": scores,
            "threshold": self.threshold,
        }


@dataclass(frozen=True)
class TagPrediction:
    """``labels`` are the classes that score at least ``threshold``, any number of them, in the bundle's order.

    ``scores_C`` are calibrated probabilities of each class by itself.
    """

    source: str
    labels: tuple[str, ...]
    scores_C: NDArray[np.float32]
    threshold: float

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        scores = [round(float(s), 6) for s in self.scores_C]
        return {"image": self.source, "labels": list(self.labels), "scores": scores, "threshold": self.threshold}


@dataclass(frozen=True)
class AnomalyPrediction:
    """``score`` is in units of a typical normal image (1.0 = their median); ``map_HW`` has the image's size."""

    source: str
    score: float
    is_anomalous: bool
    threshold: float
    map_HW: NDArray[np.float32]

    def to_json(self) -> dict[str, Any]:
        """Plain values, without the map."""
        return {
            "image": self.source,
            "is_anomalous": self.is_anomalous,
            "score": round(self.score, 6),
            "threshold": self.threshold,
        }


@dataclass(frozen=True)
class MaskPrediction:
    """``mask_HW`` are class numbers in the order of the bundle's classes, ``confidence_HW`` their probability."""

    source: str
    classes: tuple[str, ...]
    mask_HW: NDArray[np.uint8]
    confidence_HW: NDArray[np.float32]

    @property
    def pixels(self) -> dict[str, int]:
        """How many pixels each class has, the background (the first) left out."""
        counts = np.bincount(self.mask_HW.ravel(), minlength=len(self.classes))
        return {name: int(count) for name, count in zip(self.classes[1:], counts[1:], strict=False)}

    def to_json(self) -> dict[str, Any]:
        """Plain values, without the mask."""
        height, width = self.mask_HW.shape
        return {"image": self.source, "width": width, "height": height, "pixels": self.pixels}


@dataclass(frozen=True)
class BoxPrediction:
    """Boxes that score at least ``threshold``, the best first: ``boxes_xyxy`` float32[K,4] in pixels of the image.

    ``best_rejected`` is the best score below the threshold, minus infinity where no box was rejected.
    """

    source: str
    labels: tuple[str, ...]
    scores_K: NDArray[np.float32]
    boxes_xyxy: NDArray[np.float32]
    threshold: float
    best_rejected: float = -math.inf

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        found = [
            {"label": label, "score": round(float(score), 6), "box_xyxy": [round(float(v), 2) for v in box]}
            for label, score, box in zip(self.labels, self.scores_K, self.boxes_xyxy, strict=True)
        ]
        return {"image": self.source, "boxes": found, "threshold": self.threshold}


Prediction = ClassPrediction | TagPrediction | AnomalyPrediction | MaskPrediction | BoxPrediction


class Predictor:
    """Runs one bundle; safe to share between threads.

    ``threshold`` moves the decision of a bundle that has one (all but segment) without a new export; the move is logged
    and stands in every prediction. ``threads`` defaults to all cores, ``precision`` to the one the bundle names.
    ``trace`` is how the path begins under which ``session.end_profiling()`` writes what every node took.
    """

    def __init__(
        self,
        bundle: Bundle | Path | str,
        *,
        threshold: float | None = None,
        threads: int | None = None,
        precision: Precision | None = None,
        trace: Path | None = None,
    ) -> None:
        self.bundle = bundle if isinstance(bundle, Bundle) else open_bundle(bundle)
        self.precision: Precision = self.bundle.default_precision if precision is None else precision
        if self.precision not in self.bundle.precisions:
            raise RuntimeLimitError(
                f"{self.bundle.folder}: holds no {precision} model, only {', '.join(self.bundle.precisions)}; "
                f"'pangu-cv export RUN --out BUNDLE --precision {precision}' writes one"
            )
        if threads is not None and threads < 1:
            raise RuntimeLimitError(f"threads: {threads} found; 1 or more are needed, or none for all cores")
        self.session = _session(self.bundle, self.model, threads, trace)
        if threshold is not None:
            if not math.isfinite(threshold):
                raise RuntimeLimitError(f"threshold: {threshold} found; a finite number is needed")
            if self.bundle.fixed is not None:
                raise RuntimeLimitError(f"{self.bundle.folder}: {self.bundle.fixed}")
            assert self.bundle.threshold is not None
            log.warning("threshold moved from %.6g to %.6g", self.bundle.threshold.value, threshold)
        self.moved_threshold = threshold

    @property
    def model(self) -> Path:
        """The graph that runs."""
        return self.bundle.graph(self.precision)

    @property
    def boxes(self) -> int:
        """How many boxes an image has room for (K of the contract); -1 where that depends on the image."""
        if self.bundle.task != "detect" or self.bundle.tiling is not None:
            return -1
        size = self.session.get_outputs()[0].shape[1]
        return -1 if isinstance(size, str) else int(size)

    def run(self, images_NHW3: Pixels, *, threshold: float | None = None) -> dict[str, NDArray[Any]]:
        """The outputs by name for images of one size; a bundle with tiles takes one image a call.

        ``threshold`` moves that of this call alone.
        """
        names, given = list(CONTRACT[self.bundle.task]), self.moved_threshold if threshold is None else threshold
        moved = {} if given is None else {"threshold": np.array([given], np.float32)}

        def graph(tile_NHW3: Pixels) -> dict[str, NDArray[Any]]:
            return dict(zip(names, self.session.run(names, {"image": tile_NHW3, **moved}), strict=True))

        return graph(images_NHW3) if self.bundle.tiling is None else run_tiled(graph, images_NHW3, self.bundle.tiling)

    def decode(self, source: Path | bytes) -> Pixels:
        """Pixels of a file, or of its bytes, as this bundle's training decoded them; raises ImageError."""
        return decode(source, spec=self.bundle.decode)

    def predict_image(self, image_HW3: Pixels, *, source: str = "<array>") -> Prediction:
        """One image already in memory, uint8 RGB."""
        if image_HW3.dtype != np.uint8 or image_HW3.ndim != 3 or image_HW3.shape[2] != 3 or image_HW3.size == 0:
            raise ImageError(source, "unsupported", f"uint8[H,W,3] expected, found {image_HW3.dtype}{image_HW3.shape}")
        return self.unpack([source], self.run(image_HW3[None]))[0]

    def predict(self, paths: Sequence[Path]) -> Iterator[Prediction | ImageError]:
        """Every path in order; an image that cannot be read gives its ``ImageError`` and the others go on."""
        for is_error, run in groupby(self._decoded(paths), key=lambda item: isinstance(item[1], ImageError)):
            if is_error:
                yield from (error for _, error in run if isinstance(error, ImageError))
                continue
            for shape, same_size in groupby(run, key=lambda item: item[1].shape):  # type: ignore[union-attr]
                yield from self._batches(same_size, self._batch(shape))

    def _batch(self, shape: tuple[int, ...]) -> int:
        if self.bundle.tiling is not None:
            return 1
        return max(1, min(BATCH_IMAGES, BATCH_PIXELS // (shape[0] * shape[1])))

    def _batches(self, items: Iterable[tuple[Path, Any]], size: int) -> Iterator[Prediction]:
        iterator = iter(items)
        while batch := list(islice(iterator, size)):
            outputs = self.run(np.stack([image for _, image in batch]))
            yield from self.unpack([str(path) for path, _ in batch], outputs)

    def _decoded(self, paths: Sequence[Path]) -> Iterator[tuple[Path, Pixels | ImageError]]:
        def read(path: Path) -> tuple[Path, Pixels | ImageError]:
            try:
                return path, self.decode(path)
            except ImageError as error:
                return path, error

        workers = min(4, os.cpu_count() or 1)
        with ThreadPoolExecutor(workers) as pool:
            pending: list[Future[tuple[Path, Pixels | ImageError]]] = []
            for path in paths:
                pending.append(pool.submit(read, path))
                if len(pending) > workers:
                    yield pending.pop(0).result()
            yield from (future.result() for future in pending)

    def unpack(self, sources: Sequence[str], out: dict[str, NDArray[Any]]) -> list[Prediction]:
        """What the outputs of a call say of each of its images."""
        return unpack(sources, out, task=self.bundle.task, classes=self.bundle.classes)


def unpack(
    sources: Sequence[str], out: dict[str, NDArray[Any]], *, task: str, classes: tuple[str, ...]
) -> list[Prediction]:
    """What the contract's outputs of a call say of each of its images, whoever computed them."""
    if task == "segment":
        return [
            MaskPrediction(source, classes, mask, confidence)
            for source, mask, confidence in zip(sources, out["mask"], out["confidence"], strict=True)
        ]
    threshold = float(out["threshold_applied"][0])
    if task == "classify":
        return [
            ClassPrediction(source, UNKNOWN if at < 0 else classes[at], float(scores.max()), scores, threshold)
            for source, scores, at in zip(sources, out["scores"], out["label"].tolist(), strict=True)
        ]
    if task == "multilabel":
        return [
            TagPrediction(source, tuple(classes[at] for at in np.flatnonzero(present)), scores, threshold)
            for source, scores, present in zip(sources, out["scores"], out["is_present"], strict=True)
        ]
    if task == "detect":
        return [
            _boxes(source, {n: v[at] for n, v in out.items() if n in _PER_IMAGE}, threshold, classes)
            for at, source in enumerate(sources)
        ]
    return [
        AnomalyPrediction(source, float(score), bool(flag), threshold, map_HW)
        for source, score, flag, map_HW in zip(sources, out["score"], out["is_anomalous"], out["map"], strict=True)
    ]


def _boxes(source: str, out: dict[str, NDArray[Any]], threshold: float, classes: tuple[str, ...]) -> BoxPrediction:
    kept, rejected = slice(int(out["count"])), out["scores"][int(out["count"]) :]
    labels = tuple(classes[label] for label in out["labels"][kept].tolist())
    best_rejected = float(rejected.max(initial=-math.inf))
    return BoxPrediction(source, labels, out["scores"][kept], out["boxes_xyxy"][kept], threshold, best_rejected)


def _session(bundle: Bundle, model: Path, threads: int | None, trace: Path | None = None) -> ort.InferenceSession:
    options = ort.SessionOptions()
    if trace is not None:
        options.enable_profiling, options.profile_file_prefix = True, str(trace)
    options.intra_op_num_threads = threads or 0
    options.log_severity_level = 3
    try:
        session = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises its own Fail, InvalidGraph, InvalidProtobuf, …
        raise BundleError(f"{model}: onnxruntime {ort.__version__} cannot load it ({error})") from None
    inputs = [(i.name, i.type, i.shape[-1:]) for i in session.get_inputs()]
    outputs = [o.name for o in session.get_outputs()]
    if inputs != [("image", "tensor(uint8)", [3])] or outputs != list(CONTRACT[bundle.task]):
        raise BundleError(f"{model}: inputs {inputs} and outputs {outputs} are not those of '{bundle.task}'")
    _check_metadata(bundle, session.get_modelmeta().custom_metadata_map)
    return session


def _check_metadata(bundle: Bundle, metadata: dict[str, str]) -> None:
    """Classes and threshold stand in the graph too; another pair in bundle.json was not certified with this graph."""
    threshold = None if bundle.threshold is None else bundle.threshold.value
    stated = {"pangu_cv.classes": list(bundle.classes), "pangu_cv.threshold": threshold}
    for key, value in stated.items():
        if metadata.get(key) != json.dumps(value):
            raise BundleError(f"{bundle.folder}: bundle.json says {value!r}, the graph's {key} {metadata.get(key)!r}")
