"""Independent random streams of one scene seed, so that drawing more in one part never changes another."""

from typing import Literal

import numpy as np

Stream = Literal["plan", "sky", "ground", "steel", "strings", "defect", "sensor", "words"]

# Only ever append: a stream's place in this tuple is part of what a seed means.
_STREAMS: tuple[Stream, ...] = ("plan", "sky", "ground", "steel", "strings", "defect", "sensor", "words")


def stream(seed: int, name: Stream, *, extra: int = 0) -> np.random.Generator:
    """A generator that depends on the scene's seed, the part it feeds and nothing else."""
    sequence = np.random.SeedSequence(seed, spawn_key=(_STREAMS.index(name), extra))
    return np.random.Generator(np.random.PCG64(sequence))
