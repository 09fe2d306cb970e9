"""The colours that pages and plots share, in light and in dark.

Plots are drawn in the light colours; ``report.svg`` then turns each into its CSS variable, so that a plot follows the
reader's scheme. That needs every light colour to be unlike the others.
"""

from typing import Final, Literal

Tone = Literal["neutral", "good", "warn", "bad"]

LIGHT: Final[dict[str, str]] = {
    "paper": "#fcfcfa",
    "card": "#f4f4f0",
    "line": "#e3e3dd",
    "ink": "#1b2126",
    "muted": "#68717a",
    "accent": "#12697f",
    "good": "#2c7a4b",
    "warn": "#976607",
    "bad": "#b0432f",
    "violet": "#6b5b95",
}
DARK: Final[dict[str, str]] = {
    "paper": "#14181b",
    "card": "#1c2226",
    "line": "#30383e",
    "ink": "#e8eaeb",
    "muted": "#9aa4ac",
    "accent": "#5fb8cf",
    "good": "#6fc28f",
    "warn": "#dcab52",
    "bad": "#ec8a75",
    "violet": "#b0a3d6",
}
# The order in which curves take their colours.
CURVES: Final[tuple[str, ...]] = ("accent", "bad", "warn", "violet", "good", "muted")


def as_css(colours: dict[str, str]) -> str:
    """The colours as declarations of CSS variables."""
    return " ".join(f"--{name}: {value};" for name, value in colours.items())
