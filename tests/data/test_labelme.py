"""labelme's files: boxes, outlines as masks, and what a hostile file could do."""

import base64
import io
import json
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pangu_cv.data.masks import IGNORE, read_class_mask
from pangu_cv.data.readers import outlines_of, read_dataset, read_images, recognise
from pangu_cv.data.sample import Box, Dataset
from pangu_cv.errors import DataError
from pangu_cv.verbs.convert import convert
from tests.data.test_readers_annotated import HEIGHT, WIDTH, boxes_of, coco, image

SQUARE = [[10.0, 5.0], [29.9, 5.0], [29.9, 14.9], [10.0, 14.9]]


def shape(label: str = "crack", points: Any = SQUARE, **more: Any) -> dict[str, Any]:
    return {"label": label, "points": points, "group_id": None, "shape_type": "polygon", "flags": {}} | more


def drawing(*shapes: dict[str, Any], **more: Any) -> dict[str, Any]:
    about = {"version": "5.5.0", "flags": {}, "shapes": list(shapes), "imagePath": "a.jpg", "imageData": None}
    return about | {"imageHeight": HEIGHT, "imageWidth": WIDTH} | more


def labelled(root: Path, *shapes: dict[str, Any], at: str = "a", **more: Any) -> Path:
    image(root / f"{at}.jpg")
    (root / f"{at}.json").write_text(json.dumps(drawing(*shapes, **more)), encoding="utf-8")
    return root


def png(inside_hw: np.ndarray, kind: Any = np.uint8, *, form: str = "PNG") -> str:
    stream = io.BytesIO()
    Image.fromarray(inside_hw.astype(kind) * kind(255)).save(stream, form)
    return base64.b64encode(stream.getvalue()).decode()


def bomb(side_px: int) -> str:
    """A picture of two pixels whose header says that it is huge."""
    content = bytearray(base64.b64decode(png(np.ones((1, 2)))))
    content[16:24] = side_px.to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(bytes(content[12:29])).to_bytes(4, "big")
    return base64.b64encode(bytes(content)).decode()


def mask_of(root: Path, *, classes: int = 2) -> np.ndarray:
    out = root.parent / f"{root.name}-masks"
    convert(root, out, masks=True)
    (mask,) = [s.mask for s in read_dataset(out) if s.path.stem == "a"]
    assert mask is not None
    return read_class_mask(mask, classes=classes)


def only(dataset: Dataset) -> tuple[Box, ...] | None:
    return boxes_of(dataset)["a.jpg"]


def test_boxes_are_around_shapes(tmp_path: Path) -> None:
    labelled(tmp_path, shape(), shape("pin", [[30, 2], [20, 1]], shape_type="rectangle"))
    image(tmp_path / "b.jpg")
    labelled(tmp_path, at="c")
    dataset = read_dataset(tmp_path)
    assert dataset.layout == "labelme"
    assert boxes_of(dataset) == {
        "a.jpg": (Box("crack", (10, 5, 29.9, 14.9)), Box("pin", (20, 1, 30, 2))),
        "b.jpg": None,
        "c.jpg": (),
    }
    assert dataset.notes == (
        "1 images have no file of shapes and are taken as unlabelled (a file without shapes: no object); first b.jpg",
    )


@pytest.mark.parametrize(
    ("kind", "points", "box"),
    [
        ("circle", [[20, 10], [23, 14]], (15, 5, 25, 15)),
        ("linestrip", [[3, 4], [9, 2], [12, 8]], (3, 2, 12, 8)),
        ("rotation", [[5, 5], [15, 3], [16, 8], [6, 10]], (5, 3, 16, 10)),
        ("mask", [[4, 3], [6, 4]], (4, 3, 7, 5)),
        ("cuboid", [[4, 3], [6, 4], [9, 9]], (4, 3, 9, 9)),
    ],
)
def test_every_kind_has_its_box(tmp_path: Path, kind: str, points: Any, box: tuple[float, ...]) -> None:
    labelled(tmp_path, shape(points=points, shape_type=kind, mask=png(np.ones((2, 3)))))
    assert only(read_dataset(tmp_path)) == (Box("crack", box),)


def test_parts_of_a_group_are_one_object(tmp_path: Path) -> None:
    parts = [shape(points=[[x, 1], [x + 2, 1], [x + 2, 4]], group_id=1) for x in (3, 20)]
    labelled(tmp_path, *parts, shape("pin", [[7, 7], [9, 7], [9, 9]], group_id=1), shape(group_id=2))
    boxes = only(read_dataset(tmp_path))
    assert boxes == (Box("crack", (3, 1, 22, 4)), Box("pin", (7, 7, 9, 9)), Box("crack", (10, 5, 29.9, 14.9)))


def test_points_and_ignored_regions_are_no_objects(tmp_path: Path) -> None:
    labelled(tmp_path, shape("tip", [[3, 3]], shape_type="point"), shape("__ignore__"), shape())
    labelled(tmp_path, shape("tip", [[3, 3]], shape_type="point"), at="b")
    dataset = read_dataset(tmp_path)
    assert boxes_of(dataset) == {"a.jpg": (Box("crack", (10, 5, 29.9, 14.9)),), "b.jpg": None}
    assert any(note.startswith("2 points were left out") for note in dataset.notes)
    assert any(note.startswith("1 regions '__ignore__' were left out") for note in dataset.notes)


@pytest.mark.parametrize(
    ("json_at", "image_at", "named"),
    [
        ("labels/x.json", "pictures/a.jpg", "..\\pictures\\a.jpg"),
        ("labels/x.json", "pictures/a.jpg", "D:\\plant\\2024\\a.jpg"),
        ("annotations/a.json", "images/a.jpg", "other.jpg"),
        ("annotations/a.JSON", "images/a.jpg", "other.jpg"),
        ("labels/train/a.json", "images/train/a.jpg", ""),
        ("train/labels/a.json", "train/images/a.jpg", ""),
        ("Annotations/a.json", "JPEGImages/a.jpg", ""),
        ("train/batch1/a.json", "train/batch1/a.jpg", ""),
        ("deep/a.json", "deep/a.jpg", "../../../../etc/hostname"),
    ],
)
def test_images_are_found_where_people_put_them(tmp_path: Path, json_at: str, image_at: str, named: str) -> None:
    image(tmp_path / image_at)
    image(tmp_path / "other" / "b.jpg")
    (tmp_path / json_at).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / json_at).write_text(json.dumps(drawing(shape(), imagePath=named)))
    dataset = read_dataset(tmp_path)
    assert dataset.layout == "labelme"
    assert [(s.path, s.split) for s in dataset if s.boxes] == [
        (tmp_path / image_at, "train" if "train" in image_at else None)
    ]


def test_recurring_names_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    for split, label in (("train", "pin"), ("val", "crack")):
        image(tmp_path / split / "images" / "0001.jpg")
        (tmp_path / split / "labels").mkdir()
        (tmp_path / split / "labels" / "0001.json").write_text(json.dumps(drawing(shape(label))))
    found = read_dataset(tmp_path)
    assert [(s.split, [box.label for box in s.boxes or ()]) for s in found] == [("train", ["pin"]), ("val", ["crack"])]


def test_a_file_whose_image_is_gone_labels_no_other(tmp_path: Path) -> None:
    labelled(tmp_path / "batch1", shape(), at="0001", imagePath="0001.jpg")
    image(tmp_path / "batch1" / "0002.jpg")
    (tmp_path / "batch1" / "0001.jpg").unlink()
    image(tmp_path / "batch2" / "0001.jpg")
    assert recognise(tmp_path) == "class_folders"
    with pytest.raises(DataError, match="none of the 1 files of shapes is of an image there"):
        read_dataset(tmp_path, layout="labelme")
    labelled(tmp_path / "batch2", shape("pin"), at="0001", imagePath="0001.jpg")
    dataset = read_dataset(tmp_path)
    assert [s.path.parent.name for s in dataset if s.boxes] == ["batch2"]
    assert any(note.startswith("1 files of shapes have no image") for note in dataset.notes)


@pytest.mark.parametrize(("gone", "other"), [("labels/train", "images/val"), ("batch1", "batch2")])
def test_nor_does_one_in_a_folder_without_images(tmp_path: Path, gone: str, other: str) -> None:
    image(tmp_path / other / "0001.jpg")
    labelled(tmp_path / other.replace("images", "labels"), shape("pin"), at="0002", imagePath="0002.jpg")
    (tmp_path / gone).mkdir(parents=True)
    (tmp_path / gone / "0001.json").write_text(json.dumps(drawing(shape(), imagePath="../x/0001.jpg")))
    assert {box.label for s in read_dataset(tmp_path) for box in s.boxes or ()} == {"pin"}


def test_a_match_by_name_alone_is_told(tmp_path: Path) -> None:
    image(tmp_path / "photos" / "a.jpg")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "1.json").write_text(json.dumps(drawing(shape(), imagePath="D:\\x\\a.jpg")))
    dataset = read_dataset(tmp_path)
    assert len(dataset.samples[0].boxes or ()) == 1
    told = "1 files of shapes were taken for those of an image by the name that they say, not by their own; first "
    assert dataset.notes[0] == f"{told}1.json"
    labelled(tmp_path / "set", shape(), at="2", imagePath="1.jpg")
    (tmp_path / "set" / "2.jpg").rename(tmp_path / "set" / "1.jpg")  # a pair of which one is gone
    assert f"{told}2.json" in read_dataset(tmp_path / "set").notes


def test_in_folders_apart_the_stem_counts_too(tmp_path: Path) -> None:
    for at, other in (("1", "2"), ("2", "1")):
        image(tmp_path / "images" / f"{at}.jpg")
        (tmp_path / "labels").mkdir(exist_ok=True)
        file = tmp_path / "labels" / f"{at}.json"
        file.write_text(json.dumps(drawing(shape(at), imagePath=f"../images/{other}.jpg")))
    (tmp_path / "labels" / "classes.txt").write_text("1\n2\n")
    assert [[box.label for box in s.boxes or ()] for s in read_dataset(tmp_path)] == [["1"], ["2"]]


@pytest.mark.parametrize(
    ("images", "named", "found"),
    [
        (("images/a.jpg", "photos/a.jpg"), "..\\photos\\a.jpg", "photos/a.jpg"),
        (("a.jpg", "images/a.jpg"), "../images/a.jpg", "images/a.jpg"),
        (("images/a.jpg", "img/a.jpg"), "a.jpg", None),
        (("images/a.jpg", "img/a.png"), "a.png", "img/a.png"),
    ],
)
def test_of_several_that_would_fit_the_file_tells_which(
    tmp_path: Path, images: tuple[str, ...], named: str, found: str | None
) -> None:
    for at in images:
        image(tmp_path / at)
    labelled(tmp_path / "more", shape("pin"), at="b")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.json").write_text(json.dumps(drawing(shape(), imagePath=named)))
    told = [s.path.relative_to(tmp_path).as_posix() for s in read_dataset(tmp_path) if s.boxes]
    assert [at for at in told if "more" not in at] == ([found] if found else [])


def test_flags_do_not_say_that_nothing_is_there(tmp_path: Path) -> None:
    root = labelled(tmp_path / "own", flags={"good": False, "bad": True})
    labelled(root, shape(), at="b", flags={"bad": True})
    labelled(root, at="c", flags={"good": False})
    dataset = read_dataset(root)
    assert {s.path.stem: s.boxes is not None for s in dataset} == {"a": False, "b": True, "c": True}
    assert any(note.startswith("1 files have a flag and no shapes") for note in dataset.notes)
    assert {path.stem for path in outlines_of(dataset, root).by_image} == {"b", "c"}


def test_lists_of_voc_are_heeded(tmp_path: Path) -> None:
    for stem in "abc":
        image(tmp_path / "JPEGImages" / f"{stem}.jpg")
        (tmp_path / "Annotations").mkdir(exist_ok=True)
        (tmp_path / "Annotations" / f"{stem}.json").write_text(json.dumps(drawing(shape())))
    (tmp_path / "ImageSets" / "Main").mkdir(parents=True)
    (tmp_path / "ImageSets" / "Main" / "train.txt").write_text("a\nb\n")
    (tmp_path / "ImageSets" / "Main" / "test.txt").write_text("c\n")
    dataset = read_dataset(tmp_path)
    assert (dataset.layout, [s.split for s in dataset]) == ("labelme", ["train", "train", "test"])


def test_folders_that_may_be_classes_are_told(tmp_path: Path) -> None:
    for name in ("good", "bad"):
        image(tmp_path / name / "a.jpg")
    (tmp_path / "json").mkdir()
    (tmp_path / "json" / "x.json").write_text(json.dumps(drawing(shape(), imagePath="../bad/a.jpg")))
    assert "1 folders with images, which may be classes: layout=class_folders reads them so" in " ".join(
        read_dataset(tmp_path).notes
    )


@pytest.mark.parametrize("named", ["{root}/set/b.jpg", "D:\\plant\\b.jpg", "../set/./b.jpg"])
def test_a_file_of_another_name_finds_its_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str) -> None:
    image(tmp_path / "set" / "b.jpg")
    (tmp_path / "set" / "x.json").write_text(json.dumps(drawing(shape(), imagePath=named.format(root=tmp_path))))
    monkeypatch.chdir(tmp_path)
    for root in (tmp_path / "set", Path("set"), Path("set/../set")):
        assert [len(s.boxes or ()) for s in read_dataset(root)] == [1]


def test_images_that_are_links_to_one_file_have_each_their_boxes(tmp_path: Path) -> None:
    root = labelled(tmp_path / "set", shape())
    (root / "b.jpg").symlink_to(root / "a.jpg")
    (root / "b.json").write_text(json.dumps(drawing(shape("pin"))))
    assert read_dataset(root).classes == ("crack", "pin")
    with pytest.raises(DataError, match=r"b\.json: its image is that of .*a\.json, by a link"):
        outlines_of(read_dataset(root), root)
    (root / "b.json").unlink()
    (root / "b.json").symlink_to(root / "a.json")
    assert len(outlines_of(read_dataset(root), root).by_image) == 1


def test_masks_and_pictures_of_them_are_no_images(tmp_path: Path) -> None:
    image(tmp_path / "JPEGImages" / "a.jpg")
    for name in ("SegmentationObject", "SegmentationClassVisualization", "SegmentationClassPNG"):
        image(tmp_path / name / "a.png")
    (tmp_path / "Annotations" / "part").mkdir(parents=True)
    (tmp_path / "Annotations" / "part" / "a.json").write_text(json.dumps(drawing(shape())))
    image(tmp_path / "JPEGImages" / "part" / "a.jpg")
    found = read_dataset(tmp_path, layout="labelme")
    assert [s.path.relative_to(tmp_path).as_posix() for s in found] == ["JPEGImages/a.jpg", "JPEGImages/part/a.jpg"]
    assert recognise(tmp_path) == "voc"  # its masks are there
    for name in ("SegmentationClassPNG", "SegmentationObject", "SegmentationClassVisualization"):
        (tmp_path / name / "a.png").unlink()
        (tmp_path / name).rmdir()
    assert recognise(tmp_path) == "labelme"


def test_images_are_read_where_nobody_asks_for_labels(tmp_path: Path) -> None:
    image(tmp_path / "a.jpg")
    (tmp_path / "scene.json").write_text('{"shapes": [{"ty": "gr"}]}')
    assert [s.path.name for s in read_images(tmp_path)] == ["a.jpg"]
    labelled(tmp_path / "train", shape())
    assert {s.path.name: s.split for s in read_images(tmp_path / "train")} == {"a.jpg": None}
    assert read_images(tmp_path / "train").layout == "labelme"


def test_links_to_folders_keep_their_labels(tmp_path: Path) -> None:
    labelled(tmp_path / "elsewhere" / "t", shape())
    labelled(tmp_path / "set" / "val", shape("pin"))
    (tmp_path / "set" / "train").symlink_to(tmp_path / "elsewhere" / "t")
    (tmp_path / "set" / "val" / "loop").symlink_to(tmp_path / "set")
    assert [(s.split, len(s.boxes or ())) for s in read_dataset(tmp_path / "set")] == [("train", 1), ("val", 1)]


def test_what_editors_hide_is_not_read(tmp_path: Path) -> None:
    labelled(tmp_path, shape())
    (tmp_path / ".ipynb_checkpoints").mkdir()
    (tmp_path / ".ipynb_checkpoints" / "a.json").write_text("{")
    (tmp_path / ".a.json").write_text('{"shapes": [{')
    assert only(read_dataset(tmp_path)) is not None


def test_an_image_outside_the_folder_is_not_taken(tmp_path: Path) -> None:
    image(tmp_path / "secret.jpg")
    root = labelled(tmp_path / "set", shape())
    (root / "x.json").write_text(json.dumps(drawing(shape(), imagePath="../secret.jpg")))
    dataset = read_dataset(root)
    assert [s.path.name for s in dataset] == ["a.jpg"]
    assert dataset.notes == (
        "1 files of shapes have no image, or several that would fit (what they hold as imageData is not read); "
        "first x.json",
    )


def test_a_pair_that_was_renamed_stays_one(tmp_path: Path) -> None:
    labelled(tmp_path, shape("pin"))
    labelled(tmp_path, shape("crack"), at="b")  # its imagePath still says a.jpg
    assert [[box.label for box in s.boxes or ()] for s in read_dataset(tmp_path)] == [["pin"], ["crack"]]
    Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "a.png")
    labelled(tmp_path, shape("pin"), imagePath="a.png")
    assert {s.path.name: s.boxes is not None for s in read_dataset(tmp_path)} == {
        "a.jpg": False,
        "a.png": True,
        "b.jpg": True,
    }


def test_two_files_for_an_image_are_refused(tmp_path: Path) -> None:
    labelled(tmp_path, shape())
    (tmp_path / "copy.json").write_text(json.dumps(drawing(shape(), imagePath="a.jpg")))
    with pytest.raises(DataError, match=r"copy\.json: its image 'a\.jpg' has another file of shapes, .*a\.json; keep"):
        read_dataset(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        '{"camera": 3, "imagePath": "a.jpg", "exposure_us": 800}',
        '{"model": {"shapes": [3, 224, 224]}}',
        '{"results": [{"imagePath": "a.jpg", "imageData": null}]}',
        '[{"shapes": []}]',
    ],
)
def test_other_files_make_no_labels(tmp_path: Path, text: str) -> None:
    for name in ("pin", "hole"):
        image(tmp_path / name / "a.jpg")
        (tmp_path / name / "a.json").write_text(text)
    (tmp_path / "model.json").write_text(text)
    assert recognise(tmp_path) == "class_folders"
    assert read_dataset(tmp_path).classes == ("hole", "pin")


def test_shapes_in_class_folders_can_be_left_alone(tmp_path: Path) -> None:
    labelled(tmp_path / "pin", shape())
    image(tmp_path / "hole" / "a.jpg")
    assert recognise(tmp_path) == "labelme"
    assert read_dataset(tmp_path, layout="class_folders").classes == ("hole", "pin")


def test_other_layouts_keep_their_place(tmp_path: Path) -> None:
    labelled(tmp_path / "masked" / "images", shape())
    image(tmp_path / "masked" / "masks" / "a.png")
    assert recognise(tmp_path / "masked") == "image_masks"
    coco(tmp_path / "coco")
    for name in ("a", "z"):  # what the COCO file was made from
        (tmp_path / "coco" / "annotations" / f"{name}.json").write_text(json.dumps(drawing(shape())))
    assert recognise(tmp_path / "coco") == "coco"
    assert [s.split for s in read_dataset(tmp_path / "coco")] == ["train", "train"]
    labelled(tmp_path / "apart" / "images", at="a")
    (tmp_path / "apart" / "annotations").mkdir()
    (tmp_path / "apart" / "images" / "a.json").rename(tmp_path / "apart" / "annotations" / "a.json")
    (tmp_path / "apart" / "annotations" / "meta.json").write_text("{}")
    (tmp_path / "apart" / "annotations" / "._a.json").write_text("")
    (tmp_path / "apart" / "annotations" / "z.json").symlink_to(tmp_path / "nowhere.json")
    assert boxes_of(read_dataset(tmp_path / "apart")) == {"a.jpg": ()}


@pytest.mark.parametrize("lacking", ["", "flags"])
def test_files_sorted_by_key_are_known(tmp_path: Path, lacking: str) -> None:
    image(tmp_path / "a.jpg")
    tree = {key: told for key, told in drawing(shape(), imageData="A" * 100_000).items() if key != lacking}
    (tmp_path / "a.json").write_text("\ufeff" + json.dumps(tree, sort_keys=True), encoding="utf-8")
    assert only(read_dataset(tmp_path)) is not None


def test_shapes_become_masks(tmp_path: Path) -> None:
    root = labelled(tmp_path / "own", shape(), shape("pin", [[12.2, 6.2], [15.2, 6.2], [15.2, 8.2], [12.2, 8.2]]))
    labelled(root, shape("crack", [[3, 3], [9, 9]], shape_type="line"), at="b")
    image(root / "c.jpg")
    labelled(root, at="d")
    mask_HW = mask_of(root, classes=3)
    assert (mask_HW == 1).sum() == 200 - 6
    assert (mask_HW[6:8, 12:15] == 2).all()
    made = read_dataset(tmp_path / "own-masks")
    assert made.mask_classes == ("background", "crack", "pin")
    assert {s.path.stem: s.mask is not None for s in made} == {"a": True, "b": False, "c": False, "d": True}


def test_a_mask_within_the_file_is_drawn_to_the_pixel(tmp_path: Path) -> None:
    inside_hw = np.random.default_rng(0).random((7, 9)) > 0.5
    points = [[31.0, 11.0], [39.0, 17.0]]
    mask_HW = mask_of(labelled(tmp_path / "own", shape(points=points, shape_type="mask", mask=png(inside_hw))))
    wanted_HW = np.zeros((HEIGHT, WIDTH), bool)
    wanted_HW[11:18, 31:40] = inside_hw
    assert np.array_equal(mask_HW == 1, wanted_HW)


def test_a_mask_that_reaches_outside_is_cut(tmp_path: Path) -> None:
    points = [[-2, -3], [WIDTH + 1, 1]]
    whole = shape(points=points, shape_type="mask", mask=png(np.ones((5, WIDTH + 4))))
    mask_HW = mask_of(labelled(tmp_path / "own", whole))
    assert (mask_HW[:2] == 1).all()
    assert mask_HW.sum() == 2 * WIDTH


def test_a_circle_has_its_area(tmp_path: Path) -> None:
    mask_HW = mask_of(labelled(tmp_path / "own", shape(points=[[20, 10], [28, 10]], shape_type="circle")))
    assert mask_HW.sum() == 208  # π·64 = 201; so many middles lie within
    assert mask_HW[10, 27] == 1
    assert mask_HW[4, 13] == 0


def test_rectangles_are_filled_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    box = [[30.1, 14.1], [10.1, 4.1]]
    mask_HW = mask_of(labelled(tmp_path / "own", shape(points=box, shape_type="rectangle")))
    assert mask_HW.sum() == 200
    assert "1 files have rectangles, which are filled" in capsys.readouterr().out


def test_what_is_to_be_ignored_is_neither_learnt_nor_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corner = [[8.0, 4.0], [15.9, 4.0], [15.9, 9.9], [8.0, 9.9]]
    larger = [[0.0, 16.0], [39.9, 16.0], [39.9, 19.9], [0.0, 19.9]]
    within = [[3.0, 17.0], [5.9, 17.0], [5.9, 18.9], [3.0, 18.9]]
    root = labelled(
        tmp_path / "own", shape(), shape("__ignore__", corner), shape("__ignore__", larger), shape(points=within)
    )
    labelled(root, shape("__ignore__", corner), at="b")
    mask_HW = mask_of(root)
    assert (mask_HW[4:10, 8:16] == IGNORE).all()
    assert (mask_HW[16:] == IGNORE).all()
    assert (mask_HW == 1).sum() == 200 - 5 * 6
    assert "1 images show nothing but what is to be ignored, and have no mask; first b.jpg" in capsys.readouterr().out


def test_shapes_of_another_size_are_not_believed(tmp_path: Path) -> None:
    root = labelled(tmp_path / "own", shape(), imageWidth=80, imageHeight=40)
    labelled(root, shape(), at="b", imageWidth=None, imageHeight=None)
    dataset = read_dataset(root)
    assert only(dataset) is None
    assert [reason for _, reason in dataset.box_faults] == ["annotated at 80 x 40, upright it has 40 x 20 pixels"]
    convert(root, tmp_path / "masks", masks=True)
    assert {s.path.stem: s.mask is not None for s in read_dataset(tmp_path / "masks")} == {"a": False, "b": True}


def test_a_turned_photo_is_labelled_upright(tmp_path: Path) -> None:
    root = labelled(tmp_path / "own", shape(points=[[2, 20], [9.9, 20], [9.9, 35.9], [2, 35.9]]), imageWidth=HEIGHT)
    (root / "a.json").write_text(
        json.dumps(drawing(shape(points=[[2, 20], [9.9, 20], [9.9, 35.9]]), imageWidth=HEIGHT, imageHeight=WIDTH))
    )
    image(root / "a.jpg", exif_turn=6)
    assert only(read_dataset(root)) == (Box("crack", (2, 20, 9.9, 35.9)),)


def test_a_group_is_a_number_or_a_name(tmp_path: Path) -> None:
    parts = [shape(points=[[x, 1], [x + 2, 1], [x + 2, 4]]) for x in (3, 20)]
    for nothing in (None, "", [], {}, False):
        labelled(tmp_path, *({**part, "group_id": nothing} for part in parts))
        assert len(only(read_dataset(tmp_path)) or ()) == 2
    for group in (0, "b", 1.0):
        labelled(tmp_path, *({**part, "group_id": group} for part in reversed(parts)))
        assert only(read_dataset(tmp_path)) == (Box("crack", (3, 1, 22, 4)),)


def test_labels_that_are_numbers_are_classes(tmp_path: Path) -> None:
    labelled(tmp_path, shape(0), shape(" 1 "))  # type: ignore[arg-type]
    assert read_dataset(tmp_path).classes == ("0", "1")


def test_background_is_nothing(tmp_path: Path) -> None:
    hole = [[12.0, 6.0], [15.9, 6.0], [15.9, 7.9], [12.0, 7.9]]
    root = labelled(tmp_path / "own", shape(), shape("_background_", hole))
    labelled(root, shape("_background_", hole), at="b")
    assert boxes_of(read_dataset(root)) == {"a.jpg": (Box("crack", (10, 5, 29.9, 14.9)),), "b.jpg": ()}
    mask_HW = mask_of(root)
    assert not mask_HW[6:8, 12:16].any()
    assert mask_HW.sum() == 200 - 8


def test_points_cost_no_mask_and_make_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tip = shape("tip", [[3, 3]], shape_type="point")
    root = labelled(tmp_path / "own", shape(), tip)
    labelled(root, tip, at="b")
    assert mask_of(root).sum() == 200
    assert {s.path.stem: s.mask is not None for s in read_dataset(tmp_path / "own-masks")} == {"a": True, "b": False}
    assert "2 images have points, which were left out" in capsys.readouterr().out


def test_what_is_transparent_is_outside(tmp_path: Path) -> None:
    inside_hw = np.zeros((8, 9), np.uint8)
    inside_hw[2:5, 3:6] = 255
    stream = io.BytesIO()
    Image.fromarray(np.dstack([inside_hw] * 4)).save(stream, "PNG")
    mask = base64.b64encode(stream.getvalue()).decode()
    drawn = shape(points=[[0, 0], [8, 7]], shape_type="mask", mask=mask)
    assert mask_of(labelled(tmp_path / "own", drawn)).sum() == 9


@pytest.mark.parametrize("kind", ["rotation", "oriented_rectangle", "quadrilateral", "rectangle", None])
def test_four_corners_are_an_outline(tmp_path: Path, kind: str | None) -> None:
    assert mask_of(labelled(tmp_path / "own", shape(shape_type=kind))).sum() == 200


def test_a_line_is_no_outline(tmp_path: Path) -> None:
    root = labelled(tmp_path / "own", shape(shape_type="linestrip"))
    with pytest.raises(DataError, match="no object has an outline"):
        convert(root, tmp_path / "masks", masks=True)
    labelled(root, shape(), shape("edge", shape_type="line"))
    with pytest.raises(DataError, match="no image can be given a mask: 1 images have an object without an outline"):
        convert(root, tmp_path / "masks", masks=True)


def test_a_mask_that_was_dragged_lies_where_labelme_shows_it(tmp_path: Path) -> None:
    points = [[31.7, 11.5], [34.7, 14.5]]
    mask_HW = mask_of(labelled(tmp_path / "own", shape(points=points, shape_type="mask", mask=png(np.ones((4, 4))))))
    assert mask_HW[11:15, 31:35].all()
    assert mask_HW.sum() == 16


def test_a_mask_of_a_million_pixels_is_cut_before_it_is_followed(tmp_path: Path) -> None:
    whole = shape(points=[[-900, -900], [1099, 1099]], shape_type="mask", mask=png(np.ones((2000, 2000))))
    root = labelled(tmp_path / "own", whole)
    dataset = read_dataset(root)
    tracemalloc.start()
    outlines_of(dataset, root)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2000 * 2000 * 8


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"label": " "}, "a label is needed"),
        ({"label": ["a"]}, "a label is needed"),
        ({"points": [[float("nan"), 2], [3, 4]]}, "its points are no numbers of pixels"),
        ({"points": [[1, float("inf")], [3, 4]]}, "its points are no numbers of pixels"),
        ({"points": [[1e300, 0], [1e300, 0]]}, "its points are no numbers of pixels"),
        ({"points": {"x": 1}}, "must be a list"),
        ({"points": [7]}, "must be a list"),
        ({"points": []}, r"'points' must be a list of \[x, y\]"),
        ({"points": [[1, 2, 3]]}, "2 numbers are needed"),
        ({"points": [["a", 2]]}, "2 numbers are needed"),
        ({"points": [[1, 2]], "shape_type": "circle"}, "a circle has two points, found 1"),
        ({"points": [[1, 2], [3, 4]], "shape_type": "mask"}, "a mask needs its picture as text"),
    ],
)
def test_a_malformed_shape_is_named(tmp_path: Path, wrong: dict[str, Any], told: str) -> None:
    labelled(tmp_path, shape(), shape(**wrong))
    with pytest.raises(DataError, match=rf"a\.json: shape 1.*{told}"):
        read_dataset(tmp_path)


@pytest.mark.parametrize("text", ['{"shapes": [{"label"', '{"shapes": [{}, 7]}', '{"shapes": [], "shapes": 7}'])
def test_a_malformed_file_is_named(tmp_path: Path, text: str) -> None:
    image(tmp_path / "a.jpg")
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DataError, match=r"a\.json: ('shapes' must be|cannot be read as JSON)"):
        read_dataset(tmp_path)


@pytest.mark.parametrize(
    "wrong",
    [
        {"points": [[0, 0], [99_999, 99_999]], "shape_type": "mask", "mask": png(np.ones((2, 2)))},
        {"points": [[0, 0], [5, 5]], "shape_type": "mask", "mask": png(np.ones((2, 2)))},
        {"points": [[5, 5], [0, 0]], "shape_type": "mask", "mask": png(np.ones((2, 2)))},
        {"points": [[0, 0], [19_999, 19_999]], "shape_type": "mask", "mask": bomb(20_000)},
        {"points": [[0, 0], [1, 1]], "shape_type": "mask", "mask": png(np.ones((2, 2)), np.uint16)},
        {"points": [[0, 0], [1, 1]], "shape_type": "mask", "mask": "not base64 €"},
        {"points": [[0, 0], [1, 1]], "shape_type": "mask", "mask": base64.b64encode(b"BM no picture").decode()},
        {"points": [[0, 0], [1e7, 1]], "shape_type": "circle"},
        {"points": [[0, 0], [1, 1]], "shape_type": "mask", "mask": png(np.ones((2, 2)), form="JPEG")},
        {"points": [[0, 0], [0, 0]], "shape_type": "circle"},
        {"points": [[1, 0], [1, 1]]},
    ],
)
def test_an_outline_that_is_none_is_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    root = labelled(tmp_path, shape(**wrong))
    dataset = read_dataset(root)
    with pytest.raises(DataError, match=r"a\.json: the \w+ 'crack' cannot be drawn"):
        outlines_of(dataset, root)


def test_boxes_of_it_become_coco(tmp_path: Path) -> None:
    convert(labelled(tmp_path / "own", shape()), tmp_path / "coco")
    again = read_dataset(tmp_path / "coco")
    assert again.layout == "coco"
    assert [box.label for box in only(again) or ()] == ["crack"]
