"""`python -m tests.acceptance [SET or SET.POINT ...]`."""

import sys

from tests.acceptance.running import run
from tests.acceptance.sets import SETS

sys.exit(run(SETS, sys.argv[1:]))
