"""anomalib's PatchCore driven directly: its torch model, its coreset, its scores; our decoder and resize before it.

Its Engine is left out on purpose: data loaders, callbacks and metrics around the same model would only add time.
Resize and normalisation are the ones the weights were trained with, not anomalib's ImageNet default.
"""

import importlib.util
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import subjects
from benchmarks.first_anomaly import engines, image_auroc
from benchmarks.isolate import NotRunError
from benchmarks.latency import interleaved, spread
from benchmarks.machine import peak_memory_mb
from pangu_cv.evaluate import matching_mask
from pangu_cv.features import read_ahead
from pangu_cv.finetune.anomaly import NormalSplit
from pangu_cv.metrics import PixelAuroc
from pangu_cv.models.backbone import Backbone
from pangu_cv.tasks.anomaly import NORMAL, AnomalyConfig
from pangu_cv.tasks.saved import load_model
from pangu_runtime.decode import DecodeSpec, decode

CORESET_RATIO = 0.1
NEIGHBOURS = 9
_BATCH = 32  # anomalib's default for training
_LATENCY_IMAGES = 40


def require() -> dict[str, Any]:
    """Raises NotRunError where anomalib is not installed."""
    if importlib.util.find_spec("anomalib") is None:
        raise NotRunError(
            "anomalib is not installed; name a Python that has it with --anomalib-python (or run 'make bench-first')"
        )
    return {}


def measure(
    *, data: str, is_quick: bool, name: str, normals: int | None, layers: list[str], ours: str
) -> dict[str, Any]:
    """Fit, rank the test images, then time it in turn with our model, which lies in the folder ``ours``."""
    recipe = subjects.anomaly_recipe(Path(data), name)
    split = subjects.anomaly_split(recipe, normals=normals, is_quick=is_quick)
    detector = PatchCore(subjects.anomaly_task(recipe), recipe.data.decode_spec, layers)
    torch.manual_seed(0)  # its coreset starts at a random patch
    before = peak_memory_mb()
    seconds = detector.fit(split)
    memory = {"before_fit": before, "after_fit": peak_memory_mb()}
    quality = _quality(detector, split, Path(data), name)
    memory["after_test"] = peak_memory_mb()
    saved = load_model(Path(ours) / "model")
    images = [decode(s.path, spec=recipe.data.decode_spec) for s in spread(split.test, _LATENCY_IMAGES)]
    timed = {"anomalib": detector.decide} | engines(saved, Path(ours) / "bundle")
    return {
        "anomalib": metadata.version("anomalib"),
        "fit_seconds": seconds,
        "coreset_seconds": detector.coreset_seconds,
        "bank_vectors": len(detector.model.memory_bank),
        "features": detector.model.memory_bank.shape[1],
        "peak_memory_mb": memory,
        "threads": torch.get_num_threads(),
        "latency": interleaved(timed, images, rounds=2),
        **quality,
    }


class PatchCore:
    """anomalib's torch model on our backbone's weights, from decoded pixels to score and map."""

    def __init__(self, task: AnomalyConfig, spec: DecodeSpec, layers: list[str]) -> None:
        from anomalib.models.image.patchcore.torch_model import PatchcoreModel

        backbone = task.backbone.build()
        architecture = task.backbone.name.split(".")[0]
        self.model = PatchcoreModel(layers=layers, backbone=architecture, pre_trained=False, num_neighbors=NEIGHBOURS)
        _give_weights(self.model.feature_extractor.feature_extractor, backbone)
        self.preprocess = task.preprocess.build(mean=backbone.mean, std=backbone.std)
        self.spec = spec
        self.coreset_seconds = 0.0

    def fit(self, split: NormalSplit) -> float:
        """Decode, embed, subsample; seconds of all of it."""
        start = time.perf_counter()
        self.model.train()
        paths = [s.path for s in split.normals]
        batch: list[Tensor] = []
        with torch.inference_mode():
            for done, image in enumerate(read_ahead(paths, lambda p: decode(p, spec=self.spec)), start=1):
                batch.append(self._prepare(image))
                if len(batch) == _BATCH or done == len(paths):
                    self.model(torch.cat(batch))
                    batch.clear()
            embedded = time.perf_counter()
            self.model.subsample_embedding(CORESET_RATIO)
        self.model.eval()
        self.coreset_seconds = time.perf_counter() - embedded
        return time.perf_counter() - start

    def decide(self, image_HW3: Any) -> Any:
        """Score and map (at the network's input size) of one image."""
        with torch.inference_mode():
            return self.model(self._prepare(image_HW3))

    def _prepare(self, image_HW3: Any) -> Tensor:
        prepared: Tensor = self.preprocess(torch.from_numpy(image_HW3)[None])
        return prepared


def _give_weights(network: nn.Module, backbone: Backbone) -> None:
    """Our tensors into timm's feature network, which is the same one without its last layers."""
    source = backbone.network.state_dict()
    network.load_state_dict({key: source[key] for key in network.state_dict()}, strict=True)
    assert all(torch.equal(value, source[key]) for key, value in network.state_dict().items())


def _quality(detector: PatchCore, split: NormalSplit, data: Path, name: str) -> dict[str, Any]:
    """Image and pixel AUROC; maps are brought to the image's size, where masks are."""
    pixels, scores = PixelAuroc(), []
    for sample in split.test:
        image = decode(sample.path, spec=detector.spec)
        out = detector.decide(image)
        scores.append(float(out.pred_score))
        size = image.shape[:2]
        large = nn.functional.interpolate(out.anomaly_map, size=size, mode="bilinear", align_corners=False)[0, 0]
        if sample.label == NORMAL or sample.mask is not None:
            pixels.update(large.clamp(min=0).numpy(), matching_mask(sample, size))
    defects = [s.label != NORMAL for s in split.test]
    part = {s.path for s in subjects.untouched(data, name, split.test)}
    rows = [row for row, s in enumerate(split.test) if s.path in part]
    kept = image_auroc([scores[r] for r in rows], [defects[r] for r in rows]) if rows else None
    return {
        "image_auroc": image_auroc(scores, defects),
        "untouched": {"images": len(rows), "image_auroc": kept} if rows else None,
        "pixel_auroc": pixels.scores().auroc,
    }
