"""All kinds of changes through one door: each is applied, counted in its place, saved and read again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from analysis.anatomy.addresses import BlockAddress
from analysis.errors import ExpertError, SkillError
from analysis.intervening.clamps import parse_clamp
from analysis.intervening.interventions import Change, check_changes, intervene
from analysis.intervening.pruning import PruneExpert
from analysis.intervening.steps import Reach
from analysis.opening.models import LoadedModel
from analysis.recipes.files import parse_recipe_tensors, write_recipe_files
from analysis.recipes.recipes import use_recorded_raw
from analysis.running.batches import make_batches, run_batch
from analysis.running.generation import Sampling, generate_steps
from analysis.unlearning.edits.reversals import Tars
from analysis.unlearning.edits.selective_prune import SelectivePrune, draw_prune
from analysis.unlearning.guards.key_guards import KeyGuard
from tests.analysis.conftest import loaded_from, tiny_model
from tests.analysis.moe import moe
from tests.analysis.pretend_devices import placed, pretended
from tests.analysis.unlearning.edits.neuron_methods_made import adjusting
from tests.analysis.unlearning.edits.tars_made import edits
from tests.analysis.unlearning.guards.guards_made import PROMPTS, guard_around, with_rival

EXPERT = BlockAddress(1, False, 2)


def run(loaded: LoadedModel, changes: Sequence[Any]) -> tuple[Tensor, Reach]:
    ids = torch.tensor([[1, 5, 9, 13, 21, 34], [1, 8, 3, 40, 7, 12]])
    positions = torch.arange(ids.shape[1]).expand(2, -1)
    with torch.inference_mode(), intervene(loaded, changes, positions=positions) as reach:
        logits: Tensor = loaded.model(ids).logits
    return logits, reach


@pytest.mark.parametrize("family", ["mixtral", "gpt_oss"])
def test_a_pruned_expert_writes_nothing_whatever_else_is_held_in_it(family: str) -> None:
    loaded = moe(family)
    gone = PruneExpert(EXPERT)
    held = parse_clamp("L1.E2.N1:key:set:50").resolve(largest=1, mean=0)
    neurons = SelectivePrune(((EXPERT, torch.arange(4)),), 1.0)
    alone, reach = run(loaded, [gone])
    for changes in ([held, neurons, gone], [gone, neurons, held]):
        logits, counted = run(loaded, changes)
        assert torch.equal(logits, alone)
        place = changes.index(gone)
        assert counted.covered[place] == reach.covered[0] == 12
        assert counted.acted[place] == reach.acted[0] > 0
        assert counted.covered[changes.index(held)] == 12
        assert (counted.covered[1], counted.acted[1]) == (0, 0)
    assert not torch.equal(run(loaded, [held])[0], run(loaded, [held, gone])[0])


def test_a_pruned_block_writes_nothing_whatever_its_vectors_hold(llama: LoadedModel) -> None:
    gone = PruneExpert(BlockAddress(1))
    in_block = Tars(tuple(edit for edit in edits(llama).edits if edit.site != "head"))
    alone = run(llama, [gone])[0]
    for changes in ([in_block, gone], [gone, in_block]):
        assert torch.equal(run(llama, changes)[0], alone)
    assert not torch.equal(run(llama, [in_block])[0], run(llama, [])[0])


@pytest.mark.parametrize("count", [1, 2], ids=["one device", "two devices"])
def test_changes_act_on_other_devices_as_on_the_cpu(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "inference_mode", torch.no_grad)  # which has no views of pretended tensors
    here = loaded_from(tiny_model("llama"))
    changes: list[Change] = [
        guard_around(here, [2], (0, 1)),
        draw_prune(here, 10.0, 0),
        adjusting(here),
        edits(here),
    ]
    with pretended():
        there = loaded_from(placed(tiny_model("llama"), count))
        pairs = [
            list(generate_steps(loaded, PROMPTS[2], own, Sampling(3)))
            for loaded in (here, there)
            for own in (changes, changes[1:])
        ]
    for ours, theirs in zip(pairs[:2], pairs[2:], strict=True):
        assert [step.tokens for step in ours] == [step.tokens for step in theirs]
        assert [step.reach for step in ours] == [step.reach for step in theirs]
        for one, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(
                one.log_probabilities, other.log_probabilities.cpu(), rtol=0, atol=1e-5
            )


def test_a_recipe_of_all_kinds_gives_back_what_went_in(llama: LoadedModel) -> None:
    clamp = parse_clamp("L0.N3:key:set:2@prompt").resolve(largest=1, mean=0)
    guard = with_rival(guard_around(llama, [2, 7], (0, 1)), guard_around(llama, [7], (0, 1)))
    changes: list[Change] = [draw_prune(llama, 10.0, 0), PruneExpert(BlockAddress(1)), guard, clamp]
    files = write_recipe_files(llama, changes, "r")
    document = json.loads(files["r.json"])
    kinds = ["selective_prune", "prune_expert", "key_space_guard", "clamp"]
    assert [entry["kind"] for entry in document["interventions"]] == kinds
    back = use_recorded_raw(document, parse_recipe_tensors(document, files["r.safetensors"]))
    assert isinstance(back[2], KeyGuard)
    assert ([rival.skill for rival in back[2].rivals], back[2].margin) == (["kept"], 0.75)
    keys = [torch.randn(5, 56) for _ in guard.boxes]
    assert torch.equal(back[2].depths(keys), guard.depths(keys))
    assert (back[1], back[3]) == (changes[1], clamp)
    batch = next(make_batches(llama, PROMPTS))
    (one, reach), (other, again) = (run_batch(llama, batch, own) for own in (changes, back))
    assert torch.equal(one, other)
    assert reach == again


def test_changes_are_checked_before_anything_runs(llama: LoadedModel) -> None:
    loaded = moe("mixtral")
    with pytest.raises(SkillError, match="no dense FFN block"):
        check_changes(loaded, [guard_around(llama, [2])])
    with pytest.raises(ExpertError, match="all 4 experts"):
        run(loaded, [PruneExpert(BlockAddress(1, False, n)) for n in range(4)])
    check_changes(llama, [guard_around(llama, [2]), PruneExpert(BlockAddress(1))])
