"""Out to a real FiftyOne and back, as people leave it."""

import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pangu_cv import cli
from pangu_cv.data.config import DataConfig
from pangu_cv.data.readers import read_dataset
from pangu_cv.data.sample import Box, Dataset
from pangu_cv.data.versions import read_version, write_version
from pangu_cv.errors import DataError, RuntimeLimitError
from pangu_cv.iterate.inspect.app import app
from pangu_cv.iterate.inspect.back import Collected, collect, uncollected
from pangu_cv.iterate.inspect.database import open_fiftyone
from pangu_cv.iterate.inspect.findings import Collector
from pangu_cv.iterate.inspect.look import looks
from pangu_cv.iterate.inspect.out import VIEW, Sender, kept
from pangu_cv.iterate.inspect.shown import small
from tests.finetune import tiny
from tests.iterate.inspect.answers import Told
from tests.iterate.inspect.mongo import free_port

pytestmark = pytest.mark.filterwarnings("ignore:::(fiftyone|mongoengine|eta|pymongo|motor|strawberry)")
LAYOUTS = {
    "classify": tiny.class_folders,
    "multilabel": tiny.tagged,
    "detect": tiny.boxed,
    "segment": tiny.masked,
    "anomaly": tiny.mvtec,
}


@pytest.fixture
def name(fiftyone: ModuleType, request: pytest.FixtureRequest) -> Iterator[str]:
    name = re.sub(r"\W", "-", request.node.name)
    yield name
    if fiftyone.dataset_exists(name):
        fiftyone.delete_dataset(name)


def send(fiftyone: ModuleType, dataset: Dataset, name: str, task: str | None) -> Any:
    looker = Told(task)
    sender, collector = Sender(fiftyone, dataset, name, fingerprint="x", task=task), Collector(dataset, looker)
    for look in looks(dataset, looker):
        sender.take(look)
        collector.take(look)
    return sender.finish(collector.done())


def back(target: Any, dataset: Dataset, scratch: Path) -> Collected:
    scratch.mkdir(exist_ok=True)
    target.reload()
    return collect(target, dataset, scratch=scratch, by="ann")


def tree(folder: Path) -> dict[str, str]:
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("task", LAYOUTS)
def test_what_nobody_touched_comes_back_the_same(task: str, fiftyone: ModuleType, name: str, tmp_path: Path) -> None:
    dataset = read_dataset(LAYOUTS[task](tmp_path / "data"))
    if task == "detect":  # edges that no share of an image is exactly
        odd = Box("dark", (1 / 3, 0.1, 0.1 + 0.2, 63.99999999999999))
        samples = (replace(dataset.samples[0], boxes=(odd, odd)), *dataset.samples[1:])
        dataset = replace(dataset, samples=samples)
    before = tree(tmp_path / "data")
    target = send(fiftyone, dataset, name, task)
    assert uncollected(target) == 0
    returned = back(target, dataset, tmp_path / "scratch")
    assert returned == Collected(dataset)
    assert tree(tmp_path / "data") == before
    looker = Told(task)
    for look, sample in zip(looks(dataset, looker), target, strict=True):
        assert np.array_equal(sample["embedding"], look.features_D)
        assert sample["sha256"] == look.sha256
        if look.mask_HW is not None:
            assert np.array_equal(sample["mask"].mask, look.mask_HW)
        if task == "anomaly":
            assert np.array_equal(sample["heat_map"].map, small(look.prediction.map_HW))
        if task == "detect":
            assert sample["predicted_boxes"].detections[0].label == "dark"
    assert len(target.load_brain_results(VIEW).points) == len(dataset)


def test_labels_and_tags_become_a_version(fiftyone: ModuleType, name: str, tmp_path: Path) -> None:
    dataset = read_dataset(tiny.class_folders(tmp_path / "data", train=6, test=0))
    before = tree(tmp_path / "data")
    target = send(fiftyone, dataset, name, "classify")
    by_name = {Path(sample.filepath).relative_to(dataset.root).as_posix(): sample for sample in target}
    asked = {
        "blue/0.png": "relabel:green", "blue/1.png": "remove", "blue/2.png": "unlabel", "blue/3.png": "reject",
        "blue/4.png": "unsure", "red/0.png": "accept",
    }  # fmt: skip
    for file, tag in asked.items():
        by_name[file].tags.append(tag)
        by_name[file].save()
    by_name["red/1.png"]["label"].label = "rost"
    by_name["red/2.png"]["split"], by_name["red/2.png"]["group"] = "val", "part 7"
    by_name["red/1.png"].save()
    by_name["red/2.png"].save()
    assert uncollected(target) == 8 - 1  # accepting what is so already changes nothing
    returned = back(target, dataset, tmp_path / "scratch")
    assert returned.conflicts == returned.notes == ()
    version = write_version(tmp_path / "versions", returned.dataset, changes=returned.changes)
    after = {s.path.relative_to(dataset.root).as_posix(): s for s in DataConfig(path=version.folder).read()}
    assert {file for file in by_name if file not in after} == {"blue/1.png"}
    labels = {file: sample.label for file, sample in after.items()}
    expected = {file: file.split("/")[0] for file in labels}
    assert labels == expected | {"blue/0.png": "green", "blue/2.png": None, "red/1.png": "rost"}
    assert (after["red/2.png"].split, after["red/2.png"].group) == ("val", "part 7")
    facts = {(c.image, c.field): (c.before, c.after, c.by) for c in read_version(version.folder).changes}
    assert facts[("blue/0.png", "label")] == ("blue", "green", "ann")
    assert facts[("blue/3.png", "rejected")] == (None, "blue", "ann")
    assert facts[("blue/4.png", "tag")] == (None, "unsure", "ann")
    assert len(facts) == 8
    assert tree(tmp_path / "data") == before


def test_boxes_moved_added_removed_accepted(fiftyone: ModuleType, name: str, tmp_path: Path) -> None:
    dataset = read_dataset(tiny.boxed(tmp_path / "data", train=3, test=0))
    target = send(fiftyone, dataset, name, "detect")
    empty, first, second = list(target)
    boxes = first["boxes"].detections
    kept = dataset.samples[1].boxes
    boxes[0].bounding_box = [0.25, 0.5, 0.5, 0.25]
    boxes.append(fiftyone.Detection(label="new", bounding_box=[0.0, 0.0, 0.1, 0.125]))
    first.save()
    second["boxes"].detections[0].tags.append("reject")
    second["boxes"].detections[1].tags.append("relabel:scratch")
    second["predicted_boxes"].detections[0].tags.append("accept")
    second.save()
    empty["predicted_boxes"].detections[0].tags.append("reject")
    empty.save()
    returned = back(target, dataset, tmp_path / "scratch")
    none, moved, judged = (sample.boxes for sample in returned.dataset)
    assert none == ()
    assert moved == (Box(kept[0].label, (20.0, 32.0, 60.0, 48.0)), kept[1], Box("new", (0.0, 0.0, 8.0, 8.0)))
    accepted = np.array([8, 1 / 3, 56, 57.6], np.float32).astype(float)
    assert judged == (
        Box("scratch", dataset.samples[2].boxes[1].xyxy),
        Box("dark", pytest.approx(tuple(accepted), abs=1e-5)),
    )
    assert judged[1].xyxy[1] == float(np.float32(1 / 3)), "an accepted box has the model's very pixels"
    assert sorted(c.field for c in returned.changes) == ["box"] * 5 + ["rejected"]


def test_masks_painted_and_accepted(fiftyone: ModuleType, name: str, tmp_path: Path) -> None:
    dataset = read_dataset(tiny.masked(tmp_path / "data", train=3, test=0))
    before = tree(tmp_path / "data")
    target = send(fiftyone, dataset, name, "segment")
    painted, accepted, _ = list(target)
    mask = painted["mask"].mask.copy()
    mask[:5, :5] = 1
    painted["mask"].mask = mask
    painted.save()
    accepted.tags.append("accept")
    accepted["predicted_mask"].mask = 1 - accepted["mask"].mask
    accepted.save()
    returned = back(target, dataset, tmp_path / "scratch")
    version = write_version(tmp_path / "versions", returned.dataset, changes=returned.changes)
    shutil.rmtree(tmp_path / "scratch")
    first, second, third = read_version(version.folder).dataset
    assert np.array_equal(np.asarray(Image.open(first.mask)), mask)
    assert np.array_equal(np.asarray(Image.open(second.mask)), 1 - np.asarray(Image.open(dataset.samples[1].mask)))
    assert third == dataset.samples[2]
    assert [change.field for change in returned.changes] == ["mask", "mask"]
    assert tree(tmp_path / "data") == before


def test_conflicts_are_told_and_nothing_is_lost(fiftyone: ModuleType, name: str, tmp_path: Path) -> None:
    dataset = read_dataset(tiny.class_folders(tmp_path / "data", train=4, test=0))
    target = send(fiftyone, dataset, name, "classify")
    for at, tags in enumerate((["relabel:a", "relabel:b"], ["accept", "remove"], ["relabel:mine"], ["relabel:red"])):
        sample = target.skip(at).first()
        sample.tags += tags
        sample.save()
    target.add_sample(fiftyone.Sample(filepath=str(tmp_path / "stranger.png")))
    now = [replace(sample, label="theirs") if at == 2 else sample for at, sample in enumerate(dataset.samples)]
    gone = now.pop()
    gone.path.unlink()
    new = tiny.save(dataset.root / "red" / "new.png", tiny.picture(tiny.COLOURS["red"], 77))
    now.append(replace(now[-1], path=new))
    returned = back(target, replace(dataset, samples=tuple(now)), tmp_path / "scratch")
    told = "\n".join(returned.conflicts)
    assert "blue/0.png: the image: relabel names a, b; one class is needed" in told
    assert "blue/1.png: tags that contradict each other: accept, remove" in told
    assert "blue/2.png: label is 'theirs' in the dataset by now, 'mine' in FiftyOne; the dataset's stays" in told
    assert len(returned.conflicts) == 3
    assert [(change.image, change.after) for change in returned.changes] == [("blue/3.png", "red")]
    assert returned.missing == (gone,)
    assert [sample.label for sample in returned.dataset][:4] == ["blue", "blue", "theirs", "red"]
    notes = "\n".join(returned.notes)
    assert "1 images are gone since and stay in the version as missing" in notes
    assert "1 images came to the dataset since" in notes
    assert "1 samples were added to FiftyOne by another hand" in notes


def test_a_class_renamed_as_a_whole_is_told(fiftyone: ModuleType, name: str, tmp_path: Path) -> None:
    dataset = read_dataset(tiny.class_folders(tmp_path / "data", train=3, test=0))
    target = send(fiftyone, dataset, name, None)
    for sample in target.match_tags("none", bool=False).iter_samples(autosave=True):
        if sample["label"].label == "red":
            sample["label"].label = "rust"
    returned = back(target, dataset, tmp_path / "scratch")
    assert [s.label for s in returned.dataset] == ["blue"] * 3 + ["rust"] * 3
    assert returned.notes[0].startswith("class 'red' was renamed 'rust' (3 labels)")


def test_the_verb_sends_opens_guards_and_collects(
    fiftyone: ModuleType, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], classify: tiny.Made
) -> None:
    data = tiny.class_folders(tmp_path / "data", train=4, test=0)
    base = ["inspect", str(data), "--name", name, "--json"]
    sent = [*base, "--model", str(classify.bundle), "--no-serve"]

    def run(*arguments: str) -> tuple[int, dict[str, Any], str]:
        code = 0
        try:
            cli.main(arguments)
        except SystemExit as stop:
            code = int(stop.code or 0)
        out, err = capsys.readouterr()
        return code, json.loads(out) if out.startswith("{") else {}, err

    assert run(*sent)[1]["doubtful"] == 0
    assert kept(fiftyone, name).is_complete
    sample = fiftyone.load_dataset(name).first()
    sample.tags.append("relabel:white")
    sample.save()
    code, told, _ = run(*sent)
    assert (code, "doubtful" in told) == (0, False), "opened again, not sent again"
    code, _, err = run(*base, "--no-serve")
    assert code == 2
    assert "changes of people on 1 images that were not collected" in err
    versions = ["--collect", "--out", str(tmp_path / "versions")]
    code, told, _ = run(*base, *versions)
    assert (code, told["is_new"], told["in_words"]) == (0, True, ["1 labels changed ('blue' to 'white': 1)"])
    assert run(*base, *versions)[1]["is_new"] is False
    assert [entry.name for entry in (tmp_path / "versions").iterdir()] == ["v0001"]
    assert DataConfig(path=tmp_path / "versions").read().samples[0].label == "white"
    code, _, _ = run(*base, "--no-serve")
    assert (code, fiftyone.load_dataset(name).first().tags) == (0, []), "what was brought back is not asked for again"
    for tags in (["relabel:white"], ["remove"], []):  # brought back, then changed once more, then taken back
        sample = fiftyone.load_dataset(name).first()
        sample.tags = tags
        sample.save()
        code, _, err = run(*sent)
        assert (code, "changes of people on 1 images" in err) == (2, True)
        assert run(*base, *versions)[0] == 0
        assert uncollected(fiftyone.load_dataset(name)) == 0
    code, _, _ = run(*base, "--no-serve", "--renew")
    assert (code, fiftyone.load_dataset(name).first().tags) == (0, [])
    code, _, err = run("inspect", str(tiny.class_folders(tmp_path / "other", test=0)), "--name", name, "--no-serve")
    assert code == 2
    assert "is of other images" in err


def test_a_dataset_that_is_not_ours_is_left_alone(fiftyone: ModuleType, name: str) -> None:
    fiftyone.Dataset(name, persistent=True)
    with pytest.raises(DataError, match="that pangu_cv did not make"):
        kept(fiftyone, name)


def test_a_database_that_does_not_answer(
    fiftyone: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("pangu_cv.iterate.inspect.database._WAIT_MS", 300)
    monkeypatch.setattr(fiftyone.config, "database_uri", f"mongodb://me:secret@127.0.0.1:{free_port()}")
    data, page = tiny.class_folders(tmp_path / "data", test=0), tmp_path / "page.html"
    with pytest.raises(SystemExit) as stop:
        cli.main(["inspect", str(data), "--page", str(page)])
    assert stop.value.code == 2
    told = capsys.readouterr().err
    assert re.search(r"no MongoDB answers at mongodb://…@127\.0\.0\.1:\d+ .*FIFTYONE_DATABASE_URI", told)
    assert "secret" not in told
    assert "All images at a glance" in page.read_text(), "the page is written all the same"


def test_the_app_in_a_browser(fiftyone: ModuleType, name: str, tmp_path: Path) -> None:
    sync_api, browser = pytest.importorskip("playwright.sync_api"), shutil.which("chromium")
    if browser is None:
        pytest.skip("no chromium here")
    send(fiftyone, read_dataset(tiny.class_folders(tmp_path / "data", train=3, test=0)), name, "classify")
    with app(name, port=free_port()) as url, sync_api.sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        page, errors = chromium.new_page(viewport={"width": 1400, "height": 900}), []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(url)
        sync_api.expect(page.locator("body")).to_contain_text("6 samples", timeout=90_000)
        for field in ("label", "predicted", "label tags"):
            sync_api.expect(page.get_by_text(field, exact=True).first).to_be_visible(timeout=30_000)
        sync_api.expect(page.locator("canvas, [data-cy=looker]").first).to_be_visible(timeout=60_000)
        chromium.close()
    assert errors == []


def test_a_database_that_does_not_start(fiftyone: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise fiftyone.core.config.FiftyOneConfigError("MongoDB could not be installed on your system")

    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "mongo.log").write_text("first\nlibcrypto.so.3: cannot open shared object file\n")
    monkeypatch.setattr(fiftyone.config, "database_dir", str(tmp_path))
    monkeypatch.setattr(fiftyone, "list_datasets", fail)
    with pytest.raises(RuntimeLimitError, match=r"does not start.*libcrypto.*pangu-cv\[inspect-db\].*DATABASE_URI"):
        open_fiftyone()
