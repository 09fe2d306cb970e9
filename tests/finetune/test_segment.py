import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pangu_cv.data.masks import IGNORE, read_class_mask
from pangu_cv.data.sample import Dataset, Sample, Split
from pangu_cv.errors import DataError, SettingsError
from pangu_cv.evaluate import TorchDecider
from pangu_cv.finetune import finetune
from pangu_cv.finetune.segment import example, normals
from pangu_cv.models.labelled import Labelled
from pangu_cv.models.preprocess import PreprocessConfig
from pangu_cv.tasks.saved import load_model
from pangu_runtime.decode import decode
from pangu_runtime.predictor import MaskPrediction, Predictor
from tests.finetune.tiny import QUICK, Made, masked, mvtec, recipe, save


def test_stripes_are_found_and_the_bundle_says_the_same(segment: Made) -> None:
    metrics = json.loads((segment.run / "metrics.json").read_text())
    assert metrics["f1"]["mean"] > 0.6
    assert metrics["draws"][0]["labelled"] == 3
    predictor, model = Predictor(segment.bundle), load_model(segment.run / "model").model
    for path in segment.images:
        [found] = predictor.predict([path])
        assert isinstance(found, MaskPrediction)
        image = decode(path)
        assert found.mask_HW.shape == image.shape[:2]
        assert np.array_equal(found.mask_HW, TorchDecider(model).run(image[None])["mask"][0])
    truth = read_class_mask(segment.data / "masks" / "train0.png", classes=2)
    [first] = predictor.predict([segment.data / "images" / "train0.png"])
    assert isinstance(first, MaskPrediction)
    assert (first.mask_HW == truth).mean() > 0.9
    assert first.to_json()["pixels"] == {"crack": int((first.mask_HW == 1).sum())}


def test_report_shows_what_was_found_and_missed(segment: Made) -> None:
    page = (segment.run / "report.html").read_text()
    for words in ("Mean IoU", "found, missed, imagined", "Training", "cross entropy"):
        assert words in page


def test_same_recipe_gives_the_same_model(tmp_path: Path) -> None:
    data = masked(tmp_path / "data")
    runs = [finetune(recipe("segment", data, tmp_path / name, *QUICK, "train.steps=3")) for name in "ab"]
    first, second = (load_model(run.model).model.state_dict() for run in runs)
    assert all(torch.equal(first[name], second[name]) for name in first if not name.startswith("backbone"))


@pytest.mark.parametrize("kind", ["partial", "full", "lora"])
def test_ways_of_adapting_leave_a_plain_network(tmp_path: Path, kind: str) -> None:
    if kind == "lora":
        pytest.importorskip("peft")
    network = ("task.backbone.name=test_vit", "task.backbone.levels=[1,3,4]", "task.preprocess.image_px=64")
    made = recipe("segment", masked(tmp_path / "data"), tmp_path / "run", *QUICK, *network, f"adapt.kind={kind}")
    torch.manual_seed(0)
    result = finetune(
        made.model_copy(update={"train": made.train.model_copy(update={"steps": 2, "backbone_lr": 0.05})})
    )
    model = load_model(result.model).model  # a checkpoint of a plain timm network, or this would not load
    assert not any(p.requires_grad for p in model.backbone.parameters())
    assert result.metrics["draws"][0]["learning"] > sum(p.numel() for p in model.head.parameters())


def test_unlabelled_images_are_passed_over_and_bad_masks_are_named(tmp_path: Path) -> None:
    data = masked(tmp_path / "data")
    (data / "masks" / "train0.png").unlink()
    save(data / "masks" / "train1.png", np.zeros((5, 5), np.uint8))
    torn = next((data / "images").glob("train2.*"))
    torn.write_bytes(torn.read_bytes()[:-40])  # its header is whole
    result = finetune(recipe("segment", data, tmp_path / "run", *QUICK, "train.steps=1", "few_shot.shots=1"))
    assert sorted(Path(one["image"]).name for one in result.metrics["skipped"]) == ["train1.png", torn.name]
    assert "5 x 5 pixels" in result.metrics["skipped"][0]["message"]


def test_fewer_masks_than_shots_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="9 images per class asked, but 'crack' is in 4"):
        finetune(recipe("segment", masked(tmp_path / "data"), tmp_path / "run", *QUICK, "few_shot.shots=9"))


def test_images_without_masks_are_told(tmp_path: Path) -> None:
    data = masked(tmp_path / "data")
    for mask in (data / "masks").iterdir():
        mask.unlink()
    with pytest.raises(DataError, match="no image has a mask"):
        finetune(recipe("segment", data, tmp_path / "run", *QUICK))


def test_classes_that_no_usable_mask_teaches_are_told(tmp_path: Path) -> None:
    data = masked(tmp_path / "data")
    (data / "classes.txt").write_text("background\ncrack\nhole\n")
    quick = (*QUICK, "train.steps=1", "few_shot.shots=1")
    told = "no usable training mask shows hole"
    assert any(told in note for note in finetune(recipe("segment", data, tmp_path / "run", *quick)).metrics["notes"])
    assert told in (tmp_path / "run" / "report.html").read_text()
    mask = read_class_mask(data / "masks" / "test1.png", classes=3)
    mask[:9] = 2
    save(data / "masks" / "test1.png", mask)
    with pytest.raises(DataError, match=f"{told}, and test masks do"):
        finetune(recipe("segment", data, tmp_path / "again", *quick))
    assert not (tmp_path / "again").exists()


def test_settings_of_the_other_task_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"for task\.kind=anomaly"):
        finetune(recipe("segment", masked(tmp_path / "data"), tmp_path / "run", "forget=[x]"))


def test_masks_of_the_anomaly_layout_serve_too(tmp_path: Path) -> None:
    data = mvtec(tmp_path / "data", defects=4)
    result = finetune(recipe("segment", data, tmp_path / "run", *QUICK, "few_shot.shots=2", "train.steps=2"))
    assert result.metrics["draws"][0]["classes"] == ["background", "defect"]
    assert result.metrics["draws"][0]["labelled"] == 4  # two masks and two normal images
    assert result.metrics["draws"][0]["images"] == 2 + 4  # the other masks, and the normal images kept for measuring


@pytest.mark.parametrize("part", ["test", "val"])
def test_normal_images_of_the_part_that_is_measured_are_never_learnt(part: Split) -> None:
    good = {split: Sample(Path(f"/d/{split}.png"), label="good", split=split) for split in ("train", part)}
    stain = Sample(Path("/d/stain.png"), label="stain", split=part, mask=Path("/d/mask.png"))
    learnt, measured = normals(Dataset(Path("/d"), "csv", (*good.values(), stain)))
    assert (learnt, measured) == ((good["train"],), (good[part],))


def test_a_time_limit_ends_training(tmp_path: Path) -> None:
    limit = ("train.steps=100000", "train.max_seconds=1")
    result = finetune(recipe("segment", masked(tmp_path / "data"), tmp_path / "run", *QUICK, *limit))
    assert 1 <= result.metrics["draws"][0]["seconds"] < 10


def test_lines_thinner_than_a_pixel_keep_their_share_and_ignored_pixels_do_not_count() -> None:
    mask = np.zeros((128, 128), np.uint8)
    mask[:, 64] = 1
    mask[:32] = IGNORE
    labelled = Labelled(np.zeros((128, 128, 3), np.uint8), mask, np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
    preprocess = PreprocessConfig(image_px=32).build(mean=(0, 0, 0), std=(1, 1, 1))
    made = example(labelled, preprocess, classes=2)
    share, counts = made.truth
    assert share[0, 1, 20].sum() == pytest.approx(0.25, abs=0.02)
    assert counts[0, :6].sum() == 0
    assert counts[0, 12:].min() == 1


def test_masks_of_many_classes_are_resized_one_class_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """All planes of 20 classes at 20 megapixels would take gigabytes."""
    mask = np.random.default_rng(0).integers(0, 5, (96, 64)).astype(np.uint8)
    mask[:8] = IGNORE
    labelled = Labelled(np.zeros((96, 64, 3), np.uint8), mask, np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
    preprocess = PreprocessConfig(image_px=32).build(mean=(0, 0, 0), std=(1, 1, 1))
    planes: list[int] = []
    resize = torch.nn.functional.interpolate

    def spied(given: torch.Tensor, *arguments: Any, **options: Any) -> torch.Tensor:
        planes.append(given.shape[1])
        return resize(given, *arguments, **options)

    monkeypatch.setattr(torch.nn.functional, "interpolate", spied)
    share, counts = example(labelled, preprocess, classes=5).truth
    assert planes[-5:] == [1] * 5
    expected = np.stack([(mask == number) for number in range(5)]).reshape(5, 32, 3, 32, 2).mean((2, 4))
    known = expected.sum(0) > 0.99
    assert share.shape == (1, 5, 32, 32)
    assert np.abs(share[0].numpy() - expected)[:, known].mean() < 0.1  # means of squares beside a tent's
    assert torch.allclose(share.sum(1)[counts > 0], torch.ones(1))
