"""Names of classes that a person would take for one."""

import re
import unicodedata

NO_OBJECT = "(no object)"
"""How images without any object are told among the classes."""


def plain(name: str) -> str:
    """The name without case, and with one space where words are joined by spaces, ``_`` or ``-``."""
    return re.sub(r"[\s_\-]+", " ", unicodedata.normalize("NFKC", name).strip()).casefold()
