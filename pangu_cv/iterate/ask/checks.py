"""Whether what the machine took over is right: people check a few of its labels, drawn at random (ours).

Where the two fronts meet, the machine is sure of all that is left, and may be sure wrongly: nobody has looked. So the
last questions are about its own labels. Where too many of a round are wrong, the fronts open again, closer.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import Field

from pangu_cv.iterate.answers import Answer, Said, standing
from pangu_cv.settings import Settings

_SHARE = 20  # of so many images one is checked, where that is less than asked for


class ChecksConfig(Settings):
    """How much is checked, and what passes."""

    count: Annotated[int, Field(ge=0)] = 40
    """Labels of the machine that people check once the fronts have met, at most one of 20 images; 0 checks none."""
    most_wrong: Annotated[float, Field(ge=0, lt=1)] = 0.01
    """Share of them that may be wrong; with more, the machine takes over only what it is twice as sure of."""

    def of(self, images: int) -> int:
        """How many a round has, with so many images in all."""
        return min(self.count, max(1, images // _SHARE))


@dataclass(frozen=True, slots=True)
class Checks:
    """What came of them: labels found right and wrong, rounds that failed, whether one has passed; of which images (by
    digest) they were, and the class of those that wait for a second look."""

    right: int = 0
    wrong: int = 0
    failed: int = 0
    has_passed: bool = False
    images: frozenset[str] = frozenset()
    unsettled: Mapping[str, str] = field(default_factory=dict)


def checks(answers: Iterable[Answer], *, count: int, most_wrong: float) -> Checks:
    """Add up rounds of ``count`` images that were checked.

    A no counts once a second look has confirmed it, since a slip is as likely as a wrong label; another class named
    instead counts at once; who is not sure tells nothing. What was taken back does not count.
    """
    if not count:
        return Checks(has_passed=True)
    checked: dict[str, Said] = {}
    unsettled: dict[str, str] = {}
    for answer in standing(list(answers)):
        if answer.kind == "check":
            checked[answer.sha256] = answer.said
            if answer.said == "no":
                unsettled[answer.sha256] = answer.klass
        elif answer.kind == "second look" and answer.sha256 in unsettled:
            del unsettled[answer.sha256]
            checked[answer.sha256] = answer.said
    settled = {key: said for key, said in checked.items() if said != "unsure" and key not in unsettled}
    wrong = [said != "yes" for said in settled.values()]
    rounds = [wrong[start : start + count] for start in range(0, len(wrong), count)]
    passed = [sum(one) <= most_wrong * count for one in rounds if len(one) == count]
    right = len(wrong) - sum(wrong)
    return Checks(right, sum(wrong), passed.count(False), any(passed), frozenset(checked), unsettled)
