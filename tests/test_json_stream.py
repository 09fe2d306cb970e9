import json
from pathlib import Path
from typing import Any

import pytest

from pangu_cv.json_stream import json_list
from pangu_cv.staging import write_json

ABOUT = {"bundle": "b", "classes": ["a", "ü\n"], "threshold": {"certified": 0.5, "moved_to": None}}
RECORD = {"image": "line\nbreak\udcff.png", "boxes": [[1.5, 2], []], "scores": [], "said": {"x": 'a "b"\u2028'}}


@pytest.mark.parametrize("values", [[], [RECORD], [RECORD, {}, 3, "text\r\n"]])
def test_element_by_element_the_bytes_are_those_of_one_whole(tmp_path: Path, values: list[Any]) -> None:
    write_json(tmp_path / "whole.json", ABOUT | {"list": values})
    with json_list(tmp_path / "stream.json", ABOUT, "list") as append:
        for value in values:
            append(value)
    assert (tmp_path / "stream.json").read_bytes() == (tmp_path / "whole.json").read_bytes()


def test_what_is_appended_is_written_and_not_kept(tmp_path: Path) -> None:
    with json_list(tmp_path / "stream.json", ABOUT, "list") as append:
        append("x" * 100_000)
        assert (tmp_path / "stream.json").stat().st_size > 90_000


def test_nan_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"), json_list(tmp_path / "stream.json", ABOUT, "list") as append:
        append(float("nan"))
    with pytest.raises(json.JSONDecodeError):
        json.loads((tmp_path / "stream.json").read_text())
