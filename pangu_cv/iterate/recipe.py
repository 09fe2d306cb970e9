"""What an update is asked for."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from pangu_cv.data.config import DataConfig
from pangu_cv.settings import PathSetting, Settings


class UpdateRecipe(Settings):
    """From a model and what is new to the next model, or to a refusal."""

    model: PathSetting
    """A run folder of 'pangu-cv finetune' or 'update', or its model folder."""
    output: PathSetting
    """The run folder of the update, a new one."""
    data: DataConfig | None = None
    """New labelled images; new classes are allowed. Of an anomaly detector: normal images."""
    hard: DataConfig | None = None
    """Images that the model got wrong in use, labelled with the truth."""
    hard_weight: Annotated[float, Field(gt=0, le=1000)] | Literal["auto"] = "auto"
    """How many images a hard case counts as; auto: as few as help, and no more than kept images bear without a loss."""
    gate: DataConfig | None = None
    """The frozen set that no update may be worse on; default: the one that the ledger names for this model."""
    new_gate: bool = False
    """Allow a frozen set that differs from the one in the ledger."""
    max_drop: Annotated[float, Field(ge=0, lt=1)] = 0.003
    """By how much a figure on the frozen set may be lower than before, as a share: 0.003 are 0.3 points."""
    rename: dict[str, str] = Field(default_factory=dict)
    """New names of classes, by their old ones."""
    relabel: bool = False
    """Take the new label of images that were learnt with another; else they are refused."""
    forget: tuple[str, ...] = ()
    """anomaly: images (names as in its bank, or of missed defects) to take out."""
    missed: DataConfig | None = None
    """anomaly: images of defects that the model took for normal; a folder, or a dataset with masks."""
    masks: PathSetting | None = None
    """anomaly: a folder of masks of the missed defects, each named as its image."""
    ledger: PathSetting | None = None
    """The ledger; default: the one that the model was written in, else ledger.jsonl beside the model's run folder."""
    fork: bool = False
    """Allow an update of a model that has been updated already; the two next models do not know of each other."""
    by: str | None = None
    """Who does it, for the ledger; default: the user's name on this machine."""
    cache: bool = True
    """Keep features on disk (PANGU_CV_CACHE)."""

    @field_validator("missed", mode="before")
    @classmethod
    def _missed_by_path(cls, value: object) -> object:
        return {"path": value} if isinstance(value, str | Path | int | float) else value
