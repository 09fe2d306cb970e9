"""What a step of a long run has come to, kept so that a killed run goes on from there."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch


@dataclass(frozen=True)
class Kept:
    """A file of tensors and plain values; what was kept under another ``key`` is not taken up."""

    path: Path
    key: str

    def read(self) -> dict[str, Any]:
        """What was kept, or nothing."""
        if not self.path.is_file():
            return {}
        stored: dict[str, Any] = torch.load(self.path, map_location="cpu", weights_only=True)
        return stored if stored.get("key") == self.key else {}

    def write(self, content: dict[str, Any]) -> None:
        """Whole or not at all."""
        temporary = self.path.with_name(f".{self.path.name}.tmp")
        torch.save(content | {"key": self.key}, temporary)
        temporary.replace(self.path)
