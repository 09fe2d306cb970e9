import json
from pathlib import Path

import pytest

from benchmarks import cells, isolate
from benchmarks.cells import Bench, Cell, run_all

MODULE = """
from pathlib import Path
from benchmarks.isolate import NotRunError

def count(*, data, is_quick, log):
    with Path(log).open("a") as stream:
        stream.write("x")
    return {"calls": len(Path(log).read_text()), "data": data}

def refuse(*, data, is_quick):
    raise NotRunError("no such thing here")
"""


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands for the repository, with one benchmark module."""
    root = tmp_path / "root"
    root.mkdir()
    file = root / f"bench_{tmp_path.name}.py"
    file.write_text(MODULE)
    monkeypatch.setattr(cells, "ROOT", root)
    monkeypatch.syspath_prepend(str(root))
    return file


def _cell(code: Path, tmp_path: Path) -> Cell:
    return Cell("one", f"{code.stem}:count", {"log": str(tmp_path / "log")}, sources=())


def _calls(bench: Bench) -> int:
    return int(json.loads((bench.results / "one.json").read_text())["result"]["calls"])


def test_a_finished_cell_is_not_run_again(code: Path, tmp_path: Path) -> None:
    cell, bench = _cell(code, tmp_path), Bench(tmp_path, tmp_path / "results")
    assert not bench.finished(cell)
    assert run_all([cell], bench) == []
    assert run_all([cell], bench) == []
    assert _calls(bench) == 1


def test_comments_keep_a_result_and_code_does_not(code: Path, tmp_path: Path) -> None:
    cell, bench = _cell(code, tmp_path), Bench(tmp_path, tmp_path / "results")
    run_all([cell], bench)
    code.write_text(f'"""Now explained."""\n{MODULE}\n# and commented\n')
    assert bench.finished(cell)
    code.write_text(MODULE.replace('"calls"', '"Calls"'))
    assert not bench.finished(cell)


def test_a_torn_result_is_measured_again(code: Path, tmp_path: Path) -> None:
    cell, bench = _cell(code, tmp_path), Bench(tmp_path, tmp_path / "results")
    run_all([cell], bench)
    (bench.results / "one.json").write_text('{"key": "')
    run_all([cell], bench)
    assert _calls(bench) == 2


def test_what_cannot_run_leaves_no_result(code: Path, tmp_path: Path) -> None:
    bench = Bench(tmp_path, tmp_path / "results")
    assert run_all([Cell("absent", f"{code.stem}:refuse", sources=())], bench) == ["absent"]
    assert not (bench.results / "absent.json").exists()


def test_records_say_where_and_how_but_name_no_place(code: Path, tmp_path: Path) -> None:
    bench = Bench(Path("images"), tmp_path / "results")
    run_all([_cell(code, tmp_path)], bench)
    record = json.loads((bench.results / "one.json").read_text())
    assert {"machine", "versions", "command", "commit", "date", "seconds"} <= set(record)
    assert str(tmp_path) not in json.dumps({key: value for key, value in record.items() if key != "result"})


def test_a_process_of_its_own_returns_plain_values() -> None:
    assert isolate.call("benchmarks.machine:machine", {})["cores"] >= 1


def test_a_failure_does_not_stop_the_others(code: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench = Bench(tmp_path, tmp_path / "results")
    broken = Cell("broken", f"{code.stem}:count", {"wrong": 1}, sources=())
    assert run_all([broken, _cell(code, tmp_path)], bench) == ["broken"]
    assert _calls(bench) == 1
    assert "broken: failed" in capsys.readouterr().err
