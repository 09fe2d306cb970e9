"""Pascal VOC's ``SegmentationClass`` as masks of class numbers."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pangu_cv.data.mask_colours import VOC_COLOURS
from pangu_cv.data.masks import IGNORE, read_class_mask
from pangu_cv.data.readers import pictures_below, read_dataset
from pangu_cv.errors import DataError
from pangu_cv.verbs.convert import convert
from tests.data.test_readers_annotated import HEIGHT, WIDTH, image

NUMBERS = np.zeros((HEIGHT, WIDTH), np.uint8)
NUMBERS[2:6, 3:9] = 1
NUMBERS[8:12, 10:30] = 2
NUMBERS[12, 10:30] = IGNORE
LABELMAP = "# label:color_rgb:parts:actions\nbackground:0,0,0::\npin:250,50,83::\ncrack:51,221,255::\n"


def voc(root: Path, masks: dict[str, Image.Image], *, names: str | None = None, colours: str | None = None) -> Path:
    (root / "SegmentationClass").mkdir(parents=True)
    for stem, mask in masks.items():
        image(root / "JPEGImages" / f"{stem}.jpg")
        mask.save(root / "SegmentationClass" / f"{stem}.png")
    if names is not None:
        (root / "class_names.txt").write_text(names)
    if colours is not None:
        (root / "labelmap.txt").write_text(colours)
    return root


def palette(numbers_HW: np.ndarray = NUMBERS) -> Image.Image:
    mask = Image.fromarray(numbers_HW, "P")
    mask.putpalette(VOC_COLOURS.tobytes())
    return mask


def swapped(numbers_HW: np.ndarray) -> np.ndarray:
    return renumbered(numbers_HW, {1: 2, 2: 1})


def renumbered(numbers_HW: np.ndarray, to: dict[int, int]) -> np.ndarray:
    table = np.arange(256, dtype=np.uint8)
    table[list(to)] = list(to.values())
    return table[numbers_HW]


def coloured(**by_number: tuple[int, int, int]) -> Image.Image:
    colours = np.zeros((256, 3), np.uint8)
    colours[IGNORE] = VOC_COLOURS[IGNORE]
    for number, colour in by_number.items():
        colours[int(number.removeprefix("n"))] = colour
    return Image.fromarray(colours[NUMBERS])


def mask_of(root: Path, *classes: str) -> np.ndarray:
    out = root.parent / f"{root.name}-masks"
    convert(root, out, masks=True)
    dataset = read_dataset(out)
    assert dataset.mask_classes == classes
    (mask,) = [s.mask for s in dataset if s.path.stem == "a"]
    assert mask is not None
    return read_class_mask(mask, classes=len(classes))


def test_palettes_keep_their_numbers(tmp_path: Path) -> None:
    root = voc(tmp_path / "own", {"a": palette()})
    assert np.array_equal(mask_of(root, "background", "1", "2"), NUMBERS)


def test_names_of_numbers_are_read(tmp_path: Path) -> None:
    root = voc(tmp_path / "own", {"a": palette()}, names="_background_\ncrack\npin\n")
    assert np.array_equal(mask_of(root, "background", "crack", "pin"), NUMBERS)


def test_colours_are_those_of_the_label_map(tmp_path: Path) -> None:
    mask = coloured(n1=(51, 221, 255), n2=(250, 50, 83))
    root = voc(tmp_path / "own", {"a": mask}, colours=LABELMAP)
    assert np.array_equal(mask_of(root, "background", "pin", "crack"), swapped(NUMBERS))
    as_palette = voc(tmp_path / "palette", {"a": mask.convert("P", palette=Image.Palette.ADAPTIVE)}, colours=LABELMAP)
    assert np.array_equal(mask_of(as_palette, "background", "pin", "crack"), swapped(NUMBERS))


def test_colours_without_a_map_are_pascals(tmp_path: Path) -> None:
    colours = {f"n{at}": tuple(VOC_COLOURS[at].tolist()) for at in (1, 2)}
    root = voc(tmp_path / "own", {"a": coloured(**colours)})
    assert np.array_equal(mask_of(root, "background", "1", "2"), NUMBERS)
    assert [tuple(VOC_COLOURS[at]) for at in (1, 2, 15, 20)] == [
        (128, 0, 0),
        (0, 128, 0),
        (192, 128, 128),
        (0, 64, 128),
    ]


def test_splits_are_those_of_the_masks(tmp_path: Path) -> None:
    root = voc(tmp_path / "own", {stem: palette() for stem in "abc"})
    (root / "ImageSets" / "Segmentation").mkdir(parents=True)
    (root / "ImageSets" / "Segmentation" / "train.txt").write_text("a\nb\n")
    (root / "ImageSets" / "Segmentation" / "val.txt").write_text("c\n")
    dataset = read_dataset(root)
    assert dataset.layout == "voc"
    assert [s.split for s in dataset] == ["train", "train", "val"]
    assert dataset.notes == (
        "1 folders of masks are left to 'pangu-cv data convert --masks', which makes masks of class numbers; "
        "first SegmentationClass",
    )
    mask_of(root, "background", "1", "2")
    assert [s.split for s in read_dataset(tmp_path / "own-masks")] == ["train", "train", "val"]


def test_what_cannot_be_drawn_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = palette(NUMBERS[:10])
    masks = {"a": palette(), "strange": coloured(n1=(1, 2, 3)), "small": small, "torn": palette()}
    root = voc(tmp_path / "own", masks, names="background\ncrack\npin\n")
    torn = root / "SegmentationClass" / "torn.png"
    torn.write_bytes(torn.read_bytes()[:-40])
    palette().save(root / "SegmentationClass" / "orphan.png")
    image(root / "JPEGImages" / "plain.jpg")
    mask_of(root, "background", "crack", "pin")
    assert {s.path.stem for s in read_dataset(tmp_path / "own-masks") if s.mask} == {"a"}
    told = capsys.readouterr().out
    assert "1 masks are no classes', and their images have none; first " in told
    assert "strange.png: has the colour (1, 2, 3), which no class has" in told
    assert "1 images are not of the size their annotations were drawn on, and have no mask; first small.jpg" in told
    assert "1 masks cannot be read (truncated), and their images have none; first torn.png" in told
    assert "1 masks have no image; first orphan.png" in told


@pytest.mark.parametrize(
    ("colours", "told"),
    [
        ("pin:250,50::\n", r"labelmap\.txt:1: 'name:red,green,blue::' is needed"),
        ("pin:250,50,256::\n", "is needed"),
        ("pin\n", "is needed"),
        (LABELMAP + "hole:250,50,83::\n", r"labelmap\.txt:5: 'hole' has the colour of 'pin'"),
    ],
)
def test_a_label_map_that_is_none_is_refused(tmp_path: Path, colours: str, told: str) -> None:
    root = voc(tmp_path / "own", {"a": palette()}, colours=colours)
    with pytest.raises(DataError, match=told):
        convert(root, tmp_path / "masks", masks=True)


def test_boxes_alone_have_no_outlines(tmp_path: Path) -> None:
    image(tmp_path / "JPEGImages" / "a.jpg")
    (tmp_path / "Annotations").mkdir()
    with pytest.raises(DataError, match="no masks in SegmentationClass/ beside JPEGImages/"):
        convert(tmp_path, tmp_path / "masks", masks=True)


def test_numbers_keep_the_order_of_their_file(tmp_path: Path) -> None:
    root = voc(tmp_path / "own", {"a": palette()}, names="_background_\npin\ncrack\nrust\n")
    assert np.array_equal(mask_of(root, "background", "pin", "crack", "rust"), NUMBERS)
    many_HW = renumbered(NUMBERS, {1: 10, 2: 20})
    many_HW[0, 0] = 2
    plain = mask_of(voc(tmp_path / "plain", {"a": palette(many_HW)}), "background", "2", "10", "20")
    assert np.array_equal(plain, renumbered(many_HW, {2: 1, 10: 2, 20: 3}))


def test_the_colours_of_a_palette_play_no_part(tmp_path: Path) -> None:
    mask = Image.fromarray(NUMBERS, "P")
    mask.putpalette([7] * 768)
    assert np.array_equal(mask_of(voc(tmp_path / "own", {"a": mask}), "background", "1", "2"), NUMBERS)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_grey_pixels_are_numbers(tmp_path: Path, kind: type) -> None:
    root = voc(tmp_path / "own", {"a": Image.fromarray(NUMBERS.astype(kind))}, names="background\ncrack\npin\n")
    assert np.array_equal(mask_of(root, "background", "crack", "pin"), NUMBERS)


def test_names_of_defects_are_no_marks(tmp_path: Path) -> None:
    root = voc(tmp_path / "own", {"a": palette()}, names="Background\nvoid\nignore\n")
    assert np.array_equal(mask_of(root, "background", "void", "ignore"), NUMBERS)


@pytest.mark.parametrize(
    ("mask", "told"),
    [
        (Image.fromarray((NUMBERS > 0).astype(np.uint8) * 255), "all that is outlined is to be ignored"),
        (Image.fromarray(NUMBERS.astype(np.uint16) * 200), r"a\.png: has the value 51000, which no class has"),
        (palette(np.full_like(NUMBERS, 9)), r"a\.png: has the value 9, which no class has"),
        (
            Image.fromarray(np.dstack([np.zeros((*NUMBERS.shape, 3), np.uint8), NUMBERS])),
            r"a\.png: has the colour \(12",
        ),
    ],
)
def test_the_reason_is_told_where_no_mask_is_left(tmp_path: Path, mask: Image.Image, told: str) -> None:
    root = voc(tmp_path / "own", {"a": mask}, names="background\ncrack\npin\n")
    with pytest.raises(DataError, match=f"(no image can be given a mask|nothing to draw).*{told}"):
        convert(root, tmp_path / "masks", masks=True)
    assert not (tmp_path / "masks").exists()


def test_photographs_are_no_masks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = voc(tmp_path / "own", {"a": palette(), "b": palette()}, names="background\ncrack\npin\n")
    palette().convert("L").save(root / "SegmentationClass" / "b.jpg")
    (root / "SegmentationClass" / "b.png").unlink()
    convert(root, tmp_path / "masks", masks=True)
    assert {s.path.stem for s in read_dataset(tmp_path / "masks") if s.mask} == {"a"}
    assert "b.jpg: is a JPEG, which alters colours and numbers; save masks as PNG" in capsys.readouterr().out


def test_masks_of_older_labelme_are_found(tmp_path: Path) -> None:
    root = voc(tmp_path / "own" / "plant", {"a": palette()})
    (root / "SegmentationClass").rename(root / "SegmentationClassPNG")
    (root / "SegmentationClass").mkdir()
    (root / "SegmentationClass" / "a.npy").write_bytes(b"")
    assert np.array_equal(mask_of(root, "background", "1", "2"), NUMBERS)
    assert [path.name for path in pictures_below(tmp_path / "own" / "plant")] == ["a.jpg"]


def test_boxes_and_masks_have_their_own_lists(tmp_path: Path) -> None:
    root = voc(tmp_path / "own", {stem: palette() for stem in "abcd"})
    (root / "Annotations").mkdir()
    for kind, lists in {"Main": {"train": "a", "val": "b"}, "Segmentation": {"train": "bc", "val": "da"}}.items():
        (root / "ImageSets" / kind).mkdir(parents=True)
        for split, stems in lists.items():
            (root / "ImageSets" / kind / f"{split}.txt").write_text("\n".join(stems))
    dataset = read_dataset(root)
    assert [s.split for s in dataset] == ["train", "val", None, None]
    assert any("4 images have no file of annotations" in note for note in dataset.notes)
    mask_of(root, "background", "1", "2")
    assert [s.split for s in read_dataset(tmp_path / "own-masks")] == ["val", "train", "train", "val"]


def test_what_is_for_testing_stays_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = voc(tmp_path / "own", {stem: palette() for stem in "abc"})
    (root / "Annotations").mkdir()
    for kind, lists in {"Main": {"train": "a", "test": "c"}, "Segmentation": {"val": "b"}}.items():
        (root / "ImageSets" / kind).mkdir(parents=True)
        for split, stems in lists.items():
            (root / "ImageSets" / kind / f"{split}.txt").write_text(stems)
    mask_of(root, "background", "1", "2")
    assert [s.split for s in read_dataset(tmp_path / "own-masks")] == [None, "val", "test"]
    assert "2 images are in no list of ImageSets/Segmentation; first a.jpg" in capsys.readouterr().out


def test_palettes_that_were_renumbered_are_read_by_their_colours(tmp_path: Path) -> None:
    only_2 = Image.fromarray(np.where(NUMBERS == 2, 1, 0).astype(np.uint8), "P")
    only_2.putpalette(VOC_COLOURS[[0, 2]].tobytes())
    root = voc(tmp_path / "own", {"a": only_2, "b": palette()})
    assert np.array_equal(mask_of(root, "background", "1", "2"), np.where(NUMBERS == 2, 2, 0))


def test_two_images_of_one_stem_are_both_kept(tmp_path: Path) -> None:
    root = voc(tmp_path / "own", {"a": palette()})
    image(root / "JPEGImages" / "a.png")
    assert sorted(s.path.name for s in read_dataset(root)) == ["a.jpg", "a.png"]


def test_a_table_of_yolo_comes_before_masks(tmp_path: Path) -> None:
    root = voc(tmp_path / "own", {"a": palette()})
    (root / "data.yaml").write_text("train: JPEGImages\nnames: [pin]\n")
    (root / "JPEGImages" / "a.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    assert read_dataset(root).layout == "yolo"


def test_images_keep_their_names_below_their_folder(tmp_path: Path) -> None:
    mask_of(voc(tmp_path / "own", {"a": palette()}), "background", "1", "2")
    assert (tmp_path / "own-masks" / "images" / "a.jpg").is_file()


@pytest.mark.parametrize("name", ["ignored", "void"])
def test_a_colour_that_is_named_is_a_class(tmp_path: Path, name: str) -> None:
    mask = coloured(n1=(224, 224, 192), n2=(250, 50, 83))
    mask.putpixel((0, 0), (0, 0, 0))
    root = voc(tmp_path / "own", {"a": mask}, colours="background:0,0,0::\ncrack:224,224,192::\npin:250,50,83::\n")
    assert np.array_equal(mask_of(root, "background", "crack", "pin"), renumbered(NUMBERS, {IGNORE: 1}))
    root = voc(tmp_path / "usual", {"a": mask}, colours=f"background:0,0,0::\npin:250,50,83::\n{name}:224,224,192::\n")
    assert np.array_equal(mask_of(root, "background", "pin"), renumbered(NUMBERS, {1: IGNORE, 2: 1}))


def test_numbers_begin_with_the_background(tmp_path: Path) -> None:
    root = voc(tmp_path / "own", {"a": palette()}, names="crack\npin\n")
    with pytest.raises(DataError, match=r"its first line names the value 0, which is the background; found 'crack'"):
        convert(root, tmp_path / "masks", masks=True)
    (root / "class_names.txt").write_text("__ignore__\n_background_\ncrack\npin\n")
    assert np.array_equal(mask_of(root, "background", "crack", "pin"), NUMBERS)


@pytest.mark.parametrize(("name", "listed"), [("train", "a.jpg"), ("default", "a"), ("train", "elsewhere")])
def test_lists_for_boxes_hold_where_those_for_masks_say_nothing(tmp_path: Path, name: str, listed: str) -> None:
    root = voc(tmp_path / "own", {stem: palette() for stem in "ab"})
    (root / "Annotations").mkdir()
    for kind, lists in {"Main": {"train": "a", "val": "b"}, "Segmentation": {name: listed}}.items():
        (root / "ImageSets" / kind).mkdir(parents=True)
        for split, stems in lists.items():
            (root / "ImageSets" / kind / f"{split}.txt").write_text("\n".join(stems.split()))
    mask_of(root, "background", "1", "2")
    wanted = ["train", None] if listed == "a.jpg" else ["train", "val"]
    assert [s.split for s in read_dataset(tmp_path / "own-masks")] == wanted


def test_links_to_folders_of_masks_are_followed(tmp_path: Path) -> None:
    root = voc(tmp_path / "own", {"a": palette()})
    (root / "SegmentationClass").rename(tmp_path / "elsewhere")
    (root / "SegmentationClass").mkdir()
    (root / "SegmentationClass" / "part").symlink_to(tmp_path / "elsewhere")
    (root / "JPEGImages").rename(tmp_path / "images")
    (root / "JPEGImages").mkdir()
    (tmp_path / "images").rename(root / "JPEGImages" / "part")
    assert np.array_equal(mask_of(root, "background", "1", "2"), NUMBERS)
