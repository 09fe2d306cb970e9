"""Measure the loop, cell by cell: screening, seconds, steps, hard cases, fusion, growth, FiftyOne.

``make bench-iterate``: by default within 40 minutes on two cores. ``FULL=1`` or ``--full`` adds seeds and sets.
"""

import sys

from benchmarks.bench import main
from benchmarks.plan_iterate import iterate_cells

if __name__ == "__main__":
    sys.exit(main("iterate", iterate_cells, __doc__))
