import re

import numpy as np

from pangu_cv.metrics.multilabel import MultilabelOutcome
from pangu_cv.report import Page
from pangu_cv.report.multilabel import multilabel_report


def report(present: list[list[int]], truth: list[list[int]]) -> tuple[str, list[str]]:
    loaded: list[str] = []

    def load_image(path: str) -> np.ndarray:
        loaded.append(path)
        return np.zeros((8, 8, 3), np.uint8)

    found, there = np.array(present, bool), np.array(truth, bool)
    scores = np.where(found, 0.9, 0.1)
    paths = tuple(f"/data/{i}.png" for i in range(len(found)))
    page = Page("t")
    outcome = MultilabelOutcome(("hole", "<spur>", "never"), paths, scores, found, there, 0.5)
    multilabel_report(page, outcome, load_image=load_image)
    return page.html(), loaded


def test_misses_come_first_and_say_what_was_missed_and_imagined() -> None:
    truth = [[1, 1, 0], [1, 0, 0], [0, 0, 0], [0, 1, 0]]
    document, loaded = report([[1, 1, 0], [0, 1, 0], [0, 0, 0], [1, 1, 0]], truth)
    assert loaded == ["/data/1.png", "/data/3.png", "/data/0.png", "/data/2.png"]
    assert "2 of 4 images have an error" in document
    assert "−hole, +&lt;spur&gt;" in document
    assert "+hole, &lt;spur&gt;" in document
    assert "hole, &lt;spur&gt;" in document
    assert "nothing" in document
    assert "50.0 %" in document  # exact match


def test_class_that_is_nowhere_has_a_dash() -> None:
    document, _ = report([[1, 0, 0]] * 2, [[1, 0, 0]] * 2)
    row = document[document.index("never") :]
    assert "–" in row[: row.index("</tr>")]
    assert "0 of 2 images have an error" in document


def test_curves_and_calibration_are_drawn() -> None:
    document, _ = report([[1, 1, 0], [0, 1, 0], [0, 0, 0], [1, 1, 0]], [[1, 1, 0], [1, 0, 0], [0, 0, 0], [0, 1, 0]])
    assert "Precision against recall of the 2 weakest classes" in document
    assert "ROC of the 2 weakest classes" in document
    assert "What a score is worth" in document
    assert document.count("<svg") == 3


def test_without_a_class_that_some_images_show_there_is_no_curve() -> None:
    document, _ = report([[1, 0, 0]] * 2, [[1, 0, 0]] * 2)
    assert "At every threshold" not in document
    assert document.count("<svg") == 1


def test_every_figure_of_a_class_stands_in_its_column() -> None:
    scores, truth = np.array([[0.9, 0.8, 0.7, 0.2, 0.1]]).T, np.array([[0, 1, 1, 1, 0]], bool).T
    outcome = MultilabelOutcome(("hole",), tuple("abcde"), scores, scores >= 0.75, truth, 0.75)
    page = Page("t")
    multilabel_report(page, outcome, load_image=lambda _: np.zeros((8, 8, 3), np.uint8))
    table = page.html()[page.html().index("<table") :]
    headers = ["class", "images", "share", "AP", "precision", "recall", "F1"]
    cells = ["hole", "3", "60.0 %", "63.9 %", "50.0 %", "33.3 %", "40.0 %"]
    assert re.findall(r"<th\b[^>]*>(.*?)</th>", table) == headers
    assert re.findall(r"<td[^>]*>(.*?)</td>", table) == cells
