import contextlib
import json
from pathlib import Path

import pytest
import torch

from pangu_cv import cli
from pangu_cv.data.sample import Dataset, Sample, Split
from pangu_cv.errors import DataError, SettingsError
from pangu_cv.evaluate import TorchDecider
from pangu_cv.finetune import FinetuneResult, finetune
from pangu_cv.finetune.anomaly import split_of
from pangu_cv.tasks import normal_images
from pangu_cv.tasks.anomaly import AnomalyModel
from pangu_cv.tasks.saved import load_model
from tests.finetune.test_classify import self_contained, strict
from tests.finetune.tiny import COLOURS, NETWORK, Made, class_folders, mvtec, picture, recipe, save


def run(tmp_path: Path, data: Path, *overrides: str) -> FinetuneResult:
    torch.manual_seed(0)
    return finetune(recipe("anomaly", data, tmp_path / "run", *overrides))


def normals(root: Path, first: int, count: int) -> Path:
    """A class folder 'good' under 'train' alone: what a camera delivers on a later day."""
    for number in range(first, first + count):
        save(root / "train" / "good" / f"day2_{number}.png", picture(COLOURS["blue"], 9000 + number))
    return root


def test_metrics_report_and_threshold(tmp_path: Path) -> None:
    result = run(tmp_path, mvtec(tmp_path / "data"))
    metrics = strict(result.folder / "metrics.json")
    assert metrics["threshold"]["normals"] == 8
    assert metrics["threshold"]["certified_rate"] == pytest.approx(1 / 9)
    assert "19 normal images would do" in metrics["threshold"]["statement"]
    assert metrics["bank"]["images"] == 8
    assert metrics["test"]["image_auroc"] == 1.0
    assert metrics["test"]["recall"] == 1.0
    assert metrics["test"]["pixel_auroc"] > 0.8
    page = result.report.read_text()
    assert self_contained(page)
    assert "19 normal images would do" in page


def test_enough_images_certify_the_rate(anomaly: Made) -> None:
    threshold = strict(anomaly.run / "metrics.json")["threshold"]
    assert (threshold["normals"], threshold["certified_rate"]) == (20, 0.05)


def test_cap_of_the_bank_is_kept(tmp_path: Path) -> None:
    metrics = run(tmp_path, mvtec(tmp_path / "data"), "task.bank.max_mb=0.02").metrics
    assert metrics["bank"]["vectors"] <= metrics["bank"]["capacity"] < 8 * 16
    assert metrics["bank"]["megabytes"] <= 0.02
    assert metrics["test"]["image_auroc"] == 1.0


def test_few_shots_of_normals(tmp_path: Path) -> None:
    metrics = run(tmp_path, mvtec(tmp_path / "data"), "few_shot.shots=3").metrics
    assert metrics["threshold"]["normals"] == 3


def test_class_folders_without_splits_keep_normals_back(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for number in range(10):
        save(data / "good" / f"{number}.png", picture(COLOURS["blue"], number))
    save(data / "stain" / "0.png", picture(COLOURS["red"], 50))
    metrics = run(tmp_path, data).metrics
    assert metrics["threshold"]["normals"] == 8
    assert metrics["test"]["images"] == 3
    assert metrics["test"]["defective_images"] == 1


def test_no_good_folder_names_the_classes(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"folder named 'good' \(found: blue, red\)"):
        run(tmp_path, class_folders(tmp_path / "data"))


@pytest.mark.parametrize("split", [True, False])
def test_one_normal_image_is_too_few(tmp_path: Path, split: bool) -> None:
    data = mvtec(tmp_path / "data", normals=1) if split else tmp_path / "data"
    if not split:
        save(data / "good" / "0.png", picture(COLOURS["blue"], 0))
        save(data / "stain" / "0.png", picture(COLOURS["red"], 0))
    with pytest.raises(DataError, match="normal"):
        run(tmp_path, data)
    assert not (tmp_path / "run" / "model").exists()


def test_truncated_normals_and_tests_are_reported(tmp_path: Path) -> None:
    data = mvtec(tmp_path / "data")
    for folder in ("train/good", "test/good"):
        path = save(data / folder / "cut.jpg", picture(COLOURS["blue"], 3))
        path.write_bytes(path.read_bytes()[:-300])
    result = run(tmp_path, data)
    assert [s["reason"] for s in result.metrics["skipped"]] == ["truncated"] * 2
    assert result.metrics["threshold"]["normals"] == 8
    assert result.metrics["test"]["images"] == 7
    assert "cut.jpg" in result.report.read_text()


def test_normals_alone_give_a_model_and_name_what_was_left_out(tmp_path: Path) -> None:
    data = normals(tmp_path / "data", 0, 5)
    (data / "train" / "good" / "zz.png").write_bytes(b"")
    result = run(tmp_path, data)
    metrics = strict(result.folder / "metrics.json")
    assert metrics["test"] is None
    assert len(metrics["skipped"]) == 1
    assert "zz.png" in result.report.read_text()


def test_masks_that_cannot_be_used_are_told_and_their_images_count(tmp_path: Path) -> None:
    data = mvtec(tmp_path / "data", defects=4)
    save(data / "ground_truth" / "stain" / "0_mask.png", picture(COLOURS["red"], 0, height=9)[..., 0])
    (data / "ground_truth" / "stain" / "1_mask.png").write_bytes(b"no image")
    result = run(tmp_path, data)
    test, [note] = result.metrics["test"], result.metrics["notes"]
    assert (test["defective_images"], test["recall"]) == (4, 1.0)
    assert test["pixel_auroc"] > 0.8
    assert "2 mask(s) cannot be used" in note
    assert "0_mask.png: has 48 x 9 pixels, its image 48 x 40" in note
    assert "2 mask(s) cannot be used" in result.report.read_text()


@pytest.mark.parametrize(("tested", "learnt"), [("good", 6), ("stain", 4)])
def test_normals_of_a_table_that_are_marked_test_are_never_learnt(tested: str, learnt: int) -> None:
    marked = [Sample(Path(f"/d/t{n}.png"), label=tested, split="test") for n in range(3)]
    blank = [Sample(Path(f"/d/{n}.png"), label="good") for n in range(6 if tested == "good" else 5)]
    split = split_of(Dataset(Path("/d"), "csv", (*marked, *blank)), shots=None, seed=0)
    assert len(split.normals) == learnt
    assert not set(split.normals) & {*marked, *split.test}
    assert set(marked) <= set(split.test)


def test_test_images_of_a_group_whose_normals_were_learnt_are_not_measured() -> None:
    def of(split: Split, *labels: str) -> list[Sample]:
        return [
            Sample(Path(f"/d/{split}{at}.png"), label=label, split=split, group=f"part{at}")
            for at, label in enumerate(labels)
        ]

    train, test = of("train", "good", "good"), of("test", "good", "stain", "good", "stain")
    split = split_of(Dataset(Path("/d"), "csv", (*train, *test)), shots=None, seed=0)
    assert set(split.normals) == set(train)
    assert split.test == tuple(test[2:])
    assert split.torn == tuple(test[:2])


def test_second_seed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="one seed a run"):
        run(tmp_path, tmp_path, "few_shot.seeds=[0,1]")


def test_growing_equals_learning_all_at_once(tmp_path: Path) -> None:
    first = run(tmp_path / "a", mvtec(tmp_path / "data", normals=6))
    later = normals(tmp_path / "later", 0, 4)
    grown = run(tmp_path / "b", later, f"grow_from={first.model}")
    for path in (later / "train" / "good").iterdir():
        save(tmp_path / "data" / "train" / "good" / path.name, picture(COLOURS["blue"], 9000 + int(path.stem[5:])))
    whole = run(tmp_path / "c", tmp_path / "data")
    assert grown.metrics["bank"]["images"] == whole.metrics["bank"]["images"] == 10
    assert grown.metrics["bank"]["vectors"] == whole.metrics["bank"]["vectors"]
    assert grown.metrics["threshold"]["normals"] == 10
    image = picture(COLOURS["blue"], 77)[None]
    scores = [TorchDecider(load_model(r.model).model).run(image)["map"] for r in (grown, whole)]
    units = [load_model(r.model).normality.unit for r in (grown, whole)]  # type: ignore[union-attr]
    assert scores[0] * units[0] == pytest.approx(scores[1] * units[1], rel=1e-3)


def test_forgetting_takes_an_image_out_for_good(tmp_path: Path) -> None:
    first = run(tmp_path / "a", mvtec(tmp_path / "data", normals=6))
    assert first.metrics["bank"]["images"] == 6
    grown = run(
        tmp_path / "b",
        normals(tmp_path / "later", 0, 2),
        f"grow_from={first.model}",
        "forget=[train/good/0.png, train/good/3.png]",
    )
    assert grown.metrics["bank"]["images"] == 6
    assert grown.metrics["bank"]["vectors"] <= first.metrics["bank"]["vectors"]
    text = (grown.model / "model.json").read_text()
    assert "train/good/0.png" not in text
    assert "train/good/1.png" in text


def test_growing_may_move_the_false_alarm_rate_only(tmp_path: Path) -> None:
    first = run(tmp_path / "a", mvtec(tmp_path / "data", normals=6))
    later = normals(tmp_path / "later", 0, 4)
    grown = run(tmp_path / "b", later, f"grow_from={first.model}", "task.false_alarm_rate=0.2")
    assert grown.metrics["threshold"]["certified_rate"] == 0.2
    with pytest.raises(SettingsError, match=r"decoded otherwise \(.*range_16bit.*, now "):
        run(tmp_path / "d", later, f"grow_from={first.model}", "data.range_16bit=[0, 4095]")
    with pytest.raises(SettingsError, match="only false_alarm_rate may"):
        run(tmp_path / "c", later, f"grow_from={first.model}", "task.top_share=0.2")


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["forget=[a.png]"], "needs grow_from"),
        (["grow_from=nowhere"], "does not exist"),
    ],
)
def test_growing_from_nothing_is_told(tmp_path: Path, overrides: list[str], told: str) -> None:
    with pytest.raises(Exception, match=told) as caught:
        run(tmp_path, mvtec(tmp_path / "data"), *overrides)
    assert isinstance(caught.value, SettingsError | DataError) or "Checkpoint" in type(caught.value).__name__


def test_growing_from_a_classifier_or_with_unknown_names_is_told(tmp_path: Path, classify: Made, anomaly: Made) -> None:
    later = normals(tmp_path / "later", 0, 2)
    with pytest.raises(SettingsError, match="is not an anomaly model"):
        run(tmp_path / "a", later, f"grow_from={classify.run / 'model'}")
    with pytest.raises(DataError, match=r"holds no image 'never\.png'"):
        run(tmp_path / "b", later, f"grow_from={anomaly.run / 'model'}", "forget=[never.png]")


def test_growing_by_the_same_images_adds_nothing(tmp_path: Path, anomaly: Made) -> None:
    grown = run(tmp_path, anomaly.data, f"grow_from={anomaly.run / 'model'}")
    before = strict(anomaly.run / "metrics.json")
    assert grown.metrics["bank"] == before["bank"]
    assert grown.metrics["threshold"]["value"] == pytest.approx(before["threshold"]["value"], rel=1e-4)


def test_other_images_of_the_same_names_are_not_passed_over_in_silence(tmp_path: Path) -> None:
    """Cameras number their images from 0 again every day."""
    first = run(tmp_path / "a", mvtec(tmp_path / "data", normals=6))
    for number in range(6):
        save(tmp_path / "day2" / "train" / "good" / f"{number}.png", picture(COLOURS["green"], 5000 + number))
    with contextlib.suppress(DataError):  # a refusal would do too
        grown = run(tmp_path / "b", tmp_path / "day2", f"grow_from={first.model}")
        assert grown.metrics["bank"]["images"] == 12


def test_forgotten_image_is_not_learned_again_at_once(tmp_path: Path, anomaly: Made) -> None:
    """A mislabelled image comes out of the bank though it still lies in the folder."""
    shrunk = run(tmp_path, anomaly.data, f"grow_from={anomaly.run / 'model'}", "forget=[train/good/0.png]")
    assert shrunk.metrics["bank"]["images"] == 19


class Killed(BaseException):
    """What a signal does to a run."""


def kill_after(monkeypatch: pytest.MonkeyPatch, images: int) -> list[int]:
    """Kill the run at an image; the list counts the images whose patches were computed."""
    patches, seen = AnomalyModel.patches, [0]

    def counted(self: AnomalyModel, prepared: torch.Tensor) -> torch.Tensor:
        if torch.is_inference_mode_enabled():  # not the one that sizes the grid
            seen[0] += 1
        if seen[0] > images:
            raise Killed
        return patches(self, prepared)

    monkeypatch.setattr(AnomalyModel, "patches", counted)
    return seen


def kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: Path, *overrides: str) -> None:
    monkeypatch.setattr("pangu_cv.tasks.normal_images.SAVE_EVERY", 2)
    with monkeypatch.context() as patch:
        kill_after(patch, 5)
        with pytest.raises(Killed):
            run(tmp_path, data, *overrides)
    assert not (tmp_path / "run" / "model").exists()


def test_killed_run_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = mvtec(tmp_path / "data")
    kill(tmp_path, monkeypatch, data)
    seen = kill_after(monkeypatch, 1000)
    resumed = run(tmp_path, data)
    after, seen[0] = seen[0], 0
    whole = run(tmp_path / "whole", data)
    assert seen[0] - after == 4  # of 5 images seen 4 were saved
    assert resumed.metrics["bank"] == whole.metrics["bank"]
    assert resumed.metrics["threshold"] == whole.metrics["threshold"]
    assert not (resumed.folder / "partial").exists()


@pytest.mark.parametrize("change", ["fewer shots", "other images"])
def test_killed_run_of_another_draw_is_not_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """k shots means that a run sees k images: not those of a run that was killed in the same folder."""
    data = mvtec(tmp_path / "data")
    kill(tmp_path, monkeypatch, data)
    if change == "other images":
        for path in (data / "train" / "good").iterdir():
            save(path, picture(COLOURS["green"], 100 + int(path.stem)))
    overrides = ["few_shot.shots=2"] if change == "fewer shots" else []
    again = run(tmp_path, data, *overrides)
    fresh = run(tmp_path / "fresh", data, *overrides)
    assert again.metrics["bank"]["images"] == fresh.metrics["bank"]["images"]
    found = [load_model(r.model).normality.bank.vectors_MD for r in (again, fresh)]  # type: ignore[union-attr]
    assert torch.equal(*found)


@pytest.mark.parametrize("change", ["top share", "groups"])
def test_killed_run_is_calibrated_by_the_settings_of_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    data = mvtec(tmp_path / "data")
    table = tmp_path / "groups.csv"
    table.write_text("file,group\ntrain/good/0.png,burst\ntrain/good/1.png,burst\n")
    kill(tmp_path, monkeypatch, data, "task.top_share=1.0")
    changed = "task.top_share=0.03" if change == "top share" else f"data.groups={table}"
    overrides = [changed] if change == "top share" else ["task.top_share=1.0", changed]
    again = run(tmp_path, data, *overrides)
    fresh = run(tmp_path / "fresh", data, *overrides)
    assert again.metrics["threshold"] == fresh.metrics["threshold"]


def test_shell_prints_the_statement(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = mvtec(tmp_path / "data", normals=19)
    command = ["finetune", "anomaly", *NETWORK, f"data.path={data}", f"output={tmp_path / 'run'}"]
    with pytest.raises(SystemExit) as stopped:
        cli.main(command)
    assert not stopped.value.code
    told = capsys.readouterr().out
    assert "at most 5.00% false alarms, certified by 19 normal images" in told
    assert "image AUROC" in told


def test_shell_measures_models_and_bundles_alike(
    tmp_path: Path, anomaly: Made, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = []
    for model in (anomaly.run, anomaly.bundle):
        with pytest.raises(SystemExit) as stopped:
            cli.main(["evaluate", str(model), str(anomaly.data), "--out", str(tmp_path / str(len(figures))), "--json"])
        assert not stopped.value.code
        figures.append(json.loads(capsys.readouterr().out))
    for key in ("image_auroc", "recall", "false_alarm_rate"):
        assert figures[0][key] == figures[1][key]
    assert figures[0]["pixel_auroc"] == pytest.approx(figures[1]["pixel_auroc"], abs=1e-3)


def test_saves_of_a_growing_bank_grow_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each save names all images so far: a save every so many images would take the square of their number."""
    data, saved = mvtec(tmp_path / "data", normals=48), []
    saves = normal_images.checkpoint.save
    monkeypatch.setattr(normal_images, "SAVE_EVERY", 1)
    monkeypatch.setattr(normal_images.checkpoint, "save", lambda *all: saved.append(1) or saves(*all))
    images = run(tmp_path, data).metrics["bank"]["images"]
    assert images >= 40
    assert 10 < len(saved) < 0.75 * images
