import json
from pathlib import Path

import pytest

from pangu_cv import cli
from pangu_cv.errors import DataError, SettingsError
from pangu_cv.finetune import finetune
from pangu_cv.tasks.saved import load_model
from tests.finetune.tiny import COLOURS, Made, class_folders, picture, recipe, save

ROUTE = ("task.unknown_rate=0.2", "few_shot.shots=3")
QUICK = ("train.steps=2", "train.batch=3", "train.workers=0")


def test_run_states_the_threshold_and_what_it_did(unknown: Made) -> None:
    metrics = json.loads((unknown.run / "metrics.json").read_text())
    model = load_model(unknown.run / "model").model
    assert metrics["threshold"]["value"] == float(model.threshold) > 0.5
    assert "by leaving out each of 20 labelled images" in metrics["threshold"]["statement"]
    (draw,) = metrics["draws"]
    assert draw["images"] == 8
    assert draw["unknown"]["stated_rate"] == 0.2
    assert draw["unknown"]["recognised"]["mean"] == 1.0
    assert draw["unknown"]["recognised"]["n"] == 4
    page = (unknown.run / "report.html").read_text()
    assert "What it calls unknown" in page
    assert "Recognised as unknown" in page


def test_run_without_a_rate_says_nothing_of_it(classify: Made) -> None:
    metrics = json.loads((classify.run / "metrics.json").read_text())
    assert "threshold" not in metrics
    assert "unknown" not in metrics["draws"][0]
    assert "calls unknown" not in (classify.run / "report.html").read_text()


def test_evaluate_prints_what_became_of_other_classes(
    unknown: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["evaluate", str(unknown.bundle), str(unknown.data), "--out", str(tmp_path / "run")])
    assert not stopped.value.code
    told = capsys.readouterr().out
    assert "recognised        100.0%" in told
    assert "of 4 images of other classes" in told


def test_a_class_of_that_name_is_refused_only_where_it_is_an_answer(tmp_path: Path) -> None:
    data = class_folders(tmp_path / "data")
    for part in ("train", "test"):
        for number in range(4):
            save(data / part / "unknown" / f"{number}.png", picture(COLOURS["green"], number + 50 * (part == "test")))
    with pytest.raises(DataError, match="a class is named 'unknown'"):
        finetune(recipe("classify", data, tmp_path / "run", *ROUTE))
    assert not (tmp_path / "run").exists()
    result = finetune(recipe("classify", data, tmp_path / "plain", "few_shot.shots=3"))
    assert "unknown" in result.metrics["draws"][0]["classes"]


def test_other_classes_in_the_test_part_need_a_rate(tmp_path: Path) -> None:
    data = class_folders(tmp_path / "data")
    save(data / "test" / "white" / "0.png", picture((250, 250, 250), 1))
    with pytest.raises(DataError, match="train lacks 1 of the test classes: white"):
        finetune(recipe("classify", data, tmp_path / "run", "few_shot.shots=3"))
    result = finetune(recipe("classify", data, tmp_path / "run", *ROUTE))
    assert result.metrics["draws"][0]["unknown"]["should_be_unknown"] == 1


def test_trained_backbone_with_a_refitted_head_is_calibrated(tmp_path: Path) -> None:
    data = class_folders(tmp_path / "data")
    ways = ("adapt.kind=partial", "adapt.blocks=1")
    result = finetune(recipe("classify", data, tmp_path / "run", *ROUTE, *QUICK, *ways))
    model = load_model(result.model).model
    assert model.calibration
    assert result.metrics["threshold"]["value"] == float(model.threshold) > 0
    assert result.metrics["threshold"]["statement"] == model.statement
    assert model.statement.endswith(
        "the backbone learnt from these images too, so images of known classes may be answered unknown more often"
    )


def test_trained_heads_cannot_be_calibrated_and_say_what_to_do(tmp_path: Path) -> None:
    data = class_folders(tmp_path / "data")
    with pytest.raises(SettingsError, match=r"adapt\.kind: linear keeps a trained head.*adapt\.kind=frozen"):
        finetune(recipe("classify", data, tmp_path / "run", *ROUTE, *QUICK, "adapt.kind=linear"))
    with pytest.raises(SettingsError, match=r"adapt\.ways: linear keeps a trained head"):
        finetune(recipe("classify", data, tmp_path / "run", *ROUTE, *QUICK, "adapt.kind=auto"))
    (data / "train" / "red" / "0.png").unlink()
    uneven = ("task.unknown_rate=0.2", "few_shot.shots=null", "adapt.kind=full")
    with pytest.raises(SettingsError, match=r"full keeps a trained head here.*few_shot\.shots"):
        finetune(recipe("classify", data, tmp_path / "run", *uneven, *QUICK))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("way", [(), ("augment.variants=1",)])
def test_groups_and_copies_count_once(tmp_path: Path, way: tuple[str, ...]) -> None:
    """However a classifier is fitted: 2 of 4 images of a colour are of one group, or the same file."""
    data = class_folders(tmp_path / "data")
    asked = ("task.unknown_rate=0.2", "few_shot.shots=null", *way)
    table = tmp_path / "groups.csv"
    table.write_text("file,group\ntrain/red/0.png,burst\ntrain/red/1.png,burst\n")
    blue = data / "train" / "blue"
    (blue / "0.png").write_bytes((blue / "1.png").read_bytes())
    result = finetune(recipe("classify", data, tmp_path / "run", *asked, f"data.groups={table}"))
    model = load_model(result.model).model
    assert model.calibration
    assert result.metrics["draws"][0]["labelled"] == 8
    assert model.calibration.normals == 6
    assert "images of one group, are left out together and count once" in model.statement


def test_one_shot_has_no_image_to_leave_out(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="needs 2 labelled images of every class"):
        finetune(recipe("classify", class_folders(tmp_path / "data"), tmp_path / "run", *ROUTE[:1], "few_shot.shots=1"))
