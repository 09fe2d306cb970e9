"""A JSON file with a long list at its end, written element by element, so that memory holds one of them at a time."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def json_list(target: Path, about: Mapping[str, Any], name: str) -> Iterator[Callable[[Any], None]]:
    """A function that appends to the list ``name``, which follows the fields ``about``.

    The bytes are those of ``staging.write_json`` for all at once. The file is whole only when the block ends well:
    give a target within ``staging.staged_folder``. NaN is refused with ValueError.
    """
    with target.open("w", encoding="utf-8", errors="backslashreplace") as file:
        file.write(_indented({**about, name: []}).removesuffix("]\n}"))
        separator = ""

        def append(value: Any) -> None:
            nonlocal separator
            # A line break within a text is escaped, so that those found are the layout's own.
            file.write(f"{separator}\n    " + _indented(value).replace("\n", "\n    "))
            separator = ","

        yield append
        file.write("\n  ]\n}\n" if separator else "]\n}\n")


def _indented(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
