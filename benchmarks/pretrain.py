"""Measure what pretraining promises, cell by cell; a stopped run goes on where it was. ``make bench-pretrain``.

By default within 40 minutes on two cores: the gain, judge and restore, and speed, with one seed. ``FULL=1`` or
``--full`` adds words, few labels, more seeds and the ablation of every term: many hours.
"""

import sys

from benchmarks.bench import main
from benchmarks.plan_pretrain import pretrain_cells

if __name__ == "__main__":
    sys.exit(main("pretrain", pretrain_cells, __doc__))
