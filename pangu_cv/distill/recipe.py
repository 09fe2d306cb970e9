"""The recipe of the stage, and what it hands over."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from pangu_cv.data.groups import with_groups
from pangu_cv.data.readers import read_images
from pangu_cv.data.sample import Sample
from pangu_cv.distill.budget import BudgetConfig
from pangu_cv.distill.pupil import LossConfig
from pangu_cv.distill.shape import LatticeConfig
from pangu_cv.errors import DataError
from pangu_cv.models.augment import AugmentConfig
from pangu_cv.models.training import TrainConfig
from pangu_cv.settings import PathSetting, Settings

Positive = Annotated[int, Field(ge=1)]
Split = Literal["train", "val", "test", "none"]


class ImagesConfig(Settings):
    """Unlabelled images of the kind the line takes. Of labels that lie beside them one is looked at: of an anomaly
    detector those called ``good`` make the student's memory; without any, the images that the teacher calls normal."""

    path: PathSetting
    """Any folder of images, or a dataset in one of the known layouts."""
    root: PathSetting | None = None
    """Folder that the files of a table are relative to."""
    groups: PathSetting | None = None
    """A table ``file,group`` of images that belong together: for an anomaly detector's threshold, those of one group
    count once. 'pangu-cv data check --groups' makes one."""
    splits: tuple[Split, ...] = ("train", "none")
    """Parts of a dataset that are used; ``none`` is what has no split. Test images are left alone unless named."""
    most: Positive = 3000
    """Images used at most, drawn evenly."""

    def read(self) -> list[Sample]:
        """The images; raises DataError where there is none."""
        wanted = {None if split == "none" else split for split in self.splits}
        dataset = read_images(self.path, root=self.root)
        dataset = with_groups(dataset, self.groups) if self.groups else dataset
        samples = [sample for sample in dataset if sample.split in wanted]
        if not samples:
            there = sorted({sample.split or "none" for sample in dataset})
            raise DataError(f"{self.path}: no image in splits {list(self.splits)}; there are {there}")
        count = min(len(samples), self.most)
        return [samples[place * len(samples) // count] for place in range(count)]


class ExtractConfig(Settings):
    """A sub-model of the teacher's own ViT."""

    kind: Literal["extract"] = "extract"
    """Where the student comes from."""
    lattice: LatticeConfig = LatticeConfig()
    """Sub-models to choose from."""
    looked_at: Positive = 16
    """Sub-models within the budget that are taken out and judged as they are."""
    front: Annotated[int, Field(ge=0)] = 8
    """Further ones over all sizes, so that the report can show what other budgets would give."""
    tried: Positive = 3
    """Of those looked at, how many are taught for a while before one is chosen."""
    trial_seconds: Annotated[float, Field(gt=0)] = 20.0
    """Of teaching each; the better half is taught on for as long again, until one is left."""


class TimmConfig(Settings):
    """Another network of timm's."""

    kind: Literal["timm"] = "timm"
    """Where the student comes from."""
    name: str
    """A timm model name."""
    weights: str = "auto"
    """As for a backbone; ``random`` starts from nothing."""
    levels: tuple[int, ...] | None = None
    """Depths that are read, in fifths; null takes the teacher's."""
    image_px: Positive | None = None
    """Side of the input; null takes the largest that fits the budget."""


class DistillRecipe(Settings):
    """From a model and unlabelled images to a smaller model within a budget."""

    model: PathSetting
    """The teacher: a run folder of 'pangu-cv finetune', or its model folder."""
    data: ImagesConfig
    """The images."""
    budget: BudgetConfig
    """What the student may cost."""
    student: Annotated[ExtractConfig | TimmConfig, Field(discriminator="kind")] = ExtractConfig()
    """Where the student comes from."""
    loss: LossConfig = LossConfig()
    """What it is asked for."""
    train: TrainConfig = TrainConfig(
        steps=100_000, batch=32, lr=5e-4, backbone_lr=3e-4, max_seconds=120.0, warmup=0.1, ema=0.99
    )
    """Teaching; ``max_seconds`` ends it where the steps do not."""
    augment: AugmentConfig = AugmentConfig()
    """Variants of images."""
    variants: Positive = 4
    """Of each image, the image itself among them; the teacher looks at each once."""
    probes: PathSetting | None = None
    """Write the kit for 'pangu-cv profile' here, and do nothing else; the budget counts when its answer is back."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Decides everything that is random."""
    output: PathSetting | None = None
    """The run folder; default: a new one under runs/. A folder with an unfinished run of the same recipe goes on."""

    @model_validator(mode="after")
    def _every_setting_counts(self) -> Self:
        idle: tuple[tuple[str, Settings, tuple[str, ...]], ...] = (
            ("augment", self.augment, ("paste", "variants", "keep")),
            ("train", self.train, ("pool", "workers")),
        )
        for group, settings, names in idle:
            for name in names:
                if getattr(settings, name) != type(settings).model_fields[name].default:
                    raise ValueError(
                        f"{group}.{name} changes nothing here; variants of an image are 'variants', made once in the "
                        "process itself"
                    )
        return self


@dataclass(frozen=True)
class DistillResult:
    """Paths of what was written, and the figures of ``metrics.json``."""

    folder: Path
    model: Path
    report: Path
    metrics: dict[str, Any]
