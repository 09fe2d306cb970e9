import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pangu_runtime.edge.inbox import Inbox
from pangu_runtime.edge.spool import Spool
from pangu_runtime.edge.watch import WatchConfig, Watcher
from pangu_runtime.errors import DataError
from pangu_runtime.predictor import Predictor
from tests.finetune.tiny import COLOURS, Made, picture, save
from tests.verbs.test_torch_free import WITHOUT

AT_ONCE = {"settle_s": 0.0, "poll_s": 0.01}


def inbox_of(root: Path, count: int) -> Path:
    for number in range(count):
        save(
            root / "inbox" / f"line{number % 3}" / f"{number}.png",
            picture(COLOURS[("red", "blue")[number % 2]], number),
        )
    return root / "inbox"


def watch(made: Made, root: Path, **changes: Any) -> Watcher:
    return Watcher(Predictor(made.bundle, threads=1), root / "inbox", root / "out", WatchConfig(**(AT_ONCE | changes)))


def lines(root: Path) -> list[dict[str, Any]]:
    files = sorted((root / "out").glob("results-*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def test_every_image_gets_its_line_and_leaves_the_inbox(classify: Made, tmp_path: Path) -> None:
    inbox = inbox_of(tmp_path, 6)
    (inbox / "bad.png").write_bytes(b"no image")
    with (inbox / "huge.png").open("wb") as stream:
        stream.truncate(2**40)  # no such file must be read into memory
    (inbox / "notes.txt").write_text("not an image's name")
    watcher = watch(classify, tmp_path, annotate="all")
    assert watcher.run(once=True) == 8
    watcher.close()
    found = {one["image"]: one for one in lines(tmp_path)}
    assert found.pop("bad.png")["error"] == "not_an_image"
    assert found.pop("huge.png")["error"] == "too_large"
    for name, one in found.items():
        assert one["label"] == ("red", "blue")[int(Path(name).stem) % 2]
        with Image.open(tmp_path / "out" / "annotated" / one["picture"]) as drawn:
            assert drawn.height == 40
        assert (tmp_path / "out" / "done" / name).is_file()
    assert len(found) == 6
    assert (tmp_path / "out" / "unreadable" / "bad.png").exists()
    assert [path.name for path in inbox.rglob("*") if path.is_file()] == ["notes.txt"]


def test_a_name_that_comes_again_is_another_image(classify: Made, tmp_path: Path) -> None:
    for seed in range(2):
        save(tmp_path / "inbox" / "frame.png", picture(COLOURS["red"], seed))
        watcher = watch(classify, tmp_path)
        assert watcher.run(once=True) == 1
        watcher.close()
    assert len(lines(tmp_path)) == 2
    assert sorted(path.name for path in (tmp_path / "out" / "done").iterdir()) == ["frame-2.png", "frame.png"]


@pytest.mark.parametrize(("after", "left"), [("keep", 4), ("delete", 0)])
def test_kept_images_are_decided_once_too(classify: Made, tmp_path: Path, after: str, left: int) -> None:
    inbox = inbox_of(tmp_path, 4)
    for expected in (4, 0):
        watcher = watch(classify, tmp_path, after=after)
        assert watcher.run(once=True) == expected
        watcher.close()
    assert len(lines(tmp_path)) == 4
    assert sum(path.is_file() for path in inbox.rglob("*")) == left


def test_what_has_its_line_is_taken_away_the_next_time(classify: Made, tmp_path: Path) -> None:
    """As after a crash between the line and the move."""
    inbox = inbox_of(tmp_path, 2)
    (inbox / "bad.png").write_bytes(b"no image")
    for after, expected in (("keep", 3), ("move", 0)):
        watcher = watch(classify, tmp_path, after=after)
        assert watcher.run(once=True) == expected
        watcher.close()
    assert not any(path.is_file() for path in inbox.rglob("*"))
    assert [path.name for path in (tmp_path / "out" / "unreadable").iterdir()] == ["bad.png"]
    assert len(lines(tmp_path)) == 3


def test_doubtful_images_are_kept_for_a_person(classify: Made, tmp_path: Path) -> None:
    save(tmp_path / "inbox" / "sure.png", picture(COLOURS["red"], 1))
    half = (np.array(COLOURS["red"]) + np.array(COLOURS["blue"])) // 2
    scores = {}
    for limit in (1.1, 0.0):
        root = tmp_path / str(limit)
        save(root / "inbox" / "between.png", picture(tuple(half.tolist()), 2))
        watcher = watch(classify, root, doubt=limit)
        watcher.run(once=True)
        watcher.close()
        [scores[limit]] = lines(root)
        kept = sorted(path.suffix for path in (root / "out" / "doubtful").iterdir())
        assert kept == ([".json", ".png"] if limit else [])
    assert 0 <= scores[1.1]["certainty"] <= 1


def test_a_growing_file_waits(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", picture(COLOURS["red"], 1))
    inbox = Inbox(tmp_path, settle_s=5)
    assert list(inbox.arrived()) == []
    os.utime(path, (time.time() - 10, time.time() - 10))
    assert [one.name for one in inbox.arrived()] == ["a.png"]
    os.utime(path, (time.time() + 3600, time.time() + 3600))  # a clock that was set back
    assert [one.name for one in inbox.arrived()] == ["a.png"]


def test_a_spool_keeps_to_its_size(tmp_path: Path) -> None:
    (tmp_path / ".left.part").write_bytes(b"of a crash")
    spool = Spool(tmp_path, max_bytes=1000)
    for number in range(30):
        spool.put(f"{number:02d}", bytes(100))
        os.utime(tmp_path / f"{number:02d}", (number, number))
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names[-1] == "29"
    assert 5 <= len(names) <= 10
    again = Spool(tmp_path, max_bytes=1000)
    again.put("31", bytes(5000))
    assert [path.name for path in tmp_path.iterdir()] == ["31"]


def test_a_spool_replaces_no_file_by_one_that_may_not_survive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    spool = Spool(tmp_path, max_bytes=1000)
    spool.put("a.png", b"before")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        spool.put("a.png", b"after")
    assert (tmp_path / "a.png").read_bytes() == b"before"


def test_a_full_disk_loses_nothing(classify: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inbox_of(tmp_path, 3)
    watcher = watch(classify, tmp_path)
    add, failed = watcher.journal.add, []

    def sometimes(records: Any) -> None:
        if len(failed) < 2:
            failed.append(1)
            raise OSError(28, "No space left on device")
        add(records)

    monkeypatch.setattr(watcher.journal, "add", sometimes)
    monkeypatch.setattr("pangu_runtime.edge.watch._RETRY_S", 0.01)
    assert watcher.run(once=True) == 3
    watcher.close()
    assert len(lines(tmp_path)) == 3


def test_it_ends_when_told_to(classify: Made, tmp_path: Path) -> None:
    inbox_of(tmp_path, 1)
    watcher = watch(classify, tmp_path)
    threading.Timer(0.5, watcher.stop.set).start()
    assert watcher.run() == 1
    watcher.close()


def test_the_output_does_not_lie_in_the_inbox(classify: Made, tmp_path: Path) -> None:
    (tmp_path / "inbox").mkdir()
    with pytest.raises(DataError, match="lies in the inbox"):
        Watcher(Predictor(classify.bundle), tmp_path / "inbox", tmp_path / "inbox" / "out", WatchConfig())
    with pytest.raises(DataError, match="images are to arrive there"):
        Watcher(Predictor(classify.bundle), tmp_path / "other", tmp_path / "out", WatchConfig())


def test_an_inbox_that_may_not_be_written_is_told_at_the_start(
    classify: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox = inbox_of(tmp_path, 1)
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path != inbox and access(path, mode))
    for after in ("move", "delete"):
        with pytest.raises(DataError, match=r"may not be written.*--after keep"):
            watch(classify, tmp_path, after=after)
    watcher = watch(classify, tmp_path, after="keep")
    assert watcher.run(once=True) == 1
    watcher.close()


def test_killed_again_and_again_it_writes_every_image_once(classify: Made, tmp_path: Path) -> None:
    inbox_of(tmp_path, 150)
    command = [sys.executable, "-c", WITHOUT, "watch", classify.bundle, tmp_path / "inbox", "--out", tmp_path / "out"]
    command += ["--settle-seconds", "0", "--threads", "1", "--annotate", "all", "--once"]
    chance, kills = random.Random(0), 0
    for _ in range(30):
        process = subprocess.Popen([str(part) for part in command], stderr=subprocess.PIPE, text=True)
        try:
            before = len(lines(tmp_path)) if (tmp_path / "out").exists() else 0
            while process.poll() is None and kills < 4:
                written = sum(file.read_bytes().count(b"\n") for file in (tmp_path / "out").glob("results-*.jsonl"))
                if written >= before + 15:
                    time.sleep(chance.random() * 0.02)
                    process.send_signal(signal.SIGKILL)
                    kills += 1
                    break
            _, told = process.communicate(timeout=60)
        except BaseException:
            process.kill()
            raise
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, told
    assert kills == 4
    found = lines(tmp_path)
    assert len(found) == len({one["image"] for one in found}) == 150
    assert all(one["label"] == ("red", "blue")[int(Path(one["image"]).stem) % 2] for one in found)
    assert sum(path.is_file() for path in (tmp_path / "out" / "done").rglob("*")) == 150


@pytest.mark.parametrize("after", ["move", "delete"])
def test_another_image_of_the_same_name_size_and_time_is_decided(classify: Made, tmp_path: Path, after: str) -> None:
    """Cameras that overwrite one file, on a file system that keeps whole seconds."""
    for number, colour in enumerate(("red", "blue", "blue")):
        image = np.full((40, 40, 3), COLOURS[colour], np.uint8)
        (tmp_path / "inbox").mkdir(exist_ok=True)
        Image.fromarray(image).save(tmp_path / "inbox" / "cam.bmp")
        os.utime(tmp_path / "inbox" / "cam.bmp", (1_000_000, 1_000_000))
        watcher = watch(classify, tmp_path, after=after)
        assert watcher.run(once=True) == (number < 2)  # the third is the second once more
        watcher.close()
    assert [line["label"] for line in lines(tmp_path)] == ["red", "blue"]
    assert list((tmp_path / "inbox").iterdir()) == []


def test_names_of_any_bytes_and_of_any_length_get_their_lines(classify: Made, tmp_path: Path) -> None:
    (tmp_path / "inbox").mkdir()
    for name in (b"b_\xe9.png", ("裂" * 80 + ".png").encode()):
        save(tmp_path / "made.png", picture(COLOURS["red"], 1))
        (tmp_path / "made.png").rename(tmp_path / "inbox" / os.fsdecode(name))
    watcher = watch(classify, tmp_path, annotate="all", doubt=1.1)
    assert watcher.run(once=True) == 2
    watcher.close()
    assert {line["image"] for line in lines(tmp_path)} == {r"b_\xe9.png", "裂" * 80 + ".png"}
    watcher = watch(classify, tmp_path)
    assert watcher.run(once=True) == 0
    watcher.close()


def test_what_may_not_be_read_does_not_stop_the_line(
    classify: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    inbox = inbox_of(tmp_path, 2)
    (inbox / "lost+found").mkdir()
    opened, scan = Path.open, os.scandir

    def opening(path: Path, *arguments: Any, **options: Any) -> Any:
        if path == inbox / "line0" / "0.png":
            raise PermissionError(13, "Permission denied")
        return opened(path, *arguments, **options)

    def scanning(path: Any) -> Any:
        if Path(path).name == "lost+found":
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr(os, "scandir", scanning)
    with monkeypatch.context() as once:
        once.setattr(Path, "open", opening)
        watcher = watch(classify, tmp_path)
        assert watcher.run(once=True) == 2
        watcher.close()
    assert {line["image"]: line.get("error") for line in lines(tmp_path)} == {
        "line0/0.png": "missing",
        "line1/1.png": None,
    }
    assert caplog.text.count("nothing of it is decided") == 1


def test_once_ends_though_the_disk_stays_full(classify: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inbox_of(tmp_path, 1)
    watcher = watch(classify, tmp_path)

    def full(_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(watcher.journal, "add", full)
    monkeypatch.setattr("pangu_runtime.edge.watch._RETRY_S", 0.01)
    assert watcher.run(once=True) == 0
    watcher.close()
