import numpy as np
import pytest

from pangu_cv.report.boxes import Drawn, draw_boxes, drawn_names, key_of

CLASSES = ("dent", "划痕", "凹坑")


def picture(text):
    return draw_boxes(np.full((60, 120, 3), 90, np.uint8), [Drawn((5, 5, 110, 50), text)])


def test_a_name_without_glyphs_is_drawn_as_its_number():
    assert drawn_names(CLASSES) == {"dent": "dent", "划痕": "#1", "凹坑": "#2"}
    assert not np.array_equal(*(picture(drawn_names(CLASSES)[name]) for name in CLASSES[1:]))


@pytest.mark.parametrize("name", ["Straße", "piqûre", "ржавчина", "two\nlines"])
def test_a_name_is_drawn_whole_or_not_at_all(name):
    assert drawn_names([name]) == {name: "#0"}


def test_the_key_names_what_is_shown_as_a_number():
    assert key_of(CLASSES, ["凹坑", "dent"]) == "#2 = 凹坑"
    assert key_of(CLASSES, CLASSES) == "#1 = 划痕, #2 = 凹坑"
    assert key_of(CLASSES, ["dent"]) == ""
