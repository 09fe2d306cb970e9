from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pangu_cv import cli
from pangu_cv.errors import CheckpointError
from pangu_cv.features import FeatureStore, extract
from pangu_cv.models import checkpoint
from pangu_cv.models.backbone import BackboneConfig
from pangu_cv.models.checkpoint import Checkpoint
from pangu_cv.tasks import image_text
from pangu_cv.tasks.image_text import ImageText
from pangu_runtime.decode import DecodeSpec
from tests.pretrain import small

WORDS = {"dots": 0, "plain": 1}


def embed_words(tower: str, sentences: Sequence[str]) -> Tensor:
    """A tower that knows two words."""
    assert tower == "two words"
    return torch.stack(
        [sum((torch.eye(3)[at] for word, at in WORDS.items() if word in s), torch.eye(3)[2] / 10) for s in sentences]
    )


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return small.images(tmp_path / "images")


@pytest.fixture
def model(tmp_path: Path, images: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run whose projection was solved for, rather than learnt: features of the images towards their words."""
    monkeypatch.setattr(image_text, "embed_texts", embed_words)
    monkeypatch.setenv("PANGU_CV_CACHE", str(tmp_path / "cache"))
    torch.manual_seed(0)
    backbone = BackboneConfig(name="test_vit", weights="random", levels=(1, 3, 4)).build()
    width = backbone.probe(small.SIDE).vector_BD.shape[1]
    manifest = {
        "backbone": "test_vit",
        "arguments": {},
        "levels": [1, 3, 4],
        "parent": {"licence": "Apache-2.0"},
        "text": {"tower": "two words"},
    }
    tensors = {"weight": torch.zeros(3, width), "log_scale": torch.tensor([3.0])}
    folder = tmp_path / "run" / "model"
    checkpoint.save(folder, Checkpoint({"backbone": backbone.network.state_dict(), "to_text": tensors}, manifest))
    paths = sorted(images.rglob("*.png"))
    unfitted = ImageText.load(folder)
    with torch.no_grad():
        features = torch.cat([backbone(unfitted.prepare(_pixels(path))).vector_BD for path in paths])
    wanted = embed_words("two words", [path.parent.name for path in paths])
    tensors["weight"] = torch.linalg.lstsq(features, wanted).solution.T
    checkpoint.save(folder, Checkpoint({"backbone": backbone.network.state_dict(), "to_text": tensors}, manifest))
    return folder.parent


def _pixels(path: Path) -> Tensor:
    from pangu_runtime.decode import decode

    return torch.from_numpy(decode(path, spec=DecodeSpec()))[None]


def test_named_classes_are_told_apart(model: Path, images: Path, tmp_path: Path) -> None:
    searcher = ImageText.load(model)
    paths = sorted(images.rglob("*.png"))
    store = FeatureStore(tmp_path / "features", searcher.fingerprint)
    found = extract(paths, searcher, views=("identity",), store=store, decode_spec=DecodeSpec())
    vectors = torch.from_numpy(found.features_NVD[[found.index[path] for path in paths], 0])
    share = searcher.classify(vectors, searcher.texts(["a photo of dots", "a photo of plain"]))
    assert share.sum(1).allclose(torch.ones(len(paths)))
    assert [("dots", "plain")[at] for at in share.argmax(1).tolist()] == [path.parent.name for path in paths]


def test_search_finds_by_words(model: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (images / "broken.png").write_bytes(b"no image")
    page = tmp_path / "found.html"
    assert search(model, images, "many dots", "--top", 12, "--out", page) == 0
    printed = capsys.readouterr().out
    hits = [line for line in printed.splitlines() if line.endswith(".png")]
    assert len(hits) == 12
    assert all("/dots/" in line for line in hits)
    assert "left out 1 unreadable" in printed
    assert "many dots" in page.read_text()


def test_search_sorts_into_named_classes(model: Path, images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert search(model, images, "--classes", "dots,plain") == 0
    for line in capsys.readouterr().out.splitlines():
        if line.endswith(".png"):
            assert f"/{line.split()[1]}/" in line


def test_search_wants_words_or_classes(model: Path, images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert search(model, images) == 2
    assert "one of the two" in capsys.readouterr().err


def test_weights_without_texts_say_so(tmp_path: Path) -> None:
    backbone = small.backbone().network.state_dict()
    checkpoint.save(tmp_path / "model", Checkpoint({"backbone": backbone}, {"backbone": "test_vit"}))
    with pytest.raises(CheckpointError, match="has learnt no texts"):
        ImageText.load(tmp_path)


def search(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["search", *map(str, arguments)])
    return int(stopped.value.code or 0)
