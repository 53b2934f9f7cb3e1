"""A dose curve: what one neuron does to a word at each of many values, beside random neurons (METHODS §2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from analysis.anatomy.addresses import NeuronAddress
from analysis.intervening.clamps import ClampSite, Scope, Unit
from analysis.levers.bench import BenchReading, WordBench
from analysis.levers.collapse import Continuation, collapses, continue_rows
from analysis.levers.controls import draw_neurons
from analysis.levers.grids import hold
from analysis.levers.neutral_effects import NeutralText
from analysis.opening.models import LoadedModel

METHOD_VERSION = "1"


@dataclass(frozen=True)
class Held:
    """How neurons are held: at which values, in which unit, at which site and positions."""

    values: tuple[float, ...]
    unit: Unit = "residual"
    site: ClampSite = "key"
    scope: Scope = Scope("last")


@dataclass(frozen=True)
class DosePoint:
    """One value. probability: P(word) on each prompt; mean, log_odds, kl (nats, at the answer position):
    means over the prompts, None where the clamp drove the model to NaN. neutral_kl, perplexity: on neutral
    text, None where not measured. repetition, collapse: of the greedy text of the first prompt, None where it
    is too short to judge or not measured.
    """

    value: float
    raw: float | None
    probability: tuple[float, ...]
    mean: float | None
    log_odds: float | None
    kl: float | None
    neutral_kl: float | None
    perplexity: float | None
    repetition: float | None
    collapse: bool | None


@dataclass(frozen=True)
class DoseCurve:
    """A neuron's points, in the order of the values. reached: share of the prompts in which it acted."""

    address: NeuronAddress
    points: tuple[DosePoint, ...]
    reached: float


def sweep_neuron(
    bench: WordBench,
    address: NeuronAddress,
    held: Held,
    raws: Sequence[float] | None = None,
    neutral: NeutralText | None = None,
) -> DoseCurve:
    """Hold one neuron at each value, on every prompt and, where given, on neutral text.

    raws: the values in the neuron's own units, for every unit but × residual.
    """
    given = held.values if raws is None else raws
    unit: Unit = held.unit if raws is None else "raw"
    rows = [(hold(address, value, unit=unit, site=held.site, scope=held.scope),) for value in given]
    reading = bench.read(rows)
    effect = None if neutral is None else neutral.measure(rows)
    texts: list[Continuation] = []
    if neutral is not None:
        texts = continue_rows(bench.loaded, bench.prompts[0].ids, [(), *rows])
    points = tuple(
        DosePoint(
            value=value,
            raw=None if raws is None else raws[at],
            probability=tuple(reading.probability[:, at].tolist()),
            mean=_finite(float(reading.mean[at]), reading, at),
            log_odds=_finite(float(reading.log_odds[at]), reading, at),
            kl=_finite(float(reading.kl[at]), reading, at),
            neutral_kl=None if effect is None else _number(float(effect.kl[at])),
            perplexity=None if effect is None else _number(float(effect.perplexity[at])),
            repetition=texts[at + 1].repetition if texts else None,
            collapse=collapses(texts[at + 1], texts[0]) if texts else None,
        )
        for at, value in enumerate(held.values)
    )
    return DoseCurve(address, points, float(reading.reached.max()))


def _finite(value: float, reading: BenchReading, at: int) -> float | None:
    """A value, None where the clamp drove the model to NaN."""
    return None if torch.isneginf(reading.log_odds[at]) else _number(value)


def _number(value: float) -> float | None:
    return value if abs(value) < float("inf") else None


def match_raws(
    loaded: LoadedModel, neuron: NeuronAddress, control: NeuronAddress, raws: Sequence[float]
) -> list[float]:
    """Raw values at which a control of the same block writes as much: equal |raw| · ‖w_down‖."""
    block = loaded.anatomy.block(neuron)
    norms = block.down.vectors(loaded.parameters)[[neuron.neuron, control.neuron]].float().norm(dim=-1)
    return [raw * float(norms[0] / norms[1].clamp(min=1e-12)) for raw in raws]


def draw_controls(
    loaded: LoadedModel, neurons: Sequence[NeuronAddress], count: int, seed: int
) -> list[tuple[NeuronAddress, NeuronAddress]]:
    """`count` random neurons, each with the swept neuron whose block it is from; the swept ones in turn."""
    blocks = list(dict.fromkeys(neuron.block for neuron in neurons))
    drawn = {block: draw_neurons(loaded, block, count, seed, frozenset(neurons)) for block in blocks}
    found: list[tuple[NeuronAddress, NeuronAddress]] = []
    for at in range(count):
        neuron = neurons[at % len(neurons)]
        if drawn[neuron.block]:
            found.append((drawn[neuron.block].pop(0), neuron))
    return found
