"""Checking a dataset before anything is trained: every image read once, and what was found in plain words."""

import dataclasses
import os
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from statistics import median_low

from pangu_cv.data.advice import advise
from pangu_cv.data.class_names import NO_OBJECT
from pangu_cv.data.duplicates import Duplicates, find_duplicates, find_look_alikes, find_object_copies, relative
from pangu_cv.data.findings import UNLABELLED, DataCheck, Faulty, Range16Bit, Sizes
from pangu_cv.data.groups import torn_groups
from pangu_cv.data.inspection import Fault, ImageFacts, inspect
from pangu_cv.data.near_duplicates import MOST_COMPARED, is_compared
from pangu_cv.data.object_copies import require_opencv
from pangu_cv.data.readers import Layout, read_dataset, recognise
from pangu_cv.data.readers.pictures import without_masks
from pangu_cv.data.sample import Dataset, Sample
from pangu_runtime.decode import DEFAULT_SPEC, DecodeSpec, ImageHeader
from pangu_runtime.images import find_images

__all__ = ["DataCheck", "Progress", "check_dataset", "inspect_all", "summarise"]

Progress = Callable[[int, int], None]
"""Called with the number of images done and their total."""
_AHEAD = 8  # images a worker: a slow one holds up none of the others


def check_dataset(
    path: Path,
    *,
    layout: Layout = "auto",
    root: Path | None = None,
    spec: DecodeSpec = DEFAULT_SPEC,
    workers: int | None = None,
    with_objects: bool = False,
    progress: Progress | None = None,
) -> DataCheck:
    """Read every image and mask once and report; ``workers`` threads, as many as there are processors by default.

    ``with_objects`` also looks for the same object in several pictures (slow: every pair is compared).

    A folder of images in no known layout is checked as unlabelled (layout ``images``). Raises DataError where the
    layout itself is broken (see ``read_dataset``) or there is no image; a broken image is reported, never raised.
    """
    dataset = read_or_list(Path(path), layout=layout, root=root)
    if with_objects:
        require_opencv()
    facts = inspect_all(dataset, spec=spec, workers=workers, progress=progress)
    copies = (
        find_object_copies(dataset.samples, spec=spec, root=dataset.root, progress=progress) if with_objects else ()
    )
    return summarise(dataset, facts, spec=spec, object_copies=copies)


def inspect_all(
    dataset: Dataset, *, spec: DecodeSpec, workers: int | None = None, progress: Progress | None = None
) -> tuple[ImageFacts, ...]:
    """The facts of every sample, in order; pixels are let go image by image.

    A thumbnail is kept where ``near_duplicates.is_compared``: they are most of what stays of an image.
    """
    facts: list[ImageFacts] = []
    for fact in _inspected(dataset, spec, workers or os.cpu_count() or 1):
        facts.append(fact if is_compared(len(facts), len(dataset)) else dataclasses.replace(fact, thumbnail=None))
        if progress is not None:
            progress(len(facts), len(dataset))
    return tuple(facts)


def _inspected(dataset: Dataset, spec: DecodeSpec, workers: int) -> Iterator[ImageFacts]:
    """The facts in order, a few images ahead: a task for each of millions would fill the memory."""
    classes = len(dataset.mask_classes)
    waiting: deque[Future[ImageFacts]] = deque()
    pool = ThreadPoolExecutor(workers)
    try:
        for sample in dataset:
            waiting.append(pool.submit(inspect, sample, spec=spec, mask_classes=classes))
            if len(waiting) > _AHEAD * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)  # an interrupted check of 100 000 images must end now


def summarise(
    dataset: Dataset,
    facts: Sequence[ImageFacts],
    *,
    spec: DecodeSpec,
    object_copies: tuple[Duplicates, ...] = (),
) -> DataCheck:
    """The report from a dataset and the facts of its samples."""
    base = dataset.root
    headers = [fact.header for fact in facts if fact.header is not None]
    check = DataCheck(
        root=str(base),
        layout=dataset.layout,
        images=len(dataset),
        counts=_counts(dataset, facts),
        sizes=_sizes(headers),
        kinds=dict(Counter(header.kind for header in headers).most_common()),
        duplicates=find_duplicates(dataset.samples, facts, root=base),
        look_alikes=find_look_alikes(dataset.samples, facts, root=base),
        object_copies=object_copies,
        unreadable=_faulty(((s.path, f.fault) for s, f in zip(dataset, facts, strict=True)), base),
        mask_faults=_faulty(((s.mask, f.mask_fault) for s, f in zip(dataset, facts, strict=True)), base),
        box_faults=tuple(Faulty(relative(path, base), "size", message) for path, message in dataset.box_faults),
        range_16bit=_range_16bit([f.range_16bit for f in facts if f.range_16bit is not None], spec),
        notes=(*dataset.notes, *torn_groups(dataset), *_merged(dataset, facts), *_left_uncompared(len(dataset))),
        advice=(),
    )
    return dataclasses.replace(check, advice=advise(check, dataset.samples, facts))


def read_or_list(path: Path, *, layout: Layout = "auto", root: Path | None = None) -> Dataset:
    """The dataset, or the images of a folder in no known layout, unlabelled and without masks. Raises DataError."""
    is_unknown = layout == "auto" and path.is_dir() and recognise(path) is None
    if is_unknown and (images := without_masks(path, find_images(path))):
        note = "no layout with classes was recognised: taken as images without labels"
        return Dataset(path, "images", tuple(Sample(image) for image in images), (note,))
    return read_dataset(path, layout=layout, root=root)


def _left_uncompared(images: int) -> tuple[str, ...]:
    if images <= MOST_COMPARED:
        return ()
    told = f"look-alikes were sought among {MOST_COMPARED} of {images} images, evenly spread"
    return (f"{told}: every pair is compared; check parts of the set by themselves to compare all of each",)


def _merged(dataset: Dataset, facts: Sequence[ImageFacts]) -> tuple[str, ...]:
    """A sentence for masks of two classes whose values may be those of more."""
    several = [s.mask for s, fact in zip(dataset, facts, strict=True) if s.mask and fact.mask_levels > 1]
    if not several:
        return ()
    return (
        f"{len(several)} masks hold more than one value beside 0: all count as one defect, but to finetune segment "
        "255 beside 1 alone is no matter what; masks beside images/ may have a classes.txt that names the values; "
        f"first {relative(several[0], dataset.root)}",
    )


def _counts(dataset: Dataset, facts: Sequence[ImageFacts]) -> dict[str, dict[str, int]]:
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for sample, fact in zip(dataset, facts, strict=True):
        counts[sample.split or "all"].update(_shown(sample, fact, dataset.mask_classes))
    order = ("train", "val", "test", "all")
    return {split: dict(sorted(counts[split].items())) for split in order if split in counts}


def _shown(sample: Sample, fact: ImageFacts, mask_classes: tuple[str, ...]) -> list[str]:
    """What an image is an example of, once per object."""
    if sample.boxes is not None:
        return [box.label for box in sample.boxes] or [NO_OBJECT]
    if sample.label is None and sample.mask is not None and mask_classes:
        return [mask_classes[value] for value in sorted(fact.mask_values)]
    return [sample.label or UNLABELLED]


def _sizes(headers: Sequence[ImageHeader]) -> Sizes | None:
    if not headers:
        return None
    widths, heights = [h.width_px for h in headers], [h.height_px for h in headers]
    sizes = Counter(f"{h.width_px}x{h.height_px}" for h in headers)
    return Sizes(
        (min(widths), median_low(widths), max(widths)),
        (min(heights), median_low(heights), max(heights)),
        len(sizes),
        dict(sizes.most_common(5)),
    )


def _faulty(found: Iterable[tuple[Path | None, Fault | None]], root: Path) -> tuple[Faulty, ...]:
    return tuple(
        Faulty(relative(path, root), fault.reason, fault.message)
        for path, fault in found
        if path is not None and fault is not None
    )


def _range_16bit(ranges: Sequence[tuple[int, int]], spec: DecodeSpec) -> Range16Bit | None:
    if not ranges:
        return None
    low, high = min(r[0] for r in ranges), max(r[1] for r in ranges)
    # Cameras give 10, 12, 14 or 16 bits; the darkest value is kept at 0, so that dark stays dark.
    ceiling = next(top for top in (255, 1023, 4095, 16383, 65535) if high <= top)
    return Range16Bit((low, high), spec.range_16bit, (0, ceiling))
