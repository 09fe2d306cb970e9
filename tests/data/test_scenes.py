import csv
import json
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from pangu_cv.data.scenes import DEFECT_KINDS, DefectKind, SceneConfig, render_scene, write_class_folders, write_mvtec
from pangu_cv.errors import DataError

SMALL = SceneConfig(size_px=192)
WORDS = {
    "missing_disc": ("missing",),
    "broken_disc": ("broken",),
    "burn": ("burn",),
    "nest": ("nest",),
    "foreign_object": ("film", "plastic", "netting", "banner", "kite", "balloon"),
}


@pytest.mark.parametrize("defect", [None, *DEFECT_KINDS])
def test_a_seed_draws_the_same_bytes_each_time(defect: DefectKind | None) -> None:
    first, second = (render_scene(11, defect=defect, config=SMALL) for _ in range(2))
    assert first.image_HW3.tobytes() == second.image_HW3.tobytes()
    assert first.mask_HW.tobytes() == second.mask_HW.tobytes()
    assert (first.caption, first.box_labels) == (second.caption, second.box_labels)


def test_seeds_and_sizes_draw_different_pictures() -> None:
    pictures = {render_scene(seed, config=SMALL).image_HW3.tobytes() for seed in range(5)}
    assert len(pictures) == 5
    assert render_scene(0, config=SceneConfig(size_px=100)).image_HW3.shape == (100, 100, 3)


@pytest.mark.parametrize("defect", DEFECT_KINDS)
@pytest.mark.parametrize("seed", range(40, 43))
def test_a_defect_changes_its_mask_and_nothing_else(seed: int, defect: DefectKind) -> None:
    good, bad = render_scene(seed, config=SMALL), render_scene(seed, defect=defect, config=SMALL)
    changed = np.abs(good.image_HW3.astype(int) - bad.image_HW3).max(axis=-1) > 12
    mask = bad.mask_HW > 0
    near = np.asarray(Image.fromarray(bad.mask_HW).filter(ImageFilter.MaxFilter(7))) > 0
    assert not good.mask_HW.any()
    assert mask.sum() > 0.0008 * mask.size
    assert changed[mask].mean() > 0.3
    assert (changed & ~near).sum() <= 0.15 * changed.sum()


@pytest.mark.parametrize("defect", DEFECT_KINDS)
def test_masks_boxes_and_captions_agree(defect: DefectKind) -> None:
    for seed in range(60, 64):
        scene = render_scene(seed, defect=defect, config=SMALL)
        assert scene.label == defect == scene.box_labels[0]
        assert set(np.unique(scene.mask_HW)) == {0, 255}
        rows, columns = np.nonzero(scene.mask_HW)
        around = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        np.testing.assert_array_equal(scene.boxes_xyxy[0], around)
        assert any(word in scene.caption for word in WORDS[defect]), scene.caption


def test_boxes_lie_in_the_image_and_name_the_objects() -> None:
    for seed in range(8):
        scene = render_scene(seed, config=SMALL)
        boxes = scene.boxes_xyxy
        assert boxes.dtype == np.float32
        assert boxes.shape == (len(scene.box_labels), 4)
        assert ((boxes >= 0) & (boxes <= SMALL.size_px)).all()
        assert (boxes[:, 2:] > boxes[:, :2]).all()
        assert "insulator" in scene.box_labels
        assert set(scene.box_labels) <= {"insulator", "pylon"}
        assert scene.label == "good"
        assert not any(word in scene.caption for words in WORDS.values() for word in words)


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(ValueError, match="allowed are missing_disc"):
        render_scene(0, defect="rust")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least 64"):
        SceneConfig(size_px=16)
    with pytest.raises(ValueError, match=r"weathers is .* overcast"):
        SceneConfig(weathers=())


def test_class_folders_hold_every_class_and_tables(tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    target = write_class_folders(
        tmp_path / "line",
        images_per_class={"train": 2, "test": 1},
        config=SceneConfig(size_px=64),
        progress=lambda done, total: steps.append((done, total)),
    )
    for part, count in (("train", 2), ("test", 1)):
        assert {path.name for path in (target / part).iterdir()} == {"good", *DEFECT_KINDS}
        assert all(len(list(path.glob("*.jpg"))) == count for path in (target / part).iterdir())
    assert steps == [(i, 18) for i in range(1, 19)]
    with (target / "captions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    boxes = json.loads((target / "boxes.json").read_text())
    assert [row["file"] for row in rows] == list(boxes)
    assert all((target / row["file"]).is_file() and row["caption"] for row in rows)
    assert boxes["train/nest/0000.jpg"][0]["label"] == "nest"
    assert [path.name for path in tmp_path.iterdir()] == ["line"]


def test_mvtec_layout_has_a_mask_for_every_defect(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    target = write_mvtec(
        tmp_path / "empty", normals_train=2, normals_test=1, defects_per_kind=1, config=SceneConfig(size_px=96)
    )
    assert len(list((target / "train" / "good").glob("*.jpg"))) == 2
    assert len(list((target / "test" / "good").glob("*.jpg"))) == 1
    assert not (target / "ground_truth" / "good").exists()
    for kind in DEFECT_KINDS:
        (image,) = (target / "test" / kind).iterdir()
        mask = np.asarray(Image.open(target / "ground_truth" / kind / f"{image.stem}_mask.png"))
        assert mask.shape == (96, 96)
        assert set(np.unique(mask)) == {0, 255}


def test_an_existing_folder_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(DataError, match="already exists and is not empty"):
        write_class_folders(tmp_path, images_per_class=1)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_nothing_half_written_stays(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_class_folders(tmp_path / "new", images_per_class=1, config=SceneConfig(size_px=64), progress=stop)
    with pytest.raises(DataError, match="0 or more"):
        write_class_folders(tmp_path / "new", images_per_class=-1)
    with pytest.raises(DataError, match="unknown part 'val'"):
        write_class_folders(tmp_path / "new", images_per_class={"val": 1})  # type: ignore[dict-item]
    assert not list(tmp_path.iterdir())


def test_scenes_are_drawn_fast_enough_to_wait_for() -> None:
    for seed in range(4):
        render_scene(seed)
    # The processor's own time, so that a busy machine does not fail it; the best of three for the same reason.
    rates = []
    for _ in range(3):
        start = time.process_time()
        for seed in range(4):
            render_scene(seed)
        rates.append(4 / (time.process_time() - start))
    assert max(rates) >= 8
