import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from pangu_cv.errors import CheckpointError, PanguError
from pangu_cv.evaluate import TorchDecider
from pangu_cv.models.adapt import Prompt
from pangu_cv.models.backbone import BackboneConfig
from pangu_cv.models.preprocess import PreprocessConfig
from pangu_cv.tasks.detect import DetectConfig
from pangu_cv.tasks.saved import Provenance, SavedModel, load_model, parent_of, save_model
from pangu_cv.tasks.segment import SegmentConfig
from pangu_runtime.decode import DEFAULT_SPEC
from tests.finetune.tiny import Made, copy_of

IMAGE = np.random.default_rng(0).integers(0, 256, (2, 50, 70, 3), dtype=np.uint8)


@pytest.mark.parametrize("kind", ["classify", "unknown", "multilabel", "anomaly"])
def test_saving_and_loading_changes_no_score(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    made: Made = request.getfixturevalue(kind)
    saved = load_model(made.run / "model")
    save_model(saved, tmp_path / "again")
    again = load_model(tmp_path / "again")
    before, after = TorchDecider(saved.model).run(IMAGE), TorchDecider(again.model).run(IMAGE)
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value)
    assert again.provenance == saved.provenance
    assert again.parent == saved.parent
    assert (again.normality is None) == (kind != "anomaly")
    assert getattr(again.model, "calibration", None) == getattr(saved.model, "calibration", None)
    assert (kind in ("unknown", "anomaly")) == (getattr(again.model, "calibration", None) is not None)


@pytest.mark.parametrize("task", [DetectConfig, SegmentConfig])
def test_a_network_with_prompts_is_loaded_as_it_was(task: type[DetectConfig | SegmentConfig], tmp_path: Path) -> None:
    """Prompts make another network than the task asked for."""
    backbone = BackboneConfig(name="test_vit", weights="random", levels=(1, 2, 3, 4))
    model = task(backbone=backbone, preprocess=PreprocessConfig(image_px=64)).build(("a", "b"))
    Prompt(tokens=3).prepare(model.backbone)
    provenance = Provenance(DEFAULT_SPEC, "recipe", "data")
    save_model(SavedModel(model, provenance, parent_of(model)), tmp_path / "model")
    again = load_model(tmp_path / "model").model
    assert again.config.backbone.arguments == {"reg_tokens": 3}
    before, after = TorchDecider(model).run(IMAGE), TorchDecider(again).run(IMAGE)
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value)


def test_manifest_says_where_the_model_comes_from(classify: Made) -> None:
    manifest = json.loads((classify.run / "model" / "model.json").read_text())
    assert manifest["classes"] == ["blue", "red"]
    assert manifest["parent"]["name"] == "test_efficientnet"
    assert manifest["licences"]["code"] == "Apache-2.0"
    assert manifest["decode"]["range_16bit"] == [0, 65535]


def edit(folder: Path, key: str, value: object) -> None:
    path = folder / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("task", {"kind": "classify", "unknown": 1}),
        ("task", {"kind": "detect"}),
        ("task", None),
        ("classes", ["one", "two", "three"]),
        ("classes", 3),
        ("decode", {"max_pixels": 0}),
        ("parent", None),
        ("licences", {}),
        ("components", ["head"]),
    ],
)
def test_malformed_classifier_is_refused_in_words(classify: Made, tmp_path: Path, key: str, value: object) -> None:
    folder = copy_of(classify.run / "model", tmp_path / "model")
    edit(folder, key, value)
    with pytest.raises(CheckpointError):
        load_model(folder)


@pytest.mark.parametrize(
    ("key", "value"),
    [("normality", {}), ("normality", {"images": 3}), ("calibration", {"value": 1}), ("calibration", 3)],
)
def test_malformed_anomaly_model_is_refused_in_words(anomaly: Made, tmp_path: Path, key: str, value: object) -> None:
    folder = copy_of(anomaly.run / "model", tmp_path / "model")
    edit(folder, key, value)
    with pytest.raises(CheckpointError):
        load_model(folder)


def test_classifier_saved_before_there_was_a_threshold_answers_everything(classify: Made, tmp_path: Path) -> None:
    folder = copy_of(classify.run / "model", tmp_path / "model")
    path = folder / "model.json"
    manifest = json.loads(path.read_text())
    del manifest["calibration"], manifest["task"]["unknown_rate"]
    path.write_text(json.dumps(manifest))
    assert TorchDecider(load_model(folder).model).run(IMAGE)["threshold_applied"].tolist() == [0.0]


def test_backbone_of_another_shape_is_refused(classify: Made, anomaly: Made, tmp_path: Path) -> None:
    folder = copy_of(classify.run / "model", tmp_path / "model")
    (folder / "head.safetensors").write_bytes((anomaly.run / "model" / "bank.safetensors").read_bytes())
    with pytest.raises(CheckpointError, match="malformed"):
        load_model(folder)


def test_unknown_network_is_refused(classify: Made, tmp_path: Path) -> None:
    folder = copy_of(classify.run / "model", tmp_path / "model")
    task = json.loads((folder / "model.json").read_text())["task"]
    edit(folder, "task", task | {"backbone": task["backbone"] | {"name": "no_such_network"}})
    with pytest.raises(PanguError, match="no_such_network"):
        load_model(folder)


def test_pickle_is_refused_and_never_run(classify: Made, tmp_path: Path) -> None:
    class Spring:
        def __reduce__(self) -> tuple:
            return Path.mkdir, (tmp_path / "sprung",)

    folder = copy_of(classify.run / "model", tmp_path / "model")
    (folder / "head.safetensors").write_bytes(pickle.dumps(Spring()))
    with pytest.raises(CheckpointError, match="pickles are never loaded"):
        load_model(folder)
    assert not (tmp_path / "sprung").exists()
