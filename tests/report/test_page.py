import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pangu_cv.errors import PanguError
from pangu_cv.report import Page, Picture, Plot, Row, Tile
from pangu_cv.report.palette import DARK, LIGHT

EVIL = "<script>alert('1')</script>\"><img src=x onerror=alert(2)>"
IMAGE = np.full((6, 8, 3), 90, np.uint8)
SVG = '<svg xmlns="http://www.w3.org/2000/svg"><path id="a" d="M0 0"/></svg>'


def full_page(text):
    page = Page(text, text, footer=text)
    page.tiles([Tile(text, text, text, "bad")])
    page.verdict(text, "warn")
    page.section(text, text)
    page.note(text)
    page.table([text, "n"], [[text, 3]], text)
    page.gallery([Picture(IMAGE, text, text, "good")])
    page.pairs([Row((Picture(IMAGE, text), None), text, text, "bad")])
    page.plots([Plot(SVG, text), Plot(SVG, text)])
    page.plot(SVG, text)
    page.details(text, text)
    return page


def test_every_text_is_escaped():
    document = full_page(EVIL).html()
    assert "<script" not in document
    assert len(re.findall(r"<img\b", document)) == 2  # ours
    assert document.count("&lt;script&gt;") >= 15


def test_the_page_needs_nothing_but_itself():
    document = full_page("plain").html()
    sources = re.findall(r"""(?:src|href|action|data)\s*=\s*["']([^"']*)""", document)
    assert sources
    assert all(source.startswith(("data:image/", "#")) for source in sources)
    assert not re.search(r"url\((?!#)|@import|<script|<link|<iframe|\son\w+=", document)
    assert "default-src 'none'" in document


def test_pictures_have_words_and_sizes():
    document = full_page("what is seen").html()
    for tag in re.findall(r"<img[^>]*>", document):
        assert 'alt="what is seen"' in tag
        assert 'width="8" height="6"' in tag
    assert document.count('role="img" aria-label="what is seen"') == 3


def test_tones_are_more_than_colours():
    marks = []
    for tone in ("good", "warn", "bad", "neutral"):
        page = Page("t")
        page.verdict("x", tone)
        marks.append(re.search(r'class="mark" aria-hidden="true">(.)<', page.html())[1])
    assert len(set(marks)) == 4


def test_numbers_stand_right_and_words_left():
    page = Page("t")
    page.table(["name", "share", "n", "change"], [["a", "94.1 %", 3, "−0.2"], ["7b", "–", 4, "+1"]])
    classes = re.findall(r"<td( class=\"number\")?>", page.html())
    assert [bool(c) for c in classes] == [False, True, True, True] * 2


def test_a_ragged_table_is_refused():
    with pytest.raises(ValueError, match="as many cells"):
        Page("t").table(["a", "b"], [[1]])


def test_tall_rows_are_kept_within_a_screen():
    page = Page("t")
    page.pairs([Row((Picture(np.zeros((400, 100, 3), np.uint8), "tall"),) * 3, "t")])
    assert "repeat(3, 1fr); max-width: 255px" in page.html()


def test_write_makes_folders_and_leaves_only_the_page(tmp_path):
    path = tmp_path / "run" / "report.html"
    page = full_page("bytes \udcff and 划痕")
    page.write(path)
    assert path.read_text("utf-8") == page.html()
    assert list(path.parent.iterdir()) == [path]


def test_a_failed_write_keeps_the_old_page(tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    path.write_text("old")

    def full_disk(self, data):
        with self.open("wb") as file:
            file.write(data[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(PanguError, match=r"report\.html.*No space left"):
        Page("t").write(path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_in_the_way_is_the_users_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(PanguError, match="cannot be written"):
        Page("t").write(tmp_path / "file" / "report.html")


def test_the_same_page_twice_is_the_same():
    assert full_page("x").html() == full_page("x").html()


def test_pages_and_metrics_import_on_the_base_install():
    code = (
        "import sys, pangu_cv.report, pangu_cv.metrics; "
        "print(sorted({'torch', 'sklearn', 'scipy', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def luminance(colour):
    channels = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(channels <= 0.03928, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return linear @ [0.2126, 0.7152, 0.0722]


@pytest.mark.parametrize("scheme", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize("name", ["ink", "muted", "accent", "good", "warn", "bad", "violet"])
def test_colours_can_be_read_on_their_ground(scheme, name):
    # 4.5 : 1 is WCAG 2.1 AA for text.
    for ground in ("paper", "card"):
        light, dark = sorted((luminance(scheme[name]), luminance(scheme[ground])), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5


def test_schemes_have_the_same_colours_and_no_two_alike():
    assert LIGHT.keys() == DARK.keys()
    assert len(set(LIGHT.values())) == len(LIGHT)  # a plot's colour must name one variable
