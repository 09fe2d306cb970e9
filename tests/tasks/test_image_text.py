import base64
import io
import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from pangu_cv import cli
from pangu_cv.errors import CheckpointError
from pangu_cv.features import FeatureStore, extract
from pangu_cv.models import checkpoint
from pangu_cv.models.backbone import BackboneConfig
from pangu_cv.models.checkpoint import Checkpoint
from pangu_cv.tasks import image_text
from pangu_cv.tasks.image_text import ImageText
from pangu_cv.verbs import search as verb
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
        "text": {"tower": "two words", "template": None},
        "decode": DecodeSpec(range_16bit=(0, 4095)).to_json(),
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


@pytest.mark.parametrize(("given", "asked"), [((), "dots in steel"), (("--template", "no {label}"), "no dots")])
def test_classes_are_asked_for_in_the_words_they_were_learnt_in(
    given: tuple[str, ...], asked: str, model: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = json.loads((model / "model" / "model.json").read_text())
    manifest["text"]["template"] = "{label} in steel"
    (model / "model" / "model.json").write_text(json.dumps(manifest))
    sentences: list[str] = []
    monkeypatch.setattr(
        image_text, "embed_texts", lambda tower, told: sentences.extend(told) or embed_words(tower, told)
    )
    assert search(model, images, "--classes", "dots,plain", *given) == 0
    assert sentences[0] == asked


def test_a_wrong_template_is_told_before_images_are_read(
    model: Path, images: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(verb, "_vectors", None)
    assert search(model, images, "--classes", "dots,plain", "--template", "a {lable}") == 2
    assert "lable" in capsys.readouterr().err


def test_images_of_12_bits_are_seen_as_they_were_learnt(model: Path, tmp_path: Path) -> None:
    """The fixture's run has learnt from a 12-bit camera: what is white there is nearly black at 16 bits."""
    searcher = ImageText.load(model)
    assert searcher.decode_spec.range_16bit == (0, 4095)
    Image.fromarray(np.full((40, 40), 4095, np.uint16)).save(tmp_path / "white.png")
    verb._page(tmp_path / "page.html", "white", [verb.Hit(tmp_path / "white.png", 1.0)], searcher.decode_spec)
    assert _brightness(tmp_path / "page.html") == 255


def _brightness(page: Path) -> int:
    (picture,) = re.findall(r'src="data:image/[a-z]+;base64,([^"]+)"', page.read_text())
    return int(np.asarray(Image.open(io.BytesIO(base64.b64decode(picture)))).max())


def test_a_run_that_learnt_no_label_names_has_the_usual_words(
    model: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sentences: list[str] = []
    monkeypatch.setattr(
        image_text, "embed_texts", lambda tower, told: sentences.extend(told) or embed_words(tower, told)
    )
    assert search(model, images, "--classes", "dots,plain") == 0
    assert sentences == ["a photo of dots", "a photo of plain"]


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
