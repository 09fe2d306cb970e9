import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pangu_cv.pretrain import loop, pretrain, telling
from pangu_cv.pretrain.telling import few
from tests.pretrain import small


def told(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "progress.jsonl").read_text().splitlines()]


def test_a_run_says_how_every_round_went(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = small.images(tmp_path / "data")
    result = pretrain(small.recipe(data, tmp_path / "run", patience=5))
    shown = capsys.readouterr()
    assert shown.out == ""  # stdout is for the result
    rounds = told(tmp_path / "run")
    assert [(entry["round"], entry["step"]) for entry in rounds] == [(0, 0), (1, 2), (2, 4)]
    history = result.metrics["last_losses"]
    assert rounds[0]["losses"] == {}
    assert rounds[2]["losses"].keys() == history.keys()
    assert "step 0 of 4" in shown.err
    for number, entry in enumerate(rounds[1:], start=1):
        figures = result.metrics["rounds"][number]["data"]
        gain = figures["mean"] - result.metrics["rounds"][0]["data"]["mean"]
        assert entry["targets"]["data"] == {**figures, "gain": pytest.approx(gain)}
        assert f"step {entry['step']} of 4, 0." in shown.err
        assert f"loss {entry['losses']['total']:.3f} (" in shown.err
        assert f"contrast {entry['losses']['contrast']:.3f}" in shown.err
        assert f"{figures['mean']:.1%}  {100 * gain:+.1f} points" in shown.err


def test_losses_are_means_over_the_round(tmp_path: Path) -> None:
    history = [{"step": n, "rate": 1.0, "total": float(n), "contrast": 2.0 * n} for n in range(5)]
    state = loop.State(step=5, history=history, rounds=[[], [], []], minutes=[0, 1, 2])
    telling.tell(tmp_path, state, steps=5, round_steps=3)
    assert [entry["losses"] for entry in told(tmp_path)] == [
        {},
        {"total": 1.0, "contrast": 2.0},
        {"total": 3.5, "contrast": 7.0},
    ]


@pytest.mark.parametrize("at", ["before the line", "after the line"])
def test_a_killed_run_tells_every_round_once(at: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = small.recipe(small.images(tmp_path / "data"), tmp_path / "run", targets=[], round_steps=1)
    real, calls = loop.tell, []

    def dies(*arguments: Any, **options: Any) -> None:
        calls.append(1)
        if len(calls) != 3 or at == "after the line":
            real(*arguments, **options)
        if len(calls) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(loop, "tell", dies)
    with pytest.raises(KeyboardInterrupt):
        pretrain(made)
    pretrain(made)
    assert [entry["round"] for entry in told(tmp_path / "run")] == [0, 1, 2, 3, 4]


def test_targets_of_one_name_are_told_apart(tmp_path: Path) -> None:
    first = small.images(tmp_path / "a" / "images")
    second = tmp_path / "b" / "images"
    second.parent.mkdir()
    shutil.copytree(first, second)
    target = {"image_px": small.SIDE, "images": 24, "shots": 2, "draws": 2}
    targets = [target | {"path": str(path)} for path in (first, second)]
    result = pretrain(small.recipe(first, tmp_path / "run", targets=targets, optim={"steps": 2, "batch": 8}))
    names = ["a/images", "b/images"]
    assert [one["target"] for one in result.metrics["verdict"]["targets"]] == names
    assert all(list(figures) == names for figures in result.metrics["rounds"])


def test_what_is_left_out_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = small.images(tmp_path / "data")
    for number in range(5):
        (data / "dots" / f"broken{number}.png").write_bytes(b"no image")
    shutil.copy(data / "plain" / "0.png", data / "plain" / "again.png")
    targets = [{"path": str(small.images(tmp_path / "target")), "image_px": small.SIDE, "shots": 2, "draws": 2}]
    result = pretrain(small.recipe(data, tmp_path / "run", targets=targets))
    shown, page = capsys.readouterr().err, result.report.read_text()
    broken = f"{data / 'dots' / 'broken0.png'} (not_an_image), "
    assert f"left out: 5 cannot be read: {broken}" in shown
    assert "(not_an_image) and 2 more\n" in shown
    assert f"left out: 1 copies of others: {data / 'plain' / 'again.png'}\n" in shown
    assert f"left out: {result.metrics['held_out']} kept to measure on: {data}" in shown
    for words in ("What was left out", broken, "copies of others", "kept to measure on"):
        assert words in page
    assert len(result.metrics["skipped"]) == 5
    assert np.isclose(result.metrics["copies_left_out"], 1)


def test_few_names_the_first() -> None:
    assert few(["a"]) == "a"
    assert few(["a", "b", "c", "d", "e"]) == "a, b, c and 2 more"
