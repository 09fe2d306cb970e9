"""Measure what the project promises first, cell by cell; a stopped run goes on where it was. ``make bench-first``.

By default within 40 minutes on two cores; ``FULL=1`` or ``--full`` adds 1 and 10 shots, a second backbone, more draws
and the long comparisons. Ends by writing RESULTS.md.
"""

import sys

from benchmarks.bench import main
from benchmarks.plan import first_cells

if __name__ == "__main__":
    sys.exit(main("first", first_cells, __doc__))
