"""Every error a user can cause, as one tree.

PanguError                  exit code 2: the user can mend it, so no traceback
├── ImageError              one image cannot be read; carries the path and the reason
├── DataError               a dataset or folder is not what the task needs
├── BundleError             a bundle is malformed, altered or of another version
└── RuntimeLimitError       the machine lacks something (a provider, memory, an extra)
"""


class PanguError(Exception):
    """Base of all errors whose cause is outside the code: says where, what was found, what is allowed, what to do."""

    exit_code = 2


class ImageError(PanguError):
    """An image that cannot be decoded within the limits.

    ``reason`` is a short stable word for reports: ``missing``, ``truncated``, ``not_an_image``, ``too_large``,
    ``multipage`` or ``unsupported``.
    """

    def __init__(self, path: object, reason: str, message: str) -> None:
        super().__init__(f"{path}: {message}")
        self.path = str(path)
        self.reason = reason


class DataError(PanguError):
    """A dataset that is empty, contradictory or lacks what the task needs."""


class BundleError(PanguError):
    """A bundle that is incomplete, altered, or of a contract this runtime does not speak."""


class RuntimeLimitError(PanguError):
    """The machine lacks something that the request needs."""
