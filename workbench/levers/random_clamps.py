"""Controls of clamps on several prompts: random neurons in place of theirs, at the same values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from analysis.anatomy.addresses import NeuronAddress
from analysis.errors import HeadlampError
from analysis.intervening.clamps import Clamp, Scope
from analysis.intervening.interventions import Change
from analysis.levers.bench import WordBench
from analysis.levers.controls import CONTROLS, draw_neurons
from analysis.levers.readings import Clamps
from analysis.levers.sweeping import match_raws
from analysis.levers.verdicts import count as count_of
from analysis.opening.models import LoadedModel
from analysis.pulse import Pulse
from store.phrases import format_share
from workbench.generating.clamping import Generation
from workbench.generating.requests import GenerationRequest
from workbench.generating.several import WordMean
from workbench.levers.prompts import locate_word


@dataclass(frozen=True)
class RandomClamps:
    """Mean P(word) over the prompts under each of n sets of random neurons, by falling probability."""

    means: tuple[float, ...]

    def to_document(self) -> dict[str, Any]:
        """As `generate --prompts --json` prints it, under `controls`."""
        return {"n": len(self.means), "mean": sum(self.means) / len(self.means), "largest": self.means[0]}


def measure_random_clamps(
    loaded: LoadedModel,
    requests: Sequence[GenerationRequest],
    seed: int,
    count: int = CONTROLS,
    pulse: Pulse = lambda done, total: None,
) -> RandomClamps | None:
    """P(word) where random neurons of the same blocks are held as the requests' clamps hold theirs.

    In units other than × residual a random neuron writes as much: equal |raw| · ‖w_down‖. None where a prompt
    has no word, or where a change is no clamp that sets or adds a value. pulse: called before each prompt.
    """
    changes = requests[0].clamps
    asked = [(one.conversation, one.word.strip(), one.fold_case) for one in requests]
    if not changes or any(not _is_value(one) for one in changes) or any(not word for _, word, _ in asked):
        return None
    clamps = tuple(one for one in changes if isinstance(one, Clamp))
    rows = _draw_rows(loaded, clamps, count, seed)
    if not rows:
        return None
    placed = [locate_word(loaded, *one).placed for one in asked]
    scopes = {clamp.scope for clamp in clamps}
    scope = scopes.pop() if len(scopes) == 1 else Scope("all")
    means = WordBench(loaded, placed, scope, exact=True, pulse=pulse).read(rows).mean.tolist()
    return RandomClamps(tuple(sorted(means, reverse=True)))


def judge_prompts(pairs: Sequence[Generation], mean: WordMean | None, controls: RandomClamps | None) -> str:
    """What the clamps did over several prompts: the mean of P(word) with its interval, and the controls."""
    if mean is None:
        changed = sum(pair.base_ids != pair.changed_ids for pair in pairs)
        return f"{changed} of {count_of(len(pairs), 'text')} changed."
    words = {pair.request.word.strip() for pair in pairs if pair.word is not None}
    word = words.pop() if len(words) == 1 else "The words"
    up = sum(pair.word[1] > pair.word[0] for pair in pairs if pair.word is not None)
    said = f"{word}: {format_share(mean.base)} → {format_share(mean.changed)}"
    said += f", the mean over {count_of(mean.n, 'prompt')}, higher on {up} of them"
    if mean.intervals is not None:
        low, high = mean.intervals[2]
        chance = ", which chance explains" if low <= 0 <= high else ""
        said += f"; the change is {_points(mean.change)} points, 95 % interval {_points(low)} to "
        said += f"{_points(high)}{chance}"
    if controls is not None:
        rises = mean.change >= 0
        reached = sum(one >= mean.changed if rises else one <= mean.changed for one in controls.means)
        said += f"; {reached} of {len(controls.means)} random sets of neurons at the same values do as much"
    return f"{said}."


def _points(change: float) -> str:
    return f"{100 * change:+.1f}".replace("-", "−")


def _is_value(change: Change) -> bool:
    return isinstance(change, Clamp) and change.mode in ("set", "add")


def _draw_rows(loaded: LoadedModel, clamps: Clamps, count: int, seed: int) -> list[Clamps]:
    """Each row one random neuron for every clamp, of its block, none twice in a row."""
    taken = frozenset(clamp.address for clamp in clamps)
    drawn: dict[Any, list[NeuronAddress]] = {}
    for block in dict.fromkeys(clamp.address.block for clamp in clamps):
        needed = count * sum(clamp.address.block == block for clamp in clamps)
        drawn[block] = draw_neurons(loaded, block, needed, seed, taken)
    rows: list[Clamps] = []
    for _ in range(count):
        try:
            row = tuple(_replace(loaded, clamp, drawn[clamp.address.block].pop(0)) for clamp in clamps)
        except IndexError:  # the block has no more neurons
            break
        rows.append(row)
    return rows


def _replace(loaded: LoadedModel, clamp: Clamp, neuron: NeuronAddress) -> Clamp:
    if clamp.unit == "residual":
        return replace(clamp, address=neuron)
    if clamp.raw is None:
        raise HeadlampError(f"{clamp}: its value is not resolved yet")
    (raw,) = match_raws(loaded, clamp.address, neuron, [clamp.raw])
    return replace(clamp, address=neuron, value=raw, unit="raw", raw=raw)
