"""The cells of learning on and of growth at toy size; and that they would notice what they look for."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import iterate_growth, iterate_hard_cases, iterate_increments, subjects
from benchmarks.plan_iterate import iterate_cells
from pangu_cv.finetune.recipe import FinetuneRecipe
from tests.finetune.tiny import picture, save
from tests.iterate.plants import ancestor

pytestmark = pytest.mark.slow

NETWORK = "test_efficientnet"


def measured(measure: Callable[..., dict[str, Any]], **options: Any) -> dict[str, Any]:
    """Plain values, as a cell writes them."""
    return dict(json.loads(json.dumps(measure(is_quick=True, **options), allow_nan=False)))


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Tables of three colours each under the names of the real ones, and a tiny network instead of theirs."""
    monkeypatch.setenv("PANGU_CV_CACHE", str(tmp_path / "cache"))
    (tmp_path / "splits").mkdir()
    for number, table in enumerate(iterate_increments.TABLES):
        with (tmp_path / "splits" / f"{table}.csv").open("w", newline="") as stream:
            rows = csv.writer(stream)
            rows.writerow(["file", "label", "split"])
            for kind in range(3):
                for at in range(14):
                    colour = (40 + 80 * kind, 200 - 90 * kind, 60 + 70 * number)
                    name = f"{table}/{kind}_{at}.png"
                    save(tmp_path / name, picture(colour, 1000 * number + 100 * kind + at))
                    rows.writerow([name, f"kind{kind}", "pool" if at < 10 else "test"])
    real = subjects.classify_recipe

    def tiny(data: Path, table: str, *, backbone: str | None = None) -> FinetuneRecipe:
        tree = real(data, table).model_dump(mode="json")
        tree["task"] |= {"backbone": {"name": NETWORK, "weights": "random"}, "preprocess": {"image_px": 64}}
        torch.manual_seed(0)
        return FinetuneRecipe.parse(tree, origin="test")

    monkeypatch.setattr(subjects, "classify_recipe", tiny)
    return tmp_path


@pytest.fixture
def network(tmp_path: Path) -> dict[str, str]:
    return {"name": NETWORK, "weights": str(ancestor(tmp_path / "weights.safetensors"))}


def test_every_cell_names_code_that_is_there() -> None:
    cells = iterate_cells(is_full=True)
    assert len({cell.name for cell in cells}) == len(cells)
    assert {cell.name for cell in iterate_cells(is_full=False)} < {cell.name for cell in cells}
    assert all(cell.code for cell in cells)  # reads every source


def test_classes_in_steps_are_measured_beside_all_at_once(data: Path) -> None:
    found = measured(iterate_increments.measure, data=str(data), seed=0)
    ways = found["ways"]
    assert found["images"] == [6, 14]
    assert {way: len(steps) for way, steps in ways.items()} == {
        "update": 2, "joint": 2, "probe": 2, "retraining": 1, "replay": 1,
    }  # fmt: skip
    assert all(one["seconds"] > 0 and one["gflop"] > 0 for steps in ways.values() for one in steps)
    for ours, joint in zip(ways["update"], ways["joint"], strict=True):
        assert ours["accuracy"] == joint["accuracy"]  # all features are kept: the same map
    assert ways["update"][1]["gflop"] < 0.7 * ways["joint"][1]["gflop"]  # 8 images of 14
    assert ways["retraining"][0]["gflop"] > ways["joint"][1]["gflop"]


def test_operations_are_counted_those_of_factorisations_too() -> None:
    square = torch.eye(30)
    made, cost = iterate_increments.costing(lambda: torch.linalg.cholesky(square @ square))
    assert torch.equal(made, square)
    assert cost.gflop * 1e9 == 2 * 30**3 + 30**3 // 3


def test_hard_cases_are_reported_and_both_sets_measured(data: Path) -> None:
    found = measured(iterate_hard_cases.measure, data=str(data), table="xsdd", draws=2)
    assert set(found["shifts"]) == {"noise", "blur", "thermal"}
    runs = [run for kind in found["shifts"].values() for run in kind]
    assert runs
    assert all(0 < run["cases"] <= 20 and 0 < run["weight"] <= 8 for run in runs)
    assert all(0 <= run[key] <= 1 for run in runs for key in run if key.startswith(("old", "shifted")))


def test_shifts_change_what_is_seen_and_keep_its_shape() -> None:
    image = picture((90, 120, 60), 3)
    for shift in iterate_hard_cases.SHIFTS.values():
        shown = shift(image, np.random.default_rng(0))
        assert (shown.shape, shown.dtype) == (image.shape, np.uint8)
        assert not np.array_equal(shown, image)


def test_embedding_is_measured_beside_the_bare_network(data: Path, network: dict[str, str]) -> None:
    found = measured(iterate_growth.embedding, data=str(data), count=5000, backbone=network)
    assert found["images"] == 24
    assert found["ratio"] < found["ratio_without_oddity"]
    assert found["ratio"] == pytest.approx(found["images_per_s"]["ours"] / found["images_per_s"]["bare"], rel=0.01)


def test_mining_is_the_command_on_vectors_that_are_there(data: Path, network: dict[str, str]) -> None:
    found = measured(iterate_growth.mining, data=str(data), count=5000, backbone=network)
    assert set(found["goals"]) == {"find", "learn"}
    assert all(0 < one["seconds"] < 60 and one["own_mb"] >= 0 for one in found["goals"].values())
