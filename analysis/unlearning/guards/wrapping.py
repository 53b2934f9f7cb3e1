"""Wrapped probes: the same questions in other forms, on every side of a fit alike.

A guard that has seen its skill in one form only learns the form. Each set's probes are put in the same ways,
so that a way tells nothing of the set. The ways are other than those of a test (`robustness.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

from analysis.opening.models import LoadedModel
from analysis.running.templates import has_template
from analysis.skills.forms import Form
from analysis.skills.items import SkillItem

BEFORE = (
    "Hi there, I have a question for you.\n",
    "Please answer the following question. ",
    "Thanks for your help so far! ",
)
BEHIND = ("\nAnswer briefly.", " I would like to know.")
"""Only behind a chat template: plain text goes on behind its end."""

SHOTS = 2
ANSWERED = ("number", "substring", "exact")
"""Judges whose answers can be shown as a text."""


def list_wrappers(loaded: LoadedModel, probes: Sequence[SkillItem]) -> list[Form]:
    """The ways in which a set's probes are put: greetings, instructions, and answered examples of its own."""
    forms = [Form(prefix=text) for text in BEFORE]
    if has_template(loaded):
        forms += [Form(suffix=text) for text in BEHIND]
    if shots := choose_shots(probes, SHOTS):
        forms.append(Form(shots=shots))
    return forms


def choose_shots(items: Sequence[SkillItem], count: int) -> tuple[SkillItem, ...]:
    """The first examples of different groups whose answers can be shown; empty if there are too few."""
    found: dict[str, SkillItem] = {}
    for item in items:
        if item.judge in ANSWERED:
            found.setdefault(item.group, item)
    return tuple(found.values())[:count] if len(found) > count else ()
