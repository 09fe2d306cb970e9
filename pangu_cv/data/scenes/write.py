"""Folders of scenes on disk, in the layouts the readers know."""

import csv
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from pangu_cv.data.scenes.defects import DEFECT_KINDS, DefectKind
from pangu_cv.data.scenes.plan import SceneConfig
from pangu_cv.data.scenes.scene import GOOD, Scene, render_scene
from pangu_cv.errors import DataError

Part = Literal["train", "test"]
Progress = Callable[[int, int], None]

_JPEG_QUALITY = 94
_DEFAULT = SceneConfig()


@dataclass(frozen=True, slots=True)
class _Order:
    """So many scenes of one kind for one folder; ``defect`` None asks for sound ones."""

    part: Part
    defect: DefectKind | None
    count: int

    @property
    def label(self) -> str:
        return self.defect or GOOD


def write_class_folders(
    folder: Path | str,
    *,
    images_per_class: int | Mapping[Part, int],
    seed: int = 0,
    config: SceneConfig = _DEFAULT,
    progress: Progress | None = None,
) -> Path:
    """Write ``train/<class>/*.jpg`` and ``test/<class>/*.jpg`` for 'good' and every defect, captions and boxes too.

    An int holds for both parts; ``{"train": 40, "test": 10}`` sets each. No two images share a scene. ``progress`` is
    called with the images done and the images in all. Raises DataError if the folder exists and is not empty.
    """
    counts = _per_part(images_per_class)
    orders = [_Order(part, defect, n) for part, n in counts.items() for defect in (None, *DEFECT_KINDS)]
    with _new_folder(folder) as work:
        _write(work, orders, seed, config, progress, masks=False)
    return Path(folder)


def write_mvtec(
    folder: Path | str,
    *,
    normals_train: int,
    normals_test: int,
    defects_per_kind: int,
    seed: int = 0,
    config: SceneConfig = _DEFAULT,
    progress: Progress | None = None,
) -> Path:
    """Write the MVTec AD layout: ``train/good``, ``test/good``, ``test/<defect>`` and ``ground_truth/<defect>``.

    Images are ``<stem>.jpg``, masks ``<stem>_mask.png`` (0 and 255); captions and boxes lie beside the folders. No two
    images share a scene. Raises DataError if the folder exists and is not empty.
    """
    orders = [_Order("train", None, normals_train), _Order("test", None, normals_test)]
    orders += [_Order("test", kind, defects_per_kind) for kind in DEFECT_KINDS]
    with _new_folder(folder) as work:
        _write(work, orders, seed, config, progress, masks=True)
    return Path(folder)


def _per_part(images_per_class: int | Mapping[Part, int]) -> dict[Part, int]:
    if isinstance(images_per_class, int):
        return {"train": images_per_class, "test": images_per_class}
    unknown = set(images_per_class) - {"train", "test"}
    if unknown:
        raise DataError(f"images_per_class: unknown part {sorted(unknown)[0]!r}; allowed are 'train' and 'test'")
    return {part: images_per_class.get(part, 0) for part in ("train", "test")}


@contextmanager
def _new_folder(folder: Path | str) -> Iterator[Path]:
    """A working folder beside the target that takes its place only if all went well."""
    target = Path(folder)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise DataError(f"{target}: already exists and is not empty; name a new folder, or remove this one first")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as outer:
        work = Path(outer) / target.name
        work.mkdir()
        yield work
        if target.exists():
            target.rmdir()
        work.replace(target)


def _write(
    work: Path, orders: list[_Order], seed: int, config: SceneConfig, progress: Progress | None, *, masks: bool
) -> None:
    for order in orders:
        if order.count < 0:
            raise DataError(f"{order.part}/{order.label}: the number of images is {order.count}; it must be 0 or more")
    total = sum(order.count for order in orders)
    seeds = iter(np.random.SeedSequence(seed).generate_state(total, np.uint64).tolist())
    captions: list[tuple[str, str]] = []
    boxes: dict[str, list[dict[str, object]]] = {}
    for order in orders:
        for number in range(order.count):
            scene = render_scene(next(seeds), defect=order.defect, config=config)
            name = _save(work, order, number, scene, masks=masks)
            captions.append((name, scene.caption))
            boxes[name] = _box_list(scene)
            if progress:
                progress(len(captions), total)
    _save_tables(work, captions, boxes)


def _save(work: Path, order: _Order, number: int, scene: Scene, *, masks: bool) -> str:
    stem = f"{number:04d}"
    path = work / order.part / order.label / f"{stem}.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(scene.image_HW3).save(path, quality=_JPEG_QUALITY)
    if masks and order.defect:
        truth = work / "ground_truth" / order.label / f"{stem}_mask.png"
        truth.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(scene.mask_HW).save(truth)
    return path.relative_to(work).as_posix()


def _box_list(scene: Scene) -> list[dict[str, object]]:
    rows = scene.boxes_xyxy.astype(float).round(1).tolist()
    return [{"label": label, "box_xyxy": row} for label, row in zip(scene.box_labels, rows, strict=True)]


def _save_tables(work: Path, captions: list[tuple[str, str]], boxes: dict[str, list[dict[str, object]]]) -> None:
    with (work / "captions.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("file", "caption"), *captions])
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(found)}" for name, found in boxes.items())
    (work / "boxes.json").write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")
