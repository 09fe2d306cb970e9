"""Settings of a session."""

from typing import Annotated

from pydantic import Field

from pangu_cv.iterate.ask.checks import ChecksConfig
from pangu_cv.iterate.questions import PricesConfig
from pangu_cv.iterate.self_paced import PaceConfig
from pangu_cv.settings import Settings


class AskConfig(Settings):
    """How questions are chosen and when they end."""

    prices: PricesConfig = PricesConfig()
    """Seconds of a person."""
    pace: PaceConfig = PaceConfig()
    """How fast the machine takes images over."""
    checks: ChecksConfig = ChecksConfig()
    """How what the machine took over is checked."""
    relearn_every: Annotated[int, Field(ge=1)] = 10
    """Answers between two rounds of learning."""
    penalty: Annotated[float, Field(gt=0)] = 0.1
    """Ridge penalty for features of about unit length."""
    max_seconds: Annotated[float, Field(gt=0)] | None = None
    """Human seconds after which nothing more is asked; null asks until the fronts have met and were checked."""
    lease_seconds: Annotated[float, Field(gt=0)] = 120.0
    """A question that somebody was shown is given to another person after so long."""
