"""Sink masses are those of eager attention, measured without storing it; decay is arithmetic on them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

import analysis.super_experts.sinks
from analysis.anatomy.addresses import BlockAddress
from analysis.intervening.interventions import intervene
from analysis.intervening.pruning import PruneExpert
from analysis.opening.models import LoadedModel
from analysis.super_experts.attention_calls import implementations
from analysis.super_experts.sinks import SinkSums, WatchSinks, measure_sink_decay
from tests.analysis.conftest import loaded_from, lock_is_free
from tests.analysis.moe import moe, windows
from tests.contract.builder import build

IDS = torch.tensor(windows(2, 24))
FAMILIES = ["mixtral", "deepseek_v2", "gpt_oss", "gemma2", "cohere2", "gpt2", "qwen3_next", "gemma3n_text"]
"""Plain, latent, with learned sinks and windows, capped, windowed, Conv1D, partly linear, oddly scaled."""


def watched(loaded: LoadedModel, ids: Tensor = IDS) -> SinkSums:
    watch = WatchSinks(loaded)
    positions = torch.arange(ids.shape[1]).expand(len(ids), -1)
    with torch.no_grad(), intervene(loaded, [watch], positions=positions):
        loaded.model(input_ids=ids, use_cache=False)
    return watch.sums()


def eager_masses(loaded: LoadedModel, ids: Tensor = IDS) -> list[Tensor]:
    """(H,) per layer with attention: the mean of p_{t,0} over the queries t ≥ 8 that can see token 0."""
    before = implementations(loaded.model)
    loaded.model.set_attn_implementation("eager")
    with torch.no_grad():
        attentions = loaded.model(input_ids=ids, use_cache=False, output_attentions=True).attentions
    loaded.model.set_attn_implementation(before)
    masses = []
    for p in (p for p in attentions if p is not None):
        first = p[:, :, 8:, 0]
        seen = (first > 0).any(1, keepdim=True).expand_as(first)
        masses.append((first * seen).sum((0, 2)) / seen[:, 0].sum())
    return masses


@pytest.mark.parametrize("entry", FAMILIES)
def test_masses_are_those_of_eager_attention(entry: str) -> None:
    loaded = loaded_from(build(entry))
    sums = watched(loaded)
    layers = np.flatnonzero(~np.isnan(sums.mass).all(1))
    expected = eager_masses(loaded)
    assert len(layers) == len(expected) > 0
    for layer, masses in zip(layers, expected, strict=True):
        assert sums.masses[layer][: len(masses)] == pytest.approx(masses.numpy(), abs=1e-6)


def test_capped_scores_are_capped_here_too() -> None:
    loaded = loaded_from(build("gemma2"))
    for layer in loaded.model.model.layers:
        layer.self_attn.attn_logit_softcapping = 0.2
    expected = [masses.numpy() for masses in eager_masses(loaded)]
    assert watched(loaded).masses == pytest.approx(np.stack(expected), abs=1e-6)


def test_queries_beyond_a_sliding_window_do_not_count() -> None:
    sums = watched(loaded_from(build("gemma2")))  # windows of 16 in layers 0 and 2, 24 tokens, 2 sequences
    assert sums.queries[:, 0].tolist() == [2 * (16 - 8), 2 * (24 - 8), 2 * (16 - 8)]
    even = [np.mean([1 / (t + 1) for t in range(8, end)]) for end in (16, 24, 16)]
    assert sums.even[:, 0] == pytest.approx(even)


def test_scores_are_computed_a_few_queries_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = moe("mixtral")
    whole = watched(loaded)
    sizes: list[int] = []
    softmax = Tensor.softmax

    def noted(self: Tensor, dim: int) -> Tensor:
        sizes.append(self.numel())
        return softmax(self, dim)

    monkeypatch.setattr(analysis.super_experts.sinks, "_SCORES", 2 * 4 * 24 * 3)
    monkeypatch.setattr(Tensor, "softmax", noted)
    parts = watched(loaded)
    assert max(sizes) == 2 * 4 * 24 * 4  # the proof's four queries; the others are three at a time
    assert parts.masses == pytest.approx(whole.masses, abs=1e-6)


def test_learned_sinks_are_told_apart() -> None:
    loaded = loaded_from(build("gpt_oss"))
    sums = watched(loaded)
    assert ((sums.learned_masses > 0) & (sums.learned_masses < 1)).all()
    for layer in range(3):
        loaded.parameters[f"model.layers.{layer}.self_attn.sinks"].fill_(50.0)
    drawn = watched(loaded)
    assert (drawn.learned_masses > 0.99).all()
    assert (drawn.masses < 0.01).all()
    assert np.isnan(watched(moe("mixtral")).learned_masses).all()


def test_watching_changes_no_bit_and_leaves_nothing_behind() -> None:
    loaded = moe("mixtral")
    before = implementations(loaded.model)
    positions = torch.arange(24).expand(2, -1)
    with torch.no_grad():
        plain = loaded.model(input_ids=IDS, use_cache=False).logits
        with intervene(loaded, [WatchSinks(loaded)], positions=positions):
            assert torch.equal(loaded.model(input_ids=IDS, use_cache=False).logits, plain)
        with pytest.raises(IndexError), intervene(loaded, [WatchSinks(loaded)], positions=positions):
            loaded.model(input_ids=IDS + 10_000)
        assert torch.equal(loaded.model(input_ids=IDS, use_cache=False).logits, plain)
    assert implementations(loaded.model) == before
    assert lock_is_free(loaded)


def test_attention_that_cannot_be_watched_says_so() -> None:
    watch = WatchSinks(loaded_from(build("bloom")))
    assert "the attention of BloomForCausalLM cannot be observed" in watch.why_not
    assert np.isnan(watched(loaded_from(build("bloom"))).masses).all()
    assert "under sdpa and eager attention" in WatchSinks(loaded_from(build("dbrx"))).why_not


def test_attention_of_another_kind_is_left_out_rather_than_misread(monkeypatch: pytest.MonkeyPatch) -> None:
    """A layer whose attention gives something else than its scores and values say."""
    loaded = moe("mixtral")
    own = ALL_ATTENTION_FUNCTIONS["sdpa"]

    def bent(module: object, *args: object, **rest: object) -> object:
        output, weights = own(module, *args, **rest)
        return (output * 1.5 if getattr(module, "layer_idx", 0) == 1 else output), weights

    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS._global_mapping, "sdpa", bent)
    masses = watched(loaded).masses
    assert np.isnan(masses[1]).all()
    assert not np.isnan(masses[[0, 2]]).any()


def test_masses_of_several_texts_add_up() -> None:
    loaded = moe("olmoe")
    both = watched(loaded)
    added = watched(loaded, IDS[:1]) + watched(loaded, IDS[1:])
    assert added.masses == pytest.approx(both.masses, abs=1e-6)
    assert (added.queries == both.queries).all()


def made(masses: list[list[float]]) -> SinkSums:
    mass = np.array(masses)
    return SinkSums(mass * 10, np.full(mass.shape, np.nan), np.ones(mass.shape), np.full(mass.shape, 10.0))


def test_decay_is_the_mean_over_the_heads_that_had_a_sink() -> None:
    base = made([[0.8, 0.4, 0.05], [0.09, 0.02, 0.01], [0.5, 0.1, np.nan]])
    changed = made([[0.08, 0.1, 0.9], [0.5, 0.5, 0.5], [0.5, 0.2, np.nan]])
    decay, heads = measure_sink_decay(base, changed)
    assert decay[0] == pytest.approx(((1 - 0.1) + (1 - 0.25)) / 2)
    assert decay[1] is None
    assert decay[2] == pytest.approx((0 + (1 - 2)) / 2)
    assert heads == [2, 0, 2]


ALWAYS, LARGE, SLOW = 4, 9, 3
"""A channel that every token has, one that only the first gets, and a head dimension that hardly turns."""


def with_a_sink() -> tuple[LoadedModel, Tensor, int]:
    """A Mixtral whose layer 1 rests on token 0 because one expert of layer 0 writes a channel there.

    Also (2, 24) token ids, of which only the first is routed to that expert, and its number.
    """
    loaded = moe("mixtral")
    parameters, blocks = loaded.parameters, loaded.anatomy.blocks
    parameters["model.layers.0.self_attn.o_proj.weight"].zero_()  # routing depends on the token alone
    embedding = parameters["model.embed_tokens.weight"]
    embedding[:, LARGE], embedding[:, ALWAYS] = 0.0, 5.0
    parameters["model.layers.0.mlp.gate.weight"][:, ALWAYS] = 0.0
    chosen: list[Tensor] = []
    experts = loaded.model.get_submodule(blocks[0].module)
    handle = experts.register_forward_pre_hook(lambda module, args: chosen.append(args[1]))
    loaded.model(input_ids=torch.arange(97)[:, None], use_cache=False)
    handle.remove()
    expert = int(chosen[0][1, 0])
    others = [token for token in range(4, 97) if expert not in chosen[0][token].tolist()]
    for block in blocks[:4]:
        block.down.vectors(parameters)[:, LARGE] = 0.0
    blocks[expert].down.vectors(parameters)[:, LARGE] = torch.linspace(400, 600, blocks[expert].d_ff)
    for name, channel in (("q", ALWAYS), ("k", LARGE)):
        weight = parameters[f"model.layers.1.self_attn.{name}_proj.weight"]
        weight.zero_()
        weight[SLOW::8, channel] = 3.0
    assert len(others) >= 23
    ids = torch.tensor([[1, *others[:23]], [1, *others[-23:]]])
    return loaded, ids, expert


def test_pruning_the_expert_that_feeds_a_sink_lets_it_decay_and_pruning_another_does_not() -> None:
    loaded, ids, expert = with_a_sink()
    positions = torch.arange(24).expand(2, -1)

    def without(*experts: int) -> SinkSums:
        watch = WatchSinks(loaded)
        pruned = [PruneExpert(BlockAddress(0, False, one)) for one in experts]
        with torch.no_grad(), intervene(loaded, [watch, *pruned], positions=positions):
            loaded.model(input_ids=ids, use_cache=False)
        return watch.sums()

    if (without().masses[1] < 0.01).all():  # the expert happens to write it with the other sign
        loaded.parameters["model.layers.1.self_attn.k_proj.weight"].neg_()
    base = without()
    assert (base.masses[1] > 0.9).all()
    decay, heads = measure_sink_decay(base, without(expert))
    assert heads[1] == 4
    assert decay[1] == pytest.approx(0.9, abs=0.08)
    assert without(expert).masses[1] == pytest.approx(base.even[1], abs=0.02)
    other, _ = measure_sink_decay(base, without((expert + 1) % 4))
    assert other[1] == pytest.approx(0.0, abs=0.02)
