"""What a session is told of a model."""

from pathlib import Path

import numpy as np

from pangu_cv.features import content_digest
from pangu_cv.iterate.ask.prepare import prepare
from pangu_cv.tasks.saved import load_model
from tests.finetune.tiny import COLOURS, Made, picture, save


def test_a_model_is_not_asked_about_images_that_it_has_learnt(tmp_path: Path, classify: Made) -> None:
    memory = load_model(classify.run / "model").memory
    assert memory
    for path in classify.data.rglob("*.png"):
        if content_digest(path) in memory.known:
            save(tmp_path / "both" / path.parent.name / path.name, picture(COLOURS["red"], 0)).write_bytes(
                path.read_bytes()
            )
    learnt = prepare(tmp_path / "both", classes=(), model=classify.run, root=None, store=tmp_path / "store")
    assert len(learnt.subject.images) == len(memory.known)
    assert learnt.subject.prior_NC is None, "there is nothing that it could say of itself"
    for number in range(3):
        save(tmp_path / "both" / "red" / f"new{number}.png", picture(COLOURS["red"], 900 + number))
    subject = prepare(tmp_path / "both", classes=(), model=classify.run, root=None, store=tmp_path / "store").subject
    assert subject.prior_NC is not None
    is_new = np.array([path.name.startswith("new") for path in subject.images])
    assert np.isnan(subject.prior_NC[~is_new]).all()
    np.testing.assert_allclose(subject.prior_NC[is_new].sum(1), 1)
    assert (subject.prior_NC[is_new].argmax(1) == subject.classes.index("red")).all()
