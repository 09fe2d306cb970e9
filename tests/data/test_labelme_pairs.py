"""Which image a file of labelme is of, and which folders are its layout."""

import json
from pathlib import Path

import pytest
from PIL import Image

from pangu_cv.data.readers import outlines_of, read_dataset, read_images, recognise
from pangu_cv.errors import DataError
from tests.data.labelme_files import drawing, labelled, only, shape
from tests.data.test_readers_annotated import HEIGHT, WIDTH, boxes_of, coco, image


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
