"""A store in a fresh folder, and the specs and findings the tests put in it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from store import Finding, RunSpec, Store, keep_finding, open_store

EVIDENCE: dict[str, Any] = {
    "run": "0123456789abcdef0123456789abcdef",
    "recipe": {"headlamp_recipe": 1, "interventions": [{"kind": "clamp", "layer": 2, "neuron": 47}]},
    "clamps": ["L2.N47:key:set:-8x@all"],
    "prompt": "The capital of France is",
    "seed": 7,
    "base": {"text": " Paris, of course", "token_ids": [12, 13]},
    "changed": {"text": " Rome, I think", "token_ids": [14]},
    "answer": {
        "base": [{"token_id": 12, "token": " Paris", "probability": 0.75}],
        "changed": [{"token_id": 14, "token": " Rome", "probability": 0.5}],
    },
    "word": {"word": " Paris", "base": 0.75, "changed": 0.125},
    "versions": {"headlamp": "0.1.0"},
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "headlamp.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    opened = open_store(path)
    yield opened
    opened.close()


@pytest.fixture
def make_spec() -> Callable[..., RunSpec]:
    def spec(**changes: Any) -> RunSpec:
        asked: dict[str, Any] = {
            "kind": "decode",
            "method_version": "1",
            "model_fingerprint": "f" * 64,
            "model_name": "demo/base",
            "dtype": "float32",
            "device": "cpu",
            "parameters": {"site": "up", "top_k": 10},
            "seed": 0,
            "units": 4,
        }
        return RunSpec(**(asked | changes))

    return spec


@pytest.fixture
def keep(store: Store) -> Callable[..., Finding]:
    def kept(**changes: Any) -> Finding:
        given: dict[str, Any] = {
            "title": "A capital neuron",
            "kind": "generation",
            "model_name": "demo/base",
            "model_fingerprint": "f" * 64,
            "evidence": EVIDENCE,
        }
        return keep_finding(store, **(given | changes))

    return kept
