import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pangu_cv.data.readers import read_dataset
from pangu_cv.data.sample import Box, Sample
from pangu_cv.deploy import export
from pangu_cv.errors import DataError, SettingsError
from pangu_cv.evaluate import TorchDecider, evaluate_detect
from pangu_cv.finetune import detect as detecting
from pangu_cv.finetune import finetune
from pangu_cv.models.augment import AugmentConfig
from pangu_cv.models.backbone import BackboneConfig
from pangu_cv.models.box_class_losses import BoxClassLoss
from pangu_cv.models.labelled import Labelled
from pangu_cv.models.preprocess import PreprocessConfig
from pangu_cv.tasks.detect import DetectConfig
from pangu_cv.tasks.saved import load_model
from pangu_cv.verbs.finetune import figures
from pangu_runtime import golden
from pangu_runtime.compare import compare
from pangu_runtime.decode import DEFAULT_SPEC, decode
from pangu_runtime.images import list_images
from pangu_runtime.predictor import BoxPrediction, Predictor
from tests.finetune.tiny import COLOURS, QUICK, Made, boxed, masked, picture, recipe, save


def test_squares_are_found_and_the_bundle_says_the_same(detect: Made) -> None:
    metrics = json.loads((detect.run / "metrics.json").read_text())
    assert metrics["ap50"]["mean"] > 0.5
    predictor, model = Predictor(detect.bundle), load_model(detect.run / "model").model
    for path in detect.images:
        image = decode(path)
        difference = compare(TorchDecider(model).run(image[None]), predictor.run(image[None]))
        assert (difference.flips, difference.box < 1e-3, difference.score < 1e-4) == (0, True, True)
    test = read_dataset(detect.data).split("test")
    outcome = evaluate_detect(predictor, test, classes=("dark", "light"), decode_spec=DEFAULT_SPEC).outcome
    assert outcome.ap50 == pytest.approx(metrics["draws"][0]["ap50"], abs=1e-6)


def test_threshold_moves_the_count_and_nothing_else(detect: Made) -> None:
    path = detect.images[1]
    strict, loose = (Predictor(detect.bundle, threshold=value) for value in (0.9, 0.05))
    [few], [many] = (list(predictor.predict([path])) for predictor in (strict, loose))
    assert isinstance(few, BoxPrediction)
    assert isinstance(many, BoxPrediction)
    assert len(few.labels) < len(many.labels)
    assert all(score >= 0.05 for score in many.scores_K)
    assert np.array_equal(few.boxes_xyxy, many.boxes_xyxy[: len(few.labels)])
    record = many.to_json()
    assert record["threshold"] == pytest.approx(0.05)
    assert set(record["boxes"][0]) == {"label", "score", "box_xyxy"}


def test_boxes_are_in_pixels_of_an_image_of_any_size(detect: Made) -> None:
    model = load_model(detect.run / "model").model
    image = decode(detect.images[1])
    tall = np.repeat(image, 3, axis=0)
    small, large = (TorchDecider(model).run(one[None]) for one in (image, tall))
    same = small["boxes_xyxy"][0, 0] * [1, 3, 1, 3]
    assert large["boxes_xyxy"][0, 0] == pytest.approx(same, abs=1.0)


def test_report_shows_hits_and_misses(detect: Made) -> None:
    page = (detect.run / "report.html").read_text()
    for words in ("AP50", "Precision against recall", "Where it errs most", "imagined", "Training"):
        assert words in page


def test_all_images_of_a_set_teach_what_is_not_there_too(tmp_path: Path) -> None:
    quick = (*QUICK, "train.steps=1", "few_shot.shots=null")
    result = finetune(recipe("detect", boxed(tmp_path / "data"), tmp_path / "run", *quick))
    assert result.metrics["draws"][0]["labelled"] == 6


def test_shots_count_images_that_contain_a_class(tmp_path: Path) -> None:
    quick = (*QUICK, "train.steps=1", "few_shot.shots=2")
    result = finetune(recipe("detect", boxed(tmp_path / "data"), tmp_path / "run", *quick))
    assert result.metrics["draws"][0]["labelled"] == 2 + 2  # and images that show nothing
    assert any("2 of the 4 images drawn show nothing" in note for note in result.metrics["notes"])
    with pytest.raises(DataError, match="9 images per class asked, but 'dark' is in 4, 'light' is in 4"):
        finetune(recipe("detect", boxed(tmp_path / "more"), tmp_path / "again", *QUICK, "few_shot.shots=9"))


def test_bad_boxes_and_images_are_named(tmp_path: Path) -> None:
    data = boxed(tmp_path / "data")
    text = (data / "Annotations" / "train1.xml").read_text()
    (data / "Annotations" / "train1.xml").write_text(text.replace("<xmax>", "<xmax>-"))
    (data / "JPEGImages" / "test1.png").write_bytes(b"no image")
    result = finetune(recipe("detect", data, tmp_path / "run", *QUICK, "train.steps=1", "few_shot.shots=null"))
    assert any("boxes without area were left out; first train1.xml" in note for note in result.metrics["notes"])
    assert [Path(one["image"]).name for one in result.metrics["skipped"]] == ["test1.png"]


def test_the_next_image_of_a_class_stands_in_for_a_damaged_one(tmp_path: Path) -> None:
    data, quick = boxed(tmp_path / "data"), (*QUICK, "train.steps=1", "few_shot.shots=1")
    shown = [data / "JPEGImages" / f"train{number}.png" for number in (1, 2, 4, 5)]
    for path in shown[:3]:
        path.write_bytes(path.read_bytes()[:-40])
    result = finetune(recipe("detect", data, tmp_path / "run", *quick, "few_shot.seeds=[0,1]"))
    assert [draw["labelled"] for draw in result.metrics["draws"]] == [1 + 1, 1 + 1]  # and one that shows nothing
    assert {one["reason"] for one in result.metrics["skipped"]} == {"truncated"}
    shown[3].write_bytes(shown[3].read_bytes()[:-40])
    with pytest.raises(DataError, match=r"no readable image is left of class\(es\) dark, light; first: "):
        finetune(recipe("detect", data, tmp_path / "again", *quick))


def test_a_class_that_is_tested_alone_is_told_before_training(tmp_path: Path) -> None:
    data = boxed(tmp_path / "data")
    text = (data / "Annotations" / "test1.xml").read_text()
    (data / "Annotations" / "test1.xml").write_text(re.sub("<name>[^<]*</name>", "<name>nest</name>", text))
    with pytest.raises(DataError, match="no training image shows nest, and test images do"):
        finetune(recipe("detect", data, tmp_path / "run", *QUICK))
    assert not (tmp_path / "run").exists()


def test_images_without_boxes_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no image has boxes"):
        finetune(recipe("detect", save_folder(tmp_path / "data"), tmp_path / "run", *QUICK))


def save_folder(root: Path) -> Path:
    for label in "ab":
        save(root / label / "1.png", np.zeros((20, 20, 3), np.uint8))
    return root


def test_the_loss_knows_how_many_boxes_each_class_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class SeenError(Exception):
        pass

    def seen(*_: Any, classes: BoxClassLoss) -> Any:
        raise SeenError(classes.offset_C.tolist())

    monkeypatch.setattr("pangu_cv.tasks.detect.box_losses", seen)
    asked = recipe("detect", tmp_path, tmp_path / "run", *QUICK, "loss.kind=logit_adjusted")
    assert isinstance(asked.task, DetectConfig)
    spot, scratch = Box("spot", (0, 0, 30, 30)), Box("scratch", (5, 5, 40, 40))
    paths = [save(tmp_path / f"{number}.png", picture(COLOURS["blue"], number)) for number in range(2)]
    support = [Sample(paths[0], boxes=(spot, spot, scratch)), Sample(paths[1], boxes=(spot,))]
    with pytest.raises(SeenError) as found:
        detecting.fit_boxes(asked.task, asked, ("scratch", "spot"), support, seed=0)
    assert found.value.args[0] == pytest.approx([math.log(1 / 2), math.log(3 / 2)])  # against the mean of 1 and 3


def test_prototypes_that_an_image_sees_in_training_do_not_know_it() -> None:
    random = np.random.default_rng(0)
    box, label = np.array([[8, 8, 40, 40]], np.float32), np.zeros(1, np.int64)
    images = [Labelled(random.integers(0, 255, (64, 64, 3), np.uint8), None, box, label) for _ in range(3)]
    backbone = BackboneConfig(name="test_efficientnet", weights="random", levels=(1, 2, 3, 4))
    model = DetectConfig(backbone=backbone, preprocess=PreprocessConfig(image_px=64)).build(["spot"])

    def others(*shown: Labelled, parts: Sequence[int] = (0, 1)) -> list[torch.Tensor]:
        found = detecting.start(model, shown, AugmentConfig().build(), parts=parts, seed=0)
        return [part.weight_CD for part in found]

    (of_first, of_second), (moved, same) = others(images[0], images[1]), others(images[0], images[2])
    assert torch.equal(of_second, same)  # made of the first image alone
    assert not torch.allclose(of_first, moved)
    group, turned = (others(*images[:2][::step], images[2], parts=(0, 0, 1))[0] for step in (1, -1))
    assert torch.equal(group, turned)  # made of the third alone


def test_images_of_one_group_are_in_one_part_of_the_prototypes() -> None:
    groups = [None, "a", None, "b", "a", None, "b"]
    samples = [Sample(Path(f"/d/{at}.png"), group=group) for at, group in enumerate(groups)]
    assert detecting.parts_apart(samples) == [0, 1, 2, 3, 1, 0, 3]
    assert detecting.parts_apart([Sample(Path(f"/d/{at}.png")) for at in range(6)]) == [0, 1, 2, 3, 0, 1]
    assert detecting.parts_apart(samples[1:2]) == [0]


@pytest.mark.parametrize(("kind", "side", "told"), [("detect", 72, "of 32.*take 64"), ("segment", 70, "of 8.*take 72")])
def test_sides_that_do_not_fit_are_told(tmp_path: Path, kind: str, side: int, told: str) -> None:
    data = (boxed if kind == "detect" else masked)(tmp_path / "data")
    with pytest.raises(SettingsError, match=f"{side} is no multiple {told}"):
        finetune(recipe(kind, data, tmp_path / "run", *QUICK, f"task.preprocess.image_px={side}"))


def test_without_a_true_box_among_the_images_measured_average_precision_is_undefined(tmp_path: Path) -> None:
    data = boxed(tmp_path / "data")
    for number in range(3):
        (data / "Annotations" / f"test{number}.xml").write_text("<annotation></annotation>")
    result = finetune(recipe("detect", data, tmp_path / "run", *QUICK, "train.steps=1"))
    assert (result.metrics["ap"], result.metrics["ap50"]) == (None, None)
    assert "AP50              undefined on 3 images, 1 draw(s)" in figures(result.metrics)
    assert "AP                undefined" in figures(result.metrics)


def test_same_recipe_gives_the_same_model(tmp_path: Path) -> None:
    data = boxed(tmp_path / "data")
    runs = [finetune(recipe("detect", data, tmp_path / name, *QUICK, "train.steps=3")) for name in "ab"]
    first, second = (load_model(run.model).model.state_dict() for run in runs)
    assert all(torch.equal(first[name], second[name]) for name in first if not name.startswith("backbone"))


@pytest.mark.slow
def test_large_images_are_cut_into_tiles_by_model_and_bundle_alike(tmp_path: Path) -> None:
    data = boxed(tmp_path / "data")
    made = recipe("detect", data, tmp_path / "run", *QUICK, "task.tile={px: 80, overlap: 0.3}")
    result = finetune(made)
    small = [decode(path) for path in sorted((data / "JPEGImages").glob("train*.png"))[:4]]
    mosaic = np.concatenate([np.concatenate(small[:2], 1), np.concatenate(small[2:], 1)])
    save(tmp_path / "large" / "mosaic.png", mosaic)
    images = [*list_images(data / "JPEGImages"), tmp_path / "large" / "mosaic.png"]
    bundle = export(result.model, tmp_path / "bundle", images)
    assert bundle.certificate.holds
    predictor = Predictor(bundle.bundle)
    assert predictor.bundle.tiling is not None
    assert golden.replay(predictor).images == 9  # one more than others, larger than a tile
    [found] = predictor.predict([tmp_path / "large" / "mosaic.png"])
    assert isinstance(found, BoxPrediction)
    shown = ("train0", "train1", "train2", "train3")
    truth = sum(len(s.boxes or ()) for s in read_dataset(data) if s.path.stem in shown)
    assert truth / 2 <= len(found.labels) <= 2 * truth
    assert found.boxes_xyxy[:, 2].max() > 90  # beyond the first tile
