"""What is wrong with a recipe is found before any image is reduced."""

from pathlib import Path
from typing import Any

import pytest

from pangu_cv.errors import SettingsError
from pangu_cv.pretrain import pretrain
from pangu_cv.pretrain.checks import check_settings, check_sides
from tests.pretrain import small


def test_a_text_tower_without_texts_is_refused(tmp_path: Path) -> None:
    data = small.images(tmp_path / "data")
    made = small.recipe(data, tmp_path / "run", text={"tower": "any"}, targets=[])
    with pytest.raises(
        SettingsError, match=rf"text\.tower: 'any' finds no text.*data='\[{{path: {data}, labels: 1}}\]'"
    ):
        pretrain(made)
    assert not (tmp_path / "run").exists()


def test_a_text_tower_that_the_objective_would_not_read_is_refused(tmp_path: Path) -> None:
    made = small.recipe(tmp_path, tmp_path / "run", text={"tower": "any"}, objective={"kind": "dino"})
    with pytest.raises(SettingsError, match=r"text\.tower: objective\.kind=dino .*'any'; take objective\.kind=joint"):
        check_settings(made)


@pytest.mark.parametrize(("weight", "contrast"), [(0.5, 1), (0, 1), (0.5, 0)])
def test_labels_that_are_not_used_are_named_where_they_would_teach(
    weight: float, contrast: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    objective = {"kind": "joint", "embedding": 16, "labels": {"weight": weight}, "contrast": contrast}
    objective |= {} if contrast else {"repair": {"weight": 1}}
    data = small.images(tmp_path / "data")
    pretrain(small.recipe(data, tmp_path / "run", targets=[], objective=objective, optim={"steps": 1, "batch": 8}))
    line = (
        f"data: the labels of '{data}' (2 classes) are not used; to learn from them too: data='[{{path: {data}, labels"
    )
    assert (line in capsys.readouterr().err) == (weight > 0 and contrast > 0)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"views": {"image_px": 50}}, r"views\.image_px: 50 is no multiple of 16, .*'test_vit'; take 48"),
        (
            {"targets": [{"path": "x", "image_px": 250}]},
            r"targets: image_px of 'x': 250 is no multiple of 16.*take 256",
        ),
        (
            {"targets": [{"path": "x", "image_px": 250}, {"path": "x", "kind": "anomaly", "image_px": 224}]},
            r"targets: image_px of 'x': 250 is no multiple of 16",
        ),
        (
            {"objective": {"kind": "dino"}, "views": {"image_px": 64, "local_views": 1, "local_px": 56}},
            r"views\.local_px: 56 is no multiple of 16",
        ),
    ],
)
def test_sides_that_do_not_fit_the_patch_are_refused(changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    made = small.recipe(tmp_path, tmp_path / "run", **changes)
    with pytest.raises(SettingsError, match=words):
        check_sides(made, small.backbone())


def test_sides_that_nothing_reads_are_free(tmp_path: Path) -> None:
    views = {"image_px": 64, "local_px": 50}
    check_sides(small.recipe(tmp_path, tmp_path / "run", views=views), small.backbone())
    odd = [{"path": "x", "image_px": 250}]  # a CNN takes any
    check_sides(small.recipe(tmp_path, tmp_path / "run", targets=odd), small.backbone("test_efficientnet"))
