"""Which labelled images belong together."""

from collections.abc import Sequence

from pangu_cv.data.kin import belonging
from pangu_cv.data.sample import Sample
from pangu_cv.features import content_digest


def kin_of(samples: Sequence[Sample]) -> list[str]:
    """A name for each image, shared by copies of one file and images of one group.

    Raises ImageError where a file cannot be read.
    """
    return belonging([content_digest(sample.path) for sample in samples], [sample.group for sample in samples])
