"""The cells of deployment at toy size, on the bundles of the tests; and that they would notice what they look for."""

import itertools
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import (
    deploy_edge,
    deploy_end,
    deploy_flood,
    deploy_graph,
    deploy_install,
    deploy_mutants,
    deploy_serve,
    deploy_start,
    deploy_turns,
)
from benchmarks.deploy_bad import BAD_KINDS, bad_request
from benchmarks.deploy_client import Answer, Request
from benchmarks.isolate import NotRunError
from benchmarks.plan_deploy import deploy_cells
from tests.finetune.tiny import COLOURS, Made, copy_of, picture, save

pytestmark = pytest.mark.slow


def or_skip(measure: Callable[..., dict[str, Any]], *arguments: Any, **options: Any) -> dict[str, Any]:
    """Plain values, as a cell writes them; skips where the machine has no browser, engine or second core."""
    try:
        return dict(json.loads(json.dumps(measure(*arguments, **options), allow_nan=False)))
    except NotRunError as reason:
        pytest.skip(str(reason))


@pytest.fixture
def same_size(tmp_path: Path) -> list[Path]:
    colours = [COLOURS[name] for name in ("red", "blue")]
    return [save(tmp_path / f"{at}.png", picture(colours[at % 2], at)) for at in range(8)]


def test_every_cell_names_code_that_is_there() -> None:
    cells = deploy_cells(is_full=True)
    assert len({cell.name for cell in cells}) == len(cells)
    assert {cell.name for cell in deploy_cells(is_full=False)} < {cell.name for cell in cells}
    assert all(cell.code for cell in cells)  # reads every source


def test_ratios_are_of_one_round() -> None:
    speeds = iter([9.0, 9.0, 2.0, 4.0, 6.0, 6.0])  # the first round is left out
    rates = deploy_turns.in_turn({"a": lambda: next(speeds), "b": lambda: next(speeds)}, rounds=2)
    assert deploy_turns.ratio(rates, "a", "b")["values"] == [0.5, 1.0]


def test_no_side_has_its_own_turn_before() -> None:
    """Its memory would be in the caches still, and that of the sides between never."""
    turns: list[str] = []
    deploy_turns.in_turn({name: lambda name=name: turns.append(name) or 1.0 for name in "abc"}, rounds=4)  # type: ignore
    assert len(turns) == 15
    assert all(one != other for one, other in itertools.pairwise(turns))


def test_a_start_has_all_phases_and_no_torch(classify: Made) -> None:
    found = or_skip(deploy_start.starts, classify.bundle, classify.images[:1])
    ms = {name: value["median"] for name, value in found["ms"].items()}
    assert all(ms[phase] > 0 for phase in deploy_start.PHASES)
    assert ms["whole"] == pytest.approx(sum(ms[phase] for phase in deploy_start.PHASES))


def test_the_graph_of_a_bundle_is_held_against_a_plain_export(classify: Made) -> None:
    stack = np.stack([picture(COLOURS["red"], at) for at in range(8)])
    found = or_skip(deploy_graph.compared, classify.run / "model", classify.bundle, stack, is_quick=True)
    assert found["is_same"]
    assert set(found["batches"]) == {"1", "8"}
    assert all(batch["ratio"]["median"] > 0 for batch in found["batches"].values())


def test_the_server_and_the_engine_do_the_same_work(
    classify: Made, same_size: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("uvicorn")
    monkeypatch.setattr(deploy_serve, "CLIENTS", (1,))
    found = or_skip(deploy_serve.served, classify.bundle, same_size, is_quick=True)
    calls = {name: way["images_of_a_call"] for name, way in found["ways"].items()}
    assert calls["alone"] == 1.0
    assert calls["together"] == 8.0
    assert 1.0 < calls["joined"] <= 8.0
    assert all(0 < way["ratio"]["median"] < 1.5 for way in found["ways"].values())
    assert all(one["1"]["images_per_s"] > 0 for one in found["files"].values())


def test_a_flood_is_answered_refused_and_told_to_wait(classify: Made) -> None:
    pytest.importorskip("uvicorn")
    options = ["--max-waiting", "4"]
    found = or_skip(deploy_flood.flooded, classify.bundle, classify.images, requests=300, seed=1, options=options)
    assert (found["right"], found["wrong"], found["let_through"]) == (found["good"], [], [])
    assert found["refused"] == found["bad"]
    assert sum(found["bad"].values()) == 15
    assert found["waits"] > 0
    assert found["agrees"], found["servers_own_count"]
    assert found["after"] == {"bytes_held": 0.0, "waiting": 0.0, "right": 1, "ended_well": True}


def test_wrong_answers_are_noticed() -> None:
    good = deploy_flood.Good(Request(b""), "red", (0.2, 0.8))
    tally = deploy_flood.Tally()
    for label, scores in (("red", [0.2, 0.8]), ("blue", [0.2, 0.8]), ("red", [0.21, 0.79])):
        body = json.dumps({"label": label, "scores": scores}).encode()
        deploy_flood._judge(Answer(200, body), good, tally)
    for number in (1, 0):
        outputs = [{"name": "label", "data": [number]}, {"name": "scores", "data": [0.2, 0.8]}]
        deploy_flood._judge(Answer(200, json.dumps({"outputs": outputs}).encode()), good, tally)
    deploy_flood._judge(Answer(500), good, tally)
    assert tally.right == 2
    assert len(tally.wrong) == 4


def test_a_flood_is_the_same_for_the_same_seed() -> None:
    plan = deploy_flood.planned(1000, seed=3)
    assert plan == deploy_flood.planned(1000, seed=3) != deploy_flood.planned(1000, seed=4)
    kinds = [kind for kind, _ in plan if kind]
    assert len(kinds) == 50
    assert set(kinds) == set(BAD_KINDS)
    good = Request(b"")
    assert all(bad_request(kind, good, "x", 5) == bad_request(kind, good, "x", 5) for kind in BAD_KINDS)


def test_growth_of_memory_is_between_the_marks() -> None:
    rising = [(done, 100 + max(0, done - 100) / 90) for done in range(0, 1001, 10)]
    found = deploy_flood.memory_of(rising, 1000)
    assert found["growth_mb"] == pytest.approx(10, abs=0.3)
    assert deploy_flood.memory_of([(done, 100.0) for done in range(0, 1001, 10)], 1000)["growth_share"] == 0


def test_a_watcher_that_is_killed_writes_every_image_once(classify: Made, tmp_path: Path) -> None:
    paths = [save(tmp_path / f"{at}.png", picture(COLOURS[("red", "blue")[at % 2]], at)) for at in range(40)]
    found = or_skip(deploy_edge.killed, classify.bundle, paths, tmp_path / "work", kills=3, seed=0)
    assert (found["kills"], found["ended_well"]) == (3, True)
    assert found["once"] == found["lines"] == found["files_moved_once"] == 40
    assert found["duplicates"] == found["missing"] == found["torn"] == found["other_label"] == 0
    assert found["left_in_inbox"] == 0


def test_what_is_wrong_with_an_output_is_counted(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    lines = [{"image": "a.png", "label": "red"}] * 2 + [{"image": "b.png", "label": "blue"}]
    text = "".join(json.dumps(line) + "\n" for line in lines) + '{"image": "c.p\n'
    (tmp_path / "out" / "results-00001.jsonl").write_text(text)
    found = deploy_edge.counted(tmp_path, {"a.png": "red", "b.png": "red", "c.png": "red"})
    keys = ("once", "duplicates", "missing", "torn", "other_label", "files_moved_once")
    assert [found[key] for key in keys] == [1, 1, 1, 1, 1, -1]


def test_node_is_held_against_python(classify: Made) -> None:
    found = or_skip(deploy_end.in_node, classify.bundle, classify.images[:3])
    assert (found["images"], found["unlike"]) == (3, 0)


def test_a_browser_is_held_against_python(classify: Made) -> None:
    found = or_skip(deploy_end.in_browser, classify.bundle, classify.images[:3], loads=1)
    assert (found["images"], found["unlike"]) == (3, 0)
    assert found["ready_ms"]["median"] < found["first_result_ms"]["median"]
    assert found["bytes"]["ready"] > (classify.bundle / "model.onnx").stat().st_size
    assert found["session_ms"] > 0


def test_other_labels_are_counted(classify: Made) -> None:
    told = {path: {"label": "blue", "scores": [1.0, 0.0]} for path in classify.images}
    found = deploy_end.against_python(classify.bundle, told)
    assert 0 < found["unlike"] < found["images"] == len(classify.images)


def test_mutants_are_caught_by_named_checks(classify: Made) -> None:
    found = or_skip(deploy_mutants.mutated, classify.bundle, classify.images, seed=0, most=5)
    levels = list(found["levels"].values())
    assert found["original"] == deploy_mutants.PASSED
    assert found["mutants"] == sum(levels[0].values()) == levels[0]["sums"] == 5
    assert not any(deploy_mutants.OTHER in level for level in levels)
    assert not any(deploy_mutants.PASSED in level for level in levels[:4])
    assert set(levels[-1]) == {"--sha256"}


def test_an_altered_original_is_not_taken_for_sound(classify: Made, tmp_path: Path) -> None:
    bundle = copy_of(classify.bundle, tmp_path / "bundle")
    (bundle / "bundle.json").write_text("{}")
    assert deploy_mutants._refusal(bundle, None, None) == "sums"
    assert deploy_mutants.check_of("the moon is full") == deploy_mutants.OTHER


def test_an_install_is_measured(tmp_path: Path) -> None:
    wheel = tmp_path / "little-1.0-py3-none-any.whl"
    about = "Metadata-Version: 2.1\nName: little\nVersion: 1.0\n"
    tag = "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("little.py", "x = 1\n" * 50_000)
        archive.writestr("little-1.0.dist-info/METADATA", about)
        archive.writestr("little-1.0.dist-info/WHEEL", tag)
        archive.writestr("little-1.0.dist-info/RECORD", "")
    found = deploy_install.installed(str(wheel), "import little", tmp_path / "environment", starts=1)
    assert found["added_mb"] >= 0.3
    assert (found["packages"], found["cuda_mb"]) == (1, 0)
    assert found["import_ms"]["median"] > 0


@pytest.mark.parametrize(
    ("fails", "told"), [("install", "pip could not"), ("import absent", "No module named 'absent'")]
)
def test_what_cannot_be_installed_or_imported_is_told(
    fails: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*command: str, cwd: Path | None = None) -> str:
        if fails in command:
            raise RuntimeError("Traceback\nModuleNotFoundError: No module named 'absent'\n")
        return "[]" if "list" in command else str(tmp_path)

    monkeypatch.setattr(deploy_install, "_run", run)
    assert told in deploy_install.installed("absent", "import absent", tmp_path, starts=1)["told"]


def test_bytes_of_a_file_with_two_names_count_once(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(100))
    (tmp_path / "b").hardlink_to(tmp_path / "a")
    (tmp_path / "c").symlink_to(tmp_path / "a")
    assert deploy_install.bytes_of(tmp_path) == 100
