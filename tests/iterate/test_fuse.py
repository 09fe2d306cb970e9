"""Several plants' classifiers become one."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pangu_cv import cli
from pangu_cv.data.readers import read_dataset
from pangu_cv.errors import DataError, SettingsError
from pangu_cv.evaluate import TorchDecider, evaluate_classify
from pangu_cv.iterate.fuse import FuseRecipe, FuseResult, fuse
from pangu_cv.iterate.fuse.members import named
from pangu_cv.tasks.class_memory import Lesson
from pangu_cv.tasks.multilabel import MultilabelConfig
from pangu_cv.tasks.saved import Provenance, SavedModel, load_model, parent_of, save_model
from pangu_runtime.decode import DecodeSpec
from tests.finetune.tiny import class_folders
from tests.iterate.plants import ancestor, plant

COLOURS = ("blue", "green", "red")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of three colours; plants that know two each, and three that know all."""
    root = tmp_path_factory.mktemp("fuse")
    class_folders(root / "data", classes=COLOURS, train=6, test=3)
    weights = ancestor(root / "start.safetensors")
    plant(root / "north", ("blue", "green"), weights, nudge=0.05, seed=1)
    plant(root / "south", ("green", "red"), weights, nudge=0.05, seed=2)
    for seed in range(3):
        plant(root / f"all{seed}", COLOURS, weights, nudge=0.03, seed=seed)
    return root


def run(world: Path, tmp_path: Path, models: str, *overrides: str) -> FuseResult:
    names = [str(world / name) for name in models.split()]
    tree = {"models": names, "data": {"path": str(world / "data")}, "output": str(tmp_path / "run"), "cache": False}
    for override in overrides:
        key, _, value = override.partition("=")
        if key.startswith("data."):
            tree["data"][key[5:]] = value
        else:
            tree[key] = json.loads(value) if value[0] in '{["0123456789' else value
    return fuse(FuseRecipe.parse(tree, origin="test"))


def test_two_plants_become_one_that_knows_all_their_classes(world: Path, tmp_path: Path) -> None:
    result = run(world, tmp_path, "north south", "how=graph")
    figures = result.metrics["bounds"]["balanced_accuracy"]
    assert figures["north"] == pytest.approx(2 / 3)
    assert figures["south"] == pytest.approx(2 / 3)
    assert figures["ensemble"] == figures["fused"] == 1.0
    assert result.metrics["bounds"]["decided_as_the_ensemble"] == 1.0
    cost = result.metrics["bounds"]["cost"]
    assert cost["ensemble"]["backbones"] == 2
    assert cost["ratio"]["gflop"] == pytest.approx(0.5)
    saved = load_model(result.model)
    assert saved.model.classes == COLOURS
    assert saved.parent["sha256"] == load_model(world / "north" / "model").parent["sha256"]
    outcome = evaluate_classify(
        TorchDecider(saved.model),
        read_dataset(world / "data").split("test"),
        classes=saved.model.classes,
        decode_spec=saved.provenance.decode,
    ).outcome
    assert outcome.balanced_accuracy == 1.0


def test_report_holds_bounds_weights_and_notes(world: Path, tmp_path: Path) -> None:
    result = run(world, tmp_path, "north south", "how=graph")
    html = result.report.read_text()
    for words in (
        "The bounds",
        "Who is believed where",
        "Class by class",
        "the best single",
        "labels alone",
        "Where they part",
    ):
        assert words in html
    assert "known to one model only" in html
    assert json.loads((result.folder / "metrics.json").read_text())["bounds"]["against"]["ensemble"]["images"] == 9


def test_images_of_a_group_are_drawn_together(world: Path, tmp_path: Path) -> None:
    data, table = world / "data", tmp_path / "table.csv"
    rows = [
        f"{path.relative_to(data).as_posix()},{path.parent.name},{split},{f'lot {at % 3}' if split == 'test' else ''}"
        for split in ("train", "test")
        for at, path in enumerate(sorted((data / split).rglob("*.png")))
    ]
    table.write_text("\n".join(["file,label,split,group", *rows]))
    result = run(world, tmp_path, "north south", "how=graph", f"data.path={table}", f"data.root={data}")
    found = result.metrics["bounds"]["against"]["ensemble"]
    assert (found["images"], found["differences"]["accuracy"]["difference"]["n"]) == (9, 3)


def test_a_model_fades_where_it_does_not_know_the_class(world: Path, tmp_path: Path) -> None:
    recipe = run(world, tmp_path, "north south", "how=graph", "data.labels=ignore")
    html = recipe.report.read_text()
    assert "Mean weights" in html
    assert recipe.metrics["images"]["labelled"] == 0
    assert recipe.metrics["bounds"]["balanced_accuracy"]["fused"] > 0.85


def test_equal_models_make_that_model(world: Path, tmp_path: Path) -> None:
    copy = plant(tmp_path / "copy", COLOURS, world / "start.safetensors", nudge=0.03, seed=0)
    result = run(world, tmp_path, f"all0 {copy}", 'how={"kind": "soup", "choose": "uniform"}')
    one, other = load_model(world / "all0" / "model").model, load_model(result.model).model
    assert other.backbone.fingerprint == one.backbone.fingerprint
    images = torch.randint(0, 256, (4, 50, 40, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(one(images, one.threshold)[0], other(images, other.threshold)[0])


def test_greedy_soup_is_never_worse_where_it_chooses(world: Path, tmp_path: Path) -> None:
    result = run(world, tmp_path, "all0 all1 all2", "how=soup")
    fused, alone = result.metrics["fused"], result.metrics["worth_of_models"]
    assert fused["worth"] >= max(alone.values())
    assert fused["tried"][0]["is_taken"]
    assert all(one["is_taken"] == (one["worth"] >= fused["tried"][0]["worth"]) for one in fused["tried"][:2])


def test_soup_of_different_classes_fits_its_head_anew(world: Path, tmp_path: Path) -> None:
    result = run(world, tmp_path, "north south", 'how={"kind": "soup", "choose": "uniform"}')
    assert "fitted to what all models say" in result.metrics["fused"]["told"]
    assert result.metrics["bounds"]["balanced_accuracy"]["fused"] == 1.0
    a, b = (load_model(world / name / "model").model.backbone.network.state_dict() for name in ("north", "south"))
    mixed = load_model(result.model).model.backbone.network.state_dict()
    name = next(name for name in a if a[name].is_floating_point() and not torch.equal(a[name], b[name]))
    torch.testing.assert_close(mixed[name], (a[name] + b[name]) / 2)


def test_interpolation_ends_where_it_is_told(world: Path, tmp_path: Path) -> None:
    start = world / "start.safetensors"
    way = f'how={{"kind": "interpolate", "alpha": 0, "start": "{start}"}}'
    result = run(world, tmp_path / "a", "all1", way)
    plain = plant(tmp_path / "plain", COLOURS, start)
    assert load_model(result.model).model.backbone.fingerprint == load_model(plain / "model").model.backbone.fingerprint
    chosen = run(world, tmp_path / "b", "all1 all2", 'how={"kind": "interpolate"}').metrics["fused"]
    assert len(chosen["tried"]) == 11
    assert sum(one["is_taken"] for one in chosen["tried"]) == 1


@pytest.mark.parametrize("combine", ["linear", "ties", "dare", "dare_ties"])
def test_updates_are_merged(world: Path, tmp_path: Path, combine: str) -> None:
    start = world / "start.safetensors"
    way = f'how={{"kind": "lora", "combine": "{combine}", "start": "{start}", "rank": 4, "density": 0.5, "scale": 0.5}}'
    result = run(world, tmp_path, "north south", way)
    assert result.metrics["bounds"]["balanced_accuracy"]["fused"] == 1.0
    prints = {load_model(world / name / "model").model.backbone.fingerprint for name in ("north", "south")}
    assert load_model(result.model).model.backbone.fingerprint not in prints


def test_last_blocks_may_be_taught(world: Path, tmp_path: Path) -> None:
    train = {"steps": 3, "batch": 4, "workers": 0}
    way = {"kind": "graph", "student": "north", "teach": {"blocks": 1, "train": train}}
    result = run(world, tmp_path, "north south", f"how={json.dumps(way)}")
    before = load_model(world / "north" / "model").model.backbone.fingerprint
    assert load_model(result.model).model.backbone.fingerprint != before
    assert result.metrics["bounds"]["balanced_accuracy"]["fused"] == 1.0
    assert "beliefs" in result.report.read_text()


def test_a_folder_without_labels_teaches(world: Path, tmp_path: Path) -> None:
    flat = tmp_path / "flat"
    flat.mkdir()
    for path in (world / "data" / "train").rglob("*.png"):
        (flat / f"{path.parent.name}-{path.name}").write_bytes(path.read_bytes())
    result = run(world, tmp_path, "north south", f"data.path={flat}")
    assert result.metrics["fused"]["way"] == "graph"
    assert result.metrics["bounds"]["balanced_accuracy"] == {}
    assert result.metrics["bounds"]["decided_as_the_ensemble"] > 0.9
    with pytest.raises(SettingsError, match="greedy chooses by labelled images"):
        run(world, tmp_path / "soup", "north south", f"data.path={flat}", "how=soup")
    with pytest.raises(SettingsError, match="no image of data is labelled; give it"):
        run(world, tmp_path / "way", "north south", f"data.path={flat}", "how=interpolate")


def test_without_a_test_part_each_image_is_left_out_of_its_head(world: Path, tmp_path: Path) -> None:
    train = world / "data" / "train"
    found = run(world, tmp_path, "north south", "how=graph", f"data.path={train}").metrics["bounds"]
    assert found["measured_on_what_chose"]
    assert found["images"] == 18
    assert found["outcomes"]["fused"]["negative_log_likelihood"] > 0.01
    assert "labels alone" in found["balanced_accuracy"]


def test_a_class_of_another_name_is_renamed(world: Path, tmp_path: Path) -> None:
    plant(tmp_path / "west", ("green", "red"), world / "start.safetensors", nudge=0.05, called={"red": "rot"})
    result = run(world, tmp_path, f"north {tmp_path / 'west'}", 'rename={"west/rot": "red"}', "how=graph")
    assert result.metrics["classes"] == list(COLOURS)
    assert result.metrics["bounds"]["balanced_accuracy"]["fused"] == 1.0


def test_names_that_are_nearly_alike_are_kept_apart_and_said(world: Path, tmp_path: Path) -> None:
    plant(tmp_path / "west", ("green", "red"), world / "start.safetensors", called={"green": "greens"})
    result = run(world, tmp_path, f"north {tmp_path / 'west'}", "how=graph")
    assert result.metrics["classes"] == ["blue", "green", "greens", "red"]
    assert "'green' (north) and 'greens' (west) are kept apart" in " ".join(result.metrics["notes"])


def test_unknown_is_no_vote(world: Path, tmp_path: Path) -> None:
    plant(tmp_path / "careful", ("green", "red"), world / "start.safetensors", nudge=0.05, seed=2, unknown_rate=0.3)
    result = run(world, tmp_path, f"north {tmp_path / 'careful'}", "how=graph")
    assert any("has no vote" in note for note in result.metrics["notes"])
    assert load_model(result.model).model.config.unknown_rate is None
    assert result.metrics["bounds"]["balanced_accuracy"]["fused"] == 1.0


def other_plant(world: Path, folder: Path, kind: str) -> Path:
    start = world / "start.safetensors"
    match kind:
        case "ancestor":
            return plant(folder, COLOURS, ancestor(folder.parent / "other.safetensors", seed=5))
        case "random":
            return plant(folder, COLOURS, "random")
        case "pixels":
            return plant(folder, COLOURS, start, preprocess={"image_px": 96})
        case "architecture":
            return plant(folder, COLOURS, "random", backbone={"name": "test_resnet", "weights": "random"})
        case "levels":
            return plant(folder, COLOURS, start, backbone={"levels": [3, 4]})
        case "decode":
            return plant(folder, COLOURS, start, spec=DecodeSpec(range_16bit=(0, 4095)))
        case _:
            return plant(folder, COLOURS, start, called={"red": "Red"})


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("ancestor", "needs a common ancestor, but 'all0' comes from"),
        ("random", "'other' was trained from random weights of its own; take how=graph"),
        ("pixels", r"differ in preprocess.image_px \(64 and 96\); take how=graph"),
        ("architecture", r"differ in architecture \(test_efficientnet and test_resnet\)"),
        ("levels", "differ in backbone.levels"),
        ("decode", r"decoded differently \(range_16bit: \[0, 65535\] in 'all0', \[0, 4095\] in 'other'\)"),
        ("case", "'red' \\(all0\\) and 'Red' \\(other\\) differ in case.*rename=\\{other/Red: red\\}"),
    ],
)
def test_what_cannot_be_mixed_is_refused(world: Path, tmp_path: Path, kind: str, words: str) -> None:
    other = other_plant(world, tmp_path / "other", kind)
    with pytest.raises(SettingsError, match=words):
        run(world, tmp_path, f"all0 {other}", "how=soup")


def test_what_cannot_be_mixed_is_still_distilled(world: Path, tmp_path: Path) -> None:
    other = other_plant(world, tmp_path / "other", "architecture")
    result = run(world, tmp_path, f"north {other}")
    assert result.metrics["fused"]["way"] == "graph"
    assert result.metrics["bounds"]["balanced_accuracy"]["fused"] == 1.0


def test_mistakes_are_said(world: Path, tmp_path: Path) -> None:
    cases = (
        ("north", "how=graph", "one is given, and fusing needs two"),
        ("north north", "how=graph", "is given twice"),
        ("north south", 'rename={"west/red": "rot"}', "there is no model 'west'"),
        ("north south", 'rename={"north/blu": "rot"}', "has no class 'blu'; nearest is 'blue'"),
        ("north south", 'rename={"north/blue": "green"}', "would both be called green"),
        ("north south", 'how={"kind": "graph", "student": "west"}', "allowed are auto, north, south, soup"),
        ("all0 all1 all2", "how=interpolate", "goes from a start to one model, or between two"),
        ("north south", 'how={"kind": "lora"}', "how.start: lora needs the weights that the models come from"),
    )
    for models, override, words in cases:
        with pytest.raises(SettingsError, match=words):
            run(world, tmp_path, models, override)
    with pytest.raises(DataError, match=r"label\(s\) blue are of no model's classes"):
        run(world, tmp_path, "south all0", 'rename={"all0/blue": "azure"}')


def test_every_model_has_a_name_of_its_own(tmp_path: Path) -> None:
    folders = [
        tmp_path / "x" / "run",
        tmp_path / "y" / "run" / "model",
        tmp_path / "fused",
        tmp_path / "z" / "y" / "run",
    ]
    assert named(folders) == ("x-run", "y-run", "fused-2", "y-run-2")


def test_no_model_is_written_over(world: Path, tmp_path: Path) -> None:
    shutil.copytree(world / "north", tmp_path / "run")
    kept = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    for output in (tmp_path / "run", tmp_path / "run" / "model"):
        with pytest.raises(SettingsError, match=r"output: '.*' holds a model already; name a new folder"):
            run(world, tmp_path, f"{tmp_path / 'run'} south", "how=graph", f"output={output}")
    assert kept == {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}


def test_other_tasks_are_refused(world: Path, tmp_path: Path) -> None:
    network = {"name": "test_efficientnet", "weights": "random"}
    tags = MultilabelConfig.model_validate({"backbone": network, "preprocess": {"image_px": 64}}).build(COLOURS)
    provenance = Provenance(DecodeSpec(), "test", "test")
    save_model(SavedModel(tags, provenance, parent_of(tags)), tmp_path / "tags" / "model")
    with pytest.raises(SettingsError, match="is a model for multilabel; fuse takes classifiers"):
        run(world, tmp_path, f"north {tmp_path / 'tags'}")


def test_verb_prints_the_bounds(world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models = f"models=[{world / 'north'},{world / 'south'}]"
    line = ["fuse", "fuse", models, f"data.path={world / 'data'}", f"output={tmp_path / 'run'}", "how=graph"]
    with pytest.raises(SystemExit) as done:
        cli.main(line)
    assert done.value.code == 0
    out = capsys.readouterr().out
    for words in (
        "the best single",
        "ensemble            100.0%",
        "fused               100.0%",
        "50% of the arithmetic",
        "Next: ",
    ):
        assert words in out
    assert np.isfinite(load_model(tmp_path / "run" / "model").model.head.weight_CD.numpy()).all()


def test_memories_joined_decide_as_one_head_that_learnt_everything(world: Path, tmp_path: Path) -> None:
    start = world / "start.safetensors"
    north = plant(tmp_path / "north", ("red", "green"), start, seed=1)  # classes not sorted, as after an update
    south = plant(tmp_path / "south", ("blue", "green"), start, seed=2)
    result = run(tmp_path, tmp_path, "north south", f"data.path={world / 'data'}", "how=memory")
    assert result.metrics["fused"]["way"] == "memories joined"
    assert result.metrics["bounds"]["balanced_accuracy"]["fused"] == 1.0
    made, parts = load_model(result.model), [load_model(folder / "model") for folder in (north, south)]
    lessons = [
        Lesson(digest, known.classes, part.memory.raw[digest])
        for part in parts
        if part.memory is not None
        for digest, known in part.memory.known.items()
    ]
    classes = ("blue", "green", "red")
    whole = parts[0].model.config.build(classes)
    features_NVD = torch.stack([one.features_VD for one in lessons])
    whole.fit(features_NVD, torch.tensor([classes.index(one.classes[0]) for one in lessons]))
    torch.testing.assert_close(made.model.head.weight_CD, whole.head.weight_CD, atol=1e-6, rtol=1e-5)
    assert made.memory is not None
    assert made.memory.counts == {"blue": 6, "green": 12, "red": 6}
    assert made.memory.classes == made.model.classes == classes


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"memory_per_class": None}, "'south' keeps nothing of that kind"), ({"nudge": 0.05}, "of 'north' and 'south'")],
)
def test_memories_that_cannot_be_joined_are_refused(
    world: Path, tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    start = world / "start.safetensors"
    plant(tmp_path / "north", ("blue", "green"), start, seed=1)
    plant(tmp_path / "south", ("green", "red"), start, seed=2, **settings)
    with pytest.raises(SettingsError, match=f"{message}.*take how=graph"):
        run(tmp_path, tmp_path, "north south", f"data.path={world / 'data'}", "how=memory")


def test_a_base_of_other_names_is_refused_and_its_own_counts_once(world: Path, tmp_path: Path) -> None:
    start = world / "start.safetensors"
    plant(tmp_path / "north", ("blue", "green"), start, seed=1)
    plant(tmp_path / "south", ("green", "red"), start, seed=2)
    plant(tmp_path / "other", ("blue", "green"), start, seed=3, called={"blue": "azure"})
    data = f"data.path={world / 'data'}"
    with pytest.raises(SettingsError, match=r"how\.base: .* calls a class azure, which none of the models does"):
        run(tmp_path, tmp_path, "north south", data, f'how={{"kind": "memory", "base": "{tmp_path / "other"}"}}')
    base = load_model(tmp_path / "north" / "model")
    assert base.memory is not None
    folded, blank = base.memory.folded(), base.model
    for name, seed, colour in (("one", 5, "blue"), ("two", 6, "red")):
        lesson = Lesson(name, (colour,), next(iter(base.memory.raw.values())) + 0.1 * seed)
        grown = folded.learn(blank, [lesson])
        grown.teach(blank)
        save_model(replace(base, memory=grown), tmp_path / name / "model")
    save_model(replace(base, memory=folded), tmp_path / "base" / "model")
    how = f'how={{"kind": "memory", "base": "{tmp_path / "base"}"}}'
    made = load_model(run(tmp_path, tmp_path / "fused", "one two", data, how).model)
    assert made.memory is not None
    assert made.memory.counts == {"blue": 7, "green": 6, "red": 1}
    with pytest.raises(SettingsError, match="name the model that all grew from as the base"):
        run(tmp_path, tmp_path / "twice", "one two", data, "how=memory")
