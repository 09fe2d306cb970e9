"""Outlines of COCO and YOLO as masks."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pangu_cv.data.masks import read_class_mask
from pangu_cv.data.outlines import Outline, Runs, class_mask_of, polygon, runs_from
from pangu_cv.data.readers import outlines_of, read_dataset
from pangu_cv.data.versions import write_version
from pangu_cv.errors import DataError
from pangu_cv.verbs.convert import convert
from tests.data.test_readers_annotated import HEIGHT, WIDTH, coco, image
from tests.data.test_yolo import yolo


def drawn(*outlines: Outline, height_px: int = HEIGHT, width_px: int = WIDTH) -> np.ndarray:
    return class_mask_of(outlines, ("background", "a", "b"), height_px=height_px, width_px=width_px)[0]


def test_a_rectangle_has_the_pixels_whose_middle_it_holds() -> None:
    mask_HW = drawn(Outline("a", (polygon([10.2, 5.2, 30.2, 5.2, 30.2, 15.2, 10.2, 15.2]),)))
    assert (mask_HW[5:15, 10:30] == 1).all()
    assert mask_HW.sum() == 200
    assert drawn(Outline("a", (polygon([10.6, 5, 12.4, 5, 12.4, 9, 10.6, 9]),))).sum() == 4  # the middle of column 11


def test_a_trace_along_pixels_holds_these_pixels() -> None:
    """As cv2.findContours writes it: a crack one pixel wide runs there and back."""
    line = drawn(Outline("a", (polygon([5, 3, 6, 4, 6, 5, 9, 8, 6, 5, 6, 4]),)))
    assert sorted(zip(*np.nonzero(line), strict=True)) == [(3, 5), (4, 6), (5, 6), (6, 7), (7, 8), (8, 9)]
    assert drawn(Outline("a", (polygon([10, 5, 29, 5, 29, 14, 10, 14]),))).sum() == 200
    cv2 = pytest.importorskip("cv2")
    random = np.random.default_rng(0)
    for _ in range(20):
        wanted_HW = cv2.GaussianBlur(random.random((60, 80)).astype(np.float32), (0, 0), 2) > 0.52
        wanted_HW = cv2.morphologyEx(wanted_HW.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
        traces, _ = cv2.findContours(wanted_HW, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        filled_HW = cv2.drawContours(np.zeros_like(wanted_HW), traces, -1, 1, cv2.FILLED)
        parts = tuple(polygon(np.resize(trace, (max(3, len(trace)), 2)).ravel().tolist()) for trace in traces)
        assert np.array_equal(drawn(Outline("a", parts), height_px=60, width_px=80), filled_HW)


def test_small_objects_lie_over_large_ones_whatever_their_order() -> None:
    large, small = (polygon([0, 0, side, 0, side, side, 0, side]) for side in (19.9, 3.9))
    for outlines in (
        (Outline("a", (large,)), Outline("b", (small,))),
        (Outline("b", (small,)), Outline("a", (large,))),
    ):
        mask_HW = drawn(*outlines)
        assert (mask_HW == 2).sum() == 16
        assert (mask_HW == 1).sum() == 400 - 16


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_polygons_and_runs_are_what_pycocotools_makes_of_them() -> None:
    """Its polygons count edges a little differently; its run lengths leave no choice."""
    coding = pytest.importorskip("pycocotools.mask")
    random = np.random.default_rng(0)
    for _ in range(20):
        angle_K = np.sort(random.uniform(0, 2 * np.pi, 12))
        reach_K = random.uniform(20, 90, 12)
        points = np.stack([100 + reach_K * np.cos(angle_K), 80 + reach_K * np.sin(angle_K)], 1)
        theirs = coding.merge(coding.frPyObjects([points.ravel().tolist()], 150, 200))
        wanted_HW = coding.decode(theirs) > 0
        found_HW = drawn(Outline("a", (polygon(points.ravel().tolist()),)), height_px=150, width_px=200) > 0
        assert (found_HW & wanted_HW).sum() / (found_HW | wanted_HW).sum() > 0.97
        runs = Runs(150, 200, runs_from(theirs["counts"].decode()))
        assert np.array_equal(drawn(Outline("a", runs), height_px=150, width_px=200) > 0, wanted_HW)


def test_a_small_object_is_drawn_where_it_is() -> None:
    for at in (0, 7, WIDTH * HEIGHT - 30):  # the first pixels, in a column, the last ones
        wanted = np.zeros(WIDTH * HEIGHT, np.uint8)
        wanted[at : at + 30] = 1
        runs = Runs(HEIGHT, WIDTH, np.array([at, 30, WIDTH * HEIGHT - 30 - at]))
        assert np.array_equal(drawn(Outline("a", runs)), wanted.reshape(WIDTH, HEIGHT).T)
    nothing = Outline("a", Runs(HEIGHT, WIDTH, np.array([WIDTH * HEIGHT])))
    assert class_mask_of([nothing], ("background", "a"), height_px=HEIGHT, width_px=WIDTH)[1] == 1
    wide = Outline("a", (polygon([50_000.2, 0, 59_999.9, 0, 59_999.9, 3, 50_000.2, 3]),))
    assert drawn(wide, height_px=2, width_px=60_000).sum() == 2 * 10_000


def test_what_lies_outside_is_cut_and_what_covers_nothing_is_counted() -> None:
    far = Outline("a", (polygon([-1e12, -1e12, 1e12, -1e12, 1e12, 1e12, -1e12, 1e12]),))
    assert drawn(far).all()
    assert drawn(Outline("a", (polygon([-1e308, -1e308, 1e308, 1e308, 1e308, 0.3]),))).any()
    gone = Outline("a", (polygon([50, 30, 60, 30, 60, 40]),))
    hair = Outline("a", (polygon([3, 3, 3.1, 3, 3.1, 9]),))
    mask_HW, empty = class_mask_of([gone, hair, far], ("background", "a"), height_px=HEIGHT, width_px=WIDTH)
    assert (int(mask_HW.sum()), empty) == (WIDTH * HEIGHT, 2)


@pytest.mark.parametrize("text", ["\x00", "0P", "~", "oooooooooooooooooooooo1"])
def test_runs_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="run lengths"):
        runs_from(text)


@pytest.mark.parametrize("counts", [[10**15, 5], [5, -5, 800], [1, 2], [2**62] * 4 + [800], [2**52] * 4096 + [800]])
def test_runs_of_another_size_make_no_memory(counts: list[int]) -> None:
    with pytest.raises(ValueError, match="do not add up"):
        drawn(Outline("a", Runs(HEIGHT, WIDTH, np.array(counts))))
    with pytest.raises(ValueError, match="are for 90000 x 90000 pixels"):
        drawn(Outline("a", Runs(90000, 90000, np.array([90000**2]))))


def annotation(image_id: int, **more: Any) -> dict[str, Any]:
    return {"id": 1, "image_id": image_id, "category_id": 3, "bbox": [10, 5, 20, 10]} | more


SQUARE = [[10.0, 5.0, 29.9, 5.0, 29.9, 14.9, 10.0, 14.9]]


def test_coco_becomes_images_beside_masks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = {"size": [HEIGHT, WIDTH], "counts": [0, 20, 780]}
    entries = [annotation(7, segmentation=SQUARE), annotation(7, segmentation=runs, iscrowd=1, category_id=4)]
    names = [{"id": 3, "name": "scratch"}, {"id": 4, "name": "pit"}]
    coco(tmp_path / "own", annotations=entries, categories=names)
    coco(tmp_path / "own", split="val", annotations=[annotation(9, segmentation=SQUARE)])
    convert(tmp_path / "own", tmp_path / "masks", masks=True)
    assert "wrote 4 images, 4 of them with a mask" in capsys.readouterr().out
    dataset = read_dataset(tmp_path / "masks")
    assert (dataset.layout, dataset.mask_classes) == ("image_masks", ("background", "pit", "scratch"))
    found = {f"{s.split}/{s.path.name}": s.mask for s in dataset}
    pixels = {name: read_class_mask(mask, classes=3) for name, mask in found.items() if mask}
    assert set(pixels) == {"train/a.jpg", "train/b.jpg", "val/a.jpg", "val/b.jpg"}
    assert (pixels["train/a.jpg"][:, 0] == 1).all()
    assert (pixels["train/a.jpg"][5:15, 10:30] == 2).all()
    assert (pixels["train/a.jpg"] > 0).sum() == 220
    assert not pixels["train/b.jpg"].any()
    assert dataset.notes == ()
    for sample in dataset:
        assert (
            sample.path.read_bytes()
            == (tmp_path / "own" / sample.path.relative_to(tmp_path / "masks/images")).read_bytes()
        )
    with Image.open(found["train/a.jpg"]) as mask:
        assert (mask.mode, mask.getpalette()[:9]) == ("P", [0, 0, 0, 128, 0, 0, 0, 128, 0])  # black, red, green


def test_outlines_of_an_image_in_several_files_are_joined_and_all_of_its_size(tmp_path: Path) -> None:
    tree = coco(tmp_path / "own", split="pin", place=".", annotations=[annotation(7, segmentation=SQUARE)])
    file = tmp_path / "own" / "annotations" / "instances_hole.json"
    corner = [[0.1, 0.1, 3.9, 0.1, 3.9, 3.9, 0.1, 3.9]]
    file.write_text(json.dumps(tree | {"annotations": [annotation(7, segmentation=corner)]}))
    convert(tmp_path / "own", tmp_path / "masks", masks=True)
    [mask] = [s.mask for s in read_dataset(tmp_path / "masks") if s.path.name == "a.jpg"]
    assert mask is not None
    assert read_class_mask(mask, classes=2).sum() == 200 + 16
    for width, is_drawn in ((80, False), (float("nan"), False), (WIDTH, True)):
        sized = {"id": 7, "file_name": "a.jpg", "width": width, "height": HEIGHT}
        file.write_text(json.dumps(tree | {"images": [sized], "annotations": [annotation(7, segmentation=corner)]}))
        out = tmp_path / f"masks {width}"
        convert(tmp_path / "own", out, masks=True)
        assert {s.path.name: s.mask is not None for s in read_dataset(out)} == {"a.jpg": is_drawn, "b.jpg": True}


def test_what_reading_leaves_out_is_left_out_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    strays = [annotation(99, segmentation=SQUARE), {**annotation(9, segmentation=SQUARE), "image_id": None}]
    crowd = annotation(9, segmentation=SQUARE, iscrowd=1, category_id=77)
    entries = [annotation(7, segmentation=SQUARE), annotation(7, segmentation=[[]]), *strays]
    coco(tmp_path / "own", annotations=entries)
    coco(tmp_path / "own", split="val", annotations=[annotation(7, segmentation=SQUARE), crowd])
    crowds = {**annotation(99, segmentation=SQUARE, iscrowd=1)}
    coco(tmp_path / "own", split="test", annotations=[crowds])  # no box at all, so that their ids say nothing
    convert(tmp_path / "own", tmp_path / "masks", masks=True)
    out = capsys.readouterr().out
    assert "2 annotations are of images that instances_train.json does not list and were left out" in out
    assert "1 annotations are of images that instances_test.json does not list and were left out" in out
    assert "3 images have no annotation and are taken as showing nothing; first a.jpg" in out
    assert "2 images have an object without an outline, and so no mask; first " in out
    drawn_by_name = {f"{s.split}/{s.path.stem}": s.mask is not None for s in read_dataset(tmp_path / "masks")}
    assert [name for name, is_drawn in sorted(drawn_by_name.items()) if not is_drawn] == ["train/a", "val/b"]


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        (annotation(9), "1 images have an object without an outline, and so no mask; first train/b.jpg"),
        (annotation(9, segmentation=[[1, 2], [1, 2, 3, 4]]), "1 images have an object without an outline"),
        (annotation(9, segmentation=[[90, 90, 99, 90, 99, 99]]), "cover no pixel's middle alone, and so no mask"),
        (annotation(9, segmentation={"size": [9, 9], "counts": [81]}), "its run lengths are for 9 x 9 pixels"),
        (annotation(9, segmentation={"size": [HEIGHT, WIDTH], "counts": [1]}), "do not add up to the 40 x 20 pixels"),
    ],
)
def test_an_image_that_cannot_be_drawn_has_no_mask(
    tmp_path: Path, entry: dict[str, Any], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not an empty one: it would teach that nothing is there."""
    coco(tmp_path / "own", annotations=[annotation(7, segmentation=SQUARE), entry])
    convert(tmp_path / "own", tmp_path / "masks", masks=True)
    out = capsys.readouterr().out
    assert told in out
    assert "wrote 2 images, 1 of them with a mask" in out
    assert {s.path.name: s.mask is not None for s in read_dataset(tmp_path / "masks")} == {
        "a.jpg": True,
        "b.jpg": False,
    }


@pytest.mark.parametrize(
    "told", [[[1, 2, 3, 4, 5]], [[1, 2, 3, 4, 5, "x"]], {"counts": [1]}, [["a"] * 6], [[1e400] * 6], 7]
)
def test_a_segmentation_that_is_none_is_refused(tmp_path: Path, told: Any) -> None:
    coco(tmp_path / "own", annotations=[annotation(7, segmentation=told)])
    with pytest.raises(DataError, match="annotation 1: its segmentation is neither polygons"):
        convert(tmp_path / "own", tmp_path / "masks", masks=True)
    assert not (tmp_path / "masks").exists()


def test_images_drawn_at_another_size_have_no_mask(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = [{"id": 7, "file_name": "a.jpg", "width": 80, "height": 40}, {"id": 9, "file_name": "b.jpg"}]
    coco(tmp_path / "own", images=sizes, annotations=[annotation(at, segmentation=SQUARE) for at in (7, 9)])
    convert(tmp_path / "own", tmp_path / "masks", masks=True)
    assert "1 images are not of the size their annotations were drawn on" in capsys.readouterr().out


def test_outlines_of_yolo_become_masks(tmp_path: Path) -> None:
    root = yolo(tmp_path / "own", "train: images/train\nval: images/val\nnames: [pin, hole]\n")
    (root / "labels/train/a.txt").write_text("1 0.25 0.25 0.74 0.25 0.74 0.74 0.25 0.74\n")
    (root / "labels/val/b.txt").write_text("")
    image(root / "images/val/c.jpg")
    image(root / "images/val/d.jpg")
    (root / "labels/val/d.txt").write_text("0 nan 0.25 0.74 0.25 0.74 0.74\n")
    convert(root, tmp_path / "masks", masks=True)
    dataset = read_dataset(tmp_path / "masks")
    assert dataset.mask_classes == ("background", "hole")
    masks = {s.path.name: s.mask for s in dataset}
    assert masks["c.jpg"] is None
    assert masks["d.jpg"] is None
    assert masks["a.jpg"] is not None
    assert masks["b.jpg"] is not None
    mask_HW = read_class_mask(masks["a.jpg"], classes=2)
    assert (mask_HW[5:15, 10:30] == 1).all()
    assert mask_HW.sum() == 200
    assert not read_class_mask(masks["b.jpg"], classes=2).any()
    poses = yolo(tmp_path / "poses", "train: images/train\nval: images/val\nkpt_shape: [1, 2]\nnames: [pin]\n", rows="")
    (poses / "labels/train/a.txt").write_text("0 0.5 0.5 0.5 0.5 0.2 0.2\n")  # six numbers, and no outline
    with pytest.raises(DataError, match=r"no object has an outline \(layout yolo\)"):
        convert(poses, tmp_path / "none", masks=True)


def test_what_has_no_outlines_is_refused(tmp_path: Path) -> None:
    coco(tmp_path / "boxes")
    with pytest.raises(DataError, match=r"no object has an outline \(layout coco\)"):
        convert(tmp_path / "boxes", tmp_path / "masks", masks=True)
    image(tmp_path / "folders" / "pin" / "a.jpg")
    dataset = read_dataset(tmp_path / "folders")
    with pytest.raises(DataError, match="the layout 'class_folders' has no outlines"):
        outlines_of(dataset, tmp_path / "folders")
    coco(tmp_path / "named", annotations=[annotation(7, segmentation=SQUARE)], categories=[{"id": 3, "name": "a\nb"}])
    for name in ("a\nb", " ", "\ud800"):
        coco(tmp_path / "named", annotations=[annotation(7, segmentation=SQUARE)], categories=[{"id": 3, "name": name}])
        with pytest.raises(DataError, match="is no name for a class"):
            convert(tmp_path / "named", tmp_path / "masks", masks=True)


def with_another(root: Path, name: str, *annotations: dict[str, Any]) -> Path:
    tree = coco(root, annotations=list(annotations))
    image(root / "train" / name)
    tree["images"].append({"id": 10, "file_name": name})
    (root / "annotations" / "instances_train.json").write_text(json.dumps(tree))
    return root


def test_two_images_that_would_share_a_mask_are_refused(tmp_path: Path) -> None:
    square = annotation(7, segmentation=SQUARE)
    with pytest.raises(DataError, match=r"'train/a\.jpg' and 'train/a\.png' would share the mask"):
        convert(with_another(tmp_path / "same", "a.png", square), tmp_path / "masks", masks=True)
    other = with_another(tmp_path / "other", "a_mask.jpg", annotation(7), annotation(10, segmentation=SQUARE))
    with pytest.raises(DataError, match=r"the mask of 'train/a_mask' would pass for that of 'train/a\.jpg'"):
        convert(other, tmp_path / "masks", masks=True)
    assert not (tmp_path / "masks").exists()
    convert(with_another(tmp_path / "both", "a_mask.jpg", square), tmp_path / "masks", masks=True)
    assert all(s.mask and s.mask.stem == s.path.stem for s in read_dataset(tmp_path / "masks"))


def test_a_version_keeps_no_outlines(tmp_path: Path) -> None:
    coco(tmp_path / "own", annotations=[annotation(7, segmentation=SQUARE)])
    write_version(tmp_path / "versions", read_dataset(tmp_path / "own"))
    with pytest.raises(DataError, match="is a dataset version, which keeps no outlines"):
        convert(tmp_path / "versions", tmp_path / "masks", masks=True)
    write_version(tmp_path / "own", read_dataset(tmp_path / "own"))  # beside what it was made from
    convert(tmp_path / "own", tmp_path / "masks", layout="coco", masks=True)
    assert (tmp_path / "masks" / "masks" / "train" / "a.png").is_file()
