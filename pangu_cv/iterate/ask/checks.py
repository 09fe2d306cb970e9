"""Whether what the machine took over is right: people check a few of its labels, drawn at random (ours).

Where the two fronts meet, the machine is sure of all that is left, and may be sure wrongly: nobody has looked. So the
last questions are about its own labels. Where too many of a round are wrong, the fronts open again, closer.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from pangu_cv.iterate.answers import Answer, Said
from pangu_cv.settings import Settings

_SHARE = 20  # of so many images one is checked, where that is less than asked for


class ChecksConfig(Settings):
    """How much is checked, and what passes."""

    count: Annotated[int, Field(ge=0)] = 40
    """Labels of the machine that people check once the fronts have met, at most one of 20 images; 0 checks none."""
    most_wrong: Annotated[float, Field(ge=0, lt=1)] = 0.025
    """Share of them that may be wrong; with more the fronts open again, twice as close to certainty."""

    def of(self, images: int) -> int:
        """How many a round has, with so many images in all."""
        return min(self.count, max(1, images // _SHARE))


@dataclass(frozen=True, slots=True)
class Checks:
    """What came of them: labels found right and wrong, rounds that failed, whether one has passed, and of which images
    (by digest) they were."""

    right: int = 0
    wrong: int = 0
    failed: int = 0
    has_passed: bool = False
    images: frozenset[str] = frozenset()


def checks(answers: Iterable[Answer], *, count: int, most_wrong: float) -> Checks:
    """Add up rounds of ``count`` images that were checked.

    A no is wrong, and so is another class named instead; who is not sure tells nothing. An image that several people
    checked is wrong where one says so; what was taken back does not count.
    """
    if not count:
        return Checks(has_passed=True)
    held: dict[tuple[str, str, str], Said] = {}
    for answer in answers:
        key = (answer.sha256, answer.by, answer.klass)
        if answer.said == "withdrawn":
            held.pop(key, None)
        elif answer.kind == "check":
            held[key] = answer.said
    is_wrong: dict[str, bool] = {}
    for (sha256, _, _), said in held.items():
        if said != "unsure":
            is_wrong[sha256] = is_wrong.get(sha256, False) or said != "yes"
    wrong = list(is_wrong.values())
    rounds = [wrong[start : start + count] for start in range(0, len(wrong), count)]
    passed = [sum(one) <= most_wrong * count for one in rounds if len(one) == count]
    images = frozenset(sha256 for sha256, _, _ in held)
    return Checks(len(wrong) - sum(wrong), sum(wrong), passed.count(False), any(passed), images)
