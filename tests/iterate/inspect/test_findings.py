from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pangu_cv.data.kin import belonging
from pangu_cv.data.readers import read_dataset
from pangu_cv.data.sample import Box, Dataset, Sample
from pangu_cv.iterate.inspect.dense_errors import against_boxes, against_mask, iou
from pangu_cv.iterate.inspect.features_2d import Features, flat
from pangu_cv.iterate.inspect.findings import Collector, Finding
from pangu_cv.iterate.inspect.label_errors import left_out_probabilities, left_out_tags, suspects
from pangu_cv.iterate.inspect.look import looks
from pangu_cv.iterate.inspect.model import Answer, FromAfar, open_looker
from pangu_cv.iterate.inspect.sheet import write_sheet
from pangu_runtime.decode import DEFAULT_SPEC
from pangu_runtime.predictor import BoxPrediction, MaskPrediction
from tests.finetune import tiny
from tests.iterate.inspect.answers import Told


def found(dataset: Dataset, looker: object) -> tuple[Finding, ...]:
    collector = Collector(dataset, looker)
    for look in looks(dataset, looker):
        collector.take(look)
    return collector.done()


def clouds(per_class: int = 40, classes: int = 3, features: int = 8) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(3)
    labels = np.repeat(np.arange(classes), per_class)
    return (3 * np.eye(classes, features)[labels] + random.normal(0, 0.6, (len(labels), features))).astype(
        np.float32
    ), labels


def test_swapped_labels_are_suspected_and_few_others() -> None:
    features, labels = clouds()
    wrong = labels.copy()
    swapped = {3: 1, 50: 2, 100: 0}
    for at, other in swapped.items():
        wrong[at] = other
    suspected = suspects(left_out_probabilities(features, wrong, groups=(8,)), wrong)
    assert {(one.at, one.likely) for one in suspected[:3]} == {(at, labels[at]) for at in swapped}
    assert len(suspected) <= 4
    assert all(0 < one.margin <= 1 for one in suspected[:3])
    assert suspects(left_out_probabilities(features, labels, groups=(8,)), labels) == ()


def test_confident_learning_by_hand() -> None:
    probabilities = np.array([[0.9, 0.1], [0.7, 0.3], [0.2, 0.8], [0.1, 0.9], [0.05, 0.95], [np.nan, np.nan]])
    labels = np.array([0, 0, 1, 1, 0, 0])  # thresholds: mean(.9, .7, .05) = .55 and mean(.8, .9) = .85
    (suspect,) = suspects(probabilities, labels)
    assert (suspect.at, suspect.likely, suspect.margin) == (4, 1, pytest.approx(0.9))


def test_the_only_image_of_a_class_is_passed_over() -> None:
    features, labels = clouds(per_class=6)
    labels = np.append(labels, 3)
    probabilities = left_out_probabilities(np.vstack([features, features[:1]]), labels, groups=(8,))
    assert np.isnan(probabilities[-1]).all()
    assert not np.isnan(probabilities[:-1]).any()


def test_tags_are_judged_each_by_itself() -> None:
    features, labels = clouds()
    present = np.stack([labels != 0, labels == 2], 1)
    present[10, 0] = True
    probabilities = left_out_tags(features, present, groups=(8,))
    both = np.stack([1 - probabilities[:, 0], probabilities[:, 0]], 1)
    assert suspects(both, present[:, 0].astype(int))[0].at == 10


def test_a_wrong_label_that_copies_share_does_not_vouch_for_itself() -> None:
    features, labels = clouds(features=64)
    twice = np.vstack([features, np.repeat(features[3:4], 3, 0)])  # images 3 and 120 to 122 are one file
    wrong = np.append(labels, [1, 1, 1])
    wrong[3] = 1
    kin = belonging([str(at) for at in range(120)] + ["3"] * 3, [None] * 123)
    found = suspects(left_out_probabilities(twice, wrong, groups=(64,), kin=kin), wrong)
    assert {(one.at, one.likely) for one in found} == {(at, 0) for at in (3, 120, 121, 122)}
    tags = left_out_tags(twice, np.stack([wrong == 0, wrong == 1], 1), groups=(64,), kin=kin)
    assert (tags.argmax(1)[[3, 120, 121, 122]] == 0).all()


class Rich(Told):
    """Features in which few images can be told by heart."""

    groups = (64,)

    def answer(self, image_HW3: np.ndarray, source: str) -> Answer:
        noise = np.random.default_rng(int(image_HW3.sum())).normal(0, 0.6, 64)
        is_red = image_HW3[..., 0].mean() > image_HW3[..., 2].mean()
        return Answer(None, (3 * np.eye(64)[int(is_red)] + noise).astype(np.float32))


def test_copies_in_the_wrong_folder_are_found(tmp_path: Path) -> None:
    root = tiny.class_folders(tmp_path / "data", train=30, test=0)
    strays = [
        tiny.save(next(root.rglob("blue")) / f"stray{at}.png", tiny.picture(tiny.COLOURS["red"], 1)) for at in "123"
    ]
    by_path = {one.sample.path: one for one in found(read_dataset(root), Rich("classify"))}
    assert [by_path[path].likely for path in strays] == ["red"] * 3


def test_what_only_one_group_shows_is_passed_over() -> None:
    features, labels = clouds(per_class=6)
    kin = belonging([str(at) for at in range(18)], ["burst" if label == 2 else None for label in labels])
    is_alone = labels == 2
    assert (np.isnan(left_out_probabilities(features, labels, groups=(8,), kin=kin)).all(1) == is_alone).all()
    tags = left_out_tags(features, np.stack([is_alone, labels == 0], 1), groups=(8,), kin=kin)
    assert (np.isnan(tags) == np.stack([is_alone, np.zeros(18, bool)], 1)).all()


def test_copies_and_groups_belong_together_by_chains() -> None:
    kin = belonging(["a", "b", "a", "c", "d"], ["g", "g", None, None, None])
    assert [kin.index(name) for name in kin] == [0, 0, 0, 3, 4]


def test_boxes_that_contradict() -> None:
    def detector(*found: tuple[str, float, tuple[float, ...]]) -> BoxPrediction:
        scores = np.array([score for _, score, _ in found], np.float32)
        boxes = np.array([box for _, _, box in found], np.float32).reshape(-1, 4)
        return BoxPrediction("x", tuple(label for label, _, _ in found), scores, boxes, 0.3)

    truth = (Box("a", (0.0, 0.0, 10.0, 10.0)), Box("b", (50.0, 50.0, 60.0, 60.0)))
    right = (("a", 0.9, (0, 0, 10, 11)), ("b", 0.9, (50, 50, 60, 60)))
    assert against_boxes(truth, detector(*right)) is None
    more = against_boxes(truth, detector(*right, ("c", 0.75, (80, 0, 90, 9))))
    assert (more.strength, more.why) == (0.75, "c found (75%) without a box")
    other = against_boxes(truth, detector(right[0], ("c", 0.75, (50, 50, 60, 60))))
    assert other.why == "b looks like c (75%)"
    assert against_boxes(truth, detector(right[0])).why == "b: labelled, not found"
    assert against_boxes((), detector()) is None
    assert iou([(0, 0, 2, 2)], [(1, 0, 3, 2), (5, 5, 6, 6)]).tolist() == [[pytest.approx(1 / 3), 0]]


def test_masks_that_contradict() -> None:
    mask = np.zeros((8, 8), np.uint8)
    mask[:4] = 1
    sure = np.ones((8, 8), np.float32)
    assert against_mask(mask, MaskPrediction("x", ("bg", "c"), mask.copy(), sure)) is None
    said = against_mask(mask, MaskPrediction("x", ("bg", "c"), 1 - mask, sure))
    assert (said.strength, said.why) == (1.0, "32 labelled pixels not found, 32 found that are not labelled")
    unsure = against_mask(mask, MaskPrediction("x", ("bg", "c"), 1 - mask, np.zeros((8, 8), np.float32)))
    assert unsure is None, "a guess without confidence is no contradiction"


def test_the_flat_view_is_the_widest_plane() -> None:
    random = np.random.default_rng(0)
    points = random.normal(0, 1, (50, 2)) * (5, 2)
    turn, _ = np.linalg.qr(random.normal(0, 1, (20, 20)))
    view = flat((np.hstack([points, np.zeros((50, 18))]) @ turn).astype(np.float32))
    centred = points - points.mean(0)
    for axis in range(2):
        assert abs(np.corrcoef(view[:, axis], centred[:, axis])[0, 1]) > 0.97
    assert np.abs(view).max(0) == pytest.approx(1)
    assert flat(np.ones((1, 4), np.float32)).tolist() == [[0, 0]]


def test_features_of_many_images_stay_in_bounds() -> None:
    kept = Features(1_000_000, (3000,))
    rows = np.random.default_rng(0).normal(0, 1, (6, 3000)).astype(np.float32)
    for at, row in enumerate(rows):
        kept.add(at, row)
    kept.add(6, None)
    assert kept.places == list(range(6))
    assert kept.all_ND().shape == (6, 33)
    assert kept.groups == (33,)


def test_what_is_found_in_a_folder(tmp_path: Path) -> None:
    dataset = read_dataset(tiny.class_folders(tmp_path / "data", train=8, test=0))
    tiny.save(tmp_path / "data" / "red" / "odd.png", tiny.picture(tiny.COLOURS["blue"], 1))
    copied = tiny.save(tmp_path / "data" / "red" / "copy.png", tiny.picture(tiny.COLOURS["red"], 1))
    (tmp_path / "data" / "red" / "same.png").write_bytes(copied.read_bytes())
    (tmp_path / "data" / "blue" / "torn.png").write_bytes(copied.read_bytes()[:80])
    dataset = read_dataset(tmp_path / "data")
    by_name = {one.name: one for one in found(dataset, Told("classify"))}
    assert by_name["red/odd.png"].likely == "blue"
    assert by_name["red/copy.png"].group == by_name["red/same.png"].group == "duplicate-1"
    assert "torn.png" in by_name["blue/torn.png"].faults[0]
    assert by_name["blue/torn.png"].urgency > max(o.urgency for n, o in by_name.items() if "torn" not in n)
    assert by_name["red/1.png"].doubt == pytest.approx(0.8)
    assert by_name["red/1.png"].answer == "red 60%"
    assert by_name["blue/1.png"].xy[0] * by_name["red/1.png"].xy[0] < 0, "two colours, two sides"


@pytest.mark.parametrize(
    ("task", "layout", "why"),
    [
        ("anomaly", "mvtec", ""),
        ("detect", "boxed", "dark found (80%) without a box"),
        ("segment", "masked", ""),
        ("multilabel", "tagged", ""),
    ],
)
def test_every_task_answers(task: str, layout: str, why: str, tmp_path: Path) -> None:
    dataset = read_dataset(getattr(tiny, layout)(tmp_path / "data"))
    findings = found(dataset, Told(task))
    assert len(findings) == len(dataset)
    assert all(one.doubt is not None and one.answer for one in findings)
    assert not why or why in {one.why for one in findings}


def test_labels_that_an_anomaly_detector_contradicts(tmp_path: Path) -> None:
    dataset = read_dataset(tiny.mvtec(tmp_path / "data"))
    samples = tuple(replace(s, label="good", mask=None) if s.label == "stain" else s for s in dataset)
    said = [one for one in found(replace(dataset, samples=samples), Told("anomaly")) if one.suspicion]
    assert [one.why for one in said] == ["labelled normal, scores like a defect"] * 3
    assert {one.sample.path.parent.name for one in said} == {"stain"}


def test_the_page(tmp_path: Path) -> None:
    dataset = read_dataset(tiny.class_folders(tmp_path / "data", train=6, test=0))
    hostile = tiny.save(tmp_path / "data" / "red" / "<img src=x>.png", tiny.picture(tiny.COLOURS["blue"], 1))
    dataset = read_dataset(tmp_path / "data")
    looker = Told("classify")
    write_sheet(
        tmp_path / "page.html", found(dataset, looker), dataset, spec=looker.spec, title="t", features="colours"
    )
    text = (tmp_path / "page.html").read_text()
    assert hostile.name not in text
    assert "red/&lt;img src=x&gt;.png" in text
    assert "labelled red, looks like blue when left out" in text
    assert text.count("<circle") == len(dataset)


def test_a_model_of_any_kind_looks(tmp_path: Path, classify: tiny.Made) -> None:
    image = tiny.picture(tiny.COLOURS["red"], 3)
    run, checkpoint, bundle = (open_looker(p) for p in (classify.run, classify.run / "model", classify.bundle))
    answers = [one.answer(image, "x") for one in (run, checkpoint, bundle)]
    assert {one.prediction.label for one in answers} == {"red"}
    assert answers[0].prediction.scores_C == pytest.approx(answers[2].prediction.scores_C, abs=1e-4)
    assert answers[0].features_D.shape == (sum(run.groups),)
    assert run.fingerprint == checkpoint.fingerprint != bundle.fingerprint
    assert bundle.features == open_looker(None).features != run.features
    assert FromAfar().answer(image, "x").features_D.shape == (576,)


def test_boxes_whose_names_cannot_be_drawn_are_numbered_and_the_page_says_which(tmp_path: Path) -> None:
    path = tiny.save(tmp_path / "a.png", tiny.picture(tiny.COLOURS["red"], 1))
    pages = []
    for name in ("dent", "划痕", "凹坑"):
        sample = Sample(path, boxes=(Box("dent", (2, 2, 9, 9)), Box(name, (20, 20, 60, 60))))
        finding = Finding("a.png", sample, None, "", doubt=0.9)
        dataset = Dataset(tmp_path, "voc", (sample,))
        write_sheet(tmp_path / "page.html", [finding], dataset, spec=DEFAULT_SPEC, title="t", features="colours")
        pages.append((tmp_path / "page.html").read_text())
    assert "In the pictures" not in pages[0]
    assert "In the pictures #1 = 划痕." in pages[1]
    assert "In the pictures #1 = 凹坑." in pages[2]
