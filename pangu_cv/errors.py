"""The error tree of the runtime, and what only the training side can get wrong.

PanguError (see ``pangu_runtime.errors``)
├── SettingsError       a recipe or an override is wrong
├── WeightsError        weights are missing, altered or not for this model
├── CheckpointError     a checkpoint folder is malformed or unsafe
├── CertificateError    an exported model decides differently from the trained one
├── GpuMemoryError      what is asked does not fit a GPU's memory
├── RegressionError     an update that makes a model worse; exit code 1
└── MissingExtraError   an optional part of the package is not installed
"""

from pangu_runtime.errors import (
    BundleError,
    DataError,
    ImageError,
    PanguError,
    RuntimeLimitError,
)

__all__ = [
    "BundleError",
    "CertificateError",
    "CheckpointError",
    "DataError",
    "GpuMemoryError",
    "ImageError",
    "MissingExtraError",
    "PanguError",
    "RegressionError",
    "RuntimeLimitError",
    "SettingsError",
    "WeightsError",
]


class SettingsError(PanguError):
    """A recipe, an override or a flag that the schema does not allow."""


class WeightsError(PanguError):
    """Weights that are missing, altered, or do not fit the model they are named for."""


class CheckpointError(PanguError):
    """A checkpoint folder that is malformed, unsafe, or of another format version."""


class CertificateError(PanguError):
    """An exported model that does not decide like the model it was made from."""


class PrecisionError(CertificateError):
    """A precision that loses more than it may: what was ``found``, and the way out, which is not everybody's."""

    def __init__(self, precision: str, found: str, advice: str) -> None:
        super().__init__(f"{found}. No bundle was written; {advice}")
        self.precision, self.found = precision, found


class GpuMemoryError(PanguError):
    """What is asked does not fit the memory of the GPU."""


class RegressionError(PanguError):
    """An update that the frozen set refuses: nobody's mistake, so a program can tell it from one."""

    exit_code = 1


class MissingExtraError(PanguError):
    """A verb whose libraries are not installed."""

    def __init__(self, verb: str, extra: str, missing: str) -> None:
        super().__init__(f"'{verb}' needs the package '{missing}'; install it with: pip install 'pangu-cv[{extra}]'")
