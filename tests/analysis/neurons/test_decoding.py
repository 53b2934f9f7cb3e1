"""Decoding against a plain float64 product over the whole vocabulary."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from analysis.anatomy.anatomy import Block
from analysis.anatomy.head_matrix import HeadMatrix, read_head_matrix
from analysis.errors import AddressOutOfRange, HeadlampError
from analysis.neurons import vocabulary_scan
from analysis.neurons.decoding import NORMS, decode_vectors, read_block_vectors
from analysis.opening.models import LoadedModel, ModelRef, load_model
from tests.analysis.conftest import FAMILIES
from tests.analysis.neurons.heads_made import head_of

TinyModel = Callable[[str], LoadedModel]


def check(vectors: Tensor, head: HeadMatrix, k: int) -> None:
    """Every field of a Decoding against float64, ties within 1e-5 allowed."""
    found = decode_vectors(vectors, head, k)
    z = vectors.double() @ head.rows.double().T
    log_p = z.log_softmax(-1)
    k = min(k, head.vocab)
    for ids, logits, largest in (
        (found.top_ids, found.top_logits, True),
        (found.bottom_ids, found.bottom_logits, False),
    ):
        best = z.topk(k, largest=largest).values
        torch.testing.assert_close(z.gather(1, ids.long()), best, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(logits.double(), best, rtol=1e-5, atol=1e-5)
        assert all(len(set(row.tolist())) == k for row in ids)
    p = torch.exp(found.top_logits - found.log_z[:, None]).double()
    torch.testing.assert_close(p, log_p.exp().topk(k).values, rtol=1e-4, atol=1e-12)
    torch.testing.assert_close(found.mean.double(), z.mean(-1), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.deviation.double(), z.std(-1, unbiased=False), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.entropy.double(), -(log_p.exp() * log_p).sum(-1), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.weight_norm, vectors.norm(dim=-1))


@settings(deadline=None, max_examples=25)
@given(
    st.integers(1, 40),
    st.integers(1, 700),
    st.integers(1, 12),
    st.integers(0, 2**31),
    st.sampled_from([0.01, 1, 30]),
)
def test_decoding_is_exact_for_any_shape_and_scale(
    neurons: int, vocab: int, k: int, seed: int, scale: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(vocab, 8, generator=generator)
    check(torch.randn(neurons, 8, generator=generator) * scale, head_of(rows), k)


def test_tiles_of_neurons_and_vocabulary_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    vectors, head = torch.randn(70, 16), head_of(torch.randn(1000, 16))
    whole = decode_vectors(vectors, head, 7)
    monkeypatch.setattr(vocabulary_scan, "NEURON_TILE", 9)
    monkeypatch.setattr(vocabulary_scan, "VOCAB_TILE", 130)
    check(vectors, head, 7)
    tiled = decode_vectors(vectors, head, 7)
    assert torch.equal(tiled.top_ids, whole.top_ids)
    torch.testing.assert_close(tiled.log_z, whole.log_z)


def test_memory_beyond_the_result_depends_on_the_tile_not_on_the_sizes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[int] = []
    original = vocabulary_scan._allocate

    def spy(vectors: Tensor, head: HeadMatrix) -> vocabulary_scan._Space:
        space = original(vectors, head)
        seen.append(space.logits.numel())
        assert space.scratch.numel() <= 2 * space.logits.numel()
        return space

    monkeypatch.setattr(vocabulary_scan, "_allocate", spy)
    monkeypatch.setattr(vocabulary_scan, "NEURON_TILE", 64)
    monkeypatch.setattr(vocabulary_scan, "VOCAB_TILE", 256)
    decode_vectors(torch.randn(900, 4), head_of(torch.randn(3000, 4)), 3)
    assert seen == [64 * 256]


def test_the_length_of_a_vector_is_that_of_the_stored_one() -> None:
    vectors, head = torch.randn(6, 8), head_of(torch.randn(40, 8))
    unit = vectors / vectors.norm(dim=-1, keepdim=True)
    found = decode_vectors(unit, head, 3, weight_norm=vectors.norm(dim=-1))
    torch.testing.assert_close(found.weight_norm, vectors.norm(dim=-1))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("norm", NORMS)
def test_every_norm_equals_its_formula_on_every_family(tiny: TinyModel, family: str, norm: str) -> None:
    loaded = tiny(family)
    parameters, anatomy = loaded.parameters, loaded.anatomy
    block = anatomy.blocks[-1]
    for site in ("up", "gate", "down") if block.gated else ("up", "down"):
        ours = read_block_vectors(anatomy, block, parameters, site, norm)  # type: ignore[arg-type]
        w = block.view(site).vectors(parameters).double()  # type: ignore[arg-type]
        torch.testing.assert_close(ours.double(), _normed(loaded, block, site, norm, w), rtol=1e-5, atol=1e-6)


def _normed(loaded: LoadedModel, block: Block, site: str, norm: str, w: Tensor) -> Tensor:
    offset = 1.0 if loaded.anatomy.architecture.startswith("Gemma") else 0.0
    named = {name: p.double() for name, p in loaded.parameters.items()}
    if norm == "unit":
        return w / w.norm(dim=-1, keepdim=True)
    if norm == "final":
        names = ("model.norm.weight", "transformer.ln_f.weight")
        gamma = next(named[name] for name in names if name in named) + offset
        w = w - w.mean(-1, keepdim=True) if "GPT2" in loaded.anatomy.architecture else w
        return gamma * w / w.pow(2).mean(-1, keepdim=True).sqrt()
    if norm == "through":
        layer = f"layers.{block.address.layer}"
        into = {"GPT2LMHeadModel": "transformer.h.1.ln_2.weight"}.get(
            loaded.anatomy.architecture, f"model.{layer}.post_attention_layernorm.weight"
        )
        if "Gemma2" in loaded.anatomy.architecture:
            into = f"model.{layer}.{'post' if site == 'down' else 'pre'}_feedforward_layernorm.weight"
        elif site == "down":
            return w
        return w * (named[into] + offset)
    return w


def test_norms_and_sites_that_do_not_exist_are_refused(tiny: TinyModel) -> None:
    loaded = tiny("gpt2")
    with pytest.raises(AddressOutOfRange, match="no gate"):
        read_block_vectors(loaded.anatomy, loaded.anatomy.blocks[0], loaded.parameters, "gate")
    with pytest.raises(HeadlampError, match="choose none, unit, final, through"):
        read_block_vectors(loaded.anatomy, loaded.anatomy.blocks[0], loaded.parameters, "up", "odd")  # type: ignore[arg-type]
    with pytest.raises(HeadlampError, match="top-k 0"):
        decode_vectors(torch.ones(1, 2), head_of(torch.ones(3, 2)), 0)


def test_padding_rows_of_the_head_are_never_labels(tiny: TinyModel) -> None:
    loaded = tiny("llama")
    weight = loaded.parameters[loaded.anatomy.head.parameter]
    weight[80:] = 100.0
    head = read_head_matrix(loaded.anatomy, loaded.parameters, 80)
    block = loaded.anatomy.blocks[0]
    found = decode_vectors(read_block_vectors(loaded.anatomy, block, loaded.parameters, "up"), head, 5)
    assert int(found.top_ids.max()) < 80
    assert int(found.bottom_ids.max()) < 80


def test_a_models_logit_scale_is_part_of_z(tiny: TinyModel) -> None:
    import transformers
    from transformers import AutoModelForCausalLM

    from tests.analysis.conftest import COMMON, loaded_from

    torch.manual_seed(0)
    config = transformers.GraniteConfig(**COMMON, logits_scaling=4.0)
    loaded = loaded_from(AutoModelForCausalLM.from_config(config).eval())
    assert loaded.anatomy.head.scale == pytest.approx(0.25)
    weight = loaded.parameters[loaded.anatomy.head.parameter]
    torch.testing.assert_close(loaded.head.rows, weight[: len(loaded.vocabulary)] * 0.25)


@pytest.mark.real
@pytest.mark.parametrize("site", ["up", "gate", "down"])
@pytest.mark.parametrize("norm", NORMS)
def test_on_a_trained_model_every_label_equals_float64(stories: Path, site: str, norm: str) -> None:
    loaded = load_model(ModelRef(str(stories)))
    for block in loaded.anatomy.blocks:
        vectors = read_block_vectors(loaded.anatomy, block, loaded.parameters, site, norm)  # type: ignore[arg-type]
        check(vectors, loaded.head, 10)
