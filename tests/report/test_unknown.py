import numpy as np
import pytest

from pangu_cv.metrics.unknown import UnknownOutcome
from pangu_cv.report import Page
from pangu_cv.report.unknown import unknown_section


def page_of(truth: list[int], answers: list[int]) -> tuple[str, list[str]]:
    loaded: list[str] = []

    def load_image(path: str) -> np.ndarray:
        loaded.append(path)
        return np.zeros((8, 8, 3), np.uint8)

    confidence = np.linspace(0.9, 0.4, len(truth))
    paths = tuple(f"/data/{i}.png" for i in range(len(truth)))
    outcome = UnknownOutcome(paths, confidence, np.array(answers), np.array(truth), 0.625, 0.05)
    page = Page("t")
    unknown_section(page, outcome, classes=("ok", "<dent>"), load_image=load_image)
    return page.html(), loaded


def test_figures_and_pictures_of_both_mistakes() -> None:
    document, loaded = page_of([0, 1, 1, 0, -1, -1], [0, 1, -1, 0, 1, -1])
    assert "below 62.5 % is answered unknown" in document
    assert "set for at most 5.0 %" in document
    assert "of 4 images of known classes" in document
    assert "of 2 images of other classes" in document
    assert "&lt;dent&gt; → unknown" in document
    assert "unknown → &lt;dent&gt;" in document
    assert loaded == ["/data/2.png", "/data/4.png"]


@pytest.mark.parametrize("answers", [[0, 1], [-1, -1]])
def test_without_other_classes_nothing_is_said_of_them(answers: list[int]) -> None:
    document, _ = page_of([0, 1], answers)
    assert "Recognised" not in document
    assert ("Accuracy among answered" in document) == (answers == [0, 1])
