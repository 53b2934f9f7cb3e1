"""Views for the pages, and the concept table that is made of the same searches."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from analysis.anatomy.addresses import parse_address
from analysis.neurons.decoding import read_block_vectors
from analysis.opening.models import ModelRef
from store import Store, open_store
from store.errors import DatabaseReadOnly
from training import concepts
from training.concepts import concept, main
from workbench.models import open_model
from workbench.neurons.browsing import cut_excerpt, find_nearest_neurons, find_neighbours, rank_layers
from workbench.neurons.profiles import FiringText


def test_layers_are_ranked_best_first_and_a_shared_column_shows_the_strongest() -> None:
    ranked = rank_layers(np.array([0, 0, 0, 1]), np.array([0.1, -0.9, 0.5, 0.3]), columns=2)
    assert ranked.layers.tolist() == [0, 1]
    assert ranked.rank.tolist() == [1, 3]
    assert ranked.index.tolist() == [[2, 1], [3, -1]]
    assert ranked.value[0].tolist() == [0.5, -0.9]
    assert np.isnan(ranked.value[1, 1])


def test_the_nearest_neurons_are_those_of_largest_cosine_in_size(tiny: Path, tmp_path: Path) -> None:
    with open_model(ModelRef(str(tiny)), open_store(tmp_path / "s.db")) as loaded:
        found = find_nearest_neurons(loaded, parse_address("L0.N3"), site="down", limit=5)
        blocks = loaded.anatomy.blocks
        vectors = torch.cat(
            [read_block_vectors(loaded.anatomy, b, loaded.parameters, "down", "none") for b in blocks]
        )
        cosines = torch.nn.functional.cosine_similarity(vectors, vectors[3:4])
    cosines[3] = 0.0
    best = cosines.abs().topk(5).indices.tolist()
    assert [str(address) for address, _ in found] == [f"L{i // 24}.N{i % 24}" for i in best]
    assert [cosine for _, cosine in found] == pytest.approx(cosines[best].tolist(), abs=1e-5)


def test_neighbours_lead_through_all_experts_and_end_at_both_ends(experts: Path, tmp_path: Path) -> None:
    with open_model(ModelRef(str(experts)), open_store(tmp_path / "s.db")) as loaded:
        around = [
            [None if a is None else str(a) for a in find_neighbours(loaded.anatomy, parse_address(name))]
            for name in ("L0.E0.N0", "L0.E1.N0", "L0.E3.N7")
        ]
    assert around == [[None, "L0.E0.N1"], ["L0.E0.N7", "L0.E1.N1"], ["L0.E3.N6", None]]


def test_an_excerpt_stands_around_the_peak_and_leaves_the_first_position_out() -> None:
    values = {"key": np.array([9.0, 0.0, 0.0, -2.0, 0.0, 1.0])}
    firing: Any = SimpleNamespace(tokens=tuple("abcdef"), values=values)
    part = cut_excerpt(firing, "key", before=1, after=1)
    assert (part.tokens, part.first, part.cut_before, part.cut_after) == (("c", "d", "e"), 2, True, True)
    assert FiringText.__dataclass_fields__.keys() >= {"tokens", "values"}


def idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """No candidate was ever active on the reference text."""
    monkeypatch.setattr(concepts, "_raws", lambda *_: [])


def run_main(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["training.concepts", *arguments])
    return main()


def test_a_word_without_an_active_candidate_has_no_row(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    idle(monkeypatch)
    store = open_store(tmp_path / "s.db")
    with open_model(ModelRef(str(tiny)), store) as loaded:
        assert concept(loaded, store, "dog", "animal") is None


def test_a_skipped_word_is_named_in_table_and_document_and_does_not_pass(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    idle(monkeypatch)
    assert run_main(monkeypatch, str(tiny), "--words", "dog", "cat") == 0
    assert "dog       — no candidate active" in (table := capsys.readouterr().out)
    assert "0 of 2 pass" in table
    assert run_main(monkeypatch, str(tiny), "--words", "dog", "cat", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["skipped"], document["concepts"], document["of"]) == (["dog", "cat"], [], 2)


def test_a_concept_has_a_row_with_its_controls_in_both_forms(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_main(monkeypatch, str(tiny), "--words", "dog", "--controls", "2", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["skipped"], document["of"]) == ([], 1)
    assert [(row["word"], len(row["controls"])) for row in document["concepts"]] == [("dog", 2)]


def test_a_store_that_cannot_be_used_ends_the_concepts_with_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> Store:
        raise DatabaseReadOnly("headlamp.db cannot be written")

    monkeypatch.setattr(concepts, "open_store", broken)
    assert run_main(monkeypatch, "demo/base") == 2
    assert capsys.readouterr().err == "headlamp.db cannot be written\n"
