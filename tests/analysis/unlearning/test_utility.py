"""What a method costs in general: neutral text and a multiple-choice sample, before and after."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from analysis.anatomy.addresses import BlockAddress
from analysis.intervening.interventions import intervene
from analysis.opening.models import LoadedModel
from analysis.reading.neutral import neutral_windows
from analysis.running.probing import last_keys
from analysis.skills.items import Skill, SkillItem
from analysis.skills.tasks import measure_items
from analysis.unlearning.edits.selective_prune import draw_prune
from analysis.unlearning.guards.key_boxes import KeyBox
from analysis.unlearning.guards.key_guards import KeyGuard
from analysis.unlearning.results import FitSettings
from analysis.unlearning.scenes import Scene
from analysis.unlearning.utility import measure_utility
from tests.analysis.unlearning.evaluations_made import PLAN, run, scene  # noqa: F401 - fixtures

CHOICES = Skill(
    "choices",
    tuple(SkillItem(f" w{n} w{n + 1}", str(n % 2), "choice", ("w3", "w4")) for n in range(12)),
)


def log_probabilities(loaded: LoadedModel, changes: list[Any]) -> torch.Tensor:
    """(windows, T, V) of the neutral windows, each on its own."""
    found = []
    for ids in neutral_windows(loaded):
        fed = torch.tensor([ids])
        with intervene(loaded, changes, positions=torch.arange(len(ids))[None]), torch.inference_mode():
            found.append(loaded.model(fed).logits[0, :, : len(loaded.vocabulary)].double().log_softmax(-1))
    return torch.stack(found)


def test_perplexity_and_kl_are_those_of_their_definitions(llama: LoadedModel) -> None:
    change = draw_prune(llama, 20.0, 0)
    base, changed = (log_probabilities(llama, changes) for changes in ([], [change]))
    targets = torch.tensor(neutral_windows(llama))[:, 1:, None]
    losses = [-found[:, :-1].gather(-1, targets).squeeze(-1) for found in (base, changed)]
    found = measure_utility(llama, [change], FitSettings())
    assert found.n == len(neutral_windows(llama)) == 16
    assert found.perplexity_ratio == pytest.approx(math.exp(losses[1].mean() - losses[0].mean()), rel=1e-4)
    kl = (base.exp() * (base - changed)).sum(-1)
    assert found.kl_median == pytest.approx(float(kl.median()), rel=1e-3)
    assert found.perplexity_ratio is not None
    assert found.perplexity_interval is not None
    low, high = found.perplexity_interval
    assert low < found.perplexity_ratio < high
    effects = (losses[1] - losses[0]).mean(-1)
    assert math.exp(effects.min()) < low
    assert high < math.exp(effects.max())


def test_nothing_changed_costs_nothing(llama: LoadedModel) -> None:
    base = measure_items(llama, CHOICES.items, ())
    found = measure_utility(llama, (), FitSettings(), base)
    assert (found.perplexity_ratio, found.perplexity_interval, found.kl_median) == (1.0, (1.0, 1.0), 0.0)
    assert found.mmlu is not None
    assert found.mmlu.before == found.mmlu.after
    assert measure_utility(llama, (), FitSettings()).mmlu is None


def guard_of(loaded: LoadedModel, windows: Any) -> KeyGuard:
    """A guard that refuses these windows alone, by the keys of their last tokens."""
    own = last_keys(loaded, windows, loaded.anatomy.blocks[1:])[BlockAddress(1)]
    width = (own - own.mean(0)).abs().amax(0) + 1e-3
    return KeyGuard((KeyBox(1, own.mean(0), width, 1.0, 30, torch.ones_like(width)),), 1.0)


def test_what_a_guard_refuses_is_left_out_of_the_text_and_wrong_in_the_choices(llama: LoadedModel) -> None:
    windows = neutral_windows(llama)
    some = measure_utility(llama, [guard_of(llama, windows[:2])], FitSettings())
    assert (some.n, some.perplexity_ratio, some.kl_median) == (14, 1.0, 0.0)
    guard = replace(guard_of(llama, windows), alpha=1e4)
    base = measure_items(llama, CHOICES.items, ())
    every = measure_utility(llama, [guard], FitSettings(), base)
    assert (every.n, every.perplexity_ratio, every.perplexity_interval, every.kl_median) == (
        0,
        None,
        None,
        None,
    )
    assert every.mmlu is not None
    assert (every.mmlu.n, every.mmlu.after, every.mmlu.abstained) == (12, 0.0, 1.0)
    assert every.mmlu.before is not None
    assert every.mmlu.before > 0


@pytest.mark.parametrize("method", ["ksd", "na", "sp"])
def test_every_method_says_what_it_costs_in_general(
    llama: LoadedModel,
    scene: Scene,  # noqa: F811
    method: Any,
) -> None:
    found, base = run(llama, scene, method, robustness=False, controls=False, mmlu=CHOICES, shares=(1.0,))
    assert base.mmlu == measure_items(llama, CHOICES.items, (), PLAN.ways)
    plan = replace(PLAN, mmlu=CHOICES)
    assert found.utility == measure_utility(llama, found.interventions, plan, base.mmlu)
    assert found.utility is not None
    assert found.utility.mmlu is not None
    assert found.utility.mmlu.n == 12
    alone, _ = run(llama, scene, method, robustness=False, controls=False, shares=(1.0,))
    assert alone.utility == replace(found.utility, mmlu=None)
