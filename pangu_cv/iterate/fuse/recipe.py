"""The recipe of fusing, and what it hands over."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from pangu_cv.data.readers import Layout, pictures_below, read_images
from pangu_cv.data.sample import Sample
from pangu_cv.errors import DataError
from pangu_cv.iterate.fuse.deltas import LoraConfig
from pangu_cv.iterate.fuse.distil import GraphConfig
from pangu_cv.iterate.fuse.interpolate import InterpolateConfig
from pangu_cv.iterate.fuse.memories import MemoryConfig
from pangu_cv.iterate.fuse.soup import SoupConfig
from pangu_cv.settings import PathSetting, Settings


class AutoConfig(Settings):
    """Try a greedy soup, where the weights can be mixed, and the graph; the better one on the images is taken."""

    kind: Literal["auto"] = "auto"
    """The way."""


How = Annotated[
    AutoConfig | SoupConfig | InterpolateConfig | LoraConfig | GraphConfig | MemoryConfig,
    Field(discriminator="kind"),
    BeforeValidator(lambda value: {"kind": value} if isinstance(value, str) else value),
]


class FusingImages(Settings):
    """Images of the kind that the models will see, any of them labelled or none."""

    path: PathSetting
    """A folder of images, or a dataset in one of the known layouts. Its test part only measures."""
    layout: Layout = "auto"
    """How to read it; auto recognises it."""
    root: PathSetting | None = None
    """Folder that the files of a table are relative to."""
    unlabelled: PathSetting | None = None
    """A folder of more images, which teach."""
    labels: Literal["use", "ignore"] = "use"
    """use: labels of the val part (of all but the test part, where there is no val) choose and are believed."""
    most: Annotated[int, Field(ge=8)] = 2000
    """Unlabelled images used at most, drawn evenly."""
    licence: str = "not stated"
    """Terms of the images; written into the checkpoint."""

    def read(self) -> "Images":
        """The images by what they are for; raises DataError where none is left to teach."""
        samples = list(read_images(self.path, layout=self.layout, root=self.root))
        more = [Sample(path) for path in pictures_below(self.unlabelled)] if self.unlabelled else []
        has_val = any(s.split == "val" and s.label is not None for s in samples)
        chooses = {"val"} if has_val else {"train", "val", None}
        labelled, bare, measured = [], [], []
        for sample in samples + more:
            if sample.split == "test":
                measured.append(sample)
            elif sample.label is not None and sample.split in chooses and self.labels == "use":
                labelled.append(sample)
            else:
                bare.append(Sample(sample.path))
        bare = bare[:: max(1, -(-len(bare) // self.most))]
        if not labelled and not bare:
            raise DataError(f"{self.path}: all images are of the test part, which only measures; others must teach")
        return Images(tuple(labelled), tuple(bare), tuple(s for s in measured if s.label is not None))


@dataclass(frozen=True)
class Images:
    """Labelled images choose and teach, bare ones teach, measured ones are never learnt from."""

    labelled: tuple[Sample, ...]
    bare: tuple[Sample, ...]
    measured: tuple[Sample, ...]


class FuseRecipe(Settings):
    """From several classifiers and images to one classifier of all their classes."""

    models: Annotated[tuple[PathSetting, ...], Field(min_length=1)]
    """Run folders of 'pangu-cv finetune' (or of fuse, distill, update), or their model folders."""
    data: FusingImages
    """The images."""
    how: How = AutoConfig()
    """How they become one: auto, soup, interpolate, lora, graph or memory, by name or with settings."""
    rename: dict[str, str] = Field(default_factory=dict)
    """MODEL/CLASS: NEW, where models call one class by different names."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Decides everything that is random."""
    cache: bool = True
    """Keep features on disk (PANGU_CV_CACHE), so that a killed run resumes and the next one is quick."""
    output: PathSetting | None = None
    """The run folder; default: a new one under runs/."""


@dataclass(frozen=True)
class FuseResult:
    """Paths of what was written, and the figures of ``metrics.json``."""

    folder: Path
    model: Path
    report: Path
    metrics: dict[str, Any]
