import json
from pathlib import Path

import pytest
import torch

from pangu_cv import cli
from pangu_cv.data.readers import read_dataset
from pangu_cv.data.sample import Sample
from pangu_cv.data.shown import classes_shown
from pangu_cv.errors import DataError
from pangu_cv.finetune import finetune
from pangu_cv.finetune.multilabel import draw_shown
from pangu_cv.tasks.multilabel import MultilabelModel
from pangu_cv.tasks.saved import load_model
from tests.finetune.tiny import Made, boxed, recipe, tagged


def test_figures_and_report_of_several_draws(tmp_path: Path) -> None:
    data = tagged(tmp_path / "data", train=12)
    result = finetune(recipe("multilabel", data, tmp_path / "run", "few_shot.shots=2", "few_shot.seeds=[0,1]"))
    metrics = json.loads((result.folder / "metrics.json").read_text())
    assert metrics["mean_ap"]["n"] == 2
    assert [draw["images"] for draw in metrics["draws"]] == [8, 8]
    assert all(draw["mean_ap"] > 0.9 for draw in metrics["draws"])  # light and dark bars
    page = result.report.read_text()
    for words in ("Mean AP, all draws", "mean of 2", "All draws", "Where every class was right", "dark, light"):
        assert words in page, words


def test_groups_are_left_out_together_and_remembered_for_updates(tmp_path: Path) -> None:
    data = tagged(tmp_path / "data", train=12)
    dataset = read_dataset(data)
    burst = [s.path.relative_to(dataset.root).as_posix() for s in dataset if s.split == "train"][:6]
    table = tmp_path / "groups.csv"
    table.write_text("file,group\n" + "".join(f"{name},burst\n" for name in (*burst, "test0.png")))
    asked = ("few_shot.shots=null", f"data.groups={table}")
    result = finetune(recipe("multilabel", data, tmp_path / "run", *asked))
    assert result.metrics["draws"][0]["images"] == 7
    assert "test images not measured, because labelled ones are of their group: 1" in result.metrics["notes"]
    saved = load_model(result.model)
    model, memory = saved.model, saved.memory
    assert memory is not None
    assert [one.group for one in memory.known.values()].count("burst") == 6
    assert isinstance(model, MultilabelModel)
    fitted = model.head.slope_C.clone()
    memory.teach(model)  # as an update does: nothing may change by itself
    torch.testing.assert_close(model.head.slope_C, fitted, rtol=1e-3, atol=0)


def pool_of(*contents: str) -> tuple[list[Sample], dict[Sample, frozenset[str]]]:
    shown = {Sample(Path(f"/d/{n}.png")): frozenset(text.split()) for n, text in enumerate(contents)}
    return list(shown), shown


def test_draw_has_each_class_with_and_without_and_images_of_nothing() -> None:
    pool, shown = pool_of(*["a b"] * 6, *["a"] * 4, *["b"] * 4, *[""] * 4)
    for seed in range(4):
        support, measured = draw_shown(pool, (), shown, shots=3, seed=seed)
        drawn = [shown[s] for s in support]
        for name in "ab":
            assert sum(name in one for one in drawn) >= 3
            assert sum(name not in one for one in drawn) >= 3
        assert sum(not one for one in drawn) == 3
        assert not set(support) & set(measured)
        assert set(support) | set(measured) == set(pool)
        assert draw_shown(pool, (), shown, shots=3, seed=seed)[0] == support


def test_draw_takes_what_absences_there_are() -> None:
    pool, shown = pool_of(*["a b"] * 6, "a", *["a b"] * 3)
    support, _ = draw_shown(pool, (), shown, shots=3, seed=0)
    assert sum("b" not in shown[s] for s in support) == 1
    assert all("a" in shown[s] for s in support)


def test_class_in_every_labelled_image_is_told(tmp_path: Path) -> None:
    data = tagged(tmp_path / "data")
    table = data / "labels.csv"
    lines = [
        f"{file},{';'.join(filter(None, (label, 'board')))},{split}"
        for file, label, split in (line.split(",") for line in table.read_text().splitlines()[1:])
    ]
    table.write_text("\n".join(["file,label,split", *lines]))
    result = finetune(recipe("multilabel", data, tmp_path / "run", "few_shot.shots=2"))
    assert any("every labelled image shows board" in note for note in result.metrics["notes"])
    assert "every labelled image shows board" in result.report.read_text()


def test_boxes_are_labels_too(tmp_path: Path) -> None:
    data = boxed(tmp_path / "data")
    shown = classes_shown(read_dataset(data))
    result = finetune(recipe("multilabel", data, tmp_path / "run", "few_shot.shots=2"))
    draw = result.metrics["draws"][0]
    assert draw["classes"] == ["dark", "light"]
    assert draw["images"] == sum(s.split == "test" for s in shown)
    assert [one["images"] for one in draw["per_class"]] == [2, 2]


def test_test_class_that_nothing_teaches_is_named(tmp_path: Path) -> None:
    data = tagged(tmp_path / "data")
    table = data / "labels.csv"
    table.write_text(table.read_text().replace("test0.png,", "test0.png,scratch"))
    with pytest.raises(DataError, match=r"does not know the class\(es\) scratch"):
        finetune(recipe("multilabel", data, tmp_path / "run", "few_shot.shots=2"))
    assert not (tmp_path / "run").exists()


def test_evaluate_writes_figures(multilabel: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["evaluate", str(multilabel.bundle), str(multilabel.images[0].parent), "--out", str(tmp_path / "run")])
    assert not stopped.value.code
    assert "exact match        1.0000" in capsys.readouterr().out
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["images"] == 8


def test_two_taggers_are_compared(multilabel: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    against = ["--against", str(multilabel.run), "--out", str(tmp_path / "run")]
    with pytest.raises(SystemExit) as stopped:
        cli.main(["evaluate", str(multilabel.bundle), str(multilabel.images[0].parent), *against])
    assert not stopped.value.code
    record = json.loads((tmp_path / "run" / "metrics.json").read_text())["against"]
    assert record["better"] is None
    assert record["disagreement"]["both_right"] == 8
    assert "8 images" in capsys.readouterr().out


def test_the_pool_is_not_gone_through_for_every_class(monkeypatch: pytest.MonkeyPatch) -> None:
    pool, shown = pool_of(*[str(at % 20) for at in range(600)])
    looked, plain = [], Sample.__hash__
    monkeypatch.setattr(Sample, "__hash__", lambda self: looked.append(1) or plain(self))
    support, _ = draw_shown(pool, (), shown, shots=2, seed=0)
    assert len(support) == 40
    assert len(looked) < 15 * len(pool)  # three times a class is sixty
