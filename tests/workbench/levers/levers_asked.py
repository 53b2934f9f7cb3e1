"""Small questions about a word of the tiny models, and a desk to ask them as jobs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from analysis.opening.leases import lease_model
from analysis.opening.models import LoadedModel, ModelRef
from analysis.running.conversations import Conversation
from store import Store, open_store
from workbench.levers.questions import LeverQuestion, SweepQuestion

PROMPTS = tuple(Conversation(text) for text in ("the cat is a", "a cat is the", "he is a", "it was the"))


def ask_levers_of(**changed: Any) -> LeverQuestion:
    """The levers of dog, with few neurons."""
    known: dict[str, Any] = {"select": PROMPTS[:2], "held_out": PROMPTS[2:], "other": PROMPTS[3:]}
    sizes: dict[str, Any] = {"top": 4, "set_size": 2, "controls": 3}
    return LeverQuestion("dog", **(known | sizes | changed))


def ask_sweep_of(*neurons: str, **changed: Any) -> SweepQuestion:
    """A sweep of some neurons for dog."""
    known: dict[str, Any] = {"values": (-1.0, 0.0, 2.0), "controls": 2, "prompts": PROMPTS[:2]}
    return SweepQuestion("dog", neurons, **(known | changed))


@pytest.fixture
def loaded(tiny: Path) -> Iterator[LoadedModel]:
    with lease_model(ModelRef(str(tiny))) as model:
        yield model


@pytest.fixture
def mixture(experts: Path) -> Iterator[LoadedModel]:
    with lease_model(ModelRef(str(experts))) as model:
        yield model


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Store]:
    store = open_store(tmp_path / "levers.db")
    yield store
    store.close()
