"""Planted truth: a neuron that writes a word is found first and named; without one nothing is claimed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest

from analysis.anatomy.addresses import NeuronAddress, parse_address
from analysis.errors import HeadlampError, PromptTooLong
from analysis.intervening.clamps import Scope
from analysis.levers import levers
from analysis.levers.bench import WordPrompt
from analysis.levers.controls import ValueControls
from analysis.levers.levers import STEPS, search_levers
from analysis.levers.readings import Clamps
from analysis.levers.results import LeverSearch
from analysis.levers.search import NeuronSearch
from analysis.levers.verdicts import judge_levers
from tests.analysis.levers.bench_made import tried
from tests.analysis.levers.planted_made import DOG, ask, build_wide, list_prompts, plant, split_by_expert
from tests.analysis.levers.rows_made import count_hooks

PROMPTS, OTHERS = list_prompts(5), list_prompts(2, 9)
FEW: dict[str, Any] = {"by_gradient": 12, "controls": 5, "set_size": 2}


def search(loaded: Any, **changed: Any) -> LeverSearch:
    return search_levers(loaded, ask(PROMPTS[:2], PROMPTS[2:], OTHERS, **(FEW | changed)))


@pytest.mark.parametrize(("family", "seed"), [("llama", 1), ("gpt2", 0), ("gemma", 1), ("qwen2", 0)])
def test_a_planted_neuron_is_found_first_and_makes_the_model_say_the_word_anywhere(
    family: str, seed: int
) -> None:
    loaded = build_wide(family, seed)
    neuron = plant(loaded, "L1.N11")
    found = search(loaded)
    assert found.shortlist[0].address == neuron
    assert found.best is not None
    assert found.best is found.single
    assert [clamp.address for clamp in found.best.clamps] == [neuron]
    assert found.steerable
    assert len(found.best.per_prompt) == 3
    assert found.best.held_out == pytest.approx(sum(found.best.per_prompt) / 3)
    assert len(found.best.controls) == 5
    assert found.best.anywhere
    assert found.best.neutral_kl < 1e-5
    said = judge_levers("dog", found, 3)
    assert said.startswith("Holding L1.N11 at ")
    first = said[: said.index(". ")]
    assert "makes the model say “dog”, but forces the token anywhere: P " in first
    assert "on 3 held-out prompts, and " in first
    assert "where a word of another kind is due; the best of 5 random neurons gives" in first
    assert count_hooks(loaded) == 0


def test_a_neuron_of_an_expert_acts_where_its_expert_is_routed_and_forces_nothing_elsewhere() -> None:
    loaded = build_wide("mixtral")
    name, routed, others = split_by_expert(loaded, 1, 24)
    neuron = plant(loaded, f"{name}.N11")
    found = search_levers(loaded, ask(routed[:2], routed[2:5], others[:2], **FEW))
    assert found.shortlist[0].address == neuron
    assert found.shortlist[0].routed == 1.0
    assert found.best is not None
    assert found.steerable
    assert [clamp.address for clamp in found.best.clamps] == [neuron]
    assert not found.best.anywhere
    said = judge_levers("dog", found, 3)
    assert f"Holding {neuron} at " in said
    assert "Where a word of another kind is due, P is " in said
    mixed = search_levers(loaded, ask([routed[0], others[0]], routed[2:5], (), **(FEW | {"controls": 0})))
    shares = {one.address: one.routed for one in mixed.shortlist}
    assert shares[neuron] == 0.5


def test_where_nothing_writes_the_word_nothing_is_claimed() -> None:
    found = search(build_wide("llama"), set_size=1)
    assert not found.steerable
    said = judge_levers("dog", found, 3)
    assert said.startswith("The best by the prompts it was chosen on, L")
    assert "Steerable means at least 90 %." in said


def test_neurons_behind_experts_that_are_never_routed_raise_nothing() -> None:
    loaded = build_wide("mixtral")
    name, _, others = split_by_expert(loaded, 1, 24)
    neuron = plant(loaded, f"{name}.N11")
    found = search_levers(
        loaded, ask(others[:2], others[2:4], labelled={neuron: 9.0}, **(FEW | {"by_gradient": 0}))
    )
    (one,) = found.shortlist
    assert (one.address, one.z, one.gradient, one.routed) == (neuron, 9.0, None, 0.0)
    assert one.effect == pytest.approx(0, abs=1e-5)
    assert (found.levers, found.refused) == ((), ())
    assert "their experts are not used there" in judge_levers("dog", found, 2)


def test_a_neuron_that_spoils_neutral_text_is_refused_with_the_reason() -> None:
    """Held at every position, the planted neuron says the word instead of the text."""
    loaded = build_wide("llama", 1)
    neuron = plant(loaded, "L1.N11")
    found = search(loaded, scope=Scope("all"), labelled={neuron: 9.0}, by_gradient=0)
    refused = {(clamps[0].address, clamps[0].value): reason for clamps, reason in found.refused}
    assert "neutral KL" in refused[neuron, 4.0]
    assert "above 0.1" in refused[neuron, 4.0]
    assert all(lever.neutral_kl <= 0.1 for lever in found.levers)
    assert not found.steerable


def test_labels_alone_put_neurons_on_the_shortlist_and_what_writes_nothing_is_left_out() -> None:
    loaded = build_wide("llama", 1)
    neuron = plant(loaded, "L1.N11")
    loaded.model.model.layers[1].mlp.down_proj.weight[:, 30] = 0
    labelled = {address("L1.N30"): 8.0, neuron: 7.0, address("L0.N3"): 6.5}
    found = search(loaded, labelled=labelled, by_gradient=0, controls=0)
    assert [(one.address, one.z) for one in found.shortlist] == [(neuron, 7.0), (address("L0.N3"), 6.5)]
    assert found.best is not None
    assert found.best.controls == ()
    assert not found.steerable
    said = judge_levers("dog", found, 3)
    assert said.startswith("Holding L1.N11 at ")
    assert "no random neurons were run beside it" in said
    with pytest.raises(HeadlampError, match="no neuron of LlamaForCausalLM can be held in × residual"):
        search(loaded, labelled={address("L1.N30"): 8.0}, by_gradient=0)


def test_the_gradient_ranks_by_the_sign_that_raises_the_word() -> None:
    loaded = build_wide("llama", 1)
    plant(loaded, "L1.N11", size=-1.0)
    found = search(loaded, set_size=1)
    assert str(found.shortlist[0].address) == "L1.N11"
    assert found.shortlist[0].value < 0
    assert found.shortlist[0].gradient is not None
    assert len(found.shortlist) == FEW["by_gradient"]


def address(text: str) -> NeuronAddress:
    found = parse_address(text)
    assert isinstance(found, NeuronAddress)
    return found


def test_held_out_prompts_have_no_part_in_what_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = build_wide("llama", 1)
    plant(loaded, "L1.N11")
    matched: list[list[Clamps]] = []
    match = ValueControls.match

    def note(self: ValueControls, clamps: Clamps, count: int) -> list[Clamps]:
        matched.append(match(self, clamps, count))
        return matched[-1]

    monkeypatch.setattr(ValueControls, "match", note)

    def run(
        held_out: Sequence[WordPrompt], other: Sequence[WordPrompt]
    ) -> tuple[LeverSearch, list[list[Clamps]]]:
        matched.clear()
        return search_levers(loaded, ask(PROMPTS[:2], held_out, other, **FEW)), list(matched)

    one, controls_of_one = run(PROMPTS[2:], OTHERS)
    two, controls_of_two = run(list_prompts(4, 77), ())
    assert [lever.clamps for lever in one.levers] == [lever.clamps for lever in two.levers]
    assert [lever.log_odds for lever in one.levers] == [lever.log_odds for lever in two.levers]
    assert controls_of_one == controls_of_two != []
    assert one.shortlist == two.shortlist
    assert one.base != two.base
    assert two.levers[0].specificity is None
    assert [len(lever.per_prompt) for lever in two.levers] == [4] * len(two.levers)


def test_the_same_search_over_random_neurons_is_reported_beside_it() -> None:
    loaded = build_wide("llama", 1)
    plant(loaded, "L1.N11")
    calls: list[tuple[int, int]] = []
    asked = ask(PROMPTS[:2], PROMPTS[2:], OTHERS, search_matched=True, **FEW)
    found = search_levers(loaded, asked, lambda done, total: calls.append((done, total)))
    assert found.search_control is not None
    on_shortlist = {one.address for one in found.shortlist}
    assert not on_shortlist & {clamp.address for clamp in found.search_control.clamps}
    assert found.search_control.held_out < 0.7
    assert "The same search over as many random neurons gives" in judge_levers("dog", found, 3)
    assert [done for done, total in calls if total] == list(range(len(STEPS) + 1))
    again = search_levers(loaded, asked)
    assert again == found


def test_a_prompt_without_room_for_the_word_is_refused_before_anything_is_computed() -> None:
    loaded = build_wide("gpt2")
    long = WordPrompt((4,) * 63, ((DOG,), (DOG, 9)))
    calls: list[int] = []
    for place in range(3):
        prompts = [PROMPTS[:1], PROMPTS[1:2], PROMPTS[2:3]]
        prompts[place] = [long]
        with pytest.raises(PromptTooLong, match="the prompt has 63 tokens, the word up to 2"):
            search_levers(loaded, ask(*prompts, **FEW), lambda done, total: calls.append(done))
    assert calls == []


def test_a_neuron_whose_every_value_gives_nan_has_no_effect() -> None:
    searches = [
        NeuronSearch(address(f"L0.N{at}"), (tried(odds, 2.0, first=at),), 1.0)
        for at, odds in enumerate((3.0, -math.inf))
    ]
    found = levers._describe_shortlist(searches, {}, {}, 1.0)
    assert [one.effect for one in found] == [2.0, None]
