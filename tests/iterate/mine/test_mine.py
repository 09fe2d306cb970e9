"""Mining: rare things are found, answers count, lists do not repeat themselves."""

import base64
import csv
import io
import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from pangu_cv import recipes
from pangu_cv.cli import main
from pangu_cv.errors import DataError, SettingsError
from pangu_cv.features import content_digest
from pangu_cv.iterate.answers import Answer, AnswerFile
from pangu_cv.iterate.mine import MineRecipe, mine, stage
from pangu_cv.iterate.mine.diverse import diverse
from pangu_cv.iterate.mine.find import find_reasons
from pangu_cv.iterate.mine.learn import spread
from pangu_cv.iterate.mine.ranking import Reason, mixed
from pangu_cv.iterate.mine.typical import typical
from pangu_cv.iterate.mine.wanted import Wanted
from pangu_cv.iterate.pool.neighbours import Neighbours
from tests.finetune.tiny import COLOURS
from tests.iterate.plants import plant

TINY = ["backbone={name: test_vit, weights: random, levels: [2, 3, 4]}", "preprocess.image_px=64"]


def clusters(sizes: list[int], *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(len(sizes), 12))
    labels = np.repeat(np.arange(len(sizes)), sizes)
    return (centres[labels] + 0.15 * rng.normal(size=(len(labels), 12))).astype(np.float32), labels


def test_one_answer_brings_the_others_of_its_kind_first() -> None:
    features, labels = clusters([200, 200, 6])
    rare = np.flatnonzero(labels == 2)
    scores = Wanted(features).scores([int(rare[0])], [0, 250])
    assert set(np.argsort(-scores)[:6]) == set(rare)


def test_scores_are_those_of_the_weighted_regression_they_stand_for() -> None:
    features, _ = clusters([30, 30])
    yes, no = [40, 41], [3]
    found = Wanted(features).scores(yes, no)
    weights = np.full(60, 0.1)
    weights[no] = 1.0
    weights[yes] = 0.3 * (0.1 * 57 + 1) / 2
    targets = np.zeros(60)
    targets[yes] = 1
    rows = np.concatenate([features, np.ones((60, 1))], 1)
    ridge = 0.1 * weights.sum() / 10 * np.diag([1.0] * 12 + [0.0])
    expected = rows @ np.linalg.solve((rows * weights[:, None]).T @ rows + ridge, rows.T @ (weights * targets))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_answers_change_the_order() -> None:
    features, labels = clusters([300, 5])
    odd = np.random.default_rng(1).random(305).astype(np.float32)
    wanted = Wanted(features)
    before = [p.place for p in mixed(find_reasons(wanted, odd, yes=[], no=[], explore=0.3))]
    after = [p.place for p in mixed(find_reasons(wanted, odd, yes=[304], no=before[:10], explore=0.3), without=[304])]
    rare = set(np.flatnonzero(labels == 1)) - {304}
    assert max(after.index(place) for place in rare) < 8
    assert len(set(after)) == len(after) == 304


def test_before_anything_is_found_a_sentence_comes_first_in_its_order() -> None:
    told, odd = np.array([0.1, 0.7, 0.9, 0.3], np.float32), np.array([0.9, 0.1, 0.2, 0.3], np.float32)
    reasons = find_reasons(Wanted(clusters([4])[0]), odd, yes=[], no=[], explore=0.1, told_N=told)
    assert [list(reason.order) for reason in reasons] == [[2, 1, 3, 0], [0, 3, 2, 1]]
    first = next(mixed(reasons))
    assert (first.place, first.reason) == (2, "fits the sentence")


def test_reasons_get_their_shares_and_no_image_twice() -> None:
    picks = list(mixed([Reason(range(100), 0.7, "a"), Reason(range(99, -1, -1), 0.3, "b")]))
    assert sorted(pick.place for pick in picks) == list(range(100))
    assert [pick.reason for pick in picks[:10]].count("b") == 3


def test_typical_images_come_from_every_cluster_before_any_twice() -> None:
    features, labels = clusters([80, 40, 20])
    found = typical(features, Neighbours(features), count=3, answered=[])
    assert set(labels[list(found.places)]) == {0, 1, 2}
    more = typical(features, Neighbours(features), count=1, answered=[0, 1, 90])
    assert labels[more.places[0]] == 2  # where nothing is labelled


def test_a_few_images_have_typical_ones_too() -> None:
    features, _ = clusters([6])
    assert sorted(typical(features, Neighbours(features), count=6, answered=[]).places) == list(range(6))


def test_doubts_are_spread() -> None:
    features, labels = clusters([100, 10, 10])
    doubts = np.where(labels == 0, 0.9, 0.8).astype(np.float32)
    doubts[:90] = 0.1
    found = spread(features, doubts, count=3, answered=[], seed=0)
    assert set(labels[found[:3]]) == {0, 1, 2}
    assert len(set(found)) == len(found)


def test_twins_are_passed_over_until_nothing_else_is_left() -> None:
    features = np.array([[1, 0], [1, 0.01], [0, 1]], np.float32)
    assert diverse([0, 1, 2], features, count=2, most_alike=0.95) == (0, 2)
    assert diverse([0, 1, 2], features, count=3, most_alike=0.95) == (0, 2, 1)
    assert diverse([0, 1, 2], features, count=2, most_alike=1.0) == (0, 1)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Grey plates, two of them with a bright spot."""
    folder = tmp_path_factory.mktemp("plates")
    rng = np.random.default_rng(0)
    for number in range(24):
        pixels = rng.integers(100, 110, (64, 64, 3), np.uint8)
        if number in (5, 17):
            pixels[20:36, 30:46] = (255, 40, 40)
        Image.fromarray(pixels).save(folder / f"plate{number:02}.png")
    return folder


def recipe(kind: str, images: Path, out: Path, *more: str) -> MineRecipe:
    lines = [f"images={images}", f"output={out}", f"store={out.parent / 'store'}", *TINY, *more]
    return MineRecipe.load(recipes.find("iterate", kind), lines)


def test_a_range_that_the_model_does_not_read_is_named_as_the_setting_it_is(images: Path, tmp_path: Path) -> None:
    model = plant(tmp_path / "model", sorted(COLOURS), "random")
    with pytest.raises(SettingsError, match=r"^range_16bit: 0 to 4095 found, .* leave range_16bit out") as refused:
        mine(recipe("find", images, tmp_path / "one", f"model={model}", "range_16bit=[0, 4095]"))
    assert "--" not in str(refused.value)


def test_spots_are_found_and_a_filled_in_list_is_taken_back(images: Path, tmp_path: Path) -> None:
    first = mine(recipe("find", images, tmp_path / "one", "count=4"))
    with first.ranked.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    spotted = [row for row in rows if Path(row["file"]).stem in ("plate05", "plate17")]
    assert len(spotted) == 2  # the oddest
    for row in rows:
        row["label"] = "spot" if row in spotted else "good"
    spotted[1]["label"] = ""
    with first.ranked.open("w", newline="") as stream:
        table = csv.DictWriter(stream, rows[0].keys())
        table.writeheader()
        table.writerows(rows)
    second = mine(recipe("find", images, tmp_path / "two", "count=2", f"labels={first.ranked}"))
    assert second.metrics["labelled"] == 3
    assert second.pool.images[second.picks[0].place] == images / spotted[1]["file"]
    assert second.picks[0].reason == "like what was found"
    assert "like what was found" in second.report.read_text()
    with second.ranked.open(newline="") as stream:
        carried = [row["label"] for row in csv.DictReader(stream) if row["label"]]
    assert sorted(carried) == ["good", "good", "spot"]  # the next round knows them from this list alone
    with pytest.raises(SettingsError, match=r"output: 3 labels filled in in .*ranked.csv' would be lost"):
        mine(recipe("find", images, tmp_path / "one", "count=4"))
    assert mine(recipe("find", images, tmp_path / "one", f"labels={first.ranked}")).metrics["labelled"] == 3


def test_labels_of_images_that_left_the_pool_stay_in_the_list(images: Path, tmp_path: Path) -> None:
    pool = tmp_path / "pool"
    shutil.copytree(images, pool)
    ranked = mine(recipe("find", pool, tmp_path / "run", "count=4")).ranked
    with ranked.open(newline="") as stream:
        rows = [row | {"label": "good"} for row in csv.DictReader(stream)]
    with ranked.open("w", newline="") as stream:
        table = csv.DictWriter(stream, rows[0].keys())
        table.writeheader()
        table.writerows(rows)
    (pool / rows[0]["file"]).unlink()
    (pool / rows[1]["file"]).write_bytes(b"no image")
    for _ in range(2):  # from its own list, again and again
        assert mine(recipe("find", pool, tmp_path / "run", "count=4", f"labels={ranked}")).metrics["labelled"] == 2
        with ranked.open(newline="") as stream:
            kept = {row["sha256"]: (row["label"], row["file"]) for row in csv.DictReader(stream) if row["label"]}
        assert kept == {row["sha256"]: ("good", row["file"]) for row in rows}


def test_an_example_from_elsewhere_finds_its_like(images: Path, tmp_path: Path) -> None:
    example = tmp_path / "missed.png"
    pixels = np.full((64, 64, 3), 105, np.uint8)
    pixels[20:36, 30:46] = (255, 40, 40)
    Image.fromarray(pixels).save(example)
    found = mine(recipe("find", images, tmp_path / "run", "count=2", f"goal.like=[{example}]", "goal.explore=0"))
    assert {found.pool.images[pick.place].stem for pick in found.picks} == {"plate05", "plate17"}


def test_an_example_of_the_pool_and_its_copies_are_not_chosen(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(images, tmp_path / "pool")
    shutil.copyfile(images / "plate05.png", tmp_path / "pool" / "copy.png")
    monkeypatch.chdir(tmp_path)
    found = mine(recipe("find", Path("pool"), Path("run"), "count=25", "goal.like=[pool/plate05.png]"))
    chosen = {found.pool.images[pick.place].name for pick in found.picks}
    assert chosen == {f"plate{number:02}.png" for number in range(24)} - {"plate05.png"}
    assert len(found.pool) == 25  # under one name, however it was given


def test_images_of_a_12_bit_camera_are_seen_and_shown_as_they_are(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(6):
        pixels = rng.integers(2000, 2100, (64, 64), np.uint16)
        (tmp_path / "deep").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "deep" / f"{number}.png")
    shown: list[int] = []
    for name, more in (("plain", []), ("deep", ["range_16bit=[0, 4095]"])):
        found = mine(recipe("find", tmp_path / "deep", tmp_path / f"run_{name}", *more))
        first = re.search(r"data:image/(?:png|jpeg|webp);base64,([^\"']+)", found.report.read_text())
        assert first is not None
        shown.append(int(np.asarray(Image.open(io.BytesIO(base64.b64decode(first[1]))).convert("L")).mean()))
        shown.append(int(1000 * np.abs(found.pool.features_NK).sum()))
    assert shown[0] < 12
    assert 110 < shown[2] < 150
    assert shown[1] != shown[3]


def test_what_somebody_was_unsure_of_is_not_chosen_again(images: Path, tmp_path: Path) -> None:
    file = AnswerFile(tmp_path / "answers.jsonl")
    file.append(Answer("plate05.png", content_digest(images / "plate05.png"), "spot", "unsure", "anna", 1.0))
    found = mine(recipe("find", images, tmp_path / "run", "count=24", f"labels={file.path}"))
    chosen = {found.pool.images[pick.place].name for pick in found.picks}
    assert chosen == {f"plate{number:02}.png" for number in range(24)} - {"plate05.png"}


def test_the_sentence_is_held_against_every_image(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a stand-in for images and texts in which the words and plate 17 mean the same."""
    words, other = torch.eye(2)
    searcher = SimpleNamespace(fingerprint="x", texts=lambda sentences: words[None])

    def seen(paths: list[Path], *_: object, **__: object) -> SimpleNamespace:
        rows = [words if path.stem == "plate17" else other for path in paths]
        index = {path: at for at, path in enumerate(paths)}
        return SimpleNamespace(index=index, features_NVD=torch.stack(rows)[:, None].numpy())

    monkeypatch.setattr(stage, "extract", seen)
    monkeypatch.setattr(stage, "ImageText", SimpleNamespace(load=lambda folder: searcher))
    asked = ["count=3", "goal.sentence=a spot", f"goal.text_model={tmp_path}", "goal.explore=0"]
    found = mine(recipe("find", images, tmp_path / "run", *asked))
    assert found.pool.images[found.picks[0].place].stem == "plate17"
    assert found.picks[0].reason == "fits the sentence"


def test_a_model_s_doubts_count(classify: object, tmp_path: Path) -> None:
    made = classify
    lines = [f"images={made.data}", f"model={made.run}", f"output={tmp_path / 'run'}", "count=3"]  # type: ignore[attr-defined]
    for doubt in ("margin", "entropy", "views"):
        settings = [*lines, f"goal.doubt={doubt}", f"store={tmp_path / 'store'}"]
        found = mine(MineRecipe.load(recipes.find("iterate", "learn"), settings))
        assert found.metrics["chosen"] == 3
        assert "the model is in doubt" in found.metrics["reasons"]
    with pytest.raises(SettingsError, match="has learnt from images read at 0 to 65535"):
        mine(MineRecipe.load(recipes.find("iterate", "learn"), [*lines, "range_16bit=[0, 4095]"]))


def test_an_answer_given_twice_counts_once_and_may_not_contradict(images: Path, tmp_path: Path) -> None:
    sha = content_digest(images / "plate05.png")
    rows = [f"{sha},spot", f"{sha},spot", f"{'0' * 64},spot"]
    table = tmp_path / "answers.csv"
    table.write_text("\n".join(["sha256,label", *rows]))
    assert mine(recipe("find", images, tmp_path / "one", f"labels={table}")).metrics["labelled"] == 1
    table.write_text("\n".join(["sha256,label", *rows, f"{sha},good"]))
    with pytest.raises(DataError, match="is called 'spot' and 'good'"):
        mine(recipe("find", images, tmp_path / "two", f"labels={table}"))


def test_labels_of_images_that_are_gone_since_are_named(images: Path, tmp_path: Path) -> None:
    labelled = tmp_path / "labels.csv"
    (tmp_path / "spot.png").write_bytes((images / "plate05.png").read_bytes())
    labelled.write_text("file,label\nspot.png,spot\ngone.png,spot\n")
    with pytest.raises(DataError, match=r"'gone.png' does not exist \(1 of 2 files are missing\)"):
        mine(recipe("find", images, tmp_path / "run", f"labels={labelled}"))


def test_mistakes_are_told(images: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"goal\.text_model"):
        mine(recipe("find", images, tmp_path / "run", "goal.sentence=a spot"))
    with pytest.raises(DataError, match="does not exist"):
        mine(recipe("find", tmp_path / "nowhere", tmp_path / "run"))
    with pytest.raises(DataError, match=r"range_16bit: \(9, 3\) found"):
        mine(recipe("find", images, tmp_path / "run", "range_16bit=[9, 3]"))
    with pytest.raises(DataError, match=r"goal\.like.*cannot be read"):
        mine(recipe("find", images, tmp_path / "run", f"goal.like=[{tmp_path / 'none.png'}]"))


def test_shell_prints_the_list_as_json(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [f"images={images}", f"output={tmp_path / 'run'}", f"store={tmp_path / 'store'}", *TINY, "count=2"]
    with pytest.raises(SystemExit) as ended:
        main(["mine", "find", *lines, "--json"])
    assert ended.value.code in (0, None)
    told = json.loads(capsys.readouterr().out)
    assert told["images"] == 24
    assert len(told["list"]) == 2
