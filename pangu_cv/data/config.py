"""Which images, and how they are read."""

import dataclasses
from pathlib import Path
from typing import Literal

from pangu_cv.data.groups import with_groups, with_torn_told
from pangu_cv.data.readers import Layout, read_dataset
from pangu_cv.data.sample import Dataset
from pangu_cv.settings import PathSetting, Settings
from pangu_runtime.decode import DecodeSpec


class DataConfig(Settings):
    """A dataset and how its files become pixels."""

    path: PathSetting
    """Class folders, the MVTec AD, COCO, YOLO, VOC or labelme layout, images beside masks, a CSV table, or a dataset
    version (of a folder of several the newest)."""
    layout: Layout = "auto"
    """How to read it; auto recognises it."""
    root: PathSetting | None = None
    """Folder that the files of a table are relative to; default: the table's folder or the one above. Where
    the images of a dataset version are, if they have moved."""
    groups: PathSetting | None = None
    """A table ``file,group`` of images that stay on one side of a split; 'pangu-cv data check --groups' makes one."""
    split: Literal["own", "anew"] = "own"
    """own: the parts that the layout names. anew: they are forgotten and a part to measure on is held out, whole groups
    at a time, as where a layout names none. 'pangu-cv evaluate' knows nothing of it: there the layout's parts hold,
    without the images learnt from."""
    range_16bit: tuple[int, int] = (0, 65535)
    """The 16-bit values that become black and white; 'pangu-cv data check' suggests a range."""
    max_pixels: int = 100_000_000
    """Larger images are refused before they are decoded."""
    licence: str = "not stated"
    """Terms of the images; written into checkpoints and bundles."""

    def read(self) -> Dataset:
        """The dataset; raises DataError."""
        dataset = read_dataset(self.path, layout=self.layout, root=self.root)
        if self.split == "anew":
            dataset = dataclasses.replace(dataset, samples=tuple(dataclasses.replace(s, split=None) for s in dataset))
        return with_groups(dataset, self.groups) if self.groups else with_torn_told(dataset)

    @property
    def decode_spec(self) -> DecodeSpec:
        """How files become pixels, here and at the line."""
        return DecodeSpec(max_pixels=self.max_pixels, range_16bit=self.range_16bit)


def dataset_title(path: Path) -> str:
    """The dataset's name for people: the folder or table, spaces for underscores."""
    return path.resolve().stem.replace("_", " ")
