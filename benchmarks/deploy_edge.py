"""``pangu-cv watch`` killed again and again while images arrive: is every image in its output exactly once?"""

import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.deploy_subjects import prepare
from benchmarks.isolate import code_paths
from benchmarks.subjects import classify_recipe
from pangu_runtime.predictor import ClassPrediction, Predictor

_EARLY = 0.2  # of the kills come at a random moment of the start, the others at work
_START_S = 1.5
_MOMENT_S = 0.06  # about what one image takes: where in its work a kill falls is left to chance
_PATIENCE_S = 120.0


def measure(*, data: str, is_quick: bool, model: str, images: int, kills: int, seed: int) -> dict[str, Any]:
    """Real images, the first half of them there from the start, the others arriving meanwhile."""
    prepared = prepare(model, Path(data))
    every = sorted(sample.path for sample in classify_recipe(Path(data), "xsdd").data.read())
    images, kills = (40, 4) if is_quick else (images, kills)
    assert len(every) >= images
    with tempfile.TemporaryDirectory() as scratch:
        found = killed(prepared.bundle, every[:images], Path(scratch), kills=kills, seed=seed)
    return {"model": model} | found


def killed(bundle: Path, paths: Sequence[Path], folder: Path, *, kills: int, seed: int) -> dict[str, Any]:
    """Kill ``kills`` times, then let it finish, and count what its output holds; names in the inbox are new."""
    chance = random.Random(seed)
    names = {f"line{number % 3}/{number:04d}{path.suffix}": path for number, path in enumerate(paths)}
    half = len(names) // 2
    _put(folder, list(names.items())[:half])
    feeder = threading.Thread(target=_feed, args=(folder, list(names.items())[half:]), daemon=True)
    feeder.start()
    start = time.perf_counter()
    lives = [_life(bundle, folder, chance, left=kills - number, images=len(names)) for number in range(kills)]
    feeder.join(_PATIENCE_S)
    last = subprocess.run([*_command(bundle, folder), "--once"], stderr=subprocess.PIPE, text=True, env=code_paths())
    seconds = time.perf_counter() - start
    at_work = sum(life["phase"] == "work" for life in lives)
    about = {"images": len(names), "kills": len(lives), "kills_at_work": at_work, "seed": seed, "seconds": seconds}
    torn = {"torn_tails": sum(life["is_torn"] for life in lives), "ended_well": last.returncode == 0}
    return (
        about | torn | counted(folder, _expected(bundle, names)) | {"lines_at_kills": [life["lines"] for life in lives]}
    )


def counted(folder: Path, expected: Mapping[str, str]) -> dict[str, Any]:
    """What the output holds against ``expected``, labels by name: one line an image, one file an image."""
    lines, torn = [], 0
    for line in _written(folder).splitlines():
        try:
            lines.append(json.loads(line))
        except ValueError:
            torn += 1
    times = Counter(line["image"] for line in lines)
    done = [path.relative_to(folder / "out" / "done").as_posix() for path in _files(folder / "out" / "done")]
    return {
        "lines": len(lines),
        "once": sum(times[name] == 1 for name in expected),
        "duplicates": sum(count - 1 for count in times.values()),
        "missing": sum(name not in times for name in expected),
        "torn": torn,
        "other_label": sum(line.get("label") != expected.get(line["image"]) for line in lines),
        "files_moved_once": len(done) if sorted(done) == sorted(expected) else -1,
        "left_in_inbox": len(_files(folder / "inbox")),
        "pictures": len(_files(folder / "out" / "annotated")),
    }


def _life(bundle: Path, folder: Path, chance: random.Random, *, left: int, images: int) -> dict[str, Any]:
    """One process, killed at a random moment: of its start, or after a random number of new lines.

    The numbers are such that the kills that are left spread over the images that are left.
    """
    before = _written(folder).count(b"\n")
    most = max(1, round(1.6 * (images - before) / (left + 1)))
    is_early = chance.random() < _EARLY or before >= images
    wanted, moment = chance.randint(1, most), chance.random()
    process = subprocess.Popen(
        _command(bundle, folder), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=code_paths()
    )
    end = time.monotonic() + (moment * _START_S if is_early else _PATIENCE_S)
    while _written(folder).count(b"\n") < before + wanted and time.monotonic() < end:
        if process.poll() is not None:
            raise RuntimeError(f"the watcher stopped by itself ({process.returncode})")
        time.sleep(0.002)
    if not is_early:
        time.sleep(moment * _MOMENT_S)
    process.send_signal(signal.SIGKILL)
    process.wait()
    written = _written(folder)
    lines = written.count(b"\n")
    is_torn = bool(written) and not written.endswith(b"\n")
    return {"phase": "work" if lines > before else "start", "lines": lines, "is_torn": is_torn}


def _command(bundle: Path, folder: Path) -> list[str]:
    watch = [sys.executable, "-m", "pangu_cv.cli", "watch", str(bundle), str(folder / "inbox")]
    return [
        *watch,
        "--out",
        str(folder / "out"),
        "--settle-seconds",
        "0",
        "--poll-seconds",
        "0.05",
        "--annotate",
        "all",
    ]


def _put(folder: Path, items: Sequence[tuple[str, Path]]) -> None:
    """Into the inbox as a careful writer does: whole files, by a rename."""
    for name, path in items:
        target = folder / "inbox" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.part")
        shutil.copyfile(path, temporary)
        temporary.replace(target)


def _feed(folder: Path, items: Sequence[tuple[str, Path]]) -> None:
    """One more image for every line that is written, so that images arrive all the time."""
    given, end = 0, time.monotonic() + 60 * _PATIENCE_S
    while given < len(items) and time.monotonic() < end:
        ready = min(len(items), _written(folder).count(b"\n") + 1)
        _put(folder, items[given:ready])
        given = max(given, ready)
        time.sleep(0.01)


def _written(folder: Path) -> bytes:
    files = sorted((folder / "out").glob("results-*.jsonl"))
    return b"".join(file.read_bytes() for file in files)


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()] if folder.is_dir() else []


def _expected(bundle: Path, names: Mapping[str, Path]) -> dict[str, str]:
    """Labels by this process's Predictor."""
    predictor = Predictor(bundle)
    found = {}
    for name, path in names.items():
        prediction = predictor.predict_image(predictor.decode(path))
        assert isinstance(prediction, ClassPrediction)
        found[name] = prediction.label
    return found
