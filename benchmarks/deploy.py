"""Measure what is deployed, cell by cell; a stopped run goes on where it was. ``make bench-deploy``.

By default within 40 minutes on two cores. ``FULL=1`` or ``--full`` adds the flood on the larger network, its mutants,
and a graph with a memory bank. ``--environments DIR`` names where environments of several GB are made for a while.
"""

import sys

from benchmarks.bench import main
from benchmarks.plan_deploy import deploy_cells

if __name__ == "__main__":
    sys.exit(main("deploy", deploy_cells, __doc__))
