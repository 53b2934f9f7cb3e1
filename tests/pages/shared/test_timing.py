"""Minutes that pages say before a job: what is read, by the rate at which the model reads here."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from pages.shared.jobs import timing


def test_the_time_of_reading_is_tokens_by_the_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: Any = SimpleNamespace(fingerprint="f", device="cpu", dtype="float32")
    rates = iter((None, 500.0))
    monkeypatch.setattr(timing, "measure_reading_rate", lambda model: next(rates))
    monkeypatch.setattr(timing.st, "session_state", {})
    assert timing.estimate_reading(loaded, 60_000) == ""
    for _ in range(2):  # measured once, from then on known
        assert timing.estimate_reading(loaded, 60_000) == " That takes ≈ 2 min on this machine."
