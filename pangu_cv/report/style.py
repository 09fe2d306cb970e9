"""The style sheet of a page: one column, system fonts, hairlines rather than boxes, one accent colour."""

from typing import Final

from pangu_cv.report.palette import DARK, LIGHT, as_css

_LAYOUT: Final = """
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); line-height: 1.55; font-size: 16px;
  font-family: system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans", Arial, sans-serif;
  -webkit-font-smoothing: antialiased; text-rendering: optimizeLegibility; }
main { max-width: 1060px; margin: 0 auto; padding: 72px 40px 96px; }
header { border-top: 3px solid var(--accent); padding-top: 28px; margin-bottom: 44px; }
h1 { font-size: 38px; line-height: 1.15; letter-spacing: -0.022em; font-weight: 640; margin: 0; }
header p { font-size: 18px; color: var(--muted); margin: 10px 0 0; max-width: 70ch; }
h2 { font-size: 23px; line-height: 1.25; letter-spacing: -0.012em; font-weight: 620; margin: 72px 0 6px; }
p { margin: 6px 0 20px; max-width: 72ch; }
h1, h2, p, td, th, dt, dd, figcaption { overflow-wrap: anywhere; unicode-bidi: isolate; }
.muted, figcaption, caption { color: var(--muted); }
.good { --tone: var(--good); } .warn { --tone: var(--warn); } .bad { --tone: var(--bad); }
.neutral { --tone: var(--ink); }

.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(190px, 1fr)); gap: 32px 36px;
  margin: 36px 0 12px; }
.tile { border-top: 1px solid var(--line); padding-top: 14px; }
.tile dt { font-size: 14px; color: var(--muted); }
.tile .value { margin: 2px 0 4px; font-size: 36px; line-height: 1.15; font-weight: 600; letter-spacing: -0.025em;
  color: var(--tone); font-variant-numeric: tabular-nums; }
.tile .note { margin: 0; font-size: 13.5px; line-height: 1.45; color: var(--muted); }

.verdict { display: flex; gap: 16px; align-items: baseline; background: var(--card); border-radius: 10px;
  padding: 18px 22px; margin: 28px 0; }
.verdict p { margin: 0; max-width: 78ch; font-size: 17px; }
.verdict .mark { color: var(--tone); font-weight: 700; font-size: 17px; flex: none; width: 1em; text-align: center; }
.verdict.neutral .mark { color: var(--accent); }
.note-line { font-size: 14.5px; color: var(--muted); border-left: 2px solid var(--line); padding-left: 14px; }

.scroll { overflow-x: auto; margin: 20px 0 28px; }
table { border-collapse: collapse; width: 100%; font-size: 15px; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-size: 14px; padding-bottom: 8px; }
th { text-align: left; font-weight: 500; font-size: 13.5px; color: var(--muted); }
th, td { padding: 9px 20px 9px 0; border-bottom: 1px solid var(--line); vertical-align: baseline; }
th.number, td.number { text-align: right; overflow-wrap: normal; }
td.number { white-space: nowrap; }

figure { margin: 0; break-inside: avoid; }
figcaption { font-size: 14px; line-height: 1.45; padding-top: 8px; }
figcaption b { font-weight: 560; color: var(--ink); }
figcaption .note { display: block; font-size: 12.5px; }
img { display: block; width: 100%; height: auto; border-radius: 6px; background: var(--card); }
img.coarse { image-rendering: pixelated; }
.dot { display: inline-block; width: 8px; height: 8px; border-radius: 50%; background: var(--tone); margin-right: 7px; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(420px, 100%), 1fr)); gap: 36px 44px;
  margin: 28px 0; align-items: start; }
.plot svg { display: block; width: 100%; height: auto; max-width: 540px; overflow: visible; }
.plot svg text { font-family: inherit !important; font-variant-numeric: tabular-nums; }
.gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(172px, 1fr)); gap: 28px 22px;
  margin: 24px 0; }
.row { margin: 0 0 30px; break-inside: avoid; }
.row .cells { display: grid; gap: 14px; }
.row figcaption.cell { padding-top: 5px; font-size: 12.5px; }
.row .title { margin: 0 0 8px; max-width: none; font-size: 14px; color: var(--muted); }
.row .title b { font-weight: 560; color: var(--ink); }

details { margin: 16px 0; border-top: 1px solid var(--line); padding-top: 14px; }
summary { cursor: pointer; color: var(--accent); font-size: 15px; }
pre { background: var(--card); border-radius: 8px; padding: 18px 20px; overflow-x: auto; font-size: 13px;
  line-height: 1.5; font-family: ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; }
footer { margin-top: 88px; padding-top: 16px; border-top: 1px solid var(--line); font-size: 13px; color: var(--muted); }

@media (max-width: 640px) { main { padding: 36px 20px 56px; } h1 { font-size: 29px; } h2 { margin-top: 52px; } }
@media print {
  body { font-size: 11pt; } main { max-width: none; padding: 0; } h2 { margin-top: 30px; break-after: avoid; }
  body { background: white; } .tile .value { font-size: 26px; }
  .tiles { grid-template-columns: repeat(4, 1fr); gap: 20px; }
  .plots { grid-template-columns: 1fr 1fr; gap: 24px; } .gallery { grid-template-columns: repeat(5, 1fr); gap: 16px; }
  h2 + p { break-after: avoid; } tr { break-inside: avoid; }
  .scroll { overflow: visible; } pre { white-space: pre-wrap; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""

# Dark holds for screens only: paper is white, whatever the reader's scheme.
STYLE: Final = (
    f":root {{ color-scheme: light dark; {as_css(LIGHT)} }}\n"
    f"@media screen and (prefers-color-scheme: dark) {{ :root {{ {as_css(DARK)} }} }}\n{_LAYOUT}"
)
