"""Passes over examples: what work consists of, so that it can be counted and timed before it begins."""

from __future__ import annotations

from dataclasses import dataclass

SHOTS_LONGER = 2.0
"""How much longer the forms are than the skill as asked, on average: one has three examples before it."""


@dataclass(frozen=True)
class ExamplePass:
    """A pass over n examples of a skill. answered: the model writes or scores answers; else it reads prompts.
    longer: × the prompt's tokens. counted: whether it shows in the progress. rambling: under a change that
    may be so strong that answers go on to the limit of tokens.
    """

    skill: str
    n: int
    answered: bool = False
    longer: float = 1.0
    counted: bool = True
    rambling: bool = False
