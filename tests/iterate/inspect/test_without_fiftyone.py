import sys
from pathlib import Path

import pytest

from pangu_cv import cli
from pangu_cv.data.readers import read_dataset
from pangu_cv.data.versions import write_version
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
    assert "1 images are in the dataset more than once" in capsys.readouterr().err
