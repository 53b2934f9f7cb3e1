"""Use cases: each joins one analysis to the store. Pages and the CLI call only these."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # see headlamp/__init__.py, which does the same
