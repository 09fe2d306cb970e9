"""The recipe of the loop."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from pangu_cv.data.config import DataConfig
from pangu_cv.distill.budget import BudgetConfig
from pangu_cv.distill.recipe import ExtractConfig, TimmConfig
from pangu_cv.iterate.ask import AskConfig
from pangu_cv.iterate.mine.recipe import Find, Learn
from pangu_cv.models.training import TrainConfig
from pangu_cv.settings import PathSetting, Settings
from pangu_cv.tasks.classify import ClassifyConfig
from pangu_runtime.decode import DecodeSpec

Positive = Annotated[int, Field(ge=1)]


class OracleConfig(Settings):
    """A labelled table that answers in a person's place, for examples and for measuring."""

    path: PathSetting
    """The truth: any labelled dataset; its images are found by content, whatever they are called."""
    root: PathSetting | None = None
    """Where the file names of a table start; default: beside the table."""
    wrong: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of answers that are wrong."""


class SmallerConfig(Settings):
    """A smaller model at the end, taught by the last one on the unlabelled images."""

    budget: BudgetConfig
    """What it may cost."""
    student: Annotated[ExtractConfig | TimmConfig, Field(discriminator="kind")] = ExtractConfig()
    """Where it comes from; ``extract`` takes it out of a plain ViT."""
    train: TrainConfig = TrainConfig(
        steps=100_000, batch=32, lr=5e-4, backbone_lr=3e-4, max_seconds=120.0, warmup=0.1, ema=0.99
    )
    """Its teaching; ``max_seconds`` ends it."""


class LoopRecipe(Settings):
    """From images nobody has looked at to a certified bundle, in rounds of looking, asking and learning."""

    images: PathSetting
    """A folder of images; labels that lie there are not looked at."""
    classes: Annotated[tuple[str, ...], Field(min_length=2)]
    """What an image can show."""
    rounds: Positive = 3
    """Rounds; more may be asked for later, and the loop goes on."""
    count: Positive = 40
    """Images that each round chooses to ask about."""
    goal: Annotated[Find | Learn, Field(discriminator="kind")] = Learn()
    """What they are chosen for."""
    gate: DataConfig | None = None
    """The frozen set that every round is measured on and no update may be worse on: labelled images that are never
    learnt. null draws ``gate_images`` of the images and asks for the class of each before the first round."""
    gate_images: Positive = 60
    """Size of a frozen set that is drawn; it may grow until the set is frozen."""
    oracle: OracleConfig | None = None
    """A simulated person; null asks people."""
    ask: AskConfig = AskConfig()
    """How questions are chosen and when they end; ``max_seconds`` is of one round."""
    range_16bit: tuple[int, int] = (0, 65535)
    """The 16-bit values that become black and white; a 12-bit camera wants [0, 4095]."""
    max_drop_points: Annotated[float, Field(ge=0, lt=100)] = 0.3
    """By how many points (of 100) an update may be worse on the frozen set; one that is worse is rolled back."""
    task: ClassifyConfig = ClassifyConfig()
    """The classifier."""
    distill: SmallerConfig | None = None
    """A smaller model at the end; null exports the last round's."""
    precisions: tuple[Literal["fp16", "int8"], ...] = ()
    """What the bundle holds beside fp32; int8 is fitted to and controlled on the images that may be asked about."""
    licence: str = "not stated"
    """Terms of the images; written into checkpoints and bundles."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Decides which images are frozen, and everything else that is drawn."""
    cache: bool = True
    """Keep features on disk (PANGU_CV_CACHE)."""
    output: PathSetting | None = None
    """The run folder; default: runs/loop-IMAGES. A loop that is there goes on."""

    @field_validator("oracle", mode="before")
    @classmethod
    def _oracle_by_path(cls, value: object) -> object:
        return {"path": value} if isinstance(value, str | Path | int | float) else value

    @field_validator("classes")
    @classmethod
    def _classes_once(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(names)) < len(names) or not all(name.strip() for name in names):
            raise ValueError("every class needs a name of its own")
        return names

    @property
    def folder(self) -> Path:
        """The run folder."""
        return self.output or Path("runs") / f"loop-{self.images.resolve().stem}"

    @property
    def decode_spec(self) -> DecodeSpec:
        """How files become pixels, in every round and at the line."""
        return DecodeSpec(range_16bit=self.range_16bit)

    @property
    def bound(self) -> dict[str, object]:
        """What a loop that has begun cannot change: other settings would make its first rounds untrue."""
        free = {"rounds", "count", "goal", "ask", "max_drop_points", "distill", "precisions", "output", "cache"}
        return self.model_dump(mode="json", exclude=free)
