"""A model that is closed or replaced leaves memory, and what allocators kept of it goes back too."""

from __future__ import annotations

import shutil
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from analysis.opening import leases
from analysis.opening.leases import hold_model, is_loaded, lease_model, release_model
from analysis.opening.models import ModelRef
from analysis.running.generation import Sampling, generate_steps


@pytest.fixture(autouse=True)
def nothing_loaded() -> Iterator[None]:
    """Models of other tests are out of the way."""
    leases._entries.clear()
    leases._holds.clear()
    yield
    leases._entries.clear()
    leases._holds.clear()


@pytest.fixture
def emptied(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was asked of a GPU that is not there."""
    calls: list[str] = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: calls.append("cuda"))
    return calls


def used(ref: ModelRef) -> list[weakref.ref[Any]]:
    """Open, decode and run a model once; weak references to it and to each of its weights."""
    with lease_model(ref) as loaded:
        assert loaded.head.vocab
        list(generate_steps(loaded, [5, 9, 11], [], Sampling(max_new_tokens=2)))
        return [weakref.ref(loaded), weakref.ref(loaded.model), *map(weakref.ref, loaded.model.parameters())]


def gone(references: list[weakref.ref[Any]]) -> bool:
    return all(reference() is None for reference in references)


def test_a_model_that_is_released_leaves_nothing_behind(llama_folder: Path, emptied: list[str]) -> None:
    ref = hold_model(ModelRef(str(llama_folder)))
    references = used(ref)
    assert is_loaded(ref)
    assert not gone(references)
    emptied.clear()
    release_model(ref)
    assert not is_loaded(ref)
    assert gone(references)
    assert emptied == ["cuda"]


def test_a_model_that_somebody_else_holds_stays(llama_folder: Path, emptied: list[str]) -> None:
    ref = hold_model(ModelRef(str(llama_folder)))
    hold_model(ref)
    references = used(ref)
    emptied.clear()
    release_model(ref)
    assert is_loaded(ref)
    assert not gone(references)
    assert not emptied
    release_model(ref)
    assert gone(references)


def test_a_model_in_use_is_released_when_its_last_lease_ends(llama_folder: Path) -> None:
    ref = hold_model(ModelRef(str(llama_folder)))
    with lease_model(ref) as loaded:
        release_model(ref)
        assert is_loaded(ref)
        reference = weakref.ref(loaded.model)
        del loaded
    assert not is_loaded(ref)
    assert gone([reference])


def test_a_model_that_is_wanted_again_before_that_stays(llama_folder: Path) -> None:
    ref = hold_model(ModelRef(str(llama_folder)))
    with lease_model(ref):
        release_model(ref)
        with lease_model(ref):
            pass
    assert is_loaded(ref)


def test_a_model_that_others_replace_leaves_nothing_behind(llama_folder: Path, emptied: list[str]) -> None:
    first = used(ModelRef(str(llama_folder)))
    for number in range(leases.MOST_LOADED):
        copy = llama_folder.parent / f"copy{number}"
        shutil.copytree(llama_folder, copy)
        emptied.clear()
        used(ModelRef(str(copy)))
    assert gone(first)
    assert emptied


def test_releasing_what_was_never_loaded_is_no_error(llama_folder: Path) -> None:
    release_model(hold_model(ModelRef(str(llama_folder))))
    assert not leases._holds
