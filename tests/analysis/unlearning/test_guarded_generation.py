"""Guards in the paired generation of the app and of `generate --recipe`."""

from __future__ import annotations

import pytest

from analysis.anatomy.addresses import BlockAddress
from analysis.errors import HeadlampError
from analysis.intervening.clamps import parse_clamp
from analysis.intervening.pruning import PruneExpert
from analysis.opening.models import LoadedModel
from analysis.running.generation import Sampling, generate_steps
from analysis.skills.answering import answer_prompts
from tests.analysis.unlearning.edits.neuron_methods_made import adjusting
from tests.analysis.unlearning.guards.guards_made import PROMPTS, guard_around
from workbench.findings.pair_evidence import check_keepable
from workbench.generating.requests import GenerationRequest, generation_spec

REFUSAL = "w50 w51 w52"


def texts(loaded: LoadedModel, index: int, changes: list[object]) -> tuple[list[int], list[int]]:
    steps = list(generate_steps(loaded, PROMPTS[index], changes, Sampling(max_new_tokens=6)))  # type: ignore[arg-type]
    base, changed = ([s.tokens[row] for s in steps if s.tokens[row] is not None] for row in (0, 1))
    return base, changed  # type: ignore[return-value]


def test_a_refused_text_is_the_refusal_and_ends_with_it(llama: LoadedModel) -> None:
    guard = guard_around(llama, [2], refusal=REFUSAL)
    refusal = llama.tokenizer.encode(f" {REFUSAL}", add_special_tokens=False)
    free = texts(llama, 2, [])
    assert texts(llama, 2, [guard]) == (free[0], refusal)
    assert len(free[0]) > len(refusal)
    assert texts(llama, 3, [guard]) == texts(llama, 3, [])


def test_a_guard_that_looks_at_each_step_breaks_off(llama: LoadedModel) -> None:
    base, _ = texts(llama, 2, [])
    guard = guard_around(llama, [2], refusal=REFUSAL, check_at="each_step")
    assert texts(llama, 2, [guard])[0] == base
    always = texts(llama, 2, [guard])[1]
    assert always == llama.tokenizer.encode(f" {REFUSAL}", add_special_tokens=False)


def test_draws_are_those_of_the_batched_answers(llama: LoadedModel) -> None:
    own = list(range(len(PROMPTS)))
    for seed in range(4):
        change = adjusting(llama, seed)
        found = answer_prompts(llama, PROMPTS, [change], max_new_tokens=6, stops=[()] * len(own))
        assert [tuple(texts(llama, i, [change])[1]) for i in own] == [answer.token_ids for answer in found]


def test_another_guard_is_another_run(llama: LoadedModel) -> None:
    keys = {
        generation_spec(llama, GenerationRequest("x", changes), [4]).key
        for changes in ((), (guard_around(llama, [2]),), (guard_around(llama, [3]),))
    }
    assert len(keys) == 3


def test_a_finding_is_refused_what_it_cannot_hold(llama: LoadedModel) -> None:
    with pytest.raises(HeadlampError, match="cannot hold tensors"):
        check_keepable([guard_around(llama, [2])])
    check_keepable([parse_clamp("L0.N1:ablate"), PruneExpert(BlockAddress(0))])
