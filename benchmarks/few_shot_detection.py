"""Boxes from 10 or 30 images a class: our detector against torchvision's FCOS, same backbone weights, images and time.

FCOS (arXiv 1904.01355) is trained as its authors train it, backbone included, for the seconds ours took.
"""

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.few_shot_classification import BACKBONE
from benchmarks.machine import peak_memory_mb
from benchmarks.mosaics import write_mosaics
from pangu_cv import recipes
from pangu_cv.data.few_shot_contents import draw_containing
from pangu_cv.data.readers import read_dataset
from pangu_cv.data.sample import Dataset, Sample
from pangu_cv.evaluate import TorchDecider, evaluate_detect
from pangu_cv.evaluate.decider import Outputs
from pangu_cv.finetune.detect import fit_boxes, labelled
from pangu_cv.finetune.recipe import FinetuneRecipe
from pangu_cv.metrics.detection import DetectionOutcome
from pangu_cv.models.arithmetic import keep_freed_memory
from pangu_cv.models.augment import AugmentConfig
from pangu_cv.models.backbone import BackboneConfig
from pangu_cv.models.pyramid import STRIDES, resized
from pangu_cv.tasks.detect import DetectConfig, DetectModel
from pangu_cv.tasks.tile import TileConfig
from pangu_runtime.decode import DEFAULT_SPEC, decode

MOSAICS = ("deeppcb",)
SIDE_PX = {"neu_det": 256, "deeppcb": 512, "cplid": 512}
_POOL = 400
_MEASURED = 300  # test images at most, evenly spread, unless FULL


def measure(*, data: str, is_quick: bool, name: str, shots: int | None, seed: int, steps: int) -> dict[str, Any]:
    """AP of both on the same test images after the same time."""
    dataset = read_dataset(Path(data) / name)
    support, test = parts(dataset, shots=shots, seed=seed, most=20 if is_quick else _MEASURED)
    recipe = detect_recipe(name, steps=2 if is_quick else steps)
    task = recipe.task
    assert isinstance(task, DetectConfig)
    start = time.perf_counter()
    model, history = fit_boxes(task, recipe, dataset.classes, support, seed=seed)
    seconds = time.perf_counter() - start
    ours = _outcome(TorchDecider(model), test, dataset.classes)
    tiled = _tiled(model, test, is_quick=is_quick) if name in MOSAICS else None
    fcos = Fcos(task.backbone, classes=len(dataset.classes), side_px=task.preprocess.image_px)
    fcos_steps = fcos.fit(support, dataset.classes, seconds=5 if is_quick else seconds, seed=seed)
    theirs = _outcome(fcos, test, dataset.classes)
    return {
        "name": name,
        "shots": shots,
        "seed": seed,
        "labelled": len(support),
        "measured": len(test),
        "seconds": seconds,
        "steps": {"ours": len(history.losses["total"]), "fcos": fcos_steps},
        "ours": ours.summary(),
        "fcos": theirs.summary(),
        "tiled": tiled,
    }


def _tiled(model: DetectModel, test: list[Sample], *, is_quick: bool) -> dict[str, Any]:
    """AP of the same images one by one and side by side in mosaics cut into tiles, and peak memory by image size."""
    test = test[: len(test) // 16 * 16]
    whole = _outcome(TorchDecider(model), test, model.classes)
    side = decode(test[0].path).shape[1]
    found: dict[str, Any] = {"images": len(test), "ap_whole": whole.ap, "ap50_whole": whole.ap50, "sizes": []}
    plain, model.config = model.config, model.config.model_copy(update={"tile": TileConfig(px=side)})
    with tempfile.TemporaryDirectory() as scratch:
        for across in (2, 4) if is_quick else (2, 4, 8):
            mosaics = write_mosaics(test, Path(scratch) / str(across), across=across)
            before = peak_memory_mb()
            outcome = _outcome(TorchDecider(model), mosaics, model.classes) if mosaics else None
            found["sizes"].append(
                {
                    "across": across,
                    "side_px": across * side,
                    "images": across**2 * len(mosaics),
                    "ap": outcome.ap if outcome else None,
                    "ap50": outcome.ap50 if outcome else None,
                    "peak_memory_mb": {"before": before, "after": peak_memory_mb()},
                }
            )
    model.config = plain
    return found


def detect_recipe(name: str, *, steps: int) -> FinetuneRecipe:
    """The recipe of the repository with ViT-Tiny, and a resolution that suits the images."""
    settings = ["data.path=unused", f"task.preprocess.image_px={SIDE_PX[name]}", f"train.steps={steps}"]
    settings += [f"task.backbone.name={BACKBONE}", f"train.pool={_POOL}"]
    return FinetuneRecipe.load(recipes.find("finetune", "detect"), settings)


def parts(dataset: Dataset, *, shots: int | None, seed: int, most: int) -> tuple[list[Sample], list[Sample]]:
    """Training images that show each class ``shots`` times (None: all), and test images evenly spread."""
    boxed = [s for s in dataset if s.boxes is not None]
    pool = [s for s in boxed if s.split == "train"]
    test = [s for s in boxed if s.split == "test"] or [s for s in boxed if s.split == "val"]
    contents = {s: frozenset(box.label for box in s.boxes or ()) for s in pool}
    support = draw_containing(pool, contents, shots=shots, seed=seed).support
    chosen = np.unique(np.linspace(0, len(test) - 1, min(most, len(test))).round().astype(int))
    return list(support), [test[at] for at in chosen]


def _outcome(decider: Any, test: list[Sample], classes: tuple[str, ...]) -> DetectionOutcome:
    return evaluate_detect(decider, test, classes=classes, decode_spec=DEFAULT_SPEC).outcome


class Fcos:
    """torchvision's FCOS around a timm backbone, as a decider."""

    def __init__(self, config: BackboneConfig, *, classes: int, side_px: int) -> None:
        from torchvision.models.detection import FCOS

        backbone = config.build()
        body = _Levels(backbone)
        # The image comes in at the side the backbone sees; FCOS's own resize is set to leave it as it is.
        self.network = FCOS(
            body,
            num_classes=classes,
            anchor_generator=_anchors(),
            min_size=side_px,
            max_size=side_px,
            image_mean=list(backbone.mean),
            image_std=list(backbone.std),
            score_thresh=0.01,
            detections_per_img=100,
        )
        self.side_px = side_px

    def fit(self, support: list[Sample], classes: tuple[str, ...], *, seconds: float, seed: int) -> int:
        """Train for so many seconds; steps done."""
        keep_freed_memory()
        torch.manual_seed(seed)
        augment, random = AugmentConfig().build(), np.random.default_rng(seed)
        images = [labelled(decode(s.path), s, classes) for s in support]
        self.network.train()
        body: Any = self.network.backbone
        body.requires_grad_(True)
        optimiser = torch.optim.AdamW(
            [{"params": body.network.parameters(), "lr": 1e-4}, {"params": self._new_parameters(), "lr": 1e-3}],
            weight_decay=0.05,
        )
        start, steps = time.perf_counter(), 0
        peaks = [group["lr"] for group in optimiser.param_groups]
        while (spent := time.perf_counter() - start) < seconds:
            share = spent / seconds
            for group, peak in zip(optimiser.param_groups, peaks, strict=True):
                group["lr"] = peak * min(1.0, share / 0.1) * (0.5 + 0.5 * np.cos(np.pi * share))
            chosen = [
                augment(images[at], seed=int(random.integers(2**31))) for at in random.permutation(len(images))[:4]
            ]
            inputs = [self._input(one.image) for one in chosen]
            truths = []
            for one in chosen:
                height, width = one.image.shape[:2]
                scale = torch.tensor([self.side_px / width, self.side_px / height] * 2)
                truths.append(
                    {"boxes": torch.from_numpy(one.boxes_K4) * scale, "labels": torch.from_numpy(one.label_K)}
                )
            loss = sum(self.network(inputs, truths).values())
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
            optimiser.step()
            steps += 1
        self.network.eval()
        return steps

    def _new_parameters(self) -> list[nn.Parameter]:
        body: Any = self.network.backbone
        inner = {id(p) for p in body.network.parameters()}
        return [p for p in self.network.parameters() if id(p) not in inner]

    def _input(self, image: Any) -> Tensor:
        pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float() / 255
        side = (self.side_px, self.side_px)
        return nn.functional.interpolate(pixels, size=side, mode="bilinear", antialias=True)[0]

    def run(self, images_NHW3: Any) -> Outputs:
        """One image."""
        height, width = images_NHW3.shape[1:3]
        with torch.inference_mode():
            [found] = self.network([self._input(images_NHW3[0])])
        scale = torch.tensor([width / self.side_px, height / self.side_px] * 2)
        scores = found["scores"].numpy()[None]
        return {
            "boxes_xyxy": (found["boxes"] * scale).numpy()[None],
            "scores": scores,
            "labels": found["labels"].numpy()[None],
            "count": np.array([(scores >= 0.3).sum()]),
            "threshold_applied": np.array([0.3], np.float32),
        }


class _Levels(nn.Module):
    """The last three grids at strides 8, 16 and 32 through torchvision's feature pyramid, as FCOS wants them.

    A CNN's grids have these strides; a plain ViT's are resized to them, as in ViTDet (arXiv 2203.16527).
    """

    def __init__(self, backbone: Any) -> None:
        super().__init__()
        from torchvision.ops import FeaturePyramidNetwork
        from torchvision.ops.feature_pyramid_network import LastLevelP6P7

        self.backbone = backbone
        channels = [grid.shape[1] for grid in backbone.probe(224).grids_BDhw][-3:]
        self.out_channels = 256
        self.pyramid = FeaturePyramidNetwork(channels, 256, extra_blocks=LastLevelP6P7(256, 256))

    @property
    def network(self) -> nn.Module:
        """The part that comes with weights."""
        return self.backbone.network  # type: ignore[no-any-return]

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        side = images.shape[-1]
        grids = [
            resized(grid, side // stride)
            for grid, stride in zip(self.backbone.grids(images)[-3:], STRIDES, strict=True)
        ]
        return self.pyramid({str(n): grid for n, grid in enumerate(grids)})  # type: ignore[no-any-return]


def _anchors() -> Any:
    from torchvision.models.detection.anchor_utils import AnchorGenerator

    sizes = ((8,), (16,), (32,), (64,), (128,))
    return AnchorGenerator(sizes, ((1.0,),) * len(sizes))
