"""``pangu-cv data convert``."""

from pathlib import Path

from pangu_cv.data.coco_writer import write_coco
from pangu_cv.data.mask_writer import write_masks
from pangu_cv.data.readers import Layout, outlines_of, read_dataset
from pangu_cv.data.sample import Dataset
from pangu_cv.staging import staged_folder


def convert(path: Path, out: Path, *, masks: bool = False, layout: Layout = "auto", root: Path | None = None) -> None:
    """Write a dataset with boxes (COCO, YOLO, VOC or labelme) as COCO, or its outlines as masks; images copied.

    Parameters
    ----------
    path
        The dataset.
    out
        A new folder.
    masks
        Write images beside masks, for task.kind=segment: every outline of a COCO, YOLO or labelme dataset filled with
        its class's number, small objects over large ones; masks of VOC (SegmentationClass) with numbers for colours.
        An image with an object that has no outline gets none. What is called background is drawn as such.
    layout
        How to read it, as data.layout of 'pangu-cv finetune'; auto recognises it.
    root
        Folder that the files of a COCO file are relative to.
    """
    dataset = read_dataset(path, layout=layout, root=root)
    if masks:
        _write_masks(dataset, path, out, layout=layout, root=root)
        return
    with staged_folder(out) as staging:
        written = write_coco(dataset, staging)
    for note in dataset.notes:
        print(f"! {note}")
    if written.skipped:
        print(f"! {len(written.skipped)} images cannot be read and were left out; first {written.skipped[0]}")
    print(f"wrote {written.images} images with {written.boxes} boxes to {out}")
    print(f"Next: pangu-cv data check {out}")


def _write_masks(dataset: Dataset, path: Path, out: Path, *, layout: Layout, root: Path | None) -> None:
    outlines = outlines_of(dataset, path, layout=layout, root=root)
    with staged_folder(out) as staging:
        written = write_masks(dataset, outlines, staging)
    for note in (*outlines.notes, *written.notes):  # the dataset's own are of its boxes
        print(f"! {note}")
    print(f"wrote {written.images} images, {written.masks} of them with a mask, to {out}")
    print(f"Next: pangu-cv data check {out}")
