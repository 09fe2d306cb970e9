"""One script per claim; results are JSON, and RESULTS.md is made from them by ``render.py``."""
