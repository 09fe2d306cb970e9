import re
from contextlib import contextmanager
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from matplotlib.cbook import STEP_LOOKUP_MAP

from pangu_cv.metrics.inspection import Costs, Inspection
from pangu_cv.metrics.ranking import Ranking
from pangu_cv.report import curves
from pangu_cv.report.canvas import canvas
from pangu_cv.report.curves import Point


def ranking(n=40):
    is_positive_N = np.arange(n) % 4 == 0
    return Ranking(np.random.default_rng(0).uniform(size=n) + is_positive_N, is_positive_N)


def inspection():
    return Inspection(ranking().scores_N, ranking().is_positive_N, "a score")


DRAWINGS = {
    "one": lambda: curves.precision_recall({"": ranking()}),
    "several": lambda: curves.precision_recall({"scratch": ranking(), "_dent": ranking(60)}),
    "roc": lambda: curves.roc({"scratch": ranking(), "dent": ranking(60)}),
    "gate": lambda: curves.escapes_over_overkill(inspection(), [Point("asked", 0.1, 0.2)]),
    "cost": lambda: curves.cost_over_threshold(inspection(), Costs(10, 1), 0.8),
}


@pytest.mark.parametrize("name", DRAWINGS)
def test_drawings_are_svg_and_the_same_every_time(name):
    svg = DRAWINGS[name]()
    assert ET.fromstring(svg).tag.endswith("svg")
    assert svg == DRAWINGS[name]()


def test_names_stand_where_there_is_something_to_tell_apart():
    words = {name: re.findall(r">\s*([^<>]+)</text>", draw()) for name, draw in DRAWINGS.items()}
    assert {"scratch", "_dent"} <= set(words["several"])
    assert "asked" in words["gate"]
    assert "least cost" in words["cost"]
    assert not {"scratch", "dent"} & set(words["one"])


@pytest.mark.parametrize("scores", [[0.9, 0.9, 0.2, 0.2], [0.0, 0.3, 0.35, 0.9], [0.5, 0.5, 0.5, 0.5], [7, 3, 3, 20]])
def test_the_cost_drawn_is_the_cost_of_the_gate_at_every_threshold(scores, monkeypatch):
    boards = []

    @contextmanager
    def kept(**size):
        with canvas(**size) as board:
            boards.append(board)
            yield board

    monkeypatch.setattr(curves, "canvas", kept)
    made, costs = Inspection(np.array(scores, float), np.array([True, False, True, False]), "a score"), Costs(10, 1)
    curves.cost_over_threshold(made, costs, 0.4)
    line = boards[0].axes.lines[0]
    x, y = STEP_LOOKUP_MAP[line.get_drawstyle()](*line.get_data())
    assert x[-1] > max(scores)
    if x[0] > x[-1]:
        x, y = x[::-1], y[::-1]
    for threshold in np.linspace(x[0] + 1e-6, x[-1], 37):
        assert np.interp(threshold, x, y) == pytest.approx(made.at(threshold).cost_per_1000(costs)), threshold
