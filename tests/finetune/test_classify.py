import json
import re
from pathlib import Path

import pytest
import torch

from pangu_cv import cli
from pangu_cv.data.sample import Dataset, Sample, Split
from pangu_cv.errors import DataError, SettingsError
from pangu_cv.evaluate import TorchDecider
from pangu_cv.finetune import FinetuneResult, finetune
from pangu_cv.finetune.classify import draws_of
from pangu_cv.tasks.saved import load_model
from pangu_runtime.predictor import Predictor
from tests.finetune.tiny import COLOURS, NETWORK, class_folders, picture, recipe, save


def strict(path: Path) -> dict:
    """JSON without NaN and Infinity, which few readers take."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} in {path}")

    return json.loads(path.read_text(), parse_constant=refuse)


def run(tmp_path: Path, data: Path, *overrides: str, seed: int = 0) -> FinetuneResult:
    torch.manual_seed(seed)
    return finetune(recipe("classify", data, tmp_path / "run", *overrides))


def self_contained(page: str) -> bool:
    links = re.findall(r"""(?:src|href)\s*=\s*["']([^"']+)""", page)
    return all(link.startswith(("data:", "#")) for link in links) and "<script src" not in page


def test_draws_seeds_metrics_and_report(tmp_path: Path) -> None:
    data = class_folders(tmp_path / "data", train=5)
    result = run(tmp_path, data, "few_shot.shots=3", "few_shot.seeds=[0,1,2]")
    metrics = strict(result.folder / "metrics.json")
    assert [draw["seed"] for draw in metrics["draws"]] == [0, 1, 2]
    assert all(draw["labelled"] == 6 and draw["images"] == 6 for draw in metrics["draws"])
    assert metrics["balanced_accuracy"]["mean"] == 1.0
    assert metrics["balanced_accuracy"]["n"] == 3
    assert metrics["environment"]["versions"]["torch"] == torch.__version__.split("+")[0]
    page = result.report.read_text()
    assert self_contained(page)
    assert "All draws" in page
    assert sorted(p.name for p in result.folder.iterdir()) == ["metrics.json", "model", "recipe.yaml", "report.html"]


def test_model_saved_is_that_of_the_first_seed(tmp_path: Path) -> None:
    data = class_folders(tmp_path / "data", train=5)
    both = run(tmp_path / "a", data, "few_shot.shots=2", "few_shot.seeds=[4,1]")
    first = run(tmp_path / "b", data, "few_shot.shots=2", "few_shot.seeds=[4]")
    heads = [load_model(r.model).model.state_dict() for r in (both, first)]
    for key, value in heads[0].items():
        torch.testing.assert_close(value, heads[1][key], msg=key)


def test_draw_sees_only_its_shots(tmp_path: Path) -> None:
    data = class_folders(tmp_path / "data", train=5)
    dataset = recipe("classify", data, tmp_path).data.read()
    draws = draws_of(dataset, shots=2, seeds=[0, 1])
    assert {len(d.support) for d in draws} == {4}
    assert draws[0].support != draws[1].support
    assert all(s.split == "train" for d in draws for s in d.support)
    assert all(s.split == "test" for d in draws for s in d.test)


def test_parts_that_tear_a_group_measure_what_was_not_learnt_and_say_so(tmp_path: Path) -> None:
    data, table = class_folders(tmp_path / "data", train=4), tmp_path / "groups.csv"
    table.write_text("file,group\ntrain/red/0.png,burst\ntest/red/0.png,burst\n")
    result = run(tmp_path, data, "few_shot.shots=null", f"data.groups={table}")
    assert result.metrics["draws"][0]["images"] == 5
    told = "test images not measured, because labelled ones are of their group: 1"
    assert told in result.metrics["notes"]
    assert told in result.report.read_text()  # as all notes


def test_seeds_that_draw_the_same_images_are_fitted_once_with_the_interval_over_images(tmp_path: Path) -> None:
    data = class_folders(tmp_path / "data")
    result = run(tmp_path, data, "few_shot.shots=null", "few_shot.seeds=[0,1,2]")
    assert [draw["seed"] for draw in result.metrics["draws"]] == [0]
    assert (result.metrics["balanced_accuracy"]["n"], result.metrics["balanced_accuracy"]["low"]) == (1, None)
    assert any("2 of 3 draw the same images as one before" in note for note in result.metrics["notes"])


def test_a_seed_named_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="a seed is named twice"):
        recipe("classify", tmp_path, tmp_path / "run", "few_shot.seeds=[0,0]")


@pytest.mark.parametrize("part", ["test", "val"])
@pytest.mark.parametrize("shots", [None, 2])
def test_rows_marked_test_beside_blank_ones_are_measured_and_never_learnt(part: Split, shots: int | None) -> None:
    marked = [Sample(Path(f"/d/{part}_{n}.png"), label="ab"[n % 2], split=part) for n in range(6)]
    blank = [Sample(Path(f"/d/{n}.png"), label="ab"[n % 2]) for n in range(8)]
    (draw,) = draws_of(Dataset(Path("/d"), "csv", (*marked, *blank)), shots=shots, seeds=[0])
    assert set(draw.support) <= set(blank)
    assert set(draw.test) == set(marked)


def test_folder_without_splits_is_measured_on_what_was_not_drawn(tmp_path: Path) -> None:
    data = class_folders(tmp_path / "data", train=5, test=0)
    dataset = recipe("classify", data, tmp_path).data.read()
    for shots, left in ((2, 6), (None, 2)):
        (draw,) = draws_of(dataset, shots=shots, seeds=[0])
        assert len(draw.test) == left
        assert not set(draw.test) & set(draw.support)
    with pytest.raises(DataError, match="no image is left to measure on"):
        draws_of(dataset, shots=5, seeds=[0])
    assert strict(run(tmp_path, data, "few_shot.shots=2").folder / "metrics.json")["draws"][0]["images"] == 6


def test_one_shot_per_class_works(tmp_path: Path) -> None:
    metrics = run(tmp_path, class_folders(tmp_path / "data"), "few_shot.shots=1").metrics
    assert metrics["draws"][0]["labelled"] == 2


def test_same_recipe_gives_the_same_figures(tmp_path: Path) -> None:
    data = class_folders(tmp_path / "data")
    one, two = (run(tmp_path / part, data, "few_shot.shots=2") for part in "ab")
    assert one.metrics["draws"] == two.metrics["draws"]


def test_second_run_embeds_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PANGU_CV_CACHE", str(tmp_path / "cache"))
    data = class_folders(tmp_path / "data")
    run(tmp_path / "a", data, "few_shot.shots=2")

    def never(*_: object) -> None:
        raise AssertionError("embedded again")

    monkeypatch.setattr("pangu_cv.tasks.classify.ClassifyModel.embed", never)
    run(tmp_path / "b", data, "few_shot.shots=2")
    with pytest.raises(AssertionError, match="embedded again"):
        run(tmp_path / "c", data, "few_shot.shots=2", "cache=false")


def test_saved_model_decides_as_measured(tmp_path: Path) -> None:
    data = class_folders(tmp_path / "data", classes=("blue", "green", "red"))
    result = run(tmp_path, data, "few_shot.shots=3")
    saved = load_model(result.model)
    assert saved.model.classes == ("blue", "green", "red")  # type: ignore[union-attr]
    scores = TorchDecider(saved.model).run(picture(COLOURS["green"], 500)[None])["scores"][0]
    assert scores.argmax() == 1


def test_truncated_images_are_reported_and_the_run_goes_on(tmp_path: Path) -> None:
    data = class_folders(tmp_path / "data", train=4)
    for part in ("train", "test"):
        path = save(data / part / "red" / "cut.jpg", picture(COLOURS["red"], 7))
        path.write_bytes(path.read_bytes()[:-300])
    result = run(tmp_path, data, "few_shot.shots=null")
    skipped = strict(result.folder / "metrics.json")["skipped"]
    assert [(Path(s["image"]).name, s["reason"]) for s in skipped] == [("cut.jpg", "truncated")] * 2
    assert result.metrics["draws"][0]["images"] == 6
    assert "cut.jpg" in result.report.read_text()


def test_labelled_images_counted_are_those_that_were_read(tmp_path: Path) -> None:
    """A figure that names more labels than the fit has seen would flatter nobody, but it would be wrong."""
    data = class_folders(tmp_path / "data", train=4)
    (data / "train" / "red" / "0.png").write_bytes(b"")
    assert run(tmp_path, data, "few_shot.shots=null").metrics["draws"][0]["labelled"] == 7


def test_class_whose_images_are_all_unreadable_is_named(tmp_path: Path) -> None:
    data = class_folders(tmp_path / "data", train=2)
    for path in (data / "train" / "red").iterdir():
        path.write_bytes(b"")
    with pytest.raises(DataError, match=r"no readable image is left of class\(es\) red"):
        run(tmp_path, data, "few_shot.shots=2")


def test_test_images_all_unreadable(tmp_path: Path) -> None:
    data = class_folders(tmp_path / "data")
    for path in (data / "test").rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(DataError, match="none of the test images"):
        run(tmp_path, data, "few_shot.shots=2")


def test_test_class_that_train_lacks_is_named(tmp_path: Path) -> None:
    data = class_folders(tmp_path / "data")
    save(data / "test" / "purple" / "0.png", picture((90, 0, 90), 1))
    with pytest.raises(DataError, match="train lacks 1 of the test classes: purple"):
        run(tmp_path, data, "few_shot.shots=2")


def test_class_with_too_few_images_is_named(tmp_path: Path) -> None:
    data = class_folders(tmp_path / "data", train=4)
    (data / "train" / "red" / "3.png").unlink()
    with pytest.raises(DataError, match="4 shots per class asked, but 'red' has 3"):
        run(tmp_path, data, "few_shot.shots=4")


def test_one_class_cannot_be_told_apart(tmp_path: Path) -> None:
    data = class_folders(tmp_path / "data", classes=("red",))
    with pytest.raises(DataError, match="at least 2 classes, found red"):
        run(tmp_path, data, "few_shot.shots=2")
    assert not (tmp_path / "run").exists()


def test_empty_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with pytest.raises(DataError, match="no layout recognised"):
        run(tmp_path, tmp_path / "data")


def test_settings_of_the_other_task_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"task\.kind=anomaly"):
        run(tmp_path, tmp_path, "forget=[a.png]")


def test_failed_run_leaves_no_half_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pangu_cv.models.checkpoint.save_file", fail)
    with pytest.raises(OSError, match="No space"):
        run(tmp_path, class_folders(tmp_path / "data"), "few_shot.shots=2")
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["recipe.yaml"]


def shell(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stopped:
        cli.main([str(a) for a in arguments])
    return int(stopped.value.code or 0)


def test_shell_prints_figures_and_what_to_run_next(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = class_folders(tmp_path / "data")
    command = ["finetune", "classify", *NETWORK, f"data.path={data}", f"output={tmp_path / 'run'}", "few_shot.shots=2"]
    assert shell(*command) == 0
    told = capsys.readouterr().out
    assert "balanced accuracy 100.0%" in told
    assert f"pangu-cv export {tmp_path / 'run'}" in told
    assert shell(*command, "--json") == 0
    assert json.loads(capsys.readouterr().out)["task"] == "classify"


def test_shell_measures_models_and_bundles_alike(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tests.finetune.tiny import made

    ready = made("classify")
    figures = []
    for model in (ready.run, ready.run / "model", ready.bundle):
        out = tmp_path / f"{len(figures)}"
        assert shell("evaluate", model, ready.data, "--out", out, "--json") == 0
        figures.append(json.loads(capsys.readouterr().out))
        strict(out / "metrics.json")
        assert self_contained((out / "report.html").read_text())
    assert figures[0]["confusion"] == figures[1]["confusion"] == figures[2]["confusion"]
    assert figures[0]["negative_log_likelihood"] == pytest.approx(figures[2]["negative_log_likelihood"], abs=1e-3)
    assert Predictor(ready.bundle).bundle.classes == ("blue", "red")
    save(tmp_path / "other" / "yellow" / "0.png", picture((200, 200, 0), 0))
    assert shell("evaluate", ready.bundle, tmp_path / "other") == 2
    assert "does not know the class(es) yellow" in capsys.readouterr().err
