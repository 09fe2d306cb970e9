"""Another network for a device: its kit, and what the device said of it."""

import json
from pathlib import Path
from typing import Any

import onnx
import pytest

from pangu_cv import recipes
from pangu_cv.distill import DistillRecipe, another, distill, whole_graphs
from pangu_cv.distill.images import readable_views
from pangu_cv.distill.latency import Origin, times_of_an_image
from pangu_cv.distill.stopwatch import Stopwatch
from pangu_cv.errors import SettingsError
from pangu_cv.models.checkpoint_folder import folder_of
from pangu_cv.tasks.saved import load_model
from pangu_cv.tasks.tile import TileConfig
from pangu_runtime.probes import measure_probes
from tests.distill.test_distill import taught, teacher

LEVELS = "234"  # that the tiny teacher reads
STUDENT = ("student.name=test_efficientnet", "student.weights=random")


@pytest.mark.slow
def test_a_kit_of_another_network_and_its_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (whole_graphs, another):
        monkeypatch.setattr(module, "sides_of", lambda *_: [64, 48, 32])  # the tiny teacher's own is the only one
    run, images = teacher("classify")
    kit = tmp_path / "kit"
    lines = [f"model={run}", f"data.path={images}", "budget.latency_ms=5", *STUDENT, f"probes={kit}"]
    assert distill(DistillRecipe.load(recipes.find("distill", "student"), lines)) is None
    measured = measure_probes(kit, rounds=1)
    ms = {"whole": 50.0, **{f"test_efficientnet-{LEVELS}-{side}": ms for side, ms in ((64, 4.0), (48, 3.0), (32, 2.0))}}
    assert set(measured["probes"]) == set(ms)
    table = measured | {"probes": {name: {"ms": found} for name, found in ms.items()}}
    (tmp_path / "latency.json").write_text(json.dumps(table))
    bound = (f"budget.table={tmp_path / 'latency.json'}", "budget.latency_ms=3.4")
    result = taught(run, images, tmp_path / "small", *STUDENT, *bound, name="student")
    assert result.metrics["network"]["image_px"] == 48  # the largest within 3.4 ms
    assert result.metrics["use"] == pytest.approx(3 / 3.4)  # of the device's times, not of this machine's
    assert (result.metrics["student"]["ms"], result.metrics["teacher"]["ms"]) == (3.0, 50.0)
    assert "whole graphs measured on the device" in result.report.read_text()
    with pytest.raises(SettingsError, match=r"2\.00 times of it"):
        taught(run, images, tmp_path / "no", *STUDENT, bound[0], "budget.latency_ms=1", name="student")
    for other in (("student.name=test_vit", STUDENT[1]), (*STUDENT, "student.levels=[2]")):
        with pytest.raises(SettingsError, match="write this model's kit"):
            taught(run, images, tmp_path / "no", *other, *bound, name="student")


@pytest.mark.slow
def test_a_kit_of_an_anomaly_detector_holds_its_memory(tmp_path: Path) -> None:
    """The search through it takes a share of the time."""
    run, images = teacher("anomaly")
    kit = tmp_path / "kit"
    lines = [f"model={run}", f"data.path={images}", "budget.latency_ms=5", *STUDENT, "student.image_px=64"]
    distill(DistillRecipe.load(recipes.find("distill", "student"), [*lines, f"probes={kit}"]))
    (student,) = (path for path in kit.glob("*.onnx") if path.stem != "whole")
    shapes = [tuple(one.dims) for one in onnx.load(student).graph.initializer]
    assert any(shape[-1] == 20 * 64 for shape in shapes if len(shape) == 2)  # all patches of 20 normal images


@pytest.mark.slow
def test_times_are_of_all_tiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A budget is of an image, whatever number of tiles it is looked at in."""
    measured = {"format": "pangu-cv-latency", "version": 1, "probes": {"whole": {"ms": 2.5}}}
    origin = Origin("a", (64, 64), tiles=12)
    assert times_of_an_image(measured | origin.to_json(), origin, threads=None) == {"whole": 30.0}

    def in_turn(self: Stopwatch, name: str) -> tuple[float, float]:
        return 0.5, 2.5

    monkeypatch.setattr(Stopwatch, "_in_turn", in_turn)
    model: Any = load_model(folder_of(teacher("classify")[0])).model
    one, twelve = (Stopwatch(model, tmp_path / str(n), None, (64, 64), n).time(model) for n in (1, 12))
    assert [cost.ms for cost in one] == [1.25, 2.5]
    assert [cost.ms for cost in twelve] == [15.0, 30.0]


def test_tiles_of_the_median_image_are_counted() -> None:
    run, images = teacher("detect")
    saved = load_model(folder_of(run))
    lines = [f"model={run}", f"data.path={images}", "budget.latency_ms=5", *STUDENT]
    recipe = DistillRecipe.load(recipes.find("distill", "student"), lines)
    whole = readable_views(recipe, saved.model, saved.provenance.decode)
    tiled: Any = saved.model
    tiled.config = tiled.config.model_copy(update={"tile": TileConfig(px=32, overlap=0.0)})
    seen = readable_views(recipe, tiled, saved.provenance.decode)
    rows, columns = (-(-length // 32) for length in whole.image_hw)
    assert whole.tiles == 1
    assert (seen.tiles, seen.image_hw) == (rows * columns, (32, 32))
    assert seen.tiles > 1
