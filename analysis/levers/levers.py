"""The levers of a word: which neurons, held at which value, make a model say it (METHODS §2, "Levers").

Chosen on the selection prompts, reported on held-out ones, beside random neurons that were given the same
search, and beside prompts at which a word of another kind is due.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from analysis.anatomy.addresses import NeuronAddress
from analysis.errors import HeadlampError
from analysis.intervening.clamps import Scope
from analysis.intervening.residual_units import find_writers
from analysis.levers.bench import WordBench, WordPrompt
from analysis.levers.controls import CONTROLS, ValueControls, draw_shortlist
from analysis.levers.gradients import score_gradients
from analysis.levers.neutral_effects import NeutralText
from analysis.levers.readings import check_room
from analysis.levers.reporting import LeverReport
from analysis.levers.results import Lever, LeverSearch, Shortlisted, choose_best, choose_single
from analysis.levers.search import REFINED, Admission, Admitted, NeuronSearch, search_values
from analysis.levers.sets import POOL, SWAPPED, ease_sets, improve_set, search_sets
from analysis.opening.models import LoadedModel
from analysis.pulse import Pulse

METHOD_VERSION = "1"
BY_GRADIENT = 64
"""How many neurons the gradient puts on the shortlist."""
MOST_SETS = 3
"""Largest set of neurons."""
SINGLES, SETS = 5, 3
"""How many single neurons and how many sets are tried on other text."""


@dataclass(frozen=True)
class WordQuestion:
    """A word with its prompts: to choose on, to report on, and where a word of another kind is due.

    labelled: z-scores of the neurons whose label is the word, by address.
    """

    select: tuple[WordPrompt, ...]
    held_out: tuple[WordPrompt, ...]
    other: tuple[WordPrompt, ...]
    labelled: Mapping[NeuronAddress, float]
    scope: Scope = Scope("last")
    set_size: int = MOST_SETS
    by_gradient: int = BY_GRADIENT
    controls: int = CONTROLS
    search_matched: bool = False
    seed: int = 0


STEPS = ("gradients", "values", "sets", "other text", "held-out prompts", "controls", "random shortlist")
"""What `search_levers` counts."""


def search_levers(
    loaded: LoadedModel, asked: WordQuestion, pulse: Pulse = lambda done, total: None
) -> LeverSearch:
    """The levers of a word. Raises HeadlampError where no neuron can be tried, PromptTooLong."""
    steps = len(STEPS) if asked.search_matched else len(STEPS) - 1

    def step(number: int) -> None:
        pulse(number, steps)

    for prompt in (*asked.select, *asked.held_out, *asked.other):
        check_room(loaded, prompt.ids, prompt.spellings)
    step(0)
    gradients = _rank_gradients(loaded, asked)
    shortlist = _keep_writers(loaded, [*asked.labelled, *gradients])
    if not shortlist:
        raise HeadlampError(
            f"no neuron of {loaded.anatomy.architecture} can be held in × residual: what its blocks are "
            "added to cannot be told from the structure; sweep single neurons with raw values instead"
        )
    short = [_shorten(prompt) for prompt in asked.select]
    bench = WordBench(loaded, short, asked.scope, kl=False, pulse=pulse)
    neutral = NeutralText(loaded, asked.scope)
    step(1)
    found, admission = _search(bench, neutral, shortlist, asked, step)
    step(4)
    report = LeverReport(loaded, asked.select, asked.held_out, asked.other, asked.scope)
    levers = report.write(found.admitted)
    step(5)
    if asked.controls:
        levers = _add_controls(report, levers, ValueControls(bench, asked.seed, shortlist), asked.controls)
    random_best = None
    if asked.search_matched:
        step(6)
        drawn = draw_shortlist(loaded, shortlist, asked.seed)
        other, _ = _search(bench, neutral, drawn, asked)
        random_best = choose_best(report.write(other.admitted))
    step(steps)
    base = float(bench.base.log_odds)
    return LeverSearch(
        levers=levers,
        search_control=random_best,
        shortlist=_describe_shortlist(found.neurons, asked.labelled, gradients, base),
        refused=admission.list_refused(),
        base=report.base,
    ).with_best_first()


def _add_controls(
    report: LeverReport, levers: Sequence[Lever], controls: ValueControls, sets: int
) -> tuple[Lever, ...]:
    """The levers, the best of all and the best single one with their controls."""
    chosen = (choose_best(levers), choose_single(levers))
    return tuple(
        report.add_controls(lever, controls.match(lever.clamps, sets)) if lever in chosen else lever
        for lever in levers
    )


def _keep_writers(loaded: LoadedModel, neurons: Sequence[NeuronAddress]) -> list[NeuronAddress]:
    """Those that can be held in × residual, each once."""
    writers = {
        block: find_writers(loaded, loaded.anatomy.blocks[loaded.anatomy.index(block)])
        for block in dict.fromkeys(neuron.block for neuron in neurons)
    }
    return [neuron for neuron in dict.fromkeys(neurons) if writers[neuron.block][neuron.neuron]]


def _shorten(prompt: WordPrompt) -> WordPrompt:
    """The prompt with the word's spellings of the fewest tokens, which a search reads in one step; what is
    reported counts all.
    """
    fewest = min(map(len, prompt.spellings))
    return replace(prompt, spellings=tuple(one for one in prompt.spellings if len(one) == fewest))


@dataclass(frozen=True)
class _Found:
    """Every neuron tried, and the admitted clamps by falling log-odds."""

    neurons: list[NeuronSearch]
    admitted: list[Admitted]


def _search(
    bench: WordBench,
    neutral: NeutralText,
    shortlist: Sequence[NeuronAddress],
    asked: WordQuestion,
    step: Callable[[int], None] = lambda number: None,
) -> tuple[_Found, Admission]:
    """The whole procedure for one shortlist, up to what is admitted."""
    neurons = search_values(bench, shortlist, REFINED)
    step(2)
    sets = search_sets(bench, neurons[:POOL], asked.set_size)
    if sets:
        best = improve_set(bench, sets[0], [one.best for one in neurons[:SWAPPED]])
        sets = [best, *(one for one in sets if one.clamps != best.clamps)]
    step(3)
    base = float(bench.base.log_odds)
    admission = Admission(bench, neutral)
    singles = admission.admit_values(neurons[:SINGLES], base)
    joined: list[Admitted] = []
    for at in range(0, len(sets), SETS):
        some = ease_sets(bench, [one for one in sets[at : at + SETS] if one.log_odds > base])
        joined += admission.admit(some)
        if len(joined) >= SETS:
            break
    return _Found(neurons, sorted([*singles, *joined], key=lambda one: -one.tried.log_odds)), admission


def _rank_gradients(loaded: LoadedModel, asked: WordQuestion) -> dict[NeuronAddress, float]:
    """The neurons that would raise the word most to first order, with by how much."""
    if not asked.by_gradient:
        return {}
    scores = [score_gradients(loaded, one.ids, one.spellings, asked.scope) for one in asked.select]
    stacked = torch.stack(scores)
    unused = torch.isneginf(stacked)
    mean = stacked.masked_fill(unused, 0.0).mean(0).masked_fill(unused.all(0), -torch.inf)
    best = mean.amax(-1)
    values, places = best.topk(min(asked.by_gradient, len(best)))
    found: dict[NeuronAddress, float] = {}
    starts = torch.tensor([block.d_ff for block in loaded.anatomy.blocks]).cumsum(0)
    for value, place in zip(values.tolist(), places.tolist(), strict=True):
        if value > -torch.inf:
            index = int(torch.searchsorted(starts, place, right=True))
            block = loaded.anatomy.blocks[index]
            neuron = place - int(starts[index]) + block.d_ff
            found[NeuronAddress(block.address, neuron)] = value
    return found


def _describe_shortlist(
    neurons: Sequence[NeuronSearch],
    labelled: Mapping[NeuronAddress, float],
    gradients: Mapping[NeuronAddress, float],
    base: float,
) -> tuple[Shortlisted, ...]:
    return tuple(
        Shortlisted(
            address=one.address,
            z=labelled.get(one.address),
            gradient=gradients.get(one.address),
            effect=one.best.log_odds - base if one.best.log_odds > -torch.inf else None,
            value=one.best.clamps[0].value or 0.0,
            routed=one.reached,
        )
        for one in neurons
    )
