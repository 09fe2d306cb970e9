"""What the machine has taken over teaches it, but never against an answer and never more than people do."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pangu_cv.iterate.answers import AnswerFile
from pangu_cv.iterate.ask import AskConfig
from pangu_cv.iterate.ask.standing import Standing
from pangu_cv.iterate.learner import Taught
from tests.iterate.ask.asking import subject


@pytest.fixture
def standing(tmp_path: Path) -> Standing:
    """Ten images of each of four clusters have labels, and a round of learning is done."""
    what, labels = subject(tmp_path, each=100)
    told = np.concatenate([np.flatnonzero(labels == klass)[:10] for klass in range(4)])
    given = {what.digests[row]: what.classes[labels[row]] for row in told.tolist()}
    config = AskConfig(pace={"start": 0.5, "end": 0.5, "weight": 1.0})
    return Standing(replace(what, given=given), AnswerFile(tmp_path / "answers.jsonl"), config)


def taught(standing: Standing) -> Taught:
    rows = np.flatnonzero(standing.label_N >= 0)
    return standing._with_pseudo_labels(Taught.labels(rows, standing.label_N[rows]))


def test_what_the_machine_took_over_teaches_and_never_more_than_people_do(standing: Standing) -> None:
    found = taught(standing)
    assert len(found.rows_L) == 40
    assert len(found.soft_rows_U) > 200
    assert (standing.label_N[found.soft_rows_U] < 0).all()
    np.testing.assert_allclose(found.soft_targets_UC, standing.shares_NC[found.soft_rows_U])
    assert found.soft_weights_U.sum() == pytest.approx(40)


def test_a_class_that_was_struck_out_since_is_not_taught(standing: Standing) -> None:
    row = int(taught(standing).soft_rows_U[0])
    klass = int(standing.shares_NC[row].argmax())
    standing.struck_NC[row, klass] = True
    found = taught(standing)
    target_C = found.soft_targets_UC[found.soft_rows_U == row][0]
    assert target_C[klass] == 0
    assert target_C.sum() == pytest.approx(1)


def test_a_round_learns_from_what_the_round_before_took_over(standing: Standing) -> None:
    """The first has nothing yet."""
    alone = standing.learnt.weight_DC
    standing._relearn()
    assert not np.allclose(standing.learnt.weight_DC, alone)
