"""What the versions before say of labels and where they come from: of people, and when, or of the machine."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pangu_cv.data.lineage import Step
from pangu_cv.iterate.answers import Answer, known

PSEUDO = "pseudo-label"

Settled = tuple[tuple[str, str | None], ...]
"""When (UTC, as in the answers) and to what people changed one image's label in versions, the earliest first."""


@dataclass(frozen=True)
class History:
    """By images' names: labels that are the machine's, what people settled, and pairs with a class struck out."""

    machine: frozenset[str]
    settled: Mapping[str, Settled]
    rejected: frozenset[tuple[str, str]]


def history(steps: Iterable[Step]) -> History:
    """Add up the steps that lead to a version, the oldest first."""
    machine: set[str] = set()
    settled: dict[str, Settled] = {}
    rejected: set[tuple[str, str]] = set()
    for step in steps:
        tagged = {one.image for one in step.changes if (one.field, one.after) == ("tag", PSEUDO)}
        labels = {one.image: one.after for one in step.changes if one.field == "label"}
        machine = (machine - set(labels)) | tagged
        for image in set(labels) - tagged:
            settled[image] = (*settled.get(image, ()), (step.created, labels[image]))
        rejected |= {(one.image, one.after) for one in step.changes if one.field == "rejected"}
    return History(frozenset(machine), settled, frozenset(rejected))


def superseded(answers: Sequence[Answer], settled: Mapping[str, Settled]) -> list[Answer]:
    """Those after which somebody changed the label in a version to what they do not come to: the change holds.

    ``settled`` goes by the SHA-256 of images.
    """
    of_image: dict[str, list[Answer]] = {sha256: [] for sha256 in settled}
    for answer in answers:
        if answer.sha256 in of_image:
            of_image[answer.sha256].append(answer)
    found: list[Answer] = []
    for sha256, left in of_image.items():
        for when, label in settled[sha256]:
            before = [one for one in left if one.when <= when]  # both are UTC in ISO 8601: text is in order of time
            if before and known(before).labels.get(sha256) != label:
                found += before
                left = [one for one in left if one.when > when]
    return found
