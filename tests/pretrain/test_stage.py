import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pangu_cv.errors import CheckpointError, DataError, SettingsError, WeightsError
from pangu_cv.models import checkpoint
from pangu_cv.models.backbone import BackboneConfig
from pangu_cv.pretrain import loop, pretrain
from pangu_cv.pretrain.loop import DivergedError
from pangu_cv.pretrain.probes import held_out
from pangu_cv.pretrain.restore import Restorer
from tests.pretrain import small


def backbone_of(folder: Path) -> dict[str, torch.Tensor]:
    return checkpoint.load(folder / "model").components["backbone"]


def test_run_ends_with_a_model_a_report_and_a_verdict(tmp_path: Path) -> None:
    data = small.images(tmp_path / "data")
    result = pretrain(small.recipe(data, tmp_path / "run"))
    stored = checkpoint.load(result.model)
    assert {"backbone", "decoder"} <= set(stored.components)
    assert stored.manifest["backbone"] == "test_vit"
    verdict = json.loads((tmp_path / "run" / "metrics.json").read_text())["verdict"]
    assert stored.manifest["verdict"] == verdict
    assert verdict["targets"][0]["target"] == "data"
    page = result.report.read_text()
    for words in (verdict["sentence"], "What it finds alike", "What it can repair", "Where it looks", "Does it help?"):
        assert words in page
    assert not verdict["targets"][0]["is_apart"]
    assert "They are too few to part, so the same ones judge it" in page


def test_best_weights_are_kept_not_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Probes that only fall: the start is the best, and the run stops early."""
    fall = iter(np.linspace(0.9, 0.1, 20))
    judges = {"kind": "joint", "embedding": 16, "repair": {"weight": 0}}
    data = small.images(tmp_path / "data")
    made = small.recipe(data, tmp_path / "run", patience=2, round_steps=1, objective=judges)
    measured: list[dict[str, torch.Tensor]] = []

    def measure(probes: Any, backbone: Any) -> list[Any]:
        measured.append({k: v.clone() for k, v in backbone.network.state_dict().items()})
        return [small.score(float(next(fall)))]

    monkeypatch.setattr("pangu_cv.pretrain.stage.measure_all", measure)
    result = pretrain(made)
    assert len(measured) == 3
    assert result.metrics["best_round"] == 0
    assert "keep the original" in result.metrics["verdict"]["sentence"]
    for name, tensor in backbone_of(tmp_path / "run").items():
        assert torch.equal(tensor, measured[0][name])


def test_images_that_choose_the_round_do_not_judge_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The halves of the images disagree about the rounds: each is judged by the one that the other would take."""
    found = iter([small.score(0.5), small.score(0.45, 0.7), small.score(0.8, 0.4)])
    monkeypatch.setattr("pangu_cv.pretrain.stage.measure_all", lambda *_: [next(found)])
    result = pretrain(small.recipe(small.images(tmp_path / "data"), tmp_path / "run"))
    assert result.metrics["best_round"] == 2
    assert result.metrics["rounds"][2]["data"]["mean"] == pytest.approx(0.6)
    assert result.metrics["verdict"]["targets"][0]["after"] == pytest.approx((0.45 + 0.4) / 2)
    page = result.report.read_text()
    assert "no image speaks for its own choice" in page
    assert "too few" not in page
    assert "keep the original" in result.metrics["verdict"]["sentence"]


def test_killed_run_ends_like_an_unbroken_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = small.images(tmp_path / "data")
    changes: dict[str, Any] = {"targets": [], "optim": {"steps": 6, "batch": 8, "lr": 1e-3}, "round_steps": 2}
    changes["objective"] = {"kind": "joint", "embedding": 16, "keys": {"momentum": 0.9, "queue": 32}}
    pretrain(small.recipe(data, tmp_path / "unbroken", **changes))
    real = loop._step
    steps = small.dies_at(monkeypatch, 4)
    with pytest.raises(KeyboardInterrupt):
        pretrain(small.recipe(data, tmp_path / "killed", **changes))
    monkeypatch.setattr(loop, "_step", lambda *arguments: (steps.append(1), real(*arguments))[1])
    pretrain(small.recipe(data, tmp_path / "killed", **changes))
    assert len(steps) == 4 + 4  # the first round is not done again
    expected, found = backbone_of(tmp_path / "unbroken"), backbone_of(tmp_path / "killed")
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


def test_another_run_is_not_written_over(tmp_path: Path) -> None:
    data = small.images(tmp_path / "data")
    out = tmp_path / "run"
    pretrain(small.recipe(data, out, optim={"steps": 2, "batch": 8, "lr": 1e-3}))
    kept = {path: path.read_bytes() for path in (out / "recipe.yaml", out / "model" / "model.json")}
    with pytest.raises(SettingsError, match=r"holds a run with other settings of optim"):
        pretrain(small.recipe(data, out, optim={"steps": 4, "batch": 8, "lr": 1e-3}))
    (data / "dots" / "0.png").rename(data / "plain" / "moved.png")  # a target's label was mended
    with pytest.raises(SettingsError, match="holds a run on other images, labels or targets"):
        pretrain(small.recipe(data, out, optim={"steps": 2, "batch": 8, "lr": 1e-3}))
    assert kept == {path: path.read_bytes() for path in kept}


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_what_is_no_number_stops_and_keeps_the_batch(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = small.recipe(small.images(tmp_path / "data"), tmp_path / "run")
    real, calls, seen = loop._step, [], []

    def breaks(parts: loop.Parts, *rest: Any) -> Any:
        calls.append(1)
        seen[:] = [parts.objective]
        weight = next(parts.objective.encoder.parameters())
        if len(calls) == 4 and what == "loss":
            weight.data.fill_(float("nan"))
        if len(calls) == 4 and what == "gradient":
            weight.register_hook(lambda gradient: gradient + float("inf"))
        return real(parts, *rest)

    monkeypatch.setattr(loop, "_step", breaks)
    with pytest.raises(DivergedError, match=rf"the {what} was not a number at step 3.*bad_batch\.npz") as stopped:
        pretrain(made)
    run = tmp_path / "run"
    assert np.load(run / "bad_batch.npz")["inputs"].shape == (8, 2, small.SIDE, small.SIDE, 3)
    assert all(torch.isfinite(tensor).all() for tensor in backbone_of(run).values())
    kept = torch.load(run / "state.ckpt", weights_only=True)
    assert all(torch.isfinite(value).all() for value in kept["objective"].values())
    if what == "gradient":
        assert all(torch.isfinite(value).all() for value in seen[0].state_dict().values())
    monkeypatch.setattr(loop, "_step", real)
    assert set(np.load(run / "bad_batch.npz")) > {"clean", "seed_B", "label_N", "near_NK"}
    advice = "optim.lr=0.00033 objective.repair.lr=0.0033 and a new folder as output; with backbone.weights="
    assert advice in str(stopped.value)
    backbone = {"name": "test_vit", "levels": [1, 3, 4], "weights": str(stopped.value).split(advice)[1].split()[0]}
    calmer = {"steps": 4, "batch": 8, "lr": 0.00033}
    again = small.recipe(tmp_path / "data", tmp_path / "again", backbone=backbone, optim=calmer)
    assert pretrain(again).metrics["steps"] == 4


@pytest.mark.parametrize("broken", ["none", "one", "unreadable"])
def test_too_few_images_are_an_error_that_says_so(broken: str, tmp_path: Path) -> None:
    data = tmp_path / "data" / "some"
    data.mkdir(parents=True)
    if broken != "none":
        Image.new("RGB", (50, 50)).save(data / "a.png")
    if broken == "unreadable":
        (data / "b.png").write_bytes(b"no image")
    with pytest.raises(DataError):
        pretrain(small.recipe(tmp_path / "data", tmp_path / "run", targets=[]))
    assert not (tmp_path / "run" / "model").exists()


def test_all_duplicates_are_an_error(tmp_path: Path) -> None:
    data = tmp_path / "data" / "same"
    data.mkdir(parents=True)
    for number in range(6):
        Image.new("RGB", (50, 50), (90, 90, 90)).save(data / f"{number}.png")
    with pytest.raises(DataError, match="the same picture"):
        pretrain(small.recipe(tmp_path / "data", tmp_path / "run", targets=[]))


def test_full_disk_leaves_the_last_good_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = small.recipe(small.images(tmp_path / "data"), tmp_path / "run", targets=[])
    real, saved = loop.save, []

    def full(*arguments: Any) -> None:
        saved.append(1)
        if len(saved) == 2:
            raise OSError(28, "No space left on device", "state.ckpt")
        real(*arguments)

    monkeypatch.setattr(loop, "save", full)
    with pytest.raises(OSError, match="No space left"):
        pretrain(made)
    kept = torch.load(tmp_path / "run" / "state.ckpt", weights_only=True)
    assert json.loads(kept["state"])["step"] == 2


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"views": {"image_px": 50}}, r"views\.image_px: 50 is no multiple of 16"),
        ({"optim": {"batch": 9, "accumulate": 2}}, r"optim\.batch: 9 cannot be shared"),
        ({"objective": {"kind": "joint", "keys": {"queue": 8}}}, r"keys\.queue: needs"),
        ({"engine": {"accelerator": "gpu"}}, r"engine\.accelerator: 'gpu' asked for"),
        ({"text": {"tower": "nowhere"}, "labels": 1}, r"text\.tower: 'nowhere'"),
        ({"split": "anew"}, r"data: groups and split of '.*' say what is measured on"),
        ({"range_16bit": (0, 4095)}, r"range_16bit and max_pixels must be the same.*has \[0, 65535\].*\[0, 4095\]"),
        (
            {"text": {"tower": "any", "template": "a {lable}"}, "labels": 1},
            r"template: 'a .lable.' cannot be",
        ),
    ],
)
def test_wrong_settings_say_what_is_allowed(changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    data = small.images(tmp_path / "data")
    if "engine" in changes and torch.cuda.is_available():
        pytest.skip("a GPU is there")
    of_source = {"labels", "split", "range_16bit"}
    made = small.recipe(data, tmp_path / "run", **{k: v for k, v in changes.items() if k not in of_source})
    source = made.data[0].model_copy(update={k: v for k, v in changes.items() if k in of_source})
    with pytest.raises(SettingsError, match=words):
        pretrain(made.model_copy(update={"data": (source,)}))


def test_dino_runs(tmp_path: Path) -> None:
    pytest.importorskip("lightly")
    made = small.recipe(
        small.images(tmp_path / "data"),
        tmp_path / "run",
        objective={"kind": "dino", "prototypes": 32},
        views={"image_px": 64, "local_views": 2, "local_px": 32},
        optim={"steps": 2, "batch": 8},
    )
    losses = pretrain(made).metrics["last_losses"]
    assert set(losses) == {"total", "image", "patch", "koleo"}


def test_accumulated_parts_make_one_step(tmp_path: Path) -> None:
    data = small.images(tmp_path / "data")
    made = small.recipe(data, tmp_path / "run", targets=[], optim={"steps": 2, "batch": 8, "accumulate": 2})
    assert pretrain(made).metrics["steps"] == 2


def test_pretrained_run_serves_as_weights(tmp_path: Path) -> None:
    result = pretrain(small.recipe(small.images(tmp_path / "data"), tmp_path / "run"))
    for place in (result.folder, result.model):
        backbone = BackboneConfig(name="test_vit", weights=str(place), levels=(1, 3, 4)).build()
        for name, tensor in backbone_of(result.folder).items():
            assert torch.equal(backbone.network.state_dict()[name], tensor), name
    verdict = result.metrics["verdict"]["targets"][0]
    assert backbone.source is not None
    assert backbone.source.no_gain_on == (() if verdict["use"] else ("data",))
    with pytest.raises(WeightsError, match=r"is a 'test_vit'; set backbone\.name=test_vit"):
        BackboneConfig(name="test_efficientnet", weights=str(result.folder)).build()


def test_labels_and_captions_teach_the_text_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    embedded: list[str] = []

    def embed(tower: str, texts: tuple[str, ...]) -> torch.Tensor:
        embedded.extend(texts)
        return torch.nn.functional.normalize(torch.randn(len(texts), 8), dim=1)

    monkeypatch.setattr("pangu_cv.models.text_tower.embed_texts", embed)
    made = small.recipe(small.images(tmp_path / "data"), tmp_path / "run", targets=[], text={"tower": "any"})
    source = made.data[0].model_copy(update={"labels": 1.0})
    result = pretrain(made.model_copy(update={"data": (source,)}))
    assert sorted(embedded) == ["a photo of dots", "a photo of plain"]
    assert result.metrics["texts"] == 2
    assert result.metrics["last_losses"]["text"] > 0
    assert checkpoint.load(result.model).components["to_text"]["weight"].shape[0] == 8


def test_restorer_takes_an_image_of_any_size(tmp_path: Path) -> None:
    result = pretrain(small.recipe(small.images(tmp_path / "data"), tmp_path / "run", targets=[]))
    restorer = Restorer.load(result.folder)
    random = np.random.default_rng(0)
    for height, width in ((20, 90), (64, 64), (150, 101)):
        image = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
        found = restorer.restore(image)
        assert found.shape == image.shape
        assert np.abs(found.astype(int) - image).mean() < 60  # four steps have hardly moved it from doing nothing
    flat = np.full((100, 100, 3), 128, np.uint8)
    restorer.decoder.refine[-1].weight.data.zero_()
    restorer.decoder.refine[-1].bias.data.zero_()
    assert np.array_equal(restorer.restore(flat), flat)  # tiles fade into each other without a seam


def test_restorer_wants_a_decoder(tmp_path: Path) -> None:
    objective = {"kind": "joint", "embedding": 16, "repair": {"weight": 0}}
    result = pretrain(small.recipe(small.images(tmp_path / "data"), tmp_path / "run", objective=objective, targets=[]))
    with pytest.raises(CheckpointError, match="has no decoder"):
        Restorer.load(result.folder)


def test_what_probes_measure_on_is_not_learnt_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = small.images(tmp_path / "data")
    shutil.copytree(data, tmp_path / "copies" / "again")
    made = small.recipe(data, tmp_path / "run")
    copies = made.data[0].model_copy(update={"path": tmp_path / "copies"})
    measured = held_out(made.targets[0])
    assert len(measured) == 10  # 0.4 of 12 in each of two classes
    shown: set[str] = set()
    real = loop._step

    def spy(parts: loop.Parts, batch: Any, *rest: Any) -> Any:
        shown.update(parts.feed.images.paths[int(number)].parent.name for number in batch.facts.image_N)
        assert not {parts.feed.images.paths[int(number)] for number in batch.facts.image_N} & measured
        return real(parts, batch, *rest)

    monkeypatch.setattr(loop, "_step", spy)
    result = pretrain(made.model_copy(update={"data": (copies, made.data[0])}))
    assert result.metrics["images"] == 24 - 10  # nor from a copy elsewhere
    assert result.metrics["held_out"] == 10
    assert shown == {"dots", "plain"}


def test_what_is_measured_is_not_learnt_from_where_the_target_is_no_part_of_the_data(tmp_path: Path) -> None:
    """The labelled images were copied from the pool; one of those held out cannot be read."""
    target = small.images(tmp_path / "target")
    shutil.copytree(target, tmp_path / "pool" / "again")
    made = small.recipe(target, tmp_path / "run")
    pool = made.data[0].model_copy(update={"path": tmp_path / "pool"})
    min(held_out(made.targets[0])).write_bytes(b"no image")
    result = pretrain(made.model_copy(update={"data": (pool,)}))
    assert result.metrics["held_out"] == 9
    assert result.metrics["images"] == 24 - 9


@pytest.mark.parametrize("left", [b"", b"no state at all", None])
def test_a_torn_state_is_named(left: bytes | None, tmp_path: Path) -> None:
    made = small.recipe(small.images(tmp_path / "data"), tmp_path / "run", targets=[])
    pretrain(made)
    state = tmp_path / "run" / "state.ckpt"
    state.write_bytes(state.read_bytes()[:1000] if left is None else left)
    with pytest.raises(DataError, match=r"state\.ckpt: is not as it was written .*; remove it, and the run"):
        pretrain(made)
    state.unlink()
    assert pretrain(made).metrics["steps"] == 4


def test_a_flat_folder_of_images_needs_no_layout(tmp_path: Path) -> None:
    flat = tmp_path / "flat"
    flat.mkdir()
    for number, path in enumerate(small.images(tmp_path / "data").rglob("*.png")):
        path.rename(flat / f"{number}.png")
    result = pretrain(small.recipe(flat, tmp_path / "run", targets=[]))
    assert result.metrics["images"] == 24
    assert result.metrics["labelled"] == 0
