import json
import shutil
from pathlib import Path

import pytest

from pangu_cv import cli
from pangu_runtime.bundle import write_sums
from tests.finetune.tiny import COLOURS, Made, copy_of, picture, save


def verify(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["verify", *map(str, arguments)])
    return int(stopped.value.code or 0)


@pytest.mark.parametrize("kind", ["classify", "anomaly"])
def test_intact_bundle_passes_with_its_images(
    kind: str, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    made: Made = request.getfixturevalue(kind)
    assert verify(made.bundle, "--images", made.data / "test", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["task"] == kind
    assert told["certificate"]["checked"] == len(made.images)
    assert told["certificate"]["flips"] == 0
    assert verify(made.bundle, "--images", made.data / "test") == 0
    assert f"ok ({len(made.images)} images, 0 flips, scores within" in capsys.readouterr().out


def test_moved_and_renamed_bundle_still_passes(anomaly: Made, tmp_path: Path) -> None:
    assert verify(copy_of(anomaly.bundle, tmp_path / "mein Ordner äöü")) == 0


def test_images_the_certificate_does_not_know(
    classify: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(tmp_path / "new" / "0.png", picture(COLOURS["red"], 77))
    assert verify(classify.bundle, "--images", tmp_path / "new") == 2
    assert "none of the 1 images" in capsys.readouterr().err
    shutil.copy(classify.images[0], tmp_path / "new" / "1.png")
    assert verify(classify.bundle, "--images", tmp_path / "new") == 0
    assert "1 others not in it" in capsys.readouterr().out


def test_answers_that_differ_from_the_recorded_ones(
    classify: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = copy_of(classify.bundle, tmp_path / "bundle")
    parity = json.loads((bundle / "parity.json").read_text())
    for image in parity["images"]:
        image["answer"]["scores"][0].reverse()
        image["answer"]["label"] = [1 - image["answer"]["label"][0]]
    (bundle / "parity.json").write_text(json.dumps(parity))
    write_sums(bundle)
    assert verify(bundle, "--images", classify.data / "test") == 2
    assert f"flips {len(classify.images)} decisions" in capsys.readouterr().err
