"""CVAT's ``labelmap.txt``: the colours that classes have in masks."""

from pathlib import Path

from pangu_cv.data.readers.annotation import read_utf8
from pangu_cv.errors import DataError


def names_by_colour(file: Path) -> dict[tuple[int, ...], str]:
    """Of a ``labelmap.txt``, whose lines are ``name:red,green,blue:parts:actions``. Raises DataError."""
    found: dict[tuple[int, ...], str] = {}
    for at, line in enumerate(read_utf8(file).splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        name, _, rest = line.partition(":")
        words = rest.partition(":")[0].split(",")
        try:
            colour = tuple(int(word) for word in words)
        except ValueError:
            colour = ()
        if not name.strip() or len(colour) != 3 or not all(0 <= value <= 255 for value in colour):
            raise DataError(f"{file}:{at}: 'name:red,green,blue::' is needed, colours 0 to 255; found '{line[:60]}'")
        if found.setdefault(colour, name.strip()) != name.strip():
            raise DataError(f"{file}:{at}: '{name.strip()}' has the colour of '{found[colour]}'; give it another")
    return found
