"""Networks and what surrounds them: weights, resize, heads, the memory bank, checkpoints."""
