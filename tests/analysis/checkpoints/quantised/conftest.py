"""What the tests of every quantised format share."""

from __future__ import annotations

import pytest

from analysis.checkpoints.quantised import parts


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces of a few rows, as larger tensors have them."""
    monkeypatch.setattr(parts, "AT_ONCE", 100)
