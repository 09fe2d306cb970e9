"""A threshold that the recipe sets, of tasks where no rate is calibrated for it."""

from typing import Annotated

from pydantic import Field

SET_BY_HAND = "set in the recipe (task.threshold); no rate of false alarms is certified for it"
Share = Annotated[float, Field(gt=0, lt=1)]
