"""The fewest vectors that remove a concept, hidden states before the head, and the cost on other text."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from analysis.errors import SkillError
from analysis.opening.models import LoadedModel
from analysis.skills.likelihoods import score_next_tokens
from analysis.unlearning.edits.head_states import (
    final_norm,
    read_concept_probability,
    read_log_probabilities,
    read_residuals,
)
from analysis.unlearning.edits.reversals import HeadRow, Reversal, Tars
from analysis.unlearning.edits.side_effects import ANSWER, SCORED, measure_side_effects, read_side_texts
from analysis.unlearning.edits.tars import aim_at_concept, list_candidates
from analysis.unlearning.edits.tars_search import drop_unneeded, search_edits
from tests.analysis.unlearning.edits.neuron_methods_made import PROMPTS
from tests.analysis.unlearning.edits.tars_made import edits

TOKEN = 33
WIDE: dict[str, Any] = {"edits": 8, "goal": 0.01, "max_kl": 100.0}


def row(token: int, value: torch.Tensor, cosine: float = 0.9) -> Reversal:
    return Reversal(HeadRow(token), "head", cosine, value)


def saying(loaded: LoadedModel) -> LoadedModel:
    """The model, made to say TOKEN behind the prompts."""
    state = read_residuals(loaded, PROMPTS).mean(0)
    loaded.parameters[loaded.anatomy.head.parameter][TOKEN] = 4 * state / state.norm()
    return loaded


def test_states_and_head_give_the_edited_models_own_probabilities(llama: LoadedModel) -> None:
    change = edits(llama)
    states = read_residuals(llama, PROMPTS, change.edits)
    ours = read_log_probabilities(llama, states, change.edits)
    theirs, _ = score_next_tokens(llama, PROMPTS, [change])
    assert torch.allclose(ours.cpu(), theirs, atol=1e-4)
    assert not torch.allclose(read_log_probabilities(llama, states).cpu(), theirs, atol=1e-2)


def test_of_those_that_reach_the_goal_the_strongest_is_taken(llama: LoadedModel) -> None:
    loaded = saying(llama)
    head = loaded.parameters[loaded.anatomy.head.parameter]
    weak, strong = row(TOKEN, 0.2 * head[TOKEN], 0.95), row(TOKEN, -0.5 * head[TOKEN], 0.9)
    wide = WIDE | {"goal": 0.05}
    for given in ([weak, strong], [strong, weak]):
        found = search_edits(loaded, PROMPTS, (TOKEN,), given, **wide)
        assert found.reached
        assert [edit.value.tolist() for edit in found.edits] == [strong.value.tolist()]
    assert search_edits(loaded, PROMPTS, (TOKEN,), [weak], **wide).reached


def test_the_vectors_that_are_not_needed_are_given_back(llama: LoadedModel) -> None:
    loaded = saying(llama)
    width = loaded.anatomy.d_model
    head = loaded.parameters[loaded.anatomy.head.parameter]
    best = row(TOKEN, -head[TOKEN].clone())
    rival = row(40, head[TOKEN] * 1.2)  # lowers P somewhat, by saying another token
    useless = row(41, torch.zeros(width))
    found = search_edits(loaded, PROMPTS, (TOKEN,), [useless, rival, best], **WIDE)
    assert [edit.address for edit in found.edits] == [best.address]
    assert (found.tried, found.reached) == (3, True)
    assert found.before > 0.2
    assert found.probability <= 0.01
    assert found.without_rows == pytest.approx(found.before)
    hooked = score_next_tokens(loaded, PROMPTS, [Tars(found.edits)])[0].double().exp()[:, TOKEN].mean()
    assert found.probability == pytest.approx(float(hooked), abs=1e-6)


def test_of_two_vectors_the_one_that_spares_other_text_is_taken(llama: LoadedModel) -> None:
    loaded = saying(llama)
    head = loaded.parameters[loaded.anatomy.head.parameter]
    gentle = row(TOKEN, -head[TOKEN].clone())
    with torch.inference_mode():
        read = final_norm(loaded)(read_residuals(loaded, PROMPTS))
    least = torch.linalg.lstsq(read, torch.full((len(read), 1), 60.0)).solution[:, 0]
    loud = row(41, least)  # says another token, with the same logit behind every prompt
    costs = [search_edits(loaded, PROMPTS, (TOKEN,), [one], **WIDE) for one in (gentle, loud)]
    assert all(one.reached for one in costs)
    assert costs[0].kl < costs[1].kl
    between = (costs[0].kl + costs[1].kl) / 2
    found = search_edits(loaded, PROMPTS, (TOKEN,), [loud, gentle], **WIDE | {"max_kl": between})
    assert [edit.address for edit in found.edits] == [gentle.address]
    staying = [(ids, 1) for ids in PROMPTS[:1]]
    kept = search_edits(loaded, PROMPTS, (TOKEN,), [loud], **WIDE, staying=staying)
    assert (kept.changed, kept.reached) == (1.0, False)


def test_an_edit_that_the_others_make_needless_is_dropped() -> None:
    first, second, third = (row(token, torch.zeros(2)) for token in (1, 2, 3))

    class Trials:
        def read_probability(self, edits: list[Reversal]) -> float:
            return 0.001 if {second, third} <= set(edits) else 0.5

        def fits(self, edits: list[Reversal], max_kl: float) -> bool:
            return True

    trials: Any = Trials()
    assert drop_unneeded(trials, [first, second, third], 0.01, 1.0) == [second, third]


def test_a_vector_that_spoils_other_text_is_left_out(llama: LoadedModel) -> None:
    loaded = saying(llama)
    head = loaded.parameters[loaded.anatomy.head.parameter]
    best = row(TOKEN, -head[TOKEN].clone())
    loose = search_edits(loaded, PROMPTS, (TOKEN,), [best], **WIDE)
    strict = search_edits(loaded, PROMPTS, (TOKEN,), [best], **WIDE | {"max_kl": loose.kl / 2})
    assert loose.reached
    assert not strict.reached
    assert strict.edits == loose.edits  # the best there is, marked as failed
    assert strict.kl > loose.kl / 2


def test_a_removal_on_top_of_another_leaves_it_in_place(llama: LoadedModel) -> None:
    loaded = saying(llama)
    head = loaded.parameters[loaded.anatomy.head.parameter]
    earlier = row(TOKEN, -head[TOKEN].clone())
    target = aim_at_concept(loaded, PROMPTS, (50,), earlier=[earlier])
    candidates = list_candidates(loaded, target, threshold=0, taken=[earlier])
    found = search_edits(loaded, PROMPTS, (TOKEN,), candidates, **WIDE, earlier=[earlier])
    assert found.before < 0.01  # gone already
    assert (found.edits, found.tried) == ((), 0)


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ({"edits": 0}, "choose at least 1"),
        ({"goal": 0.0}, "above 0 and below 1"),
        ({"goal": 1.0}, "above 0 and below 1"),
        ({"max_kl": 0.0}, "a number above 0"),
        ({"max_kl": float("nan")}, "a number above 0"),
    ],
)
def test_bounds_that_cannot_be_kept_are_refused(
    llama: LoadedModel, bounds: dict[str, Any], message: str
) -> None:
    with pytest.raises(SkillError, match=message):
        search_edits(llama, PROMPTS, (TOKEN,), [], **WIDE | bounds)


def test_side_effects_are_none_without_a_change_and_grow_with_it(llama: LoadedModel) -> None:
    none = measure_side_effects(llama, ())
    assert (none.raw.largest, none.unchanged, none.chat) == (0.0, 1.0, None)
    texts = read_side_texts(llama)
    assert len(texts.sequences) == len(texts.counts)
    assert max(texts.counts[: texts.asked]) <= ANSWER
    assert max(texts.counts[texts.asked :]) <= SCORED
    assert none.raw.n == len(texts.sequences) - texts.asked >= 90
    base = torch.cat(texts.base)
    common = int(read_log_probabilities(llama, base).argmax(-1).mode().values)
    banned = measure_side_effects(llama, [row(common, torch.zeros(llama.anatomy.d_model))])
    assert 0 < banned.raw.median <= banned.raw.p95 <= banned.raw.largest
    assert banned.unchanged < 1
    left_out = measure_side_effects(llama, [row(common, torch.zeros(llama.anatomy.d_model))], (common,))
    assert left_out.raw.largest < banned.raw.largest


def test_a_neurons_edit_reaches_other_text_as_in_the_edited_model(llama: LoadedModel) -> None:
    change = edits(llama)
    texts = read_side_texts(llama)
    measured = measure_side_effects(llama, change.edits)
    last = [texts.sequences[i] for i in range(texts.asked, len(texts.sequences))]
    base, changed = score_next_tokens(llama, last)[0], score_next_tokens(llama, last, [change])[0]
    kl = (base.double().exp() * (base - changed).double()).sum(-1)
    assert measured.raw.largest >= float(kl.max()) - 1e-4
    assert measured.raw.largest > 0.01
    said = read_concept_probability(llama, read_residuals(llama, last[:2]), (TOKEN,))
    assert torch.allclose(said.cpu(), base[:2, TOKEN].double().exp(), atol=1e-5)
