"""The recipe of the stage, and what it hands over."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from pangu_cv.data.config import DataConfig
from pangu_cv.data.sample import Sample
from pangu_cv.features import Skipped, digest
from pangu_cv.finetune.auto import Auto
from pangu_cv.models.adapt import Adapt, Frozen, Full, Linear, Lora, Partial, Prompt
from pangu_cv.models.augment import AugmentConfig
from pangu_cv.models.class_losses import ClassLoss, LogitAdjusted
from pangu_cv.models.training import TrainConfig
from pangu_cv.settings import PathSetting, Settings
from pangu_cv.tasks import TaskConfig
from pangu_cv.tasks.saved import Provenance, data_hash, marks_of

AdaptOrAuto = Annotated[Frozen | Linear | Partial | Full | Lora | Prompt | Auto, Field(discriminator="kind")]


def _once_each(seeds: tuple[int, ...]) -> tuple[int, ...]:
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"a seed is named twice, found {list(seeds)}; the same draw again tells nothing of another")
    return seeds


class FewShotConfig(Settings):
    """How many labels a run may see."""

    shots: Annotated[int, Field(ge=1)] | None = 5
    """Labelled images per class (normal images for anomaly); null means all of the training split."""
    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1), AfterValidator(_once_each)] = (0,)
    """One draw per seed, none named twice; figures are means over draws, the model saved is that of the first."""


class UnlabelledConfig(Settings):
    """Images whose labels nobody knows, or that are not looked at."""

    path: PathSetting | None = None
    """A folder, table or dataset; null: the training images of data.path that were not drawn."""
    most: Annotated[int, Field(ge=1)] = 1000
    """Images used at most, drawn evenly; each costs one pass of the network."""
    licence: str = "not stated"
    """Terms of the images at path; written into the checkpoint."""
    neighbours: Annotated[int, Field(ge=1)] = 10
    """Images that each one's label spreads to."""
    weight: Annotated[float, Field(gt=0)] = 1.0
    """What all of them weigh together, in multiples of the labelled images."""


class FinetuneRecipe(Settings):
    """From a backbone and a few labels to a model."""

    task: TaskConfig
    """What is to be predicted, and how."""
    data: DataConfig
    """The images."""
    few_shot: FewShotConfig = FewShotConfig()
    """The labels used."""
    unlabelled: UnlabelledConfig | None = None
    """classify: images without labels that teach as well, where that helps; null: none."""
    adapt: AdaptOrAuto = Frozen()
    """How much of the backbone learns. A frozen classifier is fitted in closed form, all else is trained."""
    loss: ClassLoss = LogitAdjusted()
    """How a trained classifier, or a detector, treats classes of different frequency."""
    train: TrainConfig = TrainConfig()
    """Training, where there is any."""
    augment: AugmentConfig = AugmentConfig()
    """Variants of images in training."""
    output: PathSetting | None = None
    """The run folder; default: a new one under runs/."""
    cache: bool = True
    """Keep features on disk (PANGU_CV_CACHE), so that a killed run resumes and the next one is quick."""
    grow_from: PathSetting | None = None
    """anomaly: a checkpoint whose bank these normal images are added to, without the images it was made from."""
    forget: tuple[str, ...] = ()
    """anomaly with grow_from: images (names as in its bank) to take out of it."""

    def with_way(self, way: Adapt) -> "FinetuneRecipe":
        """The same with another way of adapting."""
        return self.model_copy(update={"adapt": way})


@dataclass(frozen=True)
class FinetuneResult:
    """Paths of what was written, and the figures of ``metrics.json``."""

    folder: Path
    model: Path
    report: Path
    metrics: dict[str, Any]


def provenance_of(
    recipe: FinetuneRecipe, labelled: Sequence[Sample], root: Path, *, pool: Sequence[Path] = ()
) -> Provenance:
    """What a model made by the recipe from these images of the dataset at ``root`` says of where it comes from.

    ``pool`` are images that may have taught it without a label.
    """
    licence, others = recipe.data.licence, recipe.unlabelled
    if others is not None and others.path is not None:
        licence += f"; images without labels: {others.licence}"
    return Provenance(
        decode=recipe.data.decode_spec,
        recipe_hash=digest(recipe.model_dump(mode="json")),
        data_hash=data_hash([s.path for s in labelled], root),
        data_licence=licence,
        learnt=marks_of([*(s.path for s in labelled), *pool]),
    )


def skipped_json(skipped: tuple[Skipped, ...]) -> list[dict[str, str]]:
    """Images left out, for ``metrics.json``."""
    return [{"image": str(s.path), "reason": s.reason, "message": s.message} for s in skipped]
