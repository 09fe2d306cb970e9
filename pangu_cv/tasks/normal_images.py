"""Learning what normal looks like from image files, one at a time; a killed run goes on where it was.

Shapes: P patches, D features.
"""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pangu_cv.data.sample import Sample
from pangu_cv.errors import ImageError
from pangu_cv.features import Progress, Skipped, content_digest, digest, read_ahead
from pangu_cv.models import checkpoint
from pangu_cv.models.checkpoint import Checkpoint
from pangu_cv.progress import bar
from pangu_cv.tasks.anomaly import AnomalyModel
from pangu_cv.tasks.normality import Normality
from pangu_runtime.decode import DecodeSpec, decode

SAVE_EVERY = 100  # images between saves of a growing bank, at least


@dataclass(frozen=True)
class Learned:
    """A calibrated model with its memory, and what could not be read."""

    model: AnomalyModel
    normality: Normality
    skipped: tuple[Skipped, ...]


@dataclass(frozen=True)
class Named:
    """A normal image under the name the bank knows it by, and the digest of its file."""

    name: str
    sample: Sample
    digest: str


def named(normals: Sequence[Sample], normality: Normality, *, root: Path) -> list[Named]:
    """Names relative to the dataset; another picture under a name the bank knows gets its digest appended."""
    images = []
    for sample in normals:
        path = sample.path
        name = path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
        try:
            content = content_digest(path)[:16]
        except ImageError:
            content = "unreadable"
        known = normality.digests.get(name, content)
        images.append(Named(name if known == content else f"{name}@{content}", sample, content))
    return images


def learn(
    model: AnomalyModel,
    normality: Normality,
    images: Sequence[Named],
    *,
    decode_spec: DecodeSpec,
    partial: Path | None = None,
) -> Learned:
    """Two passes over the images, one at a time: the bank, then each image's score against the others.

    The bank is saved to ``partial`` as it grows, so that a killed run in the same folder goes on where it was.
    """
    skipped: list[Skipped] = []
    wanted = [(image.name, image.digest, image.sample.group) for image in images]
    bank = normality.bank
    key = digest(model.fingerprint, model.top_k, decode_spec.to_json(), bank.images, bank.capacity, wanted)
    normality = _resumed(partial, key) or normality
    known = set(normality.bank.images)
    with bar("learning normal images") as progress:
        todo = [image for image in images if image.name not in known]
        next_save = SAVE_EVERY
        for done, (image, patches_PD) in enumerate(_patches(model, todo, decode_spec, skipped, progress), start=1):
            group = image.sample.group or ""
            normality.learn(image.name, patches_PD, digest=image.digest, group=group)
            if partial is not None and done >= next_save:
                next_save = done + max(SAVE_EVERY, (len(known) + done) // 10)  # a save names all images so far
                tensors, plain = normality.state()
                checkpoint.save(partial, Checkpoint({"bank": tensors}, {"normality": plain, "key": key}))
    with bar("calibrating on normal images") as progress:
        for image, patches_PD in _patches(model, images, decode_spec, [], progress):
            normality.witness(image.name, patches_PD)
    normality.calibrate(model)
    if partial is not None:
        shutil.rmtree(partial, ignore_errors=True)
    return Learned(model, normality, tuple(skipped))


def _resumed(partial: Path | None, key: str) -> Normality | None:
    """The memory a killed run left, where it was learning the same images the same way; else it is ignored."""
    if partial is None or not (partial / "model.json").is_file():
        return None
    stored = checkpoint.load(partial)
    if stored.manifest.get("key") != key:
        return None
    return Normality.restore(stored.components["bank"], stored.manifest["normality"])


def _patches(
    model: AnomalyModel, images: Sequence[Named], spec: DecodeSpec, skipped: list[Skipped], progress: Progress
) -> Iterator[tuple[Named, Tensor]]:
    def read(path: Path) -> NDArray[np.uint8]:
        return decode(path, spec=spec)

    with torch.inference_mode():
        decoded = read_ahead([image.sample.path for image in images], read)
        for done, (image, pixels) in enumerate(zip(images, decoded, strict=True), start=1):
            if isinstance(pixels, ImageError):
                skipped.append(Skipped(image.sample.path, pixels.reason, str(pixels)))
            else:
                patches = model.patches(model.prepare(torch.from_numpy(pixels)[None]))
                yield image, patches[0].flatten(0, 1)
            progress(done, len(images))
