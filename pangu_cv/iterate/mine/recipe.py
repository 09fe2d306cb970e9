"""The recipe of mining."""

from typing import Annotated, Literal

from pydantic import Field

from pangu_cv.iterate.decoding import given_spec, require_range
from pangu_cv.iterate.pool import Sight
from pangu_cv.models.backbone import BackboneConfig
from pangu_cv.models.preprocess import PreprocessConfig
from pangu_cv.settings import PathSetting, Settings


class Find(Settings):
    """Find what is rare: the images of a kind, the surest first."""

    kind: Literal["find"] = "find"
    """The goal."""
    wanted: tuple[str, ...] = ()
    """Labels of what is looked for; empty: every label that is not ``normal``."""
    normal: tuple[str, ...] = ("good", "normal", "ok")
    """Labels of what is not looked for, where ``wanted`` is empty."""
    like: tuple[PathSetting, ...] = ()
    """Images of what is looked for, such as a missed defect; they need not be among ``images``."""
    sentence: str | None = None
    """What is looked for, in words; needs ``text_model``."""
    text_model: PathSetting | None = None
    """A run of pretraining with texts."""
    explore: Annotated[float, Field(ge=0, le=1)] = 0.3
    """Share of each batch that goes to the oddest images whatever was found so far: other kinds of defect."""


class Learn(Settings):
    """Choose what teaches a model most: typical images first, then doubtful ones."""

    kind: Literal["learn"] = "learn"
    """The goal."""
    doubt: Literal["margin", "entropy", "views"] = "margin"
    """Lead of the best class, entropy over classes, or disagreement between an image and its mirror images."""
    typical: Annotated[float, Field(ge=0, le=1)] = 0.2
    """Share of the batch from clusters that nobody has looked into; all of it where nothing is labelled."""
    odd: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Share of the batch that is unlike everything else."""


class MineRecipe(Settings):
    """From images nobody has looked at to a ranked list of those worth it."""

    images: PathSetting
    """A folder of images, or a table, dataset file or dataset version that names them."""
    root: PathSetting | None = None
    """Folder that the file names of such a table start from; default: the table's folder or the one above."""
    goal: Annotated[Find | Learn, Field(discriminator="kind")] = Find()
    """What is looked for."""
    model: PathSetting | None = None
    """A trained model: its network sees the images, its doubts count; none: the backbone below."""
    backbone: BackboneConfig = BackboneConfig()
    """The network, where there is no model."""
    preprocess: PreprocessConfig = PreprocessConfig()
    """Its resize."""
    range_16bit: tuple[int, int] | None = None
    """The 16-bit values that become black and white, [0, 4095] of a 12-bit camera; default: the model's, or all."""
    labels: PathSetting | None = None
    """What people have said so far: a dataset, a version of one, ``answers.jsonl`` of 'pangu-cv ask', or an earlier
    ``ranked.csv`` with labels filled in."""
    classes: tuple[str, ...] = ()
    """All that an image can show, if known: what shows none of them by ``answers.jsonl`` is not chosen again."""
    count: Annotated[int, Field(ge=1)] = 50
    """Images to look at next."""
    most_alike: Annotated[float, Field(gt=0, le=1)] = 0.95
    """Of two chosen images that are more alike than this (cosine) the second is passed over; 1 allows twins."""
    output: PathSetting | None = None
    """The run folder; default: a new one under runs/."""
    store: PathSetting | None = None
    """Where vectors are kept; default: the cache folder (PANGU_CV_CACHE)."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Of the clusters."""

    def sight(self) -> Sight:
        """What the images are seen with; raises SettingsError where the model reads another range of 16 bits."""
        if self.model is not None:
            sight = Sight.of(self.model)
            require_range(self.model, sight.decode_spec, self.range_16bit, setting="range_16bit")
            return sight
        return Sight(self.backbone, self.preprocess, decode_spec=given_spec(self.range_16bit))
