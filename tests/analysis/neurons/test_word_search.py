"""Search for a word against a plain float64 product over the whole vocabulary."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from analysis.anatomy.head_matrix import HeadMatrix
from analysis.errors import HeadlampError
from analysis.neurons.decoding import NORMS, NeuronNorm, decode_vectors, read_block_vectors
from analysis.neurons.word_search import RANKINGS, By, WordScores, rank, score_word
from analysis.opening.models import LoadedModel
from tests.analysis.conftest import FAMILIES
from tests.analysis.neurons.heads_made import head_of

TinyModel = Callable[[str], LoadedModel]


def mapped(vectors: Tensor, head: HeadMatrix, tokens: tuple[int, ...]) -> WordScores:
    """Scores with the log Σ exp z that a decoding of the same vectors has."""
    return replace(score_word(vectors, head, tokens), log_z=decode_vectors(vectors, head, 3).log_z)


def reference(vectors: Tensor, rows: Tensor, tokens: tuple[int, ...]) -> dict[str, Tensor]:
    """z-score, cosine and p of every form (n, v) in float64, over the whole vocabulary."""
    rows, vectors = rows.double(), vectors.double()
    z = vectors @ rows.T
    standard = (z - z.mean(-1, keepdim=True)) / z.std(-1, unbiased=False, keepdim=True)
    cosine = z / (vectors.norm(dim=-1)[:, None] * rows.norm(dim=-1))
    ids = list(tokens)
    return {"z": standard[:, ids], "cosine": cosine[:, ids], "probability": z.softmax(-1)[:, ids]}


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 40), st.integers(3, 300), st.integers(0, 2**31), st.sampled_from([0.01, 1, 30]))
def test_z_and_cosine_need_no_decoding_and_equal_float64(
    neurons: int, vocab: int, seed: int, scale: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(vocab, 8, generator=generator) + 0.5
    vectors = torch.randn(neurons, 8, generator=generator) * scale
    scores, expected = score_word(vectors, head_of(rows), (0, 2)), reference(vectors, rows, (0, 2))
    torch.testing.assert_close(scores.z_scores.double(), expected["z"], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(scores.cosines.double(), expected["cosine"], rtol=1e-4, atol=1e-5)
    assert scores.probability is None


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("norm", NORMS)
def test_a_search_agrees_with_the_decoding_at_every_site_and_norm(
    tiny: TinyModel, family: str, norm: NeuronNorm
) -> None:
    loaded = tiny(family)
    block = loaded.anatomy.blocks[-1]
    for site in loaded.anatomy.sites:
        vectors = read_block_vectors(loaded.anatomy, block, loaded.parameters, site, norm)
        found = decode_vectors(vectors, loaded.head, 1)
        for neuron in range(0, len(vectors), 7):
            label = int(found.top_ids[neuron, 0])
            z_score = (found.top_logits[neuron, 0] - found.mean[neuron]) / found.deviation[neuron]
            scores = score_word(vectors, loaded.head, (label,))
            torch.testing.assert_close(scores.z_score("z")[neuron], z_score, rtol=1e-4, atol=1e-4)


def test_a_planted_neuron_is_found_and_nothing_where_none_was_planted() -> None:
    torch.manual_seed(0)
    rows, vectors = torch.randn(500, 32), torch.randn(200, 32) * 0.05
    vectors[117] = 4 * rows[42] / rows[42].norm()
    vectors[23] = -4 * rows[42] / rows[42].norm()
    head = head_of(rows)
    scores = mapped(vectors, head, (42,))
    assert rank(scores, "probability", None, 1).tolist() == [117]
    assert set(rank(scores, "z", None, 2).tolist()) == {117, 23}
    assert rank(scores, "cosine", "negative", 1).tolist() == [23]
    elsewhere = mapped(vectors, head, (7,)).probability
    rest = [i for i in range(200) if i not in (117, 23)]
    assert elsewhere is not None
    assert float(elsewhere[rest].max()) < 0.05


@pytest.mark.parametrize("by", RANKINGS)
def test_token_z_score_and_cosine_of_a_row_are_those_of_one_form(by: By) -> None:
    torch.manual_seed(1)
    rows, vectors = torch.randn(60, 8), torch.randn(200, 8)
    rows[9] *= 4  # so that the largest z-score and the largest cosine are often those of different forms
    scores, expected = mapped(vectors, head_of(rows), (3, 9)), reference(vectors, rows, (3, 9))
    best = expected[by].abs().argmax(-1)
    assert 0 < int(best.sum()) < len(best)
    assert scores.token(by).tolist() == [(3, 9)[i] for i in best]
    for name, found in (("z", scores.z_score(by)), ("cosine", scores.cosine(by))):
        of_form = expected[name].gather(1, best[:, None])[:, 0]
        torch.testing.assert_close(found.double(), of_form, rtol=1e-4, atol=1e-5)
    pushed = expected["cosine" if by == "cosine" else "z"].gather(1, best[:, None])[:, 0]
    assert scores.sign(by).tolist() == pushed.sign().int().tolist()


def test_z_and_cosine_may_be_decided_by_different_forms() -> None:
    torch.manual_seed(1)
    rows, vectors = torch.randn(60, 8), torch.randn(200, 8)
    rows[9] *= 4
    scores = score_word(vectors, head_of(rows), (3, 9))
    assert scores.token("z").tolist() != scores.token("cosine").tolist()


def test_the_probability_is_summed_over_the_forms() -> None:
    torch.manual_seed(1)
    rows, vectors = torch.randn(60, 8), torch.randn(30, 8)
    found = mapped(vectors, head_of(rows), (3, 9)).probability
    assert found is not None
    expected = reference(vectors, rows, (3, 9))["probability"].sum(-1)
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-9)


def test_sign_and_token_belong_to_the_ranking_asked_for() -> None:
    torch.manual_seed(2)
    rows = torch.randn(400, 16)
    rows[4] = -3 * rows[3]
    vectors = torch.randn(20, 16) * 0.1
    vectors[5] = 2 * rows[3]
    scores = mapped(vectors, head_of(rows), (3, 4))
    assert int(scores.token("probability")[5]) == 3
    assert int(scores.sign("probability")[5]) == 1
    assert int(scores.token("z")[5]) == 4
    assert int(scores.sign("z")[5]) == -1
    positive = rank(scores, "cosine", "positive", 20)
    assert (scores.sign("cosine")[positive] == 1).all()
    assert (scores.by("cosine")[positive] > 0).all()


def test_a_neuron_of_zeros_scores_nothing() -> None:
    scores = score_word(torch.zeros(2, 8), head_of(torch.randn(50, 8)), (3,))
    assert scores.z_score("z").tolist() == [0, 0]
    assert scores.cosine("cosine").tolist() == [0, 0]


def test_ranking_refuses_what_it_cannot_rank() -> None:
    scores = score_word(torch.ones(3, 1), head_of(torch.randn(5, 1)), (1,))
    with pytest.raises(HeadlampError, match="no negative side"):
        rank(scores, "probability", "negative", 3)
    with pytest.raises(HeadlampError, match="choose z, cosine, probability"):
        rank(scores, "luck", None, 3)  # type: ignore[arg-type]
    with pytest.raises(HeadlampError, match="choose both, positive, negative"):
        rank(scores, "z", "up", 3)  # type: ignore[arg-type]
    with pytest.raises(HeadlampError, match="needs the map"):
        rank(scores, "probability", None, 3)


def test_scores_of_different_neurons_do_not_go_together() -> None:
    one = torch.ones(3, 2)
    tokens = torch.ones(2, dtype=torch.int32)
    with pytest.raises(ValueError, match="same neurons"):
        WordScores(one, one[:2], one, tokens)
    with pytest.raises(ValueError, match="log_z"):
        WordScores(one, one, one, tokens, torch.ones(2))
