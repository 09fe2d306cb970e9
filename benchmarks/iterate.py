"""Measure the loop, cell by cell: screening, human seconds, fusion, FiftyOne and back. ``make bench-iterate``.

By default within 40 minutes on two cores. ``FULL=1`` or ``--full`` adds more seeds of fusion and of human seconds.
"""

import sys

from benchmarks.bench import main
from benchmarks.plan_iterate import iterate_cells

if __name__ == "__main__":
    sys.exit(main("iterate", iterate_cells, __doc__))
