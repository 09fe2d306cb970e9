"""Which models learn on: those that keep a memory, whatever their task or way."""

import json
from pathlib import Path

import pytest
import torch

from pangu_cv.errors import CheckpointError, SettingsError
from pangu_cv.finetune import finetune
from pangu_cv.tasks.saved import load_model, save_model
from pangu_cv.tasks.segment import SegmentConfig
from tests.finetune.tiny import Made, class_folders, copy_of, picture, recipe, save, tagged
from tests.iterate.updating import BLUE, GREEN, RED, folder, run

pytestmark = pytest.mark.usefixtures("_pages_on_demand")


def test_a_model_without_memory_says_what_to_do(start: Path, tmp_path: Path) -> None:
    saved = load_model(start / "start" / "model")
    save_model(type(saved)(saved.model, saved.provenance, saved.parent), tmp_path / "bare")
    assert not (tmp_path / "bare" / "memory.safetensors").exists()
    with pytest.raises(SettingsError, match=r"keeps no memory .* Finetune it once more"):
        run(start, tmp_path, model=tmp_path / "bare")


def test_what_is_learnt_by_gradient_is_refused(start: Path, tmp_path: Path) -> None:
    saved = load_model(start / "start" / "model")
    config = SegmentConfig(backbone=saved.model.config.backbone.model_copy(update={"weights": "random"}))
    save_model(type(saved)(config.build(["ground", "crack"]), saved.provenance, saved.parent), tmp_path / "pixels")
    with pytest.raises(SettingsError, match="finetune again on old and new images together: pangu-cv finetune segment"):
        run(start, tmp_path, model=tmp_path / "pixels")


def test_the_threshold_of_unknown_is_set_anew(unknown: Made, start: Path, tmp_path: Path) -> None:
    result = run(start, tmp_path, model=unknown.run, data={"path": folder(tmp_path / "green", 0, 10, green=GREEN)})
    after = load_model(result.model).model
    assert after.calibration is not None
    assert after.calibration.normals == 30
    one = folder(tmp_path / "one", 0, 1, green=GREEN)
    with pytest.raises(SettingsError, match="green has 1"):
        run(start, tmp_path / "b", model=unknown.run, data={"path": one})


def test_a_tagger_learns_on(multilabel: Made, start: Path, tmp_path: Path, with_page: None) -> None:
    new, frozen = tmp_path / "new", tagged(tmp_path / "frozen", train=0, test=8)
    lines = ["file,label,split"]
    for number in range(8):
        image = picture(BLUE, 8000 + number)
        if number % 2:
            image[:, 20:34] = RED
        save(new / f"{number}.png", image)
        lines.append(f"{number}.png,{'bar' if number % 2 else ''},train")
    (new / "labels.csv").write_text("\n".join(lines))
    for path in frozen.glob("*.png"):  # other pictures than those learnt
        image = picture(BLUE, 9000 + int(path.stem[4:]))
        number = int(path.stem[4:])
        image[22:38] = 5 if number & 1 else image[22:38]
        image[2:18] = 250 if number & 2 else image[2:18]
        save(path, image)
    torch.manual_seed(0)
    table = tmp_path / "groups.csv"
    table.write_text("file,group\n" + "".join(f"test{number}.png,part {number // 4}\n" for number in range(8)))
    gate = {"path": frozen, "groups": table}
    result = run(start, tmp_path, model=multilabel.run, data={"path": new}, gate=gate, max_drop=0.5)
    assert result.metrics["after"]["intervals"]["mean_ap"]["n"] == 2
    assert load_model(result.model).model.classes == ("dark", "light", "bar")
    assert set(result.metrics["gate"]["figures"]) == {"mean_ap"}
    assert "memory" in json.loads((result.model / "model.json").read_text())


def test_trained_ways_that_end_in_closed_form_keep_a_memory_too(tmp_path: Path) -> None:
    torch.manual_seed(0)
    lines = ["adapt.kind=partial", "adapt.blocks=1", "train.steps=2", "train.workers=0", "augment.variants=2"]
    made = finetune(recipe("classify", class_folders(tmp_path / "data"), tmp_path / "run", "few_shot.shots=3", *lines))
    saved = load_model(made.model)
    assert saved.memory is not None
    assert saved.memory.rows_per_image == 6
    saved.memory.require_fits(saved.model)
    linear = finetune(
        recipe("classify", tmp_path / "data", tmp_path / "lin", "few_shot.shots=3", "adapt.kind=linear", *lines[2:])
    )
    assert load_model(linear.model).memory is None
    off = recipe("classify", tmp_path / "data", tmp_path / "off", "few_shot.shots=3", "task.memory_per_class=null")
    assert load_model(finetune(off).model).memory is None


def test_an_old_checkpoint_and_a_damaged_memory(classify: Made, tmp_path: Path) -> None:
    model = copy_of(classify.run / "model", tmp_path / "model")
    manifest = json.loads((model / "model.json").read_text())
    manifest["memory"]["classes"] = ["blue"]
    (model / "model.json").write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match="malformed"):
        load_model(model)
    del manifest["memory"]
    manifest["components"] = ["backbone", "head"]
    (model / "model.json").write_text(json.dumps(manifest))
    assert load_model(model).memory is None
