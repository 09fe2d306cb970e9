"""What a classifier's closed form is fitted to: the task's views of every labelled image, and random variants of it.

Variants teach the closed form what a crop, another light or a turn do to an image. They help some sets and harm others
(``docs/LOG.md``: magnetic tiles +2.5 points, visible power lines -1.4), so ``classify`` leaves them out.

Shapes: N images, V views and variants, D features.
"""

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pangu_cv.data.masks import read_mask
from pangu_cv.data.sample import Sample
from pangu_cv.errors import DataError, ImageError, SettingsError
from pangu_cv.features import Extraction, FeatureStore, content_digest, digest, extract
from pangu_cv.finetune.auto import Auto
from pangu_cv.finetune.recipe import FinetuneRecipe
from pangu_cv.models.adapt import Adapt
from pangu_cv.models.augment import Augment
from pangu_cv.models.labelled import Labelled
from pangu_cv.models.training import suits_bf16
from pangu_cv.progress import bar
from pangu_cv.tasks.classify import ClassifyConfig, ClassifyModel
from pangu_runtime.decode import DecodeSpec, decode

_BATCH = 16  # bf16 weights are made anew for every call
_IN_32_BITS = ":32 bits"  # in the store a variant's vector is apart from the one in bf16


def shown_features(
    model: ClassifyModel, samples: Sequence[Sample], recipe: FinetuneRecipe, store: FeatureStore
) -> Extraction:
    """Features float32[N,V,D] of the readable images; ``store`` is of one state of the backbone.

    Raises DataError where no image of a class can be read.
    """
    spec, count = recipe.data.decode_spec, recipe.augment.variants
    paths = [s.path for s in samples]
    seen = extract(paths, model, views=model.config.fit_views, store=store, decode_spec=spec)
    lost = sorted(set(model.classes) - {str(s.label) for s in samples if s.path in seen.index})
    if lost:
        raise DataError(f"no readable image is left of class(es) {', '.join(lost)}")
    if not count:
        return seen
    augment, rows = recipe.augment.build(), []
    is_bf16 = suits_bf16(model.backbone, recipe.train, on_gpu=False)
    suffix = "" if is_bf16 else _IN_32_BITS
    policy = digest(spec.to_json(), recipe.augment.model_dump(exclude={"variants"}))
    readable = [s for s in samples if s.path in seen.index]
    with bar("variants of the labelled images") as progress:
        for done, sample in enumerate(readable, start=1):
            shown = digest(policy, sample.boxes, _digest_of_mask(sample))
            names = [f"{content_digest(sample.path)}:{shown}:variant {number}" for number in range(count)]
            if not all(name + suffix in store for name in names):
                with torch.autocast("cpu", torch.bfloat16, enabled=is_bf16):
                    _embed_variants(model, labelled_image(sample, spec), augment, names, store, suffix=suffix)
            rows.append(np.stack([store[name + suffix] for name in names]))
            progress(done, len(readable))
    store.flush()
    both = np.concatenate([seen.features_NVD, np.stack(rows)], 1)
    return Extraction(both, seen.index, seen.skipped, seen.embedded)


@torch.inference_mode()
def _embed_variants(
    model: ClassifyModel,
    shown: Labelled,
    augment: Augment,
    names: Sequence[str],
    store: FeatureStore,
    *,
    suffix: str,
) -> None:
    """A variant follows from its name alone, so that it is the same in every precision."""
    for first in range(0, len(names), _BATCH):
        batch = names[first : first + _BATCH]
        variants = [augment(shown, seed=zlib.crc32(name.encode())).image for name in batch]
        prepared = [model.prepare(torch.from_numpy(image)[None]) for image in variants]
        for name, vector in zip(batch, model.embed(torch.cat(prepared), "identity").float().numpy(), strict=True):
            store.put(name + suffix, vector.copy())


def labelled_image(sample: Sample, spec: DecodeSpec) -> Labelled:
    """The image with what is known of where its defect is, which no crop may cut away."""
    image = decode(sample.path, spec=spec)
    corners_K4 = np.array([box.xyxy for box in sample.boxes or ()], np.float32).reshape(-1, 4)
    return Labelled(image, _defect_HW(sample, image.shape[:2]), corners_K4, np.zeros(len(corners_K4), np.int64))


def _digest_of_mask(sample: Sample) -> str | None:
    try:
        return content_digest(sample.mask) if sample.mask else None
    except ImageError:
        return None


def _defect_HW(sample: Sample, shape: tuple[int, ...]) -> NDArray[np.uint8] | None:
    """0 and 1; None where there is no mask that fits, since the label stands without one."""
    if sample.mask is None:
        return None
    try:
        mask_HW = read_mask(sample.mask)
    except ImageError:
        return None
    return mask_HW.astype(np.uint8) if mask_HW.shape == shape else None


def ends_in_closed_form(way: Adapt | Auto, counts: Mapping[Any, int]) -> bool:
    """Whether the head is fitted again after training, given the number of labelled images of each class."""
    return way.kind == "frozen" or (way.kind != "linear" and len(set(counts.values())) == 1)


def require_closed_form(recipe: FinetuneRecipe, task: ClassifyConfig, counts: Mapping[Any, int]) -> None:
    """Raises SettingsError where a way keeps its trained head, and an unknown rate or unlabelled images want another.

    A trained head has seen every labelled image, so none of them can say how sure it is of a new one; and images
    without labels teach the closed form.
    """
    ways = recipe.adapt.ways if recipe.adapt.kind == "auto" else (recipe.adapt,)
    trained = sorted({way.kind for way in ways if not ends_in_closed_form(way, counts)})
    same = len(set(counts.values())) == 1
    left = [kind for kind in trained if kind != "linear"]  # which 'auto' leaves out beside unlabelled images
    if recipe.unlabelled is not None and left:
        raise SettingsError(
            f"unlabelled: {', '.join(left)} keeps a trained head here, because classes have different numbers of "
            "labelled images, and learns nothing from others; set few_shot.shots, take adapt.kind=frozen, or drop it"
        )
    if task.unknown_rate is None or not trained:
        return
    advice = "take partial, lora, prompt or full"
    if not same:
        advice += " with few_shot.shots, so that every class has as many labelled images"
    where = "adapt.ways" if recipe.adapt.kind == "auto" else "adapt.kind"
    raise SettingsError(
        f"{where}: {', '.join(trained)} keeps a trained head here, which task.unknown_rate cannot be calibrated for; "
        f"{advice}, or adapt.kind=frozen, or leave unknown_rate out"
    )
