"""Measure what few labels give, cell by cell; a stopped run goes on where it was. ``make bench-few-shot``.

By default within 40 minutes on two cores: a part of every comparison. ``FULL=1`` or ``--full`` adds all ways of
adapting, draws and sets: many hours.
"""

import sys

from benchmarks.bench import main
from benchmarks.plan_few_shot import few_shot_cells

if __name__ == "__main__":
    sys.exit(main("few_shot", few_shot_cells, __doc__))
