"""How much the torture tests do.

HEADLAMP_TORTURE=full   all of it, as `make torture` does: 100 kills, 200 generations, 50 model switches
unset                   a little of each, so that `make test` stays quick
"""

import os

FULL = os.environ.get("HEADLAMP_TORTURE") == "full"


def count(*, quick: int, full: int) -> int:
    """How often to do something in this session."""
    return full if FULL else quick
