"""The bundled example of a finding: measured on demo/base, shown to readers who have kept none yet."""

from __future__ import annotations

from functools import lru_cache

from demo import EXAMPLE_FINDING
from store import Finding, read_findings

EXAMPLE_ID = "example"
"""Its name in the URL, which is no finding's id."""


@lru_cache(maxsize=1)
def read_example_finding() -> Finding | None:
    """The example; None where the file is missing. Raises BadImport for a file that was changed."""
    if not EXAMPLE_FINDING.is_file():
        return None
    return read_findings(EXAMPLE_FINDING.read_text("utf-8"))[0]
