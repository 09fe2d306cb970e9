"""Images and what is known about them: readers, splits, checks, synthetic scenes; no torch."""
