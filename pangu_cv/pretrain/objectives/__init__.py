"""What is learnt: one module per objective, and their union."""

from typing import Annotated

from pydantic import Field

from pangu_cv.pretrain.objectives.dino import Dino, DinoConfig
from pangu_cv.pretrain.objectives.joint import Joint, JointConfig

ObjectiveConfig = Annotated[JointConfig | DinoConfig, Field(discriminator="kind")]
Objective = Joint | Dino

__all__ = ["Dino", "DinoConfig", "Joint", "JointConfig", "Objective", "ObjectiveConfig"]
