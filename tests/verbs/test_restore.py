import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pangu_cv import cli
from pangu_cv.models import checkpoint
from pangu_cv.models.checkpoint import Checkpoint
from pangu_cv.pretrain.restore import Restorer
from pangu_cv.pretrain.views import ViewsConfig
from pangu_cv.verbs.restore import _names
from pangu_runtime.decode import DecodeSpec
from tests.pretrain import small


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run as pretraining leaves it, untrained."""
    joint = small.joint()
    manifest = {
        "backbone": "test_vit",
        "arguments": {},
        "levels": [1, 3, 4],
        "parent": {"licence": "Apache-2.0"},
        "objective": {"repair": joint.config.repair.model_dump(mode="json")},
        "views": ViewsConfig(image_px=small.SIDE).model_dump(mode="json"),
        "decode": DecodeSpec(range_16bit=(0, 4095)).to_json(),
    }
    parts = {"backbone": small.backbone().network.state_dict(), "decoder": joint.decoder.state_dict()}  # type: ignore[union-attr]
    folder = tmp_path_factory.mktemp("run")
    checkpoint.save(folder / "model", Checkpoint(parts, manifest))
    return folder


def test_images_of_12_bits_are_read_as_they_were_learnt(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dark").mkdir()
    Image.fromarray(np.full((40, 40), 4095, np.uint16)).save(tmp_path / "dark" / "white.png")
    monkeypatch.setattr(Restorer, "restore", lambda self, image: image)
    assert restore(model, tmp_path / "dark", "--out", tmp_path / "out") == 0
    assert np.asarray(Image.open(tmp_path / "out" / "white.png")).min() == 255


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Two that can be read, in two folders, and one that cannot."""
    root, random = tmp_path / "images", np.random.default_rng(0)
    for name in ("a.png", "part/b.jpg"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (30, 50, 3), dtype=np.uint8)).save(root / name)
    (root / "part" / "torn.png").write_bytes(b"no image")
    return root


def restore(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["restore", *map(str, arguments)])
    return int(stopped.value.code or 0)


def test_a_folder_is_restored_under_its_names(model: Path, images: Path, tmp_path: Path, capsys) -> None:
    out, page = tmp_path / "out", tmp_path / "page.html"
    assert restore(model, images, "--out", out, "--report", page) == 0
    told = capsys.readouterr()
    assert sorted(path.relative_to(out).as_posix() for path in out.rglob("*.*")) == ["a.png", "part/b.png"]
    expected = Restorer.load(model).restore(np.asarray(Image.open(images / "a.png")))
    assert np.array_equal(np.asarray(Image.open(out / "a.png")), expected)
    assert "restored 2 of 3 images" in told.out
    assert "torn.png" in told.err
    document = page.read_text()
    assert document.count("<img") == 4
    assert "torn.png" in document


def test_one_image_is_restored_and_told_as_json(model: Path, images: Path, tmp_path: Path, capsys) -> None:
    assert restore(model, images / "part" / "b.jpg", "--out", tmp_path / "out", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    image, restored = str(images / "part" / "b.jpg"), str(tmp_path / "out" / "b.png")
    assert found == {"restored": [{"image": image, "restored": restored}], "skipped": []}
    assert Path(restored).is_file()


@pytest.mark.parametrize("out", ["images", "images/new", ".", "images/part/.."])
def test_inputs_are_never_written_over_nor_mixed_with_results(
    out: str, model: Path, images: Path, tmp_path: Path, capsys
) -> None:
    before = {path: path.read_bytes() for path in images.rglob("*.*")}
    assert restore(model, images, "--out", tmp_path / out) == 2
    assert "name a new folder apart from" in " ".join(capsys.readouterr().err.split())
    assert {path: path.read_bytes() for path in images.rglob("*.*")} == before


def test_what_another_run_restored_is_not_replaced(model: Path, images: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.png").write_text("theirs")
    assert restore(model, images, "--out", tmp_path / "out") == 2
    assert "name a new folder" in capsys.readouterr().err
    assert (tmp_path / "out" / "a.png").read_text() == "theirs"


def test_where_nothing_can_be_read_nothing_is_written(model: Path, images: Path, tmp_path: Path, capsys) -> None:
    assert restore(model, images / "part" / "torn.png", "--out", tmp_path / "out") == 2
    assert "none of the 1 images can be read" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_run_without_a_decoder_names_the_recipe_that_trains_one(images: Path, tmp_path: Path, capsys) -> None:
    parts = {"backbone": small.backbone().network.state_dict()}
    checkpoint.save(tmp_path / "run" / "model", Checkpoint(parts, {"backbone": "test_vit"}))
    assert restore(tmp_path / "run", images, "--out", tmp_path / "out") == 2
    told = capsys.readouterr().err
    assert "has no decoder" in told
    assert "pangu-cv pretrain joint_repair" in told


def test_images_of_one_stem_keep_names_apart() -> None:
    paths = [Path("x") / name for name in ("a.bmp", "a.jpg", "a.jpg.png", "b.png")]
    names = _names(paths, Path("x"))
    assert [str(names[path]) for path in paths] == ["a.png", "a.jpg.png", "a.jpg.png.png", "b.png"]
