"""What pages ask of a word and a neuron, and titles for what they keep."""

from __future__ import annotations

from dataclasses import dataclass

from analysis.anatomy.addresses import NeuronAddress
from analysis.intervening.clamps import Clamp
from analysis.levers.grids import FULL, hold
from analysis.levers.readings import Clamps
from analysis.levers.verdicts import describe_clamps, percent
from analysis.opening.models import LoadedModel
from analysis.reading.word_kinds import find_word_kind
from store import Store
from workbench.levers.answers import LeverAnswer, SweepAnswer
from workbench.levers.best import best_clamps
from workbench.levers.levers import find_levers
from workbench.levers.questions import SweepQuestion, adapt_prompts, ask_levers
from workbench.levers.sweeps import find_sweep
from workbench.neurons.searching import find_word


def ask_neuron_sweep(loaded: LoadedModel, address: NeuronAddress, word: str) -> SweepQuestion:
    """The dose curve of one neuron on the prompts of the word's kind and on neutral text, as `sweep` asks."""
    prompts = adapt_prompts(loaded, find_word_kind(word).select)
    return SweepQuestion(word.strip(), (str(address),), prompts, values=tuple(sorted(FULL)), neutral=True)


def find_best_value(loaded: LoadedModel, store: Store, address: NeuronAddress, word: str) -> Clamp | None:
    """The clamp by which a neuron raises a word most, as a stored sweep or stored levers have it.

    None where neither was measured, or nothing raises it. Computes nothing.
    """
    swept = find_sweep(loaded, store, ask_neuron_sweep(loaded, address, word))
    if swept is not None:
        return next((one for one in best_clamps(swept[1]) if isinstance(one, Clamp)), None)
    stored = find_levers(loaded, store, ask_levers(loaded, word))
    for lever in () if stored is None else stored.answer.found.levers:
        if len(lever.clamps) == 1 and lever.clamps[0].address == address:
            return lever.clamps[0]
    return None


def is_measured_set(loaded: LoadedModel, store: Store, clamps: Clamps, word: str) -> bool:
    """Whether several clamps together are a stored lever of a word. Computes nothing."""
    stored = find_levers(loaded, store, ask_levers(loaded, word)) if len(clamps) > 1 else None
    held = {str(clamp) for clamp in clamps}
    levers = () if stored is None else stored.answer.found.levers
    return any(held == {str(clamp) for clamp in lever.clamps} for lever in levers)


def guess_clamp(address: NeuronAddress, *, suppresses: bool) -> Clamp:
    """A clamp to begin with where nothing was measured: ± 1 × residual at the answer position."""
    return hold(address, -1.0 if suppresses else 1.0)


@dataclass(frozen=True)
class ProposedClamps:
    """Clamps to try for a word. measured: their values were; else they are ± 1 × residual."""

    clamps: Clamps
    measured: bool


def propose_clamps(loaded: LoadedModel, store: Store, word: str) -> ProposedClamps:
    """The best stored lever of a word; without one, of all neurons the one that writes it most, by z-score.

    Raises HeadlampError for a word that the model's tokens cannot write.
    """
    stored = find_levers(loaded, store, ask_levers(loaded, word))
    best = () if stored is None else best_clamps(stored.answer)
    if best:
        return ProposedClamps(best, measured=True)
    (hit,) = find_word(loaded, store, word, by="z", limit=1).neurons
    known = find_best_value(loaded, store, hit.address, word)
    guess = guess_clamp(hit.address, suppresses=hit.sign == "-")
    return ProposedClamps((known or guess,), measured=known is not None)


def propose_lever_title(found: LeverAnswer) -> str:
    """`Holding L29.N808 at 1.5 × residual: dog 1.0 % → 93 %, best of 20 random 3.0 %`."""
    best = found.found.best
    if best is None:
        return f"No lever of {found.word} among {len(found.found.shortlist)} neurons"
    title = f"Holding {describe_clamps(best.clamps, found.unit)}: {found.word} {percent(best.base)} → "
    title += percent(best.held_out)
    if best.largest_control is not None:
        title += f", best of {len(best.controls)} random {percent(best.largest_control)}"
    return title


def propose_sweep_title(found: SweepAnswer) -> str:
    """`Holding L29.N808 at 1.5 × residual: dog 1.0 % → 93 %`, for the value that raises the word most."""
    clamps = best_clamps(found)
    base = sum(found.base) / len(found.base)
    names = ", ".join(str(curve.address) for curve in found.curves)
    if not clamps:
        spoiled = any(p.collapse and (p.mean or 0.0) > base for curve in found.curves for p in curve.points)
        value = "value without repetition" if spoiled else "value"
        return f"No {value} of {names} raises {found.word} above {percent(base)}"
    (clamp,) = clamps
    points = [
        point
        for curve in found.curves
        if curve.address == clamp.address
        for point in curve.points
        if clamp.value in (point.value, point.raw)
    ]
    at = describe_clamps(clamps) if found.unit == "residual" else f"{clamp}"
    title = f"Holding {at}: {found.word} {percent(base)} → {percent(points[0].mean or 0.0)}"
    if found.controls is not None:
        title += f", best of {len(found.controls.neurons)} random {percent(found.controls.largest)}"
    return title
