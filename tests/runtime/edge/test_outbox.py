"""A camera that puts its next picture under the same name, at the worst moments."""

import logging
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pangu_runtime.edge import outbox as module
from pangu_runtime.edge.inbox import Inbox
from pangu_runtime.edge.outbox import Outbox, _free
from tests.finetune.tiny import COLOURS, Made
from tests.runtime.edge.test_watch import lines, watch


def shoot(inbox: Path, colour: str) -> None:
    """As careful cameras do: a whole file, renamed onto the one before."""
    inbox.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((40, 40, 3), COLOURS[colour], np.uint8)).save(inbox / ".part.bmp")
    (inbox / ".part.bmp").replace(inbox / "cam.bmp")


@pytest.mark.parametrize("after", ["move", "delete"])
@pytest.mark.parametrize("is_at_once", [True, False])
def test_a_picture_that_arrives_during_the_decision_is_decided_too(
    classify: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: str, is_at_once: bool
) -> None:
    inbox, shots = tmp_path / "inbox", ["blue"]
    shoot(inbox, "red")
    watcher = watch(classify, tmp_path, after=after)

    def next_shot() -> None:
        if shots:
            shoot(inbox, shots.pop())

    if is_at_once:  # while the graph runs
        run = watcher.predictor.run
        monkeypatch.setattr(
            watcher.predictor, "run", lambda *given, **options: (next_shot(), run(*given, **options))[1]
        )
    else:  # between the last look at the file and its renaming
        rename = Path.rename
        monkeypatch.setattr(Path, "rename", lambda *given: (next_shot(), rename(*given))[1])
    assert watcher.run(once=True) == 2
    watcher.close()
    assert [line["label"] for line in lines(tmp_path)] == ["red", "blue"]
    assert list(inbox.iterdir()) == []
    if after == "move":
        assert [path.name for path in (tmp_path / "out" / "done").iterdir()] == ["cam.bmp"]


def test_a_picture_that_replaces_one_that_has_its_line_is_decided(
    classify: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a crash between the line and the move; the camera is quicker than the next start's move."""
    inbox = tmp_path / "inbox"
    shoot(inbox, "red")
    watcher = watch(classify, tmp_path, after="keep")
    assert watcher.run(once=True) == 1
    watcher.close()
    watcher = watch(classify, tmp_path)
    other, shots = watcher._other, ["blue"]

    def slowly(image: Any) -> Any:
        found = other(image)
        if shots:
            shoot(inbox, shots.pop())
        return found

    monkeypatch.setattr(watcher, "_other", slowly)
    assert watcher.run(once=True) == 1
    watcher.close()
    assert [line["label"] for line in lines(tmp_path)] == ["red", "blue"]


@pytest.mark.parametrize("is_decided", [True, False])
def test_what_a_crash_has_left_on_its_way_out_goes_on(classify: Made, tmp_path: Path, is_decided: bool) -> None:
    inbox = tmp_path / "inbox"
    shoot(inbox, "red")
    if is_decided:
        watcher = watch(classify, tmp_path, after="keep")
        watcher.run(once=True)
        watcher.close()
    (inbox / "cam.bmp").rename(inbox / ".taken-cam.bmp")
    shoot(inbox, "blue")
    watcher = watch(classify, tmp_path)
    assert watcher.run(once=True) == 2 - is_decided
    watcher.close()
    assert [(line["image"], line["label"]) for line in lines(tmp_path)] == [("cam.bmp", "red"), ("cam.bmp", "blue")]
    assert sorted(path.name for path in (tmp_path / "out" / "done").iterdir()) == ["cam-2.bmp", "cam.bmp"]
    assert list(inbox.iterdir()) == []


def test_a_picture_that_replaces_another_before_it_is_read_gets_one_line(
    classify: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox, shots = tmp_path / "inbox", ["blue"]
    shoot(inbox, "red")
    watcher = watch(classify, tmp_path)
    content = watcher._content

    def late(image: Any) -> Any:
        if shots:
            shoot(inbox, shots.pop())
        return content(image)

    monkeypatch.setattr(watcher, "_content", late)
    assert watcher.run(once=True) == 1
    watcher.close()
    assert [line["label"] for line in lines(tmp_path)] == ["blue"]


def test_what_is_another_by_now_stays_under_its_name(tmp_path: Path) -> None:
    """A writer that opens its file again by name must find it."""
    shoot(tmp_path / "inbox", "red")
    [image] = Inbox(tmp_path / "inbox", settle_s=0).arrived()
    with (tmp_path / "inbox" / "cam.bmp").open("ab") as stream:
        stream.write(b"more")
    Outbox(tmp_path, after="move").take(image, is_decided=True)
    assert [path.name for path in (tmp_path / "inbox").iterdir()] == ["cam.bmp"]


@pytest.mark.parametrize("length", [247, 248, 251])
def test_names_as_long_as_a_name_may_be_leave_too(tmp_path: Path, length: int) -> None:
    shoot(tmp_path / "inbox", "red")
    name = "n" * length + ".bmp"
    (tmp_path / "inbox" / "cam.bmp").rename(tmp_path / "inbox" / name)
    [image] = Inbox(tmp_path / "inbox", settle_s=0).arrived()
    Outbox(tmp_path, after="move").take(image, is_decided=True)
    assert (tmp_path / "done" / name).is_file()
    assert not list((tmp_path / "inbox").iterdir())


def test_what_cannot_be_taken_away_is_taken_by_the_next_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    shoot(tmp_path / "inbox", "red")
    inbox, outbox = Inbox(tmp_path / "inbox", settle_s=0), Outbox(tmp_path, after="move")

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as disk, caplog.at_level(logging.ERROR):
        disk.setattr(module, "move", full)
        for image in inbox.arrived():
            outbox.take(image, is_decided=True)
    assert "cam.bmp: cannot be taken away" in caplog.text
    [image] = inbox.arrived()
    assert image.name == "cam.bmp"
    outbox.take(image, is_decided=True)
    assert (tmp_path / "done" / "cam.bmp").is_file()


def test_what_may_not_leave_is_tried_again_more_and_more_seldom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shoot(tmp_path / "inbox", "red")
    [image] = Inbox(tmp_path / "inbox", settle_s=0).arrived()
    outbox, clock_s = Outbox(tmp_path, after="move"), [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock_s[0])

    def refused(*_: Any) -> None:
        raise PermissionError(13, "Permission denied")

    rests_s = []
    with monkeypatch.context() as disk:
        disk.setattr(Path, "rename", refused)
        for _ in range(9):
            outbox.take(image, is_decided=True)
            start_s = clock_s[0]
            while outbox.is_resting(image):
                clock_s[0] += 5
            rests_s.append(clock_s[0] - start_s)
    assert rests_s == [5, 10, 20, 40, 80, 160, 320, 600, 600]
    outbox.take(image, is_decided=True)
    assert (tmp_path / "done" / "cam.bmp").is_file()
    assert not outbox._resting


def test_what_rests_takes_a_bounded_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_RESTING", 3)
    outbox = Outbox(tmp_path, after="move")
    for number in range(5):
        outbox._rest(f"{number}")
    assert list(outbox._resting) == ["2", "3", "4"]


def test_an_inbox_that_lets_nothing_leave_is_not_read_at_every_look(
    classify: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    shoot(tmp_path / "inbox", "red")
    watcher, looks = watch(classify, tmp_path), []
    round_of, other = watcher._round, watcher._other

    def rounds() -> int:
        looks.append("round")
        if looks.count("round") == 6:
            watcher.stop.set()
        return round_of()

    def refused(*_: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(watcher, "_round", rounds)
    monkeypatch.setattr(watcher, "_other", lambda image: (looks.append("read"), other(image))[1])
    monkeypatch.setattr(Path, "rename", refused)
    assert watcher.run() == 1
    watcher.close()
    assert looks == ["round"] * 6
    assert caplog.text.count("cannot be taken away") == 1


def test_a_name_that_comes_for_years_is_found_a_place_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(1, 301):
        (tmp_path / ("img.png" if number == 1 else f"img-{number}.png")).touch()
    looks, exists = [], Path.exists
    monkeypatch.setattr(Path, "exists", lambda path: (looks.append(path), exists(path))[1])
    assert _free(tmp_path / "img.png").name == "img-301.png"
    assert len(looks) < 25
    assert _free(tmp_path / "other.png").name == "other.png"
    (tmp_path / "img.png").unlink()
    assert _free(tmp_path / "img.png").name == "img.png"
