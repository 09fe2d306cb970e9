"""Answers on top of a version: what people did before stays, images that are gone too."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from pangu_cv.data.changes import box_changes
from pangu_cv.data.readers import read_dataset
from pangu_cv.data.sample import Box, Dataset, Sample
from pangu_cv.data.versions import read_version, write_version
from pangu_cv.features import content_digest
from pangu_cv.iterate.answers import Answer, AnswerFile
from pangu_cv.iterate.ask import AskConfig, Session, Subject
from pangu_cv.iterate.ask.version import write_answers
from tests.finetune import tiny


def session_on(dataset: Dataset, answers: Path, *said: tuple[int, str, str]) -> Session:
    """Answers of anna's about some images, by their place."""
    images = tuple(sample.path for sample in dataset)
    digests = tuple(map(content_digest, images))
    features = np.random.default_rng(0).normal(size=(len(images), 4)).astype(np.float32)
    file = AnswerFile(answers)
    for at, klass, word in said:
        file.append(Answer(images[at].name, digests[at], klass, word, "anna", 1.0))  # type: ignore[arg-type]
    given = {digest: s.label for digest, s in zip(digests, dataset, strict=True) if s.label}
    subject = Subject(dataset.root, images, digests, features, ("bad", "good"), given=given)
    return Session(subject, file, AskConfig())


def test_a_version_with_a_moved_box_is_gone_on_from(tmp_path: Path) -> None:
    source = read_dataset(tiny.boxed(tmp_path / "data", train=3, test=0))
    boxed = source.samples[1]
    assert boxed.boxes
    moved = (Box(boxed.boxes[0].label, (1.0, 2.0, 30.0, 40.0)), *boxed.boxes[1:])
    mended = replace(source, samples=(source.samples[0], replace(boxed, boxes=moved), source.samples[2]))
    changes = box_changes("JPEGImages/train1.png", boxed.boxes, moved, "ann")
    assert isinstance(changes[0].before, dict)
    out = tmp_path / "versions"
    first = write_version(out, mended, changes=changes)
    session = session_on(first.dataset, tmp_path / "a.jsonl", (0, "good", "yes"), (2, "bad", "no"))
    version, is_new = write_answers(out, first.dataset, session, pseudo=False, source=out)
    assert (version.name, version.parent, is_new) == ("v0002", "v0001", True)
    assert version.dataset.samples[1].boxes == moved
    assert [(one.field, one.after) for one in version.changes] == [("label", "good"), ("rejected", "bad")]
    for source_of in (out, version.folder):  # the same command once more, which now starts from the new version
        session = session_on(version.dataset, tmp_path / "a.jsonl")
        again, is_new = write_answers(out, version.dataset, session, pseudo=False, source=source_of)
        assert (again.name, is_new) == ("v0002", False)
    session = session_on(version.dataset, tmp_path / "a.jsonl", (2, "good", "label"))
    third, is_new = write_answers(out, version.dataset, session, pseudo=False, source=out)
    assert (third.name, third.parent, is_new) == ("v0003", "v0002", True)


def test_the_same_answers_to_the_first_version_again_are_no_third(tmp_path: Path) -> None:
    images = [tiny.save(tmp_path / "data" / f"{at}.png", tiny.picture(tiny.COLOURS["red"], at)) for at in range(2)]
    out = tmp_path / "versions"
    first = write_version(out, Dataset(tmp_path / "data", "images", tuple(map(Sample, images))))
    session = session_on(first.dataset, tmp_path / "a.jsonl", (0, "good", "yes"))
    found = [write_answers(out, first.dataset, session, pseudo=False, source=first.folder) for _ in range(2)]
    assert [(version.name, version.parent, is_new) for version, is_new in found] == [
        ("v0002", "v0001", True),
        ("v0002", "v0001", False),
    ]


def test_images_that_are_gone_stay_with_their_labels(tmp_path: Path) -> None:
    images = [tiny.save(tmp_path / "data" / f"{at}.png", tiny.picture(tiny.COLOURS["red"], at)) for at in range(4)]
    samples = (Sample(images[0], label="good"), Sample(images[1], label="bad"), *map(Sample, images[2:]))
    out = tmp_path / "versions"
    write_version(out, Dataset(tmp_path / "data", "images", samples))
    images[1].unlink()
    first = read_version(out / "v0001")
    session = session_on(first.dataset, tmp_path / "a.jsonl", (1, "bad", "yes"))
    version, _ = write_answers(out, first.dataset, session, pseudo=False, source=out)
    assert version.missing == (samples[1],)
    assert [sample.label for sample in version.dataset] == ["good", "bad", None]
    moved = tmp_path / "moved"
    (tmp_path / "data").rename(moved)
    here = read_version(version.folder, images=moved)
    session = session_on(here.dataset, tmp_path / "a.jsonl", (2, "good", "yes"))
    third, _ = write_answers(out, here.dataset, session, pseudo=False, source=out, root=moved)
    assert [sample.label for sample in (*third.dataset, *third.missing)] == ["good", "bad", "good", "bad"]
