import re
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from pangu_cv.metrics.inspection import Costs, Inspection
from pangu_cv.metrics.ranking import Ranking
from pangu_cv.report import curves
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
