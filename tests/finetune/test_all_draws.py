from pathlib import Path

import pytest

from pangu_cv.finetune import finetune
from pangu_cv.finetune.all_draws import every_draw, headline, same_images
from pangu_cv.finetune.auto import Choice
from pangu_cv.models.adapt import Linear
from pangu_cv.report.page import Page
from tests.finetune.tiny import QUICK, boxed, class_folders, masked, recipe


def test_several_draws_open_the_report_and_one_does_not() -> None:
    over = {"mean": 0.61, "low": 0.55, "high": 0.67, "n": 3}
    draws = [{"seed": 4}, {"seed": 1}, {"seed": 2}]
    page = Page("Several")
    headline(page, {"draws": draws, "notes": ["odd"], "f1": over, "ap": None}, {"f1": "F1", "ap": "AP"})
    for words in ("F1, all draws", "61.0 %", "mean of 3; 95 %: 55.0 to 67.0 %", "AP, all draws", "(seed 4)", "odd"):
        assert words in page.html(), words
    one = Page("One")
    headline(one, {"draws": draws[:1], "notes": ["odd"], "f1": over}, {"f1": "F1"})
    assert "all draws" not in one.html()
    assert "odd" in one.html()


def test_the_way_that_auto_took_is_a_column() -> None:
    page = Page("Ways")
    choices = [Choice(Linear(), ()), None]
    every_draw(page, [0, 1], columns=["F1"], rows=[("0.5",), ("0.6",)], choices=choices)
    assert "<th>way</th>" in page.html()
    assert "kind linear" in page.html()
    plain = Page("Plain")
    every_draw(plain, [0, 1], columns=["F1"], rows=[("0.5",), ("0.6",)], choices=[None, None])
    assert "<th>way</th>" not in plain.html()


def test_draws_are_the_same_by_their_images_in_any_order() -> None:
    assert same_images([("ab", "cd"), ("ba", "dc")])
    assert same_images([("ab", "cd"), ("ab", "ce")]) == []
    assert same_images([("ab", "cd")]) == []


@pytest.mark.parametrize("kind", ["detect", "segment"])
def test_dense_tasks_of_several_seeds(tmp_path: Path, kind: str) -> None:
    data = (boxed if kind == "detect" else masked)(tmp_path / "data")
    quick = (*QUICK, "train.steps=1", "few_shot.shots=2", "few_shot.seeds=[0,3]", "augment.variants=2")
    result = finetune(recipe(kind, data, tmp_path / "run", *quick))
    key, title = ("ap50", "AP50") if kind == "detect" else ("f1", "F1")
    assert result.metrics[key]["n"] == 2
    assert [draw["seed"] for draw in result.metrics["draws"]] == [0, 3]
    page = result.report.read_text()
    assert page.index(f"{title}, all draws") < page.index("<h2>Classes") < page.index("<h2>All draws")
    assert "augment.variants: changes nothing here" in page
    assert not any("same images" in note for note in result.metrics["notes"])
    same = finetune(recipe(kind, data, tmp_path / "same", *quick, "few_shot.shots=null"))
    assert any("every draw is of the same images" in note for note in same.metrics["notes"])


def test_notes_are_in_the_report_of_a_classifier_that_is_trained(tmp_path: Path) -> None:
    vit = ("task.backbone.name=test_vit", "task.backbone.levels=[1,3,4]", "train.steps=2", "train.batch=3")
    asked = (*vit, "train.workers=0", "adapt.kind=linear", "few_shot.shots=null", "few_shot.seeds=[0,1]")
    data = class_folders(tmp_path / "data")
    result = finetune(recipe("classify", data, tmp_path / "run", *asked))
    page = result.report.read_text()
    assert "Balanced accuracy, all draws" in page
    assert "every draw is of the same images" in page
