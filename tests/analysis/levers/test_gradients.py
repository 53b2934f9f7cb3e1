"""Scores to first order against small changes of the same neurons through ordinary clamps."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from analysis.anatomy.addresses import NeuronAddress
from analysis.intervening.clamps import parse_scope
from analysis.levers.gradients import score_gradients
from analysis.levers.readings import WordReader
from analysis.opening.models import LoadedModel
from tests.analysis.levers.rows_made import IDS, clamp, count_hooks, fresh, made

PROMPT = IDS[:12]
SPELLINGS = ((6, 9), (8, 10))
STEP = 0.004


def start_of(loaded: LoadedModel, index: int) -> int:
    """Where a block's neurons begin in the anatomy's order."""
    return sum(block.d_ff for block in loaded.anatomy.blocks[:index])


def slopes(loaded: LoadedModel, neuron: str, scope: str) -> tuple[float, float]:
    """Change of the log-odds per × residual added, and per multiple of the neuron's own values."""
    reader = WordReader(loaded, PROMPT, SPELLINGS, parse_scope(scope))
    texts = [f"add:{STEP}r", f"add:{-STEP}r", f"scale:{1 + STEP}", f"scale:{1 - STEP}"]
    odds = reader.read([(clamp(f"{neuron}:{text}@{scope}"),) for text in texts]).log_odds.tolist()
    return (odds[0] - odds[1]) / (2 * STEP), (odds[2] - odds[3]) / (2 * STEP)


@pytest.mark.parametrize("scope", ["last", "all", "3-11"])
@pytest.mark.parametrize(
    "family", ["llama", "gpt2", "gemma2", "gpt_neox", "mixtral", "qwen2_moe", "deepseek_v2"]
)
def test_scores_are_the_slopes_of_small_clamps(family: str, scope: str) -> None:
    loaded = made(family)
    scores = score_gradients(loaded, PROMPT, SPELLINGS, parse_scope(scope))
    assert scores.shape == (sum(block.d_ff for block in loaded.anatomy.blocks), 2)
    assert scores.dtype == torch.float64
    blocks = loaded.anatomy.blocks
    scored = [at for at in range(len(blocks)) if torch.isfinite(scores[start_of(loaded, at) + 7]).all()]
    for index in sorted({scored[0], scored[len(scored) // 2], scored[-1]}):
        neuron = NeuronAddress(blocks[index].address, 7)
        written, now = slopes(loaded, str(neuron), scope)
        expected = torch.tensor([written - now, -written - now], dtype=torch.float64)
        found = scores[start_of(loaded, index) + 7]
        torch.testing.assert_close(found, expected, rtol=2e-2, atol=4e-3)
    assert count_hooks(loaded) == 0


@pytest.mark.parametrize("family", ["mixtral", "deepseek_v2"])
def test_an_expert_that_no_position_of_the_scope_is_routed_to_has_no_score(family: str) -> None:
    loaded = made(family)
    scores = score_gradients(loaded, PROMPT, ((5,),), parse_scope("last"))
    routed = set()
    for index, block in enumerate(loaded.anatomy.blocks):
        at = start_of(loaded, index)
        part = scores[at : at + block.d_ff]
        reader = WordReader(loaded, PROMPT, ((5,),), parse_scope("last"))
        acts = bool(reader.read([(clamp(f"{block.address}.N7:set:1r@last"),)]).acted[0])
        assert torch.isneginf(part).all() if not acts else torch.isfinite(part).all()
        routed.add(acts)
    assert routed == {True, False}


def test_a_model_whose_residuals_are_not_found_has_no_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = fresh("llama")
    monkeypatch.setattr("analysis.intervening.residual_units.find_residual_places", lambda trace, blocks: {})
    scores = score_gradients(loaded, PROMPT, SPELLINGS, parse_scope("last"))
    assert torch.isneginf(scores).all()


def test_nothing_is_left_on_the_model_after_an_error() -> None:
    loaded = fresh("llama")
    score_gradients(loaded, PROMPT, ((5,),), parse_scope("last"))

    def fail(module: Any, args: Any) -> None:
        raise RuntimeError("out of memory")

    handle = loaded.model.model.norm.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        score_gradients(loaded, PROMPT, ((5,),), parse_scope("last"))
    handle.remove()
    assert count_hooks(loaded) == 0
    assert all(parameter.grad is None for parameter in loaded.model.parameters())
