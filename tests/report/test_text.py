import pytest

from pangu_cv.metrics import mean_interval, proportion_interval
from pangu_cv.report.text import counted, decimal, escaped, percent, percent_range, readable, shortened


def test_escaped_leaves_no_markup():
    assert escaped("<b>\"a\" & 'b'</b>") == "&lt;b&gt;&quot;a&quot; &amp; &#x27;b&#x27;&lt;/b&gt;"


@pytest.mark.parametrize("hostile", ["a\x00b", "a\x1bb", "a\udcffb", "a\u202eb"])
def test_what_cannot_be_shown_is_replaced(hostile):
    assert readable(hostile) == "a\ufffdb"
    escaped(hostile).encode("utf-8")


def test_languages_and_line_breaks_stay():
    assert readable("划痕 Kratzer\n\té 🙂") == "划痕 Kratzer\n\té 🙂"


def test_shortened_keeps_both_ends():
    assert shortened("short") == "short"
    line = shortened("a very long name of a class\nof defects, kind 7", 20)
    assert len(line) == 20
    assert line.startswith("a very")
    assert line.endswith("kind 7")


@pytest.mark.parametrize(
    ("share", "digits", "words"),
    [(None, 1, "–"), (0.5, 1, "50.0 %"), (1.0, 0, "100 %"), (0.9999, 1, "99.9 %"), (0.996, 0, "99 %")],
)
def test_percent_never_rounds_up_to_perfection(share, digits, words):
    assert percent(share, digits) == words


def test_other_numbers():
    assert (decimal(None), decimal(0.12345)) == ("–", "0.123")
    assert (counted(1, "class", "classes"), counted(0, "class", "classes"), counted(2, "image")) == (
        "1 class",
        "0 classes",
        "2 images",
    )
    assert percent_range(proportion_interval(0, 10)) == "0.0 to 27.8 %"
    assert percent_range(mean_interval([0.05, 0.95])) == "0.0 to 100.0 %"
