"""Levers and sweeps of the tiny model, measured once for all tests of a module."""

from dataclasses import dataclass

from analysis.opening.models import LoadedModel
from workbench.levers.answers import LeverAnswer, SweepAnswer
from workbench.levers.levers import answer_levers
from workbench.levers.questions import LeverQuestion, SweepQuestion, ask_levers
from workbench.levers.sweeps import answer_sweep


@dataclass(frozen=True)
class MeasuredWord:
    """Both answers about a word, with their questions."""

    lever_question: LeverQuestion
    levers: LeverAnswer
    sweep_question: SweepQuestion
    sweep: SweepAnswer


def measure_word(loaded: LoadedModel, word: str = "dog") -> MeasuredWord:
    """A small search, and a small sweep of the neuron that it found; quick on a tiny model."""
    asked = ask_levers(loaded, word, top=4, set_size=2, controls=2)
    levers = answer_levers(loaded, asked)
    neuron = str(levers.found.levers[0].clamps[0].address)
    swept = SweepQuestion(
        word, (neuron,), asked.select, values=(-4.0, -1.0, 0.0, 1.0, 4.0), controls=2, neutral=True
    )
    return MeasuredWord(asked, levers, swept, answer_sweep(loaded, swept))
