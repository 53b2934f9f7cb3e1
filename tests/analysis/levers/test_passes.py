"""Rows that share what lies before their clamps equal the same clamps alone, in every layout of a model."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from analysis.errors import HeadlampError
from analysis.intervening.clamps import parse_scope
from analysis.levers import passes
from analysis.levers.passes import HeldRow, SharedTexts, can_share
from analysis.opening.models import LoadedModel
from analysis.running.generation import Sampling, generate_steps
from tests.analysis.levers.rows_made import (
    IDS,
    OTHER,
    TINY,
    clamp,
    count_hooks,
    fresh,
    gather,
    list_rows,
    made,
    measure_log_odds,
    run_alone,
)
from tests.contract import overrides

SHARING = [
    *("llama", "gpt2", "gemma2", "gemma3_text", "mixtral", "qwen2_moe", "deepseek_v2", "gpt_oss"),
    *("gpt_neox", "cohere"),
]
"""Dense, transposed, with norms behind the block and sliding windows, experts, shared experts, parallel."""


def share(loaded: LoadedModel, scope: str, **options: Any) -> SharedTexts:
    first = max(int(parse_scope(scope).interval(len(IDS) - 2)[0]), 0)
    return SharedTexts(loaded, [IDS, OTHER], first, len(IDS) - 2, keep=3, **options)


@pytest.mark.parametrize("family", SHARING)
def test_shared_rows_equal_rows_fed_alone_and_whole(family: str) -> None:
    loaded = made(family)
    assert can_share(loaded)
    for scope in ("last", "all", "prompt", "3-5") if family in TINY else ("last", "all"):
        rows = [HeldRow(n % 2, clamps) for n, clamps in enumerate(list_rows(loaded, scope))]
        texts = share(loaded, scope)
        assert texts.start == {"last": len(IDS) - 3, "3-5": 3}.get(scope, 0)
        logits, acted = gather(texts, rows)
        plain, also_acted = gather(share(loaded, scope, sharing=False), rows)
        assert acted == also_acted
        torch.testing.assert_close(measure_log_odds(logits), measure_log_odds(plain), rtol=1e-5, atol=1e-5)
        for at in range(0, len(rows), 5):
            ids = (IDS, OTHER)[rows[at].text]
            alone, count = run_alone(loaded, ids, rows[at].clamps, len(IDS) - 2)
            torch.testing.assert_close(logits[at], alone[-3:], rtol=1e-5, atol=2e-5)
            assert count == acted[at]
        base, _ = run_alone(loaded, IDS, (), len(IDS))
        torch.testing.assert_close(texts.base[0], base[-3:], rtol=1e-5, atol=1e-5)
    assert count_hooks(loaded) == 0


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "mixtral"])
@pytest.mark.parametrize("scope", ["last", "all", "3-5"])
def test_shared_rows_equal_the_first_step_of_generation(family: str, scope: str) -> None:
    loaded = made(family)
    rows = list_rows(loaded, scope)[1:]
    texts = SharedTexts(loaded, [IDS], len(IDS) - 1 if scope == "last" else 0, len(IDS))
    logits, _ = gather(texts, [HeldRow(0, clamps) for clamps in rows])
    for at in range(0, len(rows), 3):
        (step,) = generate_steps(loaded, IDS, rows[at], Sampling(1))
        ours, theirs = measure_log_odds(logits[at, 0]), measure_log_odds(step.log_probabilities[1])
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("fewest", "runs"), [(1, [(2, 3, 3), (1, 1, 3), (2, 1, 3)]), (4, [(1, 4, 3), (2, 4, 3)])]
)
def test_only_what_differs_is_computed(
    monkeypatch: pytest.MonkeyPatch, fewest: int, runs: list[tuple[int, int, int]]
) -> None:
    """Layers below a row's lowest clamp run for no row, and tokens before `start` are fed once; few rows join
    those of the next lower layer.
    """
    monkeypatch.setattr(passes, "FEWEST_ROWS", fewest)
    loaded = fresh("llama")
    layers = loaded.model.model.layers
    rows = [HeldRow(0, (clamp(f"L{layer}.N7:set:1r@last"),)) for layer in (2, 1, 2, 2)]
    texts = share(loaded, "last")
    gather(texts, rows)  # the residual's place is found once
    fed: list[tuple[int, int, int]] = []
    for number, layer in enumerate(layers):
        layer.mlp.register_forward_hook(
            lambda module, args, output, n=number: fed.append((n, *args[0].shape[:2]))
        )
    gather(texts, rows)
    assert fed == runs


def test_rows_beyond_what_memory_allows_are_run_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = made("llama")
    rows = [HeldRow(n % 2, clamps) for n, clamps in enumerate(list_rows(loaded, "last"))]
    texts = share(loaded, "last")
    together, _ = gather(texts, rows)
    monkeypatch.setattr(passes, "MOST_ROWS", 2)
    assert max(len(out.rows) for out in texts.run(rows)) == 2
    in_parts, _ = gather(texts, rows)
    torch.testing.assert_close(together, in_parts, rtol=1e-5, atol=1e-5)


def test_a_model_with_states_that_are_no_keys_and_values_gets_every_row_whole() -> None:
    loaded = made("qwen3_next")
    assert not can_share(loaded)
    rows = [HeldRow(0, clamps) for clamps in list_rows(loaded, "last")]
    texts = share(loaded, "last")
    assert texts.start == 0
    logits, acted = gather(texts, rows)
    for at in range(0, len(rows), 3):
        alone, count = run_alone(loaded, IDS, rows[at].clamps, len(IDS) - 2)
        torch.testing.assert_close(logits[at], alone[-3:], rtol=1e-5, atol=2e-5)
        assert count == acted[at]


def test_layers_that_read_the_keys_of_others_are_not_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gemma 3n's last layers attend to what earlier ones put into the cache in the same pass."""
    shared = {"num_kv_shared_layers": 2, "num_hidden_layers": 4}
    changed = overrides.OVERRIDES.get("gemma3n_text", {}) | shared
    monkeypatch.setitem(overrides.OVERRIDES, "gemma3n_text", changed)
    loaded = fresh("gemma3n_text")
    assert not can_share(loaded)
    logits, _ = gather(share(loaded, "last"), [HeldRow(0, (clamp("L3.N7:set:3@last"),))])
    alone, _ = run_alone(loaded, IDS, (clamp("L3.N7:set:3@last"),), len(IDS) - 2)
    torch.testing.assert_close(logits[0], alone[-3:], rtol=1e-5, atol=2e-5)


def test_a_model_for_which_sharing_gives_other_numbers_gets_every_row_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    share_layer = passes._share_layer

    def share_wrongly(layer: Any, texts: Tensor) -> Any:
        found = share_layer(layer, texts)
        update = found.update
        found.update = lambda keys, values, *args: update(keys, values * 1.01, *args)
        return found

    monkeypatch.setattr(passes, "_share_layer", share_wrongly)
    loaded = fresh("llama")
    assert not can_share(loaded)
    assert share(loaded, "last").start == 0


def test_a_model_that_cannot_continue_a_text_is_refused() -> None:
    with pytest.raises(HeadlampError, match="other logits with a KV cache"):
        SharedTexts(made("camembert"), [IDS], 0, len(IDS))


def test_a_model_that_gives_nan_without_a_clamp_is_refused() -> None:
    loaded = fresh("llama")
    can_share(loaded)
    loaded.model.model.norm.weight[0] = torch.nan
    with pytest.raises(HeadlampError, match="itself gives NaN or infinity"):
        share(loaded, "last")


def test_the_model_is_as_before_after_an_error() -> None:
    loaded = fresh("llama")
    texts = share(loaded, "last")
    row = HeldRow(0, (clamp("L2.N7:set:1r@last"),))
    before, _ = gather(texts, [row])

    def fail(module: Any, args: Any) -> None:
        assert count_hooks(loaded) > 1  # layers are replaced, and this hook is one
        raise RuntimeError("out of memory")

    handle = loaded.model.model.norm.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        gather(texts, [row])
    handle.remove()
    assert count_hooks(loaded) == 0
    after, _ = gather(texts, [row])
    assert torch.equal(before, after)


def test_running_rows_changes_nothing_that_later_rows_begin_from() -> None:
    loaded = made("gemma2")
    texts = share(loaded, "last")
    rows = [HeldRow(n % 2, clamps) for n, clamps in enumerate(list_rows(loaded, "last"))]
    first, _ = gather(texts, rows)
    again, _ = gather(texts, rows)
    assert torch.equal(first, again)
