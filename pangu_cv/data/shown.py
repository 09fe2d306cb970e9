"""Which classes an image shows, any number of them: from its boxes, else from its label split on ``;``."""

from pangu_cv.data.sample import Dataset, Sample

SEPARATOR = ";"


def classes_shown(dataset: Dataset) -> dict[Sample, frozenset[str]]:
    """The classes of every image of which they are known, in the dataset's order.

    No box at all means that nothing is there, and so does a table's empty label; an image without label in any other
    layout says nothing and is left out.
    """
    shown: dict[Sample, frozenset[str]] = {}
    for sample in dataset:
        if sample.boxes is not None:
            shown[sample] = frozenset(box.label for box in sample.boxes)
        elif sample.label is not None or dataset.layout == "csv":
            names = (name.strip() for name in (sample.label or "").split(SEPARATOR))
            shown[sample] = frozenset(name for name in names if name)
    return shown
