"""What is said of a run beside its figures."""

from pathlib import Path

import pytest

from pangu_cv import recipes
from pangu_cv.finetune.recipe import FinetuneRecipe
from pangu_cv.finetune.remarks import remarks
from pangu_cv.models.weights import WeightsFile

SHIPPED = ("anomaly", "classify", "classify_adapt", "detect", "multilabel", "segment")


def _asked(name: str, *overrides: str, path: str = "data/my_steel") -> FinetuneRecipe:
    return FinetuneRecipe.load(recipes.find("finetune", name), [f"data.path={path}", *overrides])


def test_weights_that_their_own_probes_advise_against_are_doubted() -> None:
    source = WeightsFile("x", Path("x"), "path", "0", "MIT", no_gain_on=("my steel",))
    steel, rail = (_asked("classify", path=f"data/my_{name}") for name in ("steel", "rail"))
    assert "no gain on 'my steel'" in remarks(source, steel, [])["doubts"][0]
    assert remarks(source, rail, ["seen"]) == {"notes": ["seen"], "doubts": []}
    assert remarks(None, steel, []) == {"notes": [], "doubts": []}


def test_targets_of_one_title_are_told_apart() -> None:
    names = ("a/images", "lot.2024", "twice (2)")
    source = WeightsFile("x", Path("x"), "path", "0", "MIT", no_gain_on=names)
    paths = ("a/images", "b/images", "images", "data/lot.2024", "data/lot.2025", "data/twice")
    doubts = [remarks(source, _asked("classify", path=path), [])["doubts"] for path in paths]
    assert [len(one) for one in doubts] == [1, 0, 0, 1, 0, 1]


@pytest.mark.parametrize("name", SHIPPED)
def test_every_setting_of_a_shipped_recipe_counts(name: str) -> None:
    assert remarks(None, _asked(name), [])["notes"] == []


@pytest.mark.parametrize(
    ("name", "override", "told"),
    [
        ("anomaly", "adapt.kind=full", "adapt: changes nothing here: an anomaly detector remembers"),
        ("anomaly", "augment.flip_lr=false", "augment: changes nothing here: an anomaly detector remembers"),
        ("classify", "loss.kind=seesaw", "loss: changes nothing here: the head is fitted in closed form"),
        ("classify", "train.steps=7", "train: changes nothing here: the head is fitted in closed form"),
        ("classify", "augment.flip_lr=false", "views of task.fit_views"),
        ("multilabel", "augment.rot90=false", "views of task.fit_views"),
        ("multilabel", "loss.kind=seesaw", "loss: changes nothing here: the head is fitted in closed form"),
        ("detect", "augment.variants=8", "augment.variants: changes nothing here: training shows new variants"),
        ("segment", "loss.kind=seesaw", "loss: changes nothing here: masks have losses of their own"),
    ],
)
def test_a_setting_that_changes_nothing_is_told(name: str, override: str, told: str) -> None:
    (note,) = remarks(None, _asked(name, override), [])["notes"]
    assert told in note


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("classify", ("augment.variants=8", "augment.flip_lr=false")),
        ("classify", ("augment.variants=8", "train.precision=bf16-mixed")),
        ("classify_adapt", ("adapt.kind=linear", "loss.kind=seesaw")),
        ("detect", ("loss.kind=seesaw", "adapt.kind=partial")),
        ("multilabel", ("adapt.kind=partial", "train.steps=7", "augment.flip_lr=false")),
    ],
)
def test_a_setting_that_counts_is_not(name: str, overrides: tuple[str, ...]) -> None:
    assert remarks(None, _asked(name, *overrides), [])["notes"] == []


def test_a_tagger_that_trains_has_a_loss_of_its_own() -> None:
    asked = _asked("multilabel", "adapt.kind=partial", "loss.kind=seesaw", "augment.variants=8")
    assert [note.split(": ")[0] for note in remarks(None, asked, [])["notes"]] == ["loss", "augment.variants"]
    assert "tags have a loss of their own" in remarks(None, asked, [])["notes"][0]
