"""What a classifier's "unknown" did, in lines for people."""

from typing import Any


def unknown_lines(unknown: dict[str, Any] | None) -> list[str]:
    """Lines from a summary's ``unknown``; none where every image is answered."""
    if unknown is None:
        return []
    stated = f"set for at most {unknown['stated_rate']:.1%}"
    lines = [f"unknown           {_share(unknown['unknown_rate'])} images of known classes, {stated}"]
    if unknown["accuracy_answered"]:
        lines.append(f"accuracy answered {_share(unknown['accuracy_answered'])} images")
    if unknown["recognised"]:
        lines.append(f"recognised        {_share(unknown['recognised'])} images of other classes")
    return lines


def _share(interval: dict[str, Any]) -> str:
    return f"{interval['mean']:.1%} [{interval['low']:.1%}, {interval['high']:.1%}] of {interval['n']}"
