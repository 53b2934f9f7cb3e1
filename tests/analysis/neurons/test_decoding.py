"""Decoding and search against a plain float64 product over the whole vocabulary."""

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
from analysis.neurons import decoding
from analysis.neurons.decoding import NORMS, decode_vectors, read_block_vectors
from analysis.neurons.word_search import rank, score_word
from analysis.opening.models import LoadedModel, ModelRef, load_model
from tests.analysis.conftest import FAMILIES

TinyModel = Callable[[str], LoadedModel]


def head_of(rows: Tensor) -> HeadMatrix:
    mean = rows.double().mean(0)
    return HeadMatrix(rows, mean, rows.double().T @ rows.double() / len(rows) - torch.outer(mean, mean))


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
    monkeypatch.setattr(decoding, "NEURON_TILE", 9)
    monkeypatch.setattr(decoding, "VOCAB_TILE", 130)
    check(vectors, head, 7)
    tiled = decode_vectors(vectors, head, 7)
    assert torch.equal(tiled.top_ids, whole.top_ids)
    torch.testing.assert_close(tiled.log_z, whole.log_z)


def test_memory_beyond_the_result_depends_on_the_tile_not_on_the_sizes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[int] = []
    original = decoding._extremes

    def spy(z: Tensor, k: int, offset: int, *, largest: bool) -> tuple[Tensor, Tensor]:
        seen.append(z.numel())
        return original(z, k, offset, largest=largest)

    monkeypatch.setattr(decoding, "_extremes", spy)
    monkeypatch.setattr(decoding, "NEURON_TILE", 64)
    monkeypatch.setattr(decoding, "VOCAB_TILE", 256)
    decode_vectors(torch.randn(900, 4), head_of(torch.randn(3000, 4)), 3)
    assert max(seen) == 64 * 256


def test_a_planted_neuron_is_found_and_nothing_where_none_was_planted() -> None:
    torch.manual_seed(0)
    rows, vectors = torch.randn(500, 32), torch.randn(200, 32) * 0.05
    vectors[117] = 4 * rows[42] / rows[42].norm()
    vectors[23] = -4 * rows[42] / rows[42].norm()
    head = head_of(rows)
    found = decode_vectors(vectors, head, 3)
    scores = score_word(vectors, head, (42,), found.log_z, found.mean, found.deviation)
    assert int(found.top_ids[117, 0]) == 42
    assert int(found.bottom_ids[23, 0]) == 42
    assert rank(scores, "probability", None, 1).tolist() == [117]
    assert set(rank(scores, "z", None, 2).tolist()) == {117, 23}
    assert rank(scores, "cosine", "negative", 1).tolist() == [23]
    elsewhere = score_word(vectors, head, (7,), found.log_z, found.mean, found.deviation)
    rest = [i for i in range(200) if i not in (117, 23)]
    assert float(elsewhere.probability[rest].max()) < 0.05


def test_the_variants_of_a_word_are_merged_as_stated() -> None:
    torch.manual_seed(1)
    rows, vectors = torch.randn(60, 8), torch.randn(30, 8)
    head = head_of(rows)
    found = decode_vectors(vectors, head, 3)
    scores = score_word(vectors, head, (3, 9), found.log_z, found.mean, found.deviation)
    z = vectors.double() @ rows.double().T
    standard = (z - z.mean(-1, keepdim=True)) / z.std(-1, unbiased=False, keepdim=True)
    cosine = z / (vectors.double().norm(dim=-1)[:, None] * rows.double().norm(dim=-1))
    best = standard[:, [3, 9]].abs().argmax(-1)
    torch.testing.assert_close(
        scores.probability.double(), z.softmax(-1)[:, [3, 9]].sum(-1), rtol=1e-4, atol=1e-9
    )
    torch.testing.assert_close(
        scores.z_score.double(), standard[:, [3, 9]].gather(1, best[:, None])[:, 0], rtol=1e-4, atol=1e-5
    )
    largest = cosine[:, [3, 9]].gather(1, cosine[:, [3, 9]].abs().argmax(-1, keepdim=True))[:, 0]
    torch.testing.assert_close(scores.cosine.double(), largest, rtol=1e-4, atol=1e-5)
    assert scores.token("z").tolist() == [(3, 9)[i] for i in best]
    assert scores.token("probability").tolist() == [(3, 9)[i] for i in z[:, [3, 9]].argmax(-1)]
    assert scores.sign("cosine").tolist() == largest.sign().int().tolist()


def test_sign_and_token_belong_to_the_ranking_asked_for() -> None:
    torch.manual_seed(2)
    rows = torch.randn(400, 16)
    rows[4] = -3 * rows[3]
    vectors = torch.randn(20, 16) * 0.1
    vectors[5] = 2 * rows[3]
    head = head_of(rows)
    found = decode_vectors(vectors, head, 3)
    scores = score_word(vectors, head, (3, 4), found.log_z, found.mean, found.deviation)
    assert int(found.top_ids[5, 0]) == int(scores.token("probability")[5]) == 3
    assert int(scores.sign("probability")[5]) == 1
    assert int(scores.token("z")[5]) == 4
    assert int(scores.sign("z")[5]) == -1
    positive = rank(scores, "cosine", "positive", 20)
    assert (scores.sign("cosine")[positive] == 1).all()
    assert (scores.cosine[positive] > 0).all()


def test_the_length_of_a_vector_is_that_of_the_stored_one() -> None:
    vectors, head = torch.randn(6, 8), head_of(torch.randn(40, 8))
    unit = vectors / vectors.norm(dim=-1, keepdim=True)
    found = decode_vectors(unit, head, 3, weight_norm=vectors.norm(dim=-1))
    torch.testing.assert_close(found.weight_norm, vectors.norm(dim=-1))


def test_ranking_refuses_what_it_cannot_rank() -> None:
    one = torch.ones(3)
    scores = score_word(one[:, None], head_of(torch.randn(5, 1)), (1,), one, one, one)
    with pytest.raises(HeadlampError, match="no negative side"):
        rank(scores, "probability", "negative", 3)
    with pytest.raises(HeadlampError, match="choose probability, z, cosine"):
        rank(scores, "luck", None, 3)  # type: ignore[arg-type]


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
