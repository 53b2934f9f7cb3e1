"""Sweeps as a use case: a job whose units are neurons, so that a stopped one goes on where it was."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from analysis.anatomy.addresses import NeuronAddress, parse_address
from analysis.errors import ClampError
from analysis.intervening.clamps import Clamp, ClampSite, Unit, parse_scope
from analysis.intervening.interventions import check_changes
from analysis.intervening.residual_units import name_unit
from analysis.levers import sweeping
from analysis.levers.bench import WordBench
from analysis.levers.grids import hold
from analysis.levers.neutral_effects import NeutralText
from analysis.levers.sweeping import DoseCurve, Held, draw_controls, match_raws, sweep_neuron
from analysis.levers.verdicts import judge_sweep
from analysis.opening.models import LoadedModel
from analysis.pulse import Pulse
from analysis.running.prompts import encode_conversation
from analysis.running.words import Spelling
from store import RunSpec, Store, list_stored_units, read_unit
from workbench.generating.requests import digest_ids
from workbench.kinds import Kind
from workbench.levers.answers import SweepAnswer, SweepControls, write_curve
from workbench.levers.prompts import check_prompt, place_prompts
from workbench.levers.questions import SweepQuestion, read_sweep_question
from workbench.neurons.profiles import resolve_clamps
from workbench.records import read_record, write_record
from workbench.runs import Progress, UnitResult, run_spec


def check_sweep(loaded: LoadedModel, asked: SweepQuestion) -> list[Clamp]:
    """Refuse what cannot be swept before anything is measured; gives back a clamp for each neuron.

    Raises ClampError, TextError, UnknownWord, AddressOutOfRange.
    """
    for one in asked.prompts:
        encode_conversation(loaded, one)
        check_prompt(loaded, one, asked.word)
    clamps = [hold_first(asked, parse_address(neuron)) for neuron in asked.neurons]
    check_changes(loaded, clamps)
    return clamps


def _check(loaded: LoadedModel, asked: Mapping[str, Any]) -> None:
    check_sweep(loaded, read_sweep_question(asked))


def resolve_sweep(
    loaded: LoadedModel, store: Store, asked: SweepQuestion, progress: Progress = lambda done, total: None
) -> SweepQuestion:
    """The question with every value in the neurons' own units, where they are not in × residual.

    Checks everything that can be refused before a job. Raises ClampError, TextError, UnknownWord; reads the
    reference text for values in × max.
    """
    clamps = check_sweep(loaded, asked)
    if asked.unit == "residual":
        return replace(asked, raws=None)
    if asked.unit == "raw":
        return replace(asked, raws=(asked.values,) * len(asked.neurons))
    ones = [replace(clamp, value=1.0, raw=None) for clamp in clamps]
    sizes = [
        one.raw or 0.0 for one in resolve_clamps(loaded, store, ones, progress) if isinstance(one, Clamp)
    ]
    return replace(asked, raws=tuple(tuple(value * size for value in asked.values) for size in sizes))


def hold_first(asked: SweepQuestion, neuron: NeuronAddress) -> Clamp:
    """A clamp of the sweep, to check that the model allows it. Raises ClampError."""
    held = _read_held(asked)
    if held.unit == "residual" and held.site != "key":
        raise ClampError(
            "× residual is what a neuron writes, so it is for its key; give --values in x or as plain "
            f"numbers for the site {held.site}"
        )
    largest = max(asked.values, key=abs)  # it is refused where any value is
    return hold(neuron, largest, unit=held.unit, site=held.site, scope=held.scope)


def _read_held(asked: SweepQuestion) -> Held:
    return Held(asked.values, cast(Unit, asked.unit), cast(ClampSite, asked.site), parse_scope(asked.scope))


def _name_unit(loaded: LoadedModel, asked: SweepQuestion) -> str:
    """The unit of the values for a sentence: × residual, × block, × max, or none."""
    if asked.unit != "residual":
        return "× max" if asked.unit == "max" else ""
    return name_unit(loaded, hold_first(asked, parse_address(asked.neurons[0])))


@dataclass(frozen=True)
class SweepPart:
    """A unit of a sweep: one neuron's curve, or those of random neurons. base: P(word) on each prompt without
    clamps; positions: why the word is read there; measured_in: the unit of the values, as a sentence has it.
    """

    base: tuple[float, ...]
    spellings: tuple[Spelling, ...]
    positions: tuple[str, ...]
    measured_in: str
    curve: DoseCurve | None = None
    controls: tuple[DoseCurve, ...] = ()

    def to_document(self) -> dict[str, Any]:
        """As JSON; `read_record` reads it."""
        document = {
            "base": list(self.base),
            "spellings": [write_record(one) for one in self.spellings],
            "positions": list(self.positions),
            "measured_in": self.measured_in,
        }
        if self.curve is not None:
            return document | {"curve": write_curve(self.curve)}
        return document | {"controls": [write_curve(one) for one in self.controls]}


def sweep_spec(loaded: LoadedModel, asked: Mapping[str, Any]) -> RunSpec:
    """The run that answers a question from `SweepQuestion.document`: a unit per neuron, then the controls."""
    question = read_sweep_question(asked)
    ids = [encode_conversation(loaded, one) for one in question.prompts]
    parameters = dict(asked) | {"prompt_ids": digest_ids(ids)}
    units = len(question.neurons) + (1 if question.controls else 0)
    return run_spec(loaded, "sweep", sweeping.METHOD_VERSION, parameters, units=units, seed=question.seed)


def _units(
    loaded: LoadedModel, asked: Mapping[str, Any], units: Sequence[int], pulse: Pulse
) -> Iterator[tuple[int, UnitResult]]:
    question = read_sweep_question(asked)
    placed = place_prompts(loaded, question.prompts, question.word)
    held = _read_held(question)
    bench = WordBench(loaded, [one.placed for one in placed], held.scope, exact=True, pulse=pulse)
    neutral = NeutralText(loaded, held.scope) if question.neutral else None
    part = SweepPart(
        base=tuple(bench.base.probability[:, 0].tolist()),
        spellings=placed[0].spellings,
        positions=tuple(one.said for one in placed),
        measured_in=_name_unit(loaded, question),
    )
    neurons = [parse_address(name) for name in question.neurons]
    for index in units:
        if index < len(neurons):
            raws = None if question.raws is None else question.raws[index]
            done = replace(part, curve=sweep_neuron(bench, neurons[index], held, raws, neutral))
            yield index, UnitResult(str(neurons[index]), {}, done.to_document())
        else:
            drawn = tuple(_sweep_controls(bench, question, held, neurons))
            yield index, UnitResult("controls", {}, replace(part, controls=drawn).to_document())


def _sweep_controls(
    bench: WordBench, question: SweepQuestion, held: Held, neurons: Sequence[NeuronAddress]
) -> Iterator[DoseCurve]:
    """Random neurons of the swept ones' blocks, at values by which they write as much."""
    drawn = draw_controls(bench.loaded, neurons, question.controls, question.seed)
    for control, neuron in drawn:
        raws = None
        if question.raws is not None:
            raws = match_raws(bench.loaded, neuron, control, question.raws[neurons.index(neuron)])
        yield sweep_neuron(bench, control, held, raws)


def _name_sweep(asked: Mapping[str, Any]) -> str:
    question = read_sweep_question(asked)
    first, *more = question.neurons
    what = f"Dose curves of {1 + len(more)} neurons" if more else f"Dose curve of {first}"
    return f"{what} for “{question.word}”"


SWEEP = Kind(
    name="sweep",
    unit="neurons",
    parameters=tuple(SweepQuestion.__dataclass_fields__),
    title=_name_sweep,
    spec=sweep_spec,
    compute=_units,
    check=_check,
)


def answer_sweep(
    loaded: LoadedModel, asked: SweepQuestion, pulse: Pulse = lambda done, total: None
) -> SweepAnswer:
    """The dose curves of a resolved question, computed here without a job."""
    units = range(sweep_spec(loaded, asked.document()).units)
    return _join(asked, [result.payload for _, result in _units(loaded, asked.document(), units, pulse)])


def find_sweep(loaded: LoadedModel, store: Store, asked: SweepQuestion) -> tuple[str, SweepAnswer] | None:
    """The run and its stored answer, if every unit is there; computes nothing."""
    spec = sweep_spec(loaded, asked.document())
    if len(list_stored_units(store, spec.key)) < spec.units:
        return None
    return spec.key, _join(asked, [read_unit(store, spec.key, index).payload for index in range(spec.units)])


def _join(asked: SweepQuestion, units: Sequence[Mapping[str, Any]]) -> SweepAnswer:
    """The answer out of its units, in order."""
    parts = [read_record(SweepPart, unit) for unit in units]
    curves = tuple(part.curve for part in parts if part.curve is not None)
    random = [curve for part in parts for curve in part.controls]
    base, controls = parts[0].base, _summarise(random)
    verdict = judge_sweep(
        asked.word,
        sum(base) / len(base),
        curves,
        len(random),
        None if controls is None else controls.largest,
        parts[0].measured_in,
    )
    return SweepAnswer(
        word=asked.word,
        spellings=parts[0].spellings,
        unit=asked.unit,
        site=asked.site,
        scope=asked.scope,
        values=asked.values,
        base=base,
        curves=curves,
        controls=controls,
        positions=parts[0].positions,
        verdict=verdict,
    )


def _summarise(random: Sequence[DoseCurve]) -> SweepControls | None:
    if not random:
        return None
    columns = zip(*([point.mean or 0.0 for point in curve.points] for curve in random), strict=True)
    band = tuple((min(column), max(column)) for column in columns)
    return SweepControls(tuple(str(curve.address) for curve in random), band, max(high for _, high in band))
