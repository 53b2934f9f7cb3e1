"""Ids that no token has: masked wherever a token is chosen, labelled or scored."""

from __future__ import annotations

import pytest
import torch

from analysis.anatomy import head_matrix
from analysis.neurons.decoding import decode_vectors, read_block_vectors
from analysis.opening.models import LoadedModel, ModelRef, load_model
from analysis.opening.vocabulary import read_vocabulary
from analysis.running.batches import make_batches, run_batch, takes_padding
from analysis.running.generation import Sampling, generate_steps, read_best_tokens
from analysis.running.perplexity import measure_window_nll
from analysis.running.prompts import encode_prompt
from analysis.skills.answering import answer_prompts
from analysis.unlearning.edits.tars import Target, find_aligned
from tests.altered_models import moved_end

PROMPT = "What is your favourite animal?"


@pytest.fixture(scope="module")
def moved(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    """demo/chat with its end token at 4019, and 20 ids below it that no token has."""
    return load_model(ModelRef(str(moved_end(tmp_path_factory.mktemp("holes") / "moved"))))


@pytest.fixture(scope="module")
def chat() -> LoadedModel:
    """demo/chat."""
    return load_model(ModelRef("demo/chat"))


def test_the_vocabulary_reaches_to_the_largest_id(moved: LoadedModel, chat: LoadedModel) -> None:
    vocabulary = moved.vocabulary
    assert (len(vocabulary), vocabulary.tokens, vocabulary.padding_rows) == (4020, 4000, 12)
    assert vocabulary.holes == frozenset({5, *range(4000, 4019)})
    assert {vocabulary.texts[hole] for hole in vocabulary.holes} == {""}
    assert vocabulary.kind(5) == "special"
    assert not any(set(ids) & vocabulary.holes for ids in vocabulary.forms.values())
    assert (len(chat.vocabulary), chat.vocabulary.holes) == (4000, frozenset())


def test_a_head_with_fewer_rows_than_ids_has_only_the_holes_below_them(moved: LoadedModel) -> None:
    vocabulary = read_vocabulary(moved.tokenizer, 4002)
    assert (len(vocabulary), vocabulary.padding_rows) == (4002, 0)
    assert vocabulary.holes == frozenset({5, 4000, 4001})


def test_the_end_token_can_be_written(moved: LoadedModel, chat: LoadedModel) -> None:
    texts = []
    for loaded in (chat, moved):
        ids = encode_prompt(loaded, PROMPT)
        steps = list(generate_steps(loaded, ids, [], Sampling(30)))
        texts.append([step.tokens[0] for step in steps])
        (answer,) = answer_prompts(loaded, [ids], max_new_tokens=30)
        assert list(answer.token_ids) == texts[-1]
    assert texts[0][-1] == 5
    assert texts[1] == [*texts[0][:-1], 4019]


def test_no_hole_is_sampled_or_listed(moved: LoadedModel) -> None:
    ids = encode_prompt(moved, PROMPT)
    (step,) = generate_steps(moved, ids, [], Sampling(1, 9.0, seed=3))
    holes = sorted(moved.vocabulary.holes)
    assert torch.isneginf(step.log_probabilities[:, holes]).all()
    assert step.log_probabilities.exp().sum(-1) == pytest.approx(1, abs=1e-4)
    assert not set(read_best_tokens(step, best=4020).token_ids) & set(holes)


def test_batches_and_perplexity_leave_holes_out(moved: LoadedModel, chat: LoadedModel) -> None:
    assert takes_padding(moved)
    windows = [[1, *range(300, 320)]]
    assert measure_window_nll(moved, windows) == pytest.approx(measure_window_nll(chat, windows), abs=1e-3)
    (batch,) = make_batches(moved, windows)
    assert torch.isneginf(run_batch(moved, batch)[0][..., sorted(moved.vocabulary.holes)]).all()


@pytest.mark.parametrize("tile", [16, 19, 1500])
def test_decoding_leaves_holes_out_of_labels_and_sums(
    moved: LoadedModel, chat: LoadedModel, tile: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(head_matrix, "VOCAB_TILE", tile)
    monkeypatch.setattr("analysis.neurons.vocabulary_scan.VOCAB_TILE", tile)
    vectors = read_block_vectors(moved.anatomy, moved.anatomy.blocks[0], moved.parameters, "up")[:6]
    heads = [
        head_matrix.read_head_matrix(x.anatomy, x.parameters, len(x.vocabulary), x.vocabulary.holes)
        for x in (moved, chat)
    ]
    with_holes, without = (decode_vectors(vectors, head, 5000) for head in heads)
    assert with_holes.top_ids.shape == (6, 4000)
    for name in ("log_z", "mean", "deviation", "entropy"):
        torch.testing.assert_close(getattr(with_holes, name), getattr(without, name))
    moved_back = torch.where(with_holes.top_ids == 4019, 5, with_holes.top_ids)
    assert moved_back.sort(-1).values.equal(without.top_ids.sort(-1).values)
    torch.testing.assert_close(with_holes.top_logits, without.top_logits)


def test_no_hole_is_aligned_with_a_concept(moved: LoadedModel) -> None:
    rows = moved.parameters[moved.anatomy.head.parameter]
    found = find_aligned(moved, Target(rows[4007].float(), 0.0, 0.0), 4)
    assert len(found) == 4
    assert "head.T4007" not in {str(edit.address) for edit in found}
