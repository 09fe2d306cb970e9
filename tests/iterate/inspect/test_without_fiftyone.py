import base64
import io
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pangu_cv import cli
from pangu_cv.data.readers import read_dataset
from pangu_cv.data.versions import write_version
from pangu_cv.errors import SettingsError
from pangu_cv.finetune import FinetuneRecipe
from pangu_cv.iterate.inspect.model import FromAfar, open_looker
from pangu_cv.iterate.next_step import finetune_command
from pangu_cv.recipes import find
from pangu_cv.verbs import inspect as verb
from pangu_cv.verbs.inspect import recipe_for
from pangu_runtime.decode import DecodeSpec
from tests.finetune import tiny


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setitem(sys.modules, "fiftyone", None)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def inspect(*arguments: object) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["inspect", *map(str, arguments)])
    assert stop.value.code == 0


def test_a_page_is_written_and_the_extra_named(bare: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inspect(tiny.class_folders(bare / "data", test=0))
    out, err = capsys.readouterr()
    assert "wrote inspect.html" in out
    assert "pip install 'pangu-cv[inspect]'" in err
    assert "All images at a glance" in (bare / "inspect.html").read_text()


def test_twelve_bits_are_shown_in_the_range_that_is_given(bare: Path, classify: tiny.Made) -> None:
    (bare / "deep").mkdir()
    for number in range(2):
        Image.fromarray(np.full((20, 24), 2048, np.uint16)).save(bare / "deep" / f"{number}.png")
    inspect(bare / "deep", "--range-16bit", 0, 4095)
    found = re.search(r'data:image/\w+;base64,([^"]+)', (bare / "inspect.html").read_text())
    assert found
    assert np.asarray(Image.open(io.BytesIO(base64.b64decode(found[1])))).mean() == pytest.approx(127.5, abs=3)
    for model in (classify.run, classify.bundle):
        with pytest.raises(SettingsError, match=r"0 to 65535.*leave .* out"):
            open_looker(model, range_16bit=(0, 4095))
    deep, usual = FromAfar(DecodeSpec(range_16bit=(0, 4095))), FromAfar()
    assert deep.fingerprint != usual.fingerprint == FromAfar.fingerprint


@pytest.mark.parametrize(
    ("made", "name"),
    [
        (tiny.class_folders, "classify"),
        (tiny.tagged, "multilabel"),
        (tiny.boxed, "detect"),
        (tiny.masked, "segment"),
        (tiny.mvtec, "anomaly"),
    ],
)
def test_the_recipe_that_comes_next_takes_every_label(made: Callable[[Path], Path], name: str, tmp_path: Path) -> None:
    version = write_version(tmp_path / "my versions", read_dataset(made(tmp_path / "data")))
    assert recipe_for(version.dataset) == name
    _, verb, recipe, *settings = shlex.split(finetune_command(name, version.folder, (0, 4095)))
    assert verb == "finetune"
    loaded = FinetuneRecipe.load(find("finetune", recipe), settings)
    assert (loaded.few_shot.shots, loaded.data.range_16bit) == (None, (0, 4095))
    assert len(loaded.data.read()) == len(version.dataset)


def test_images_without_any_layout_and_a_version(bare: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(3):
        tiny.save(bare / "plain" / f"{number}.png", tiny.picture(tiny.COLOURS["red"], number))
    inspect(bare / "plain", "--page", "plain.html")
    assert "3 images" in capsys.readouterr().out
    source = read_dataset(tiny.class_folders(bare / "data", test=0))
    write_version(bare / "versions", source)
    inspect(bare / "versions", "--page", "version.html")
    assert "8 images" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--collect"], "--collect needs --out"),
        (["--out", "versions"], "--out is for --collect"),
        (["--collect", "--out", "versions"], "pangu-cv[inspect]"),
    ],
)
def test_flags_that_do_not_go_together(
    arguments: list[str], word: str, bare: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["inspect", str(tiny.class_folders(bare / "data", test=0)), *arguments])
    assert stop.value.code == 2
    assert word in capsys.readouterr().err


def test_an_image_named_twice_is_refused(bare: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny.save(bare / "data" / "images" / "a.png", tiny.picture(tiny.COLOURS["red"], 1))
    (bare / "data" / "data.yaml").write_text("train: images\nval: images\nnames: [red]")
    with pytest.raises(SystemExit):
        cli.main(["inspect", str(bare / "data")])
    assert "a.png: is in val, but in train" in capsys.readouterr().err


def test_the_range_goes_into_the_command_that_brings_changes_back(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    printed: list[list[str]] = []
    monkeypatch.setattr(verb, "_fiftyone", lambda: (object(), None))
    monkeypatch.setattr(verb, "_room", lambda *_, **__: object())
    monkeypatch.setattr(verb, "_serve", lambda _n, _p, _a, back, **_: printed.append(shlex.split(back)))
    data = tiny.class_folders(bare / "data", test=0)
    inspect(data, "--range-16bit", 0, 4095)
    inspect(data)
    deep, usual = printed
    at = deep.index("--range-16bit")
    assert deep[at : at + 3] == ["--range-16bit", "0", "4095"]
    assert usual == deep[:at] + deep[at + 3 :]
