"""One image must not stop the line, whatever it does to the process."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pangu_runtime.edge.begun import Begun
from pangu_runtime.edge.journal import Journal
from pangu_runtime.errors import RuntimeLimitError
from tests.finetune.tiny import COLOURS, Made, picture, save
from tests.runtime.edge.test_watch import inbox_of, lines, watch

DIES = """
import os, signal, sys
from pathlib import Path
from pangu_runtime.edge.watch import WatchConfig, Watcher
from pangu_runtime.predictor import Predictor
root = Path(sys.argv[2])
class Heavy(Predictor):
    def decode(self, source):
        pixels = super().decode(source)
        if pixels.shape[1] == 99:
            os.kill(os.getpid(), signal.SIGKILL)
        return pixels
watcher = Watcher(Heavy(sys.argv[1], threads=1), root / "inbox", root / "out", WatchConfig(settle_s=0, poll_s=0.01))
watcher.run(once=True)
"""


@pytest.mark.parametrize("after", ["move", "delete"])
@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("[ONNXRuntimeError] : Failed to allocate memory")])
def test_an_image_that_cannot_be_decided_gets_its_line_and_the_others_go_on(
    classify: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, after: str
) -> None:
    """And is kept even where decided images are deleted: the reason may have passed by tomorrow."""
    inbox = inbox_of(tmp_path, 2)
    save(inbox / "0.png", picture(COLOURS["red"], 1, width=99))
    watcher = watch(classify, tmp_path, after=after)
    run = watcher.predictor.run

    def running(images: Any, **options: Any) -> Any:
        if images.shape[2] == 99:
            raise error
        return run(images, **options)

    monkeypatch.setattr(watcher.predictor, "run", running)
    assert watcher.run(once=True) == 3
    watcher.close()
    found = {line["image"]: line for line in lines(tmp_path)}
    assert (
        found.pop("0.png").items()
        >= {
            "error": "failed",
            "message": f"0.png: {type(error).__name__}: {error}",
        }.items()
    )
    assert {line["label"] for line in found.values()} == {"red", "blue"}
    assert [path.name for path in (tmp_path / "out" / "unreadable").iterdir()] == ["0.png"]


def test_what_has_a_line_is_not_decoded_to_be_taken_away(
    classify: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else an image that ends the process would do so after its line too."""
    save(tmp_path / "inbox" / "0.png", picture(COLOURS["red"], 1))

    def too_large(*_: Any) -> None:
        raise MemoryError

    for after, count in (("keep", 1), ("move", 0)):
        watcher = watch(classify, tmp_path, after=after)
        monkeypatch.setattr(watcher.predictor, "decode", too_large)
        assert watcher.run(once=True) == count
        watcher.close()
    assert [path.name for path in (tmp_path / "out" / "unreadable").iterdir()] == ["0.png"]


def test_an_image_at_which_the_process_dies_again_and_again_is_left(classify: Made, tmp_path: Path) -> None:
    inbox, codes = inbox_of(tmp_path, 1), []
    save(inbox / "line0" / "heavy.png", picture(COLOURS["red"], 1, width=99))
    for number in range(8):
        save(inbox / f"{number}.png", picture(COLOURS["blue"], number))  # others are decided before it, at every start
        codes.append(subprocess.run([sys.executable, "-c", DIES, classify.bundle, tmp_path], check=False).returncode)
        if codes[-1] == 0:
            break
    assert codes == [-signal.SIGKILL] * 5 + [0]
    found = {line["image"]: line for line in lines(tmp_path)}
    assert len(found) == len(lines(tmp_path)) == 8
    heavy = found.pop("line0/heavy.png")
    assert heavy["error"] == "failed"
    assert "died 5 times" in heavy["message"]
    assert all("label" in line for line in found.values())
    assert (tmp_path / "out" / "unreadable" / "line0" / "heavy.png").is_file()


def test_deaths_are_counted_until_the_image_has_its_line(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    for is_last in (False, False, False, True):
        begun = Begun(tmp_path / "begun", decided=journal)
        for _ in range(3):  # tries of one process, as on a full disk, are one death
            begun.begin("a")
        if is_last:
            begun.close()
        else:
            begun._stream.close()  # as death would
    assert '"a": 3' in (tmp_path / "begun").read_text().splitlines()[0]
    journal.add([{"key": "a"}])
    begun = Begun(tmp_path / "begun", decided=journal)
    begun.begin("b")
    begun.end("b")
    begun.close()
    assert "a" not in (tmp_path / "begun").read_text().splitlines()[0]
    journal.close()


def test_who_ends_well_has_not_died(tmp_path: Path) -> None:
    """As where a full disk takes no line, and a timer starts the watcher again and again."""
    journal = Journal(tmp_path)
    for _ in range(7):
        begun = Begun(tmp_path / "begun", decided=journal)
        begun.begin("a")
        begun.close()
    journal.close()


@pytest.mark.parametrize("torn", [b"", b"\0" * 300, b'{"a": 5', b"[1]\n", b'{"a": "x"}\n'])
def test_a_torn_line_counts_nothing(tmp_path: Path, torn: bytes) -> None:
    journal = Journal(tmp_path)
    (tmp_path / "begun").write_bytes(torn)
    begun = Begun(tmp_path / "begun", decided=journal)
    begun.begin("a")
    begun.close()
    (tmp_path / "begun").write_bytes(b'{"a": 5}\nleft of a longer line')
    begun = Begun(tmp_path / "begun", decided=journal)
    with pytest.raises(RuntimeLimitError, match="died 5 times"):
        begun.begin("a")
    begun.close()
    journal.close()


def test_the_mark_costs_nothing_beside_a_decision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    journal = Journal(tmp_path)
    begun = Begun(tmp_path / "begun", decided=journal)
    synced.clear()
    for number in range(1000):
        begun.begin(f"image {number}")
        begun.end(f"image {number}")
    begun.close()
    journal.close()
    assert synced == []
    assert (tmp_path / "begun").stat().st_size < 100
