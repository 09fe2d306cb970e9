"""``pangu-cv data convert``."""

from pathlib import Path

from pangu_cv.data.coco_writer import write_coco
from pangu_cv.data.readers import Layout, read_dataset
from pangu_cv.staging import staged_folder


def convert(path: Path, out: Path, *, layout: Layout = "auto", root: Path | None = None) -> None:
    """Write a dataset with boxes (COCO, YOLO or VOC layout) as COCO, images copied.

    Parameters
    ----------
    path
        The dataset.
    out
        A new folder.
    layout
        How to read it, as data.layout of 'pangu-cv finetune'; auto recognises it.
    root
        Folder that the files of a COCO file are relative to.
    """
    dataset = read_dataset(path, layout=layout, root=root)
    with staged_folder(out) as staging:
        written = write_coco(dataset, staging)
    for note in dataset.notes:
        print(f"! {note}")
    if written.skipped:
        print(f"! {len(written.skipped)} images cannot be read and were left out; first {written.skipped[0]}")
    print(f"wrote {written.images} images with {written.boxes} boxes to {out}")
    print(f"Next: pangu-cv data check {out}")
