"""Stored maps: the product in their key, and those that earlier versions made."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from analysis.anatomy.addresses import parse_address
from analysis.neurons.io_cosines import measure_io_cosines
from analysis.opening.models import ModelRef
from store import Store, open_store, read_arrays
from workbench.jobs.engines import KINDS, find_kind
from workbench.kinds import make_order, rebuild_order
from workbench.models import open_model
from workbench.neurons.decoding import (
    DECODE,
    decode_model,
    decode_spec,
    find_decoded,
    find_spec,
    order_decoding,
)
from workbench.neurons.rows import decode_alone, decode_rows

LATER = ("kurtosis", "up_gate", "up_down", "gate_down")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "s.db")


@pytest.fixture
def capable(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU that multiplies in bfloat16, and models wide enough."""
    monkeypatch.setattr("analysis.neurons.precision.supports_bfloat16", lambda: True)
    monkeypatch.setattr("workbench.neurons.decoding.supports_bfloat16", lambda: True)
    monkeypatch.setattr("analysis.neurons.precision.LEAST_WIDTH", 1)


def test_a_map_in_bfloat16_has_a_key_of_its_own_and_float32_keeps_its(tiny: Path, store: Store) -> None:
    with open_model(ModelRef(str(tiny)), store) as loaded:
        plain = decode_spec(loaded, "down", "none", 10)
        assert "product" not in plain.parameters
        other = decode_spec(loaded, "down", "none", 10, "bfloat16")
        assert other.parameters == {**plain.parameters, "product": "bfloat16"}
        assert other.key != plain.key


def test_a_stored_map_is_used_before_another_is_made(
    tiny: Path, store: Store, capable: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_model(ModelRef(str(tiny)), store) as loaded:
        assert find_spec(loaded, store, "down", "none").parameters["product"] == "bfloat16"
        with monkeypatch.context() as older:
            older.setattr("analysis.neurons.precision.LEAST_WIDTH", 10**6)
            before = decode_model(loaded, store, site="down").run.key
        again = decode_model(loaded, store, site="down")
        assert (again.run.key, again.cached) == (before, True)
        new = decode_model(loaded, store, site="up")
        assert new.run.parameters["product"] == "bfloat16"
        with monkeypatch.context() as elsewhere:
            elsewhere.setattr("analysis.neurons.precision.supports_bfloat16", lambda: False)
            elsewhere.setattr("workbench.neurons.decoding.supports_bfloat16", lambda: False)
            assert decode_model(loaded, store, site="up").run.key == new.run.key


def test_both_products_store_the_same_tokens(tiny: Path, store: Store, capable: None, tmp_path: Path) -> None:
    other = open_store(tmp_path / "other.db")
    with open_model(ModelRef(str(tiny)), store) as loaded:
        run = decode_model(loaded, store).run
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("analysis.neurons.precision.LEAST_WIDTH", 10**6)
            plain = decode_model(loaded, other).run
    for name in ("top_ids", "bottom_ids"):
        pairs = zip(read_arrays(store, run.key, name), read_arrays(other, plain.key, name), strict=True)
        assert all((one == two).all() for one, two in pairs)


def test_an_order_in_float32_is_that_of_earlier_versions(tiny: Path, store: Store, capable: None) -> None:
    with open_model(ModelRef(str(tiny)), store) as loaded:
        old = make_order(DECODE, loaded.ref, site="down", norm="none", top_k=10)
        same = make_order(DECODE, loaded.ref, site="down", norm="none", top_k=10, product="float32")
        assert same.key == old.key
        new = order_decoding(loaded, store, site="down", norm="none")
        assert new.parameters["product"] == "bfloat16"
        assert find_kind(new) is DECODE
        run = decode_model(loaded, store).run
        assert DECODE.spec(loaded, new.parameters).key == run.key
        assert rebuild_order(run, KINDS).parameters == new.parameters


def test_a_map_of_an_earlier_version_opens_without_the_later_numbers(tiny: Path, store: Store) -> None:
    where = parse_address("L1.N5")
    with open_model(ModelRef(str(tiny)), store) as loaded:
        key = decode_model(loaded, store, site="down").run.key
        names = ", ".join(f"'{name}'" for name in LATER)
        with store.transaction() as db:
            db.execute(f"DELETE FROM arrays WHERE run_key = ? AND unit_idx = 0 AND name IN ({names})", (key,))
        decoded = find_decoded(loaded, store, "down", "none")
        assert decoded is not None
        assert np.isnan(decoded.kurtosis[: loaded.anatomy.blocks[0].d_ff]).all()
        [old] = decode_rows(loaded, store, [parse_address("L0.N5")], site="down")
        assert [getattr(old, name) for name in LATER] == [None] * 4
        [new] = decode_rows(loaded, store, [where], site="down")
        [alone] = decode_alone(loaded, [where], site="down")
        assert [getattr(new, n) for n in LATER] == pytest.approx([getattr(alone, n) for n in LATER], rel=1e-4)


def test_cosines_are_those_of_the_stored_vectors(tiny: Path, store: Store) -> None:
    with open_model(ModelRef(str(tiny)), store) as loaded:
        block, weights = loaded.anatomy.blocks[1], loaded.parameters
        vectors = {site: block.view(site).vectors(weights).double() for site in loaded.anatomy.sites}
        found = measure_io_cosines(block, loaded.parameters)
    for name in ("up_gate", "up_down", "gate_down"):
        one, other = (vectors[site] for site in name.split("_"))  # type: ignore[index]
        want = torch.nn.functional.cosine_similarity(one, other, dim=-1)
        torch.testing.assert_close(getattr(found, name).double(), want, rtol=1e-4, atol=1e-6)
