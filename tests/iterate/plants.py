"""Tiny plants that know some colours each, of one ancestor."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from pangu_cv.models.backbone import BackboneConfig
from pangu_cv.tasks.class_memory import ClassMemory, Lesson
from pangu_cv.tasks.classify import ClassifyConfig
from pangu_cv.tasks.saved import Provenance, SavedModel, parent_of, save_model
from pangu_runtime.decode import DecodeSpec
from tests.finetune.tiny import COLOURS, picture

NETWORK = "test_efficientnet"


def ancestor(path: Path, *, seed: int = 0) -> Path:
    """A file of weights that plants start from."""
    torch.manual_seed(seed)
    state = BackboneConfig(name=NETWORK, weights="random").build().network.state_dict()
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
    return path


def plant(
    folder: Path,
    classes: Sequence[str],
    weights: Path | str,
    *,
    nudge: float = 0.0,
    seed: int = 0,
    called: dict[str, str] | None = None,
    spec: DecodeSpec | None = None,
    **task: Any,
) -> Path:
    """A run folder: a classifier of colours whose backbone lies ``nudge`` away from its ancestor."""
    spec = spec or DecodeSpec()
    network = {"name": NETWORK, "weights": str(weights), **task.pop("backbone", {})}
    config = ClassifyConfig.model_validate({"backbone": network, "preprocess": {"image_px": 64}, **task})
    model = config.build([(called or {}).get(name, name) for name in classes])
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.backbone.network.parameters():
            parameter.add_(nudge * parameter.std().nan_to_num() * torch.randn(parameter.shape, generator=random))
        images = [(picture(COLOURS[name], 100 * seed + at), c) for c, name in enumerate(classes) for at in range(6)]
        prepared = torch.cat([model.prepare(torch.from_numpy(image)[None]) for image, _ in images])
        features = torch.stack([model.embed(prepared, view) for view in config.fit_views], 1)
    model.fit(features, torch.tensor([c for _, c in images]))
    lessons = [
        Lesson(hashlib.sha256(image.tobytes()).hexdigest(), (model.classes[c],), features_VD)
        for (image, c), features_VD in zip(images, features, strict=True)
    ]
    memory = ClassMemory.of(model, lessons, per_class=config.memory_per_class) if config.memory_per_class else None
    provenance = Provenance(spec, "test", "test")
    save_model(SavedModel(model, provenance, parent_of(model), memory=memory), folder / "model")
    return folder
