"""Which states a run keeps: the best one by the probes, and the last where they do not see all that is learnt."""

import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.fabric import Fabric

from pangu_cv.errors import CheckpointError, DataError
from pangu_cv.models import checkpoint
from pangu_cv.pretrain import pretrain
from pangu_cv.pretrain.restore import Restorer
from pangu_cv.tasks.image_text import ImageText
from tests.pretrain import small


def _probes_say(monkeypatch: pytest.MonkeyPatch, *rounds: dict[str, float]) -> None:
    found = iter(rounds)
    monkeypatch.setattr(
        "pangu_cv.pretrain.stage.measure_all",
        lambda *_: [small.score(value, target=name) for name, value in next(found).items()],
    )


def test_a_decoder_outlives_probes_that_only_fall(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _probes_say(monkeypatch, *({"data": value} for value in (0.9, 0.8, 0.7, 0.6, 0.5)))
    result = pretrain(small.recipe(small.images(tmp_path / "data"), tmp_path / "run", patience=1, round_steps=1))
    assert result.metrics["best_round"] == 0
    assert result.metrics["steps"] == 4  # no early stop: what it learns beside is not measured
    kept, last = (checkpoint.load(tmp_path / "run" / name) for name in ("model", "last"))
    assert (kept.manifest["step"], last.manifest["step"]) == (0, 4)
    restorer = Restorer.load(result.folder)
    assert restorer.decoder.refine[-1].weight.abs().sum() > 0
    patches = "patch_embed.proj.weight"
    assert torch.equal(restorer.encoder.network.state_dict()[patches], last.components["backbone"][patches])
    assert not torch.equal(kept.components["backbone"][patches], last.components["backbone"][patches])
    page = result.report.read_text()
    assert "the state after step 4. The probes measure the encoder alone" in page
    assert "No round gained anywhere (the best had -10.0 points on the mean): the start is kept." in page
    assert "by the original features" in page


def test_words_outlive_them_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pangu_cv.models.text_tower.embed_texts", lambda _, texts: torch.randn(len(texts), 8))
    _probes_say(monkeypatch, {"data": 0.9}, {"data": 0.8}, {"data": 0.7})
    objective = {"kind": "joint", "embedding": 16, "repair": {"weight": 0}}
    data = small.images(tmp_path / "data")
    made = small.recipe(data, tmp_path / "run", objective=objective, text={"tower": "any"}, patience=1)
    source = made.data[0].model_copy(update={"labels": 1.0})
    result = pretrain(made.model_copy(update={"data": (source,)}))
    weights = [checkpoint.load(tmp_path / "run" / name).components["to_text"]["weight"] for name in ("model", "last")]
    assert torch.equal(ImageText.load(result.folder, image_px=64).to_text.weight, weights[1])
    assert not torch.equal(*weights)


def test_what_probes_see_whole_is_kept_once(tmp_path: Path) -> None:
    objective = {"kind": "joint", "embedding": 16, "repair": {"weight": 0}}
    pretrain(small.recipe(small.images(tmp_path / "data"), tmp_path / "run", objective=objective))
    assert not (tmp_path / "run" / "last").exists()


def test_a_target_that_loses_does_not_hide_one_that_gains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the mean nothing is gained; the one keeps the original, so that the other's eight points are worth four."""
    _probes_say(monkeypatch, {"a": 0.5, "b": 0.9}, {"a": 0.58, "b": 0.82}, {"a": 0.51, "b": 0.91})
    data = small.images(tmp_path / "data")
    targets = [{"path": str(data), "image_px": small.SIDE, "images": 24, "shots": 2, "draws": 2}] * 2
    result = pretrain(small.recipe(data, tmp_path / "run", targets=targets))
    assert result.metrics["best_round"] == 1
    assert [one["use"] for one in result.metrics["verdict"]["targets"]] == [True, False]
    assert result.metrics["verdict"]["sentence"].startswith("+4.0 points on the mean of 2 target(s): use it; keep")
    assert "all together" in result.report.read_text()


def test_a_decoder_that_saw_no_damage_does_not_pretend(tmp_path: Path) -> None:
    made = small.recipe(
        small.images(tmp_path / "data"), tmp_path / "run", targets=[], views={"image_px": 64, "damage": {"p": 0}}
    )
    result = pretrain(made)
    with pytest.raises(CheckpointError, match="was shown no damage"):
        Restorer.load(result.folder)
    assert "was shown no damage, and undoes none" in result.report.read_text()


def test_states_are_written_on_the_disk_that_was_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places, real = [], Fabric.save

    def save(fabric: Fabric, *rest: Any, **named: Any) -> None:
        places.append(tempfile.gettempdir())
        real(fabric, *rest, **named)

    monkeypatch.setattr(Fabric, "save", save)
    before = tempfile.gettempdir()
    pretrain(small.recipe(small.images(tmp_path / "data"), tmp_path / "run", targets=[]))
    assert set(places) == {str(tmp_path / "run")}
    assert tempfile.gettempdir() == before


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_goes_away_is_named(workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What has no room in the cache is read when it is shown."""
    data = small.images(tmp_path / "data")
    lost = data.resolve() / "dots" / "3.png"
    engine = {"workers": workers, "accelerator": "cpu", "precision": "32-true"}
    objective = {"kind": "joint", "embedding": 16, "neighbours": {"weight": 0}, "labels": {"weight": 0}}
    made = small.recipe(data, tmp_path / "run", targets=[], cache_gb=0, engine=engine, objective=objective)
    monkeypatch.setattr("pangu_cv.pretrain.stage.train", _after(lost.unlink))
    with pytest.raises(DataError, match=r"3\.png.*put it back, and the run goes on") as stopped:
        pretrain(made.model_copy(update={"optim": made.optim.model_copy(update={"batch": 24})}))
    assert "Traceback" not in str(stopped.value)


def _after(first: Any) -> Any:
    from pangu_cv.pretrain.loop import train

    def run(*rest: Any, **named: Any) -> Any:
        first()
        return train(*rest, **named)

    return run
