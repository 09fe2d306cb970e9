import json
from pathlib import Path

import pytest

from pangu_cv import cli
from pangu_cv.finetune import finetune
from pangu_runtime.images import list_images
from tests.finetune.tiny import QUICK, Made, class_folders, copy_of, mvtec, picture, recipe, save


def evaluated(model: Path, data: Path, out: Path, *more: object) -> tuple[dict, str]:
    with pytest.raises(SystemExit) as stopped:
        cli.main([str(word) for word in ("evaluate", model, data, "--out", out, *more)])
    assert not stopped.value.code
    return json.loads((out / "metrics.json").read_text()), (out / "report.html").read_text()


def test_a_classifier_is_a_gate_once_the_good_class_is_named(classify: Made, tmp_path: Path, capsys) -> None:
    costs = ("--escape-cost", 100, "--overkill-cost", 1)
    figures, page = evaluated(classify.run, classify.data, tmp_path, "--good", "blue", "--recall", 0.5, *costs)
    gate = figures["gate"]
    assert (gate["good_images"], gate["defective_images"]) == (4, 4)
    assert gate["at_recall"]["asked_recall"] == 0.5
    assert gate["at_recall"]["cross_fitted"]["overkill"]["n"] == 4
    assert gate["at_least_cost"]["escape_cost"] == 100
    assert figures["intervals"]["balanced_accuracy"]["n"] == 8
    told = capsys.readouterr().out
    assert "recall 0.5, cross-fitted: overkill" in told
    interval = figures["intervals"]["accuracy"]
    assert (f"[{interval['low']:.4f}, " in told) == (interval["low"] < interval["high"])
    for words in ("Escapes and overkill", "for least cost, 100 : 1", "Each class against the rest"):
        assert words in page


LEFT_OUT = (
    "8 of the 12 images are left out, since the model has learnt from them or their groups; --with-learnt measures "
    "them too"
)


def test_images_that_were_learnt_from_are_left_out_unless_asked_for(classify: Made, tmp_path: Path, capsys) -> None:
    figures, page = evaluated(classify.run, classify.data / "train", tmp_path / "a")
    assert (figures["images"], figures["notes"]) == (4, [LEFT_OUT])
    assert LEFT_OUT in page
    told = capsys.readouterr().out
    assert f"! {LEFT_OUT}" in told
    assert "measured on 4 images\n" in told
    figures, page = evaluated(classify.run, classify.data / "train", tmp_path / "all", "--with-learnt")
    too_good = "8 of the 12 images are ones the model has learnt from, or of their groups: the figures are too good"
    assert (figures["images"], figures["notes"]) == (12, [too_good])
    assert too_good in page
    assert evaluated(classify.run, classify.data, tmp_path / "b")[0]["notes"] == []
    [note] = evaluated(classify.bundle, classify.data / "train", tmp_path / "c")[0]["notes"]
    assert note.startswith("the dataset names no test part")
    assert "which images the model has learnt from is not known" in note


def test_images_of_a_group_are_left_out_and_drawn_together(classify: Made, tmp_path: Path, capsys) -> None:
    """A table of groups is heeded as in training: one learnt image of a group takes all of it out."""
    table, data = tmp_path / "groups.csv", classify.data
    test = sorted(path.relative_to(data).as_posix() for path in (data / "test").rglob("*.png"))
    alone, _ = evaluated(classify.run, data, tmp_path / "alone")
    assert alone["images"] == len(test) == 8
    table.write_text("file,group\n" + "".join(f"{name},pair {at // 2}\n" for at, name in enumerate(test)))
    figures, page = evaluated(classify.run, data, tmp_path / "pairs", "--groups", table)
    assert figures["intervals"]["accuracy"]["n"] == 4
    [note] = figures["notes"]
    assert note.startswith("intervals count the 8 images as 4")
    assert note in page
    learnt = [path.relative_to(data).as_posix() for path in (data / "train").rglob("*.png")]
    table.write_text("file,group\n" + "".join(f"{name},all\n" for name in (*learnt, *test[:3])))
    figures, _ = evaluated(classify.run, data, tmp_path / "torn", "--groups", table)
    assert figures["images"] == 5
    assert any("3 of the 8 images are left out" in note for note in figures["notes"])
    capsys.readouterr()


@pytest.mark.parametrize("kind", ["classify", "multilabel", "detect", "segment", "anomaly"])
def test_every_task_draws_groups(kind: str, request: pytest.FixtureRequest, tmp_path: Path, capsys) -> None:
    made: Made = request.getfixturevalue(kind)
    data = made.data / "test" if kind == "multilabel" else made.data
    alone, _ = evaluated(made.bundle, data, tmp_path / "alone")
    names = sorted(path.relative_to(data).as_posix() for path in list_images(data))
    table = tmp_path / "groups.csv"
    table.write_text("file,group\n" + "".join(f"{name},all\n" for name in names))
    together, _ = evaluated(made.bundle, data, tmp_path / "together", "--groups", table)
    assert together["images"] == alone["images"] > 1
    known = [name for name, one in alone["intervals"].items() if one is not None]
    assert known
    assert {alone["intervals"][name]["n"] for name in known} == {alone["images"]}
    assert {together["intervals"][name]["n"] for name in known} == {1}
    capsys.readouterr()


def test_images_that_the_rival_learnt_from_are_left_out_of_both(classify: Made, tmp_path: Path, capsys) -> None:
    figures, page = evaluated(classify.bundle, classify.data / "train", tmp_path / "a", "--against", classify.run)
    note = f"run: {LEFT_OUT}"
    assert [one for one in figures["notes"] if one.startswith("run: ")] == [note]
    assert figures["images"] == figures["against"]["images"] == 4
    assert note in page
    assert f"! {note}" in capsys.readouterr().out
    both = ("--against", classify.run, "--with-learnt")
    figures, _ = evaluated(classify.bundle, classify.data / "train", tmp_path / "b", *both)
    assert figures["images"] == figures["against"]["images"] == 12
    assert (
        "run: 8 of the 12 images are ones the model has learnt from, or of their groups: the figures are too good"
        in figures["notes"]
    )


def test_where_all_was_learnt_nothing_is_measured(anomaly: Made, tmp_path: Path, capsys) -> None:
    data = copy_of(anomaly.data / "train", tmp_path / "data")
    with pytest.raises(SystemExit) as stopped:
        cli.main(["evaluate", str(anomaly.run), str(data), "--out", str(tmp_path / "out")])
    assert stopped.value.code == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "all 20 images to measure on are ones that a model has learnt from" in told
    assert "--with-learnt" in told


def test_what_the_reading_of_the_data_left_out_is_told(detect: Made, tmp_path: Path, capsys) -> None:
    data = copy_of(detect.data, tmp_path / "data")
    (data / "JPEGImages" / "test1.png").write_bytes(b"no image")
    beside = data / "Annotations" / "test2.xml"
    box = "<bndbox><xmin>900</xmin><ymin>900</ymin><xmax>950</xmax><ymax>950</ymax></bndbox>"
    beside.write_text(
        beside.read_text().replace("</annotation>", f"<object><name>dark</name>{box}</object></annotation>")
    )
    figures, page = evaluated(detect.run, data, tmp_path / "out")
    [note] = figures["notes"]
    assert note == "1 boxes outside their image were left out; first test2.xml"
    assert note in page
    told = capsys.readouterr().out
    assert f"! {note}" in told
    assert f"measured on 2 images, 1 left out: first {data / 'JPEGImages' / 'test1.png'}: " in told


def test_a_test_part_without_labels_leaves_the_measuring_to_val(classify: Made, tmp_path: Path) -> None:
    """As 'pangu-cv finetune' chooses it."""
    rows = ["file,label,split"]
    for at, path in enumerate(sorted((classify.data / "test").glob("*/*.png"))):
        rows.append(f"{path.relative_to(classify.data).as_posix()},{path.parent.name if at % 4 else ''},val")
        rows.append(f"{path.relative_to(classify.data).as_posix().replace('test', 'train')},,test")
    (tmp_path / "set.csv").write_text("\n".join(rows))
    figures, _ = evaluated(classify.run, tmp_path / "set.csv", tmp_path / "out", "--root", classify.data)
    assert figures["images"] == 6
    assert figures["notes"] == [
        "2 of the 8 images of val have no label, and are not measured",
        "10 rows have no label",
    ]


def test_a_run_is_held_to_the_rate_that_was_certified_as_its_bundle_is(anomaly: Made, tmp_path: Path) -> None:
    """Where images are few, more than what was asked for."""
    run = copy_of(anomaly.run, tmp_path / "few")
    manifest = json.loads((run / "model" / "model.json").read_text())
    manifest["calibration"] |= {"certified_rate": 1 / 11, "normals": 10}
    (run / "model" / "model.json").write_text(json.dumps(manifest))
    for model, rate, words in ((run, 1 / 11, "certified 9.09 %"), (anomaly.bundle, 0.05, "certified 5 %")):
        figures, page = evaluated(model, anomaly.data, tmp_path / f"of {model.name}")
        assert figures["asked_false_alarm_rate"] == pytest.approx(rate)
        assert words in page


@pytest.mark.parametrize(
    ("kind", "images", "lists"), [("segment", "images", "."), ("detect", "JPEGImages", "ImageSets/Main")]
)
def test_trained_models_know_what_they_learnt_from(
    kind: str, images: str, lists: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    made: Made = request.getfixturevalue(kind)
    labelled = json.loads((made.run / "metrics.json").read_text())["draws"][0]["labelled"]
    assert evaluated(made.run, made.data, tmp_path / "apart")[0]["notes"] == []
    data = copy_of(made.data, tmp_path / "data")
    (data / lists / "train.txt").unlink()
    (data / lists / "test.txt").write_text("\n".join(path.stem for path in (data / images).iterdir()))
    [note] = evaluated(made.run, data, tmp_path / "all")[0]["notes"]
    assert note.startswith(f"{labelled} of the ")
    run = copy_of(made.run, tmp_path / "before")  # one of an earlier version
    manifest = json.loads((run / "model" / "model.json").read_text())
    del manifest["learnt"]
    (run / "model" / "model.json").write_text(json.dumps(manifest))
    [note] = evaluated(run, made.data, tmp_path / "unknown")[0]["notes"]
    assert note.startswith("which images the model has learnt from is not known")


def test_a_classifier_without_a_memory_knows_what_it_learnt_from(tmp_path: Path) -> None:
    data = class_folders(tmp_path / "data")
    settings = ("few_shot.shots=3", "task.memory_per_class=null")
    run = finetune(recipe("classify", data, tmp_path / "run", *settings)).folder
    [note] = evaluated(run, data / "train", tmp_path / "seen")[0]["notes"]
    assert note.startswith("6 of the 8 images are left out, since the model has learnt from them")


def test_masks_of_the_anomaly_layout_that_were_learnt_from_are_counted(tmp_path: Path) -> None:
    data = mvtec(tmp_path / "data", defects=4)
    made = recipe("segment", data, tmp_path / "run", *QUICK, "few_shot.shots=2", "train.steps=2")
    [note] = evaluated(finetune(made).folder, data, tmp_path / "seen")[0]["notes"]
    assert note.startswith("2 of the 8 images")


def test_masks_of_other_classes_are_refused(segment: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = copy_of(segment.data, tmp_path / "data")
    (data / "classes.txt").write_text("background\ncrack\nspall\n")
    with pytest.raises(SystemExit) as stopped:
        cli.main(["evaluate", str(segment.run), str(data), "--out", str(tmp_path / "out")])
    assert stopped.value.code == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "mean 0 background, 1 crack, 2 spall; to the model they mean 0 background, 1 crack" in told


def test_a_mask_of_another_size_is_told_and_its_image_counts(anomaly: Made, tmp_path: Path, capsys) -> None:
    data = copy_of(anomaly.data, tmp_path / "data")
    save(data / "ground_truth" / "stain" / "0_mask.png", picture((0, 0, 0), 0, height=9)[..., 0])
    figures, page = evaluated(anomaly.run, data, tmp_path / "out")
    [note] = figures["notes"]
    assert (figures["defective_images"], figures["skipped"]) == (3, [])
    assert "1 mask(s) cannot be used" in note
    assert f"! {note}" in capsys.readouterr().out
    assert "1 mask(s) cannot be used" in page


def test_without_a_good_class_there_is_no_gate(classify: Made, tmp_path: Path) -> None:
    figures, page = evaluated(classify.run, classify.data, tmp_path)
    assert figures["gate"] is None
    assert "--good CLASS names the class of good images" in page


def test_a_run_and_its_bundle_are_the_same_model(anomaly: Made, tmp_path: Path, capsys) -> None:
    figures, page = evaluated(anomaly.run, anomaly.data, tmp_path, "--against", anomaly.bundle)
    against = figures["against"]
    assert (against["images"], against["better"]) == (7, None)
    assert against["disagreement"]["only_a_right"] == against["disagreement"]["only_b_right"] == 0
    assert against["differences"]["image_auroc"]["difference"]["mean"] == pytest.approx(0, abs=1e-6)
    assert "Too few images to compare by: 7 images." in capsys.readouterr().out
    assert "run against bundle" in page
    assert figures["gate"]["at_own_threshold"]["thresholds"] == [pytest.approx(figures["threshold"])]


def test_segmenters_and_detectors_have_intervals_and_a_gate(segment: Made, detect: Made, tmp_path: Path) -> None:
    masks, page = evaluated(segment.run, segment.data, tmp_path / "masks")
    assert masks["intervals"]["f1"] == masks["f1_interval"]
    assert "no good image" in masks["gate"]["undefined"]
    assert "Not measured: there is no good image here" in page
    boxes, page = evaluated(detect.run, detect.data, tmp_path / "boxes")
    assert boxes["intervals"]["ap50"]["mean"] == pytest.approx(boxes["ap50"])
    assert (boxes["gate"]["good_images"], boxes["gate"]["defective_images"]) == (1, 2)
    assert boxes["gate"]["at_recall"]["cross_fitted"] is None
    assert "What a score is worth" in page


def test_taggers_have_curves_calibration_and_a_gate(multilabel: Made, segment: Made, tmp_path: Path) -> None:
    costs = ("--escape-cost", 10, "--overkill-cost", 1)
    tags, page = evaluated(multilabel.run, multilabel.data / "test", tmp_path / "tags", *costs)
    assert (tags["gate"]["good_images"], tags["gate"]["defective_images"]) == (2, 6)
    assert tags["gate"]["at_own_threshold"]["recall"] == 1
    assert tags["gate"]["at_least_cost"]["escape_cost"] == 10
    assert "--good CLASS" not in page
    for words in ("ROC of every class", "What a score is worth", "for least cost, 10 : 1"):
        assert words in page
    masks, page = evaluated(segment.bundle, segment.data, tmp_path / "masks")
    assert masks["average_precision_per_class"][1] > 0.5
    assert masks["expected_calibration_error"] is not None
    assert "How sure it is of its pixels" in page


def test_a_folder_of_two_layouts_is_measured_in_the_one_named(segment: Made, tmp_path: Path, capsys) -> None:
    data = copy_of(segment.data, tmp_path / "data")
    (data / "labels").mkdir()
    for image in (data / "images").iterdir():
        (data / "labels" / f"{image.stem}.txt").write_text("0 0.5 0.5 0.2 0.2")
    with pytest.raises(SystemExit) as stopped:
        cli.main(["evaluate", str(segment.run), str(data), "--out", str(tmp_path / "taken for yolo")])
    assert stopped.value.code == 2
    named, _ = evaluated(segment.run, data, tmp_path / "named", "--layout", "image_masks")
    assert named["f1"] == evaluated(segment.run, segment.data, tmp_path / "plain")[0]["f1"]
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        cli.main(["evaluate", str(segment.run), str(data), "--layout", "masks"])
    assert stopped.value.code
    assert "image_masks" in "".join(capsys.readouterr())


def test_a_bundle_is_measured_in_the_precision_asked_for(precise: Made, tmp_path: Path, capsys) -> None:
    given = ("--precision", "int8", "--against", precise.bundle)
    figures, page = evaluated(precise.bundle, precise.data, tmp_path / "int8", *given)
    own, _ = evaluated(precise.bundle, precise.data, tmp_path / "fp32")
    assert (figures["precision"], own["precision"]) == ("int8", "fp32")
    assert figures["negative_log_likelihood"] != own["negative_log_likelihood"]
    assert figures["against"]["images"] == len(precise.images)
    assert f"{precise.bundle.name} int8 against {precise.bundle.name}" in page


def test_a_precision_that_is_not_there_is_refused(classify: Made, tmp_path: Path, capsys) -> None:
    for model, told in ((classify.bundle, "holds no int8 model"), (classify.run, "is no bundle")):
        with pytest.raises(SystemExit) as stopped:
            cli.main(["evaluate", str(model), str(classify.data), "--precision", "int8", "--out", str(tmp_path)])
        assert stopped.value.code == 2
        assert told in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("theirs", ["model/model.json", "recipe.yaml", "bundle.json"])
def test_the_folder_of_another_command_is_not_written_into(theirs: str, tmp_path: Path, capsys) -> None:
    """Its own metrics and report would be replaced."""
    for name in (theirs, "metrics.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("theirs")
    with pytest.raises(SystemExit) as stopped:
        cli.main(["evaluate", "nowhere", "nothing", "--out", str(tmp_path)])
    assert stopped.value.code == 2
    assert f"holds '{theirs.split('/')[0]}', so another command wrote it" in capsys.readouterr().err
    assert (tmp_path / "metrics.json").read_text() == "theirs"
