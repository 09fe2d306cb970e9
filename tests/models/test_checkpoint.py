import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from pangu_cv.errors import CheckpointError
from pangu_cv.models import checkpoint
from pangu_cv.models.checkpoint import Checkpoint, load, save

SAVED = Checkpoint(
    {"backbone": {"w": torch.arange(6.0).view(2, 3)}, "head": {"b": torch.zeros(2)}}, {"task": {"kind": "x"}}
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save(tmp_path / "model", SAVED)
    return tmp_path / "model"


def test_round_trip(folder: Path) -> None:
    found = load(folder)
    assert torch.equal(found.components["backbone"]["w"], SAVED.components["backbone"]["w"])
    assert set(found.components) == {"backbone", "head"}
    assert found.manifest["task"] == {"kind": "x"}
    assert sorted(p.name for p in folder.iterdir()) == ["backbone.safetensors", "head.safetensors", "model.json"]


def test_views_of_one_tensor_can_be_saved(tmp_path: Path) -> None:
    base = torch.arange(12.0).view(3, 4)
    save(tmp_path / "m", Checkpoint({"a": {"t": base.T, "s": base[:, 1]}}, {}))
    assert torch.equal(load(tmp_path / "m").components["a"]["t"], base.T)


def test_a_full_disk_is_an_error_of_the_system_and_what_was_there_stays(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(tensors: object, path: Path) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(OSError, match=r"backbone\.safetensors: cannot be written .*No space left"):
        save(folder, SAVED)
    assert set(load(folder).components) == {"backbone", "head"}
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def edit(folder: Path, **values: object) -> None:
    path = folder / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"version": 2}, "this version reads"),
        ({"format": "other"}, "this version reads"),
        ({"components": ["../outside"]}, "not plain words"),
        ({"components": ["/etc/passwd"]}, "not plain words"),
        ({"components": ["a/../../b"]}, "not plain words"),
        ({"components": [""]}, "not plain words"),
        ({"components": 3}, "malformed"),
        ({"components": ["backbone", "neck"]}, "is missing"),
    ],
)
def test_manifest_that_does_not_fit_is_refused(folder: Path, values: dict, told: str) -> None:
    save_file({"w": torch.zeros(1)}, folder.parent / "outside.safetensors")
    edit(folder, **values)
    with pytest.raises(CheckpointError, match=told):
        load(folder)


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"components": ["a"', '"text"'])
def test_manifest_that_is_none_is_refused(folder: Path, text: str) -> None:
    (folder / "model.json").write_text(text)
    with pytest.raises(CheckpointError, match="malformed"):
        load(folder)


def test_truncated_and_altered_tensors_are_refused(folder: Path) -> None:
    path = folder / "backbone.safetensors"
    data = path.read_bytes()
    for broken in (data[:-4], data[: len(data) // 2], b"", b"\xff" * 50):
        path.write_bytes(broken)
        with pytest.raises(CheckpointError, match="not a safetensors file"):
            load(folder)


def test_pickle_in_place_of_tensors_is_refused_and_never_run(folder: Path) -> None:
    class Spring:
        def __reduce__(self) -> tuple:
            return Path.mkdir, (folder / "sprung",)

    (folder / "backbone.safetensors").write_bytes(pickle.dumps(Spring()))
    with pytest.raises(CheckpointError, match="pickles are never loaded"):
        load(folder)
    assert not (folder / "sprung").exists()


def test_what_is_no_checkpoint_is_named(tmp_path: Path, folder: Path) -> None:
    torch.save({"w": torch.zeros(1)}, tmp_path / "model.pth")
    with pytest.raises(CheckpointError, match=r"Pickled checkpoints .* are not loaded"):
        load(tmp_path / "model.pth")
    with pytest.raises(CheckpointError, match=r"holds no model\.json"):
        load(tmp_path)
    with pytest.raises(CheckpointError, match="does not exist; nearest is"):
        load(tmp_path / "modle")


def test_failing_write_leaves_the_earlier_checkpoint(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def full_disk(*arguments: object) -> None:
        calls.append(arguments)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full_disk)
    with pytest.raises(OSError, match="No space"):
        save(folder, Checkpoint(SAVED.components, {"task": "another"}))
    monkeypatch.undo()
    assert load(folder).manifest["task"] == {"kind": "x"}
    assert list(folder.parent.iterdir()) == [folder]


def test_failing_first_write_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        save(tmp_path / "new" / "model", Checkpoint({"a": {"t": torch.zeros(1)}}, {"odd": object()}))
    assert list((tmp_path / "new").iterdir()) == []


def test_saving_again_replaces_whole(folder: Path) -> None:
    save(folder, Checkpoint({"bank": {"v": torch.ones(3)}}, {}))
    assert sorted(p.name for p in folder.iterdir()) == ["bank.safetensors", "model.json"]
    assert list(folder.parent.iterdir()) == [folder]
