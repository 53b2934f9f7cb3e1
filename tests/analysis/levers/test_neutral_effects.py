"""Effects on neutral text against whole passes of every window, position by position."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from analysis.intervening.clamps import Scope, parse_scope
from analysis.levers.neutral_effects import AFTER, CLAMPED_AT, NeutralText, acts_once
from analysis.opening.models import LoadedModel
from analysis.reading.neutral import neutral_windows
from tests.analysis.conftest import loaded_from, tiny_model, tiny_tokenizer
from tests.analysis.levers.rows_made import clamp, run_alone

WORDS = [" of", " and", " in", " to", " was", " with", " for", " on", " at", " it"]


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    return loaded_from(tiny_model("llama", num_hidden_layers=3), tiny_tokenizer(WORDS))


def divergence(base: Tensor, changed: Tensor) -> Tensor:
    """(T,) KL in nats of logits (T, V)."""
    p, q = base.double().log_softmax(-1), changed.double().log_softmax(-1)
    return (p.exp() * (p - q)).sum(-1)


def measure(loaded: LoadedModel, change: str, first: int, last: int, cut: int) -> tuple[float, float]:
    """Mean KL and perplexity over positions first to last of every window's beginning, fed alone."""
    kl, losses = [], []
    for window in neutral_windows(loaded):
        base, _ = run_alone(loaded, window[:cut], (), cut)
        changed, _ = run_alone(loaded, window[:cut], (clamp(change),) if change else (), cut)
        here = slice(first, last + 1)
        kl.append(divergence(base, changed)[here])
        after = torch.tensor(window[first + 1 : last + 2])
        losses.append(-changed[here].double().log_softmax(-1).gather(-1, after[:, None])[:, 0])
    return float(torch.cat(kl).mean()), math.exp(float(torch.cat(losses).mean()))


@pytest.mark.parametrize("scope", ["last", "4-4"])
def test_one_position_is_clamped_in_the_middle_and_the_16_after_it_are_compared(
    loaded: LoadedModel, scope: str
) -> None:
    assert len({window[CLAMPED_AT:] for window in neutral_windows(loaded)}) > 8
    text = NeutralText(loaded, parse_scope(scope))
    changes = ["L0.N7:set:2r", "L1.N7:set:4"]
    found = text.measure([(), *((clamp(f"{change}@{scope}"),) for change in changes)])
    for at, change in enumerate(changes, 1):
        here = f"{change}@{CLAMPED_AT}-{CLAMPED_AT}"
        kl, perplexity = measure(loaded, here, CLAMPED_AT + 1, CLAMPED_AT + AFTER, CLAMPED_AT + AFTER + 1)
        alone, _ = measure(loaded, here, CLAMPED_AT, CLAMPED_AT, CLAMPED_AT + 1)
        assert float(found.kl[at]) == pytest.approx(kl, rel=1e-3, abs=1e-7)
        assert float(found.kl_at[at]) == pytest.approx(alone, rel=1e-3)
        assert float(found.perplexity[at]) == pytest.approx(perplexity, rel=1e-4)
        assert kl > 1e-6
    assert float(found.kl[0]) == pytest.approx(0, abs=1e-6)
    assert float(found.perplexity[0]) == pytest.approx(text.base_perplexity, rel=1e-5)


@pytest.mark.parametrize("scope", ["all", "3-5", "prompt"])
def test_a_clamp_of_several_positions_holds_everywhere_and_all_but_the_first_are_compared(
    loaded: LoadedModel, scope: str
) -> None:
    found = NeutralText(loaded, parse_scope(scope)).measure([(clamp(f"L1.N7:set:1r@{scope}"),)])
    kl, perplexity = measure(loaded, "L1.N7:set:1r@all", 1, 62, 63)
    assert float(found.kl[0]) == pytest.approx(kl, rel=1e-3)
    assert float(found.perplexity[0]) == pytest.approx(perplexity, rel=1e-4)
    assert torch.isnan(found.kl_at).all()


def test_a_neuron_of_the_last_layer_changes_no_later_token(loaded: LoadedModel) -> None:
    found = NeutralText(loaded, Scope("last")).measure([(clamp("L2.N7:set:4r@last"),)])
    assert float(found.kl[0]) < 1e-6
    assert float(found.kl_at[0]) > 0.01


def test_what_drives_the_model_to_nan_has_no_effect_that_is_known(loaded: LoadedModel) -> None:
    broken = tuple(clamp("L0.N7:scale:1000000@all") for _ in range(8))
    found = NeutralText(loaded, Scope("all")).measure([broken, (clamp("L0.N7:set:1r@all"),)])
    assert torch.isnan(found.kl[0])
    assert torch.isnan(found.perplexity[0])
    assert torch.isfinite(found.kl[1])


def test_one_position_is_last_or_a_range_of_one() -> None:
    assert [acts_once(parse_scope(scope)) for scope in ("last", "3-3", "3-4", "all", "prompt")] == [
        True
    ] * 2 + [False] * 3
