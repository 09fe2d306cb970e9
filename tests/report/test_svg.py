import re

from pangu_cv.report.palette import LIGHT
from pangu_cv.report.svg import embed

HOSTILE = """<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" onload="alert(1)">
<style>* { fill: red }</style><script>alert(2)</script>
<metadata>secret</metadata><foreignObject><b>html</b></foreignObject>
<defs><clipPath id="c"><rect width="3" height="3"/></clipPath></defs>
<g id="g" clip-path="url(#c)"><use xlink:href="#m"/><use xlink:href="http://example.org/x.svg#y"/></g>
<path id="m" style="fill: url(http://example.org/a)" d="M0 0"/><image xlink:href="http://example.org/x.png"/>
<a xlink:href="javascript:alert(3)"><text>linked</text></a><text>a &lt;b&gt; id="g"</text></svg>"""


def test_only_shapes_and_text_are_kept():
    markup = embed(HOSTILE, prefix="p1-", alt='what "it" shows')
    for gone in ("script", "onload", "<style", "secret", "foreignObject", "example.org", "javascript", "<image", "<a"):
        assert gone not in markup
    assert 'role="img" aria-label="what &quot;it&quot; shows"' in markup
    assert 'a &lt;b&gt; id="g"' in markup


def test_ids_and_their_references_get_the_prefix():
    markup = embed(HOSTILE, prefix="p1-", alt="")
    ids = set(re.findall(r'<[^>]* id="([^"]*)"', markup))
    assert ids == {"p1-c", "p1-g", "p1-m"}
    assert set(re.findall(r'(?:href="|url\()#([\w-]+)', markup)) == {"p1-c", "p1-m"}
    assert ids.isdisjoint(re.findall(r'id="([^"]*)"', embed(HOSTILE, prefix="p2-", alt="")))


def test_colours_of_the_palette_become_variables():
    accent = LIGHT["accent"]
    svg = f'<svg xmlns="http://www.w3.org/2000/svg"><path style="fill: {accent}; stroke: #123456" d="M0 0"/></svg>'
    assert f"fill: var(--accent, {accent}); stroke: #123456" in embed(svg, prefix="", alt="")
