"""Removals judged, and in sentences: what was removed, by which vectors, at which cost."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from analysis.unlearning.edits import tars
from analysis.unlearning.edits.side_effects import SideEffects
from workbench.unlearning.concepts.answers import ConceptAnswer, RemovalAnswer, ReversedVector
from workbench.unlearning.concepts.removals import PromptEffect, Removal, RemovedConcept

MOST_KEPT = 0.8
"""Share of other prompts that keep their answer, below which more than the concept is removed."""


def answer_removal(found: Removal, goal: float, max_kl: float) -> RemovalAnswer:
    """What is stored and shown of a removal, with its verdict."""
    last = found.concepts[-1]
    return RemovalAnswer(
        verdict=" ".join(judge_concept(one, goal, max_kl) for one in found.concepts)
        + _judge_effects(found, last),
        concepts=tuple(_answer_concept(one, goal, max_kl) for one in found.concepts),
        other=found.other,
        version=tars.METHOD_VERSION,
    )


def _answer_concept(one: RemovedConcept, goal: float, max_kl: float) -> ConceptAnswer:
    return ConceptAnswer(
        concept=one.word,
        verdict=judge_concept(one, goal, max_kl),
        reached=one.found.reached,
        holds=one.holds,
        by_neurons=one.by_neurons,
        edits=tuple(ReversedVector(str(e.address), e.site, e.cosine) for e in one.found.edits),
        target=one.target.probability,
        tried=one.found.tried,
        without_head_rows=one.found.without_rows,
        prompts=one.prompts,
        effects=one.effects,
        zeroed=one.zeroed,
    )


def judge_concept(one: RemovedConcept, goal: float, max_kl: float) -> str:
    """One removal in a sentence; a failed one is said as failed."""
    aimed = one.take("aimed")
    before, after = fmean(p.before for p in aimed), fmean(p.after for p in aimed)
    count = len(one.found.edits)
    vectors = f"{count} vector" if count == 1 else f"{count} vectors"
    change = (
        f"P({one.word}) {before:.3f} → {after:.2g} after the {_count(len(aimed), 'prompt')} it was aimed with"
    )
    elsewhere = _judge_elsewhere(one)
    if not one.found.reached:
        why = (
            f"the goal is {goal:g}"
            if one.found.probability > goal
            else f"at a median KL of {one.found.kl:.2g} nats on neutral text (bound {max_kl:g}), and "
            f"{one.found.changed:.0%} of the other prompts change their answer"
        )
        return f"Failed to remove {one.word}: {change}, with {vectors}; {why}; {elsewhere}."
    if one.kept_elsewhere:
        return f"Failed to remove {one.word} outside the prompts it was aimed with: {change}; {elsewhere}."
    how = (
        f"{one.word} is removed by {vectors} of neurons"
        if one.by_neurons
        else f"The token is banned: head rows carry the removal of {one.word} ({vectors} reversed)"
    )
    return f"{how}: {change}; {elsewhere}."


def _judge_elsewhere(one: RemovedConcept) -> str:
    parts = []
    for split, name in (("held_out", "held-out wording"), ("languages", "prompt in another language")):
        counted = [p for p in one.take(split) if p.counted]
        if counted:
            parts.append(f"{_range(counted)} in {_count(len(counted), name)}")
        elif split == "held_out":
            parts.append("no held-out wording that the model answers with it was measured")
    said = [p for p in one.prompts if p.says]
    if said:
        parts.append(f"{_count(len(said), 'answer')} of {len(one.prompts)} still say it (“{said[0].says}”)")
    return ", ".join(parts)


def _range(prompts: Sequence[PromptEffect]) -> str:
    worst = max(p.after for p in prompts)
    return (
        f"{fmean(p.before for p in prompts):.3f} → {fmean(p.after for p in prompts):.2g} (worst {worst:.2g})"
    )


def _judge_effects(found: Removal, last: RemovedConcept) -> str:
    effects, zeroed = last.effects, found.concepts[0].zeroed
    said = f" KL on other text: {_say_kls(effects)}; {effects.unchanged:.0%} of {effects.answers} unrelated "
    said += "answers stay as they were."
    if found.other is not None:
        said += f" Of {_count(found.other[1], 'other prompt')} {found.other[0]:.0%} keep their answer."
        if found.other[0] < MOST_KEPT:
            said += " More than the concept is removed."
    aimed = fmean(p.zeroed for p in found.concepts[0].take("aimed"))
    name = found.concepts[0].word
    return f"{said} Zeroing the head row of {name} alone: P {aimed:.2g}, KL {_say_kls(zeroed)}."


def _say_kls(effects: SideEffects) -> str:
    named = [("chat", effects.chat), ("raw", effects.raw)]
    return ", ".join(
        f"{name} median {kl.median:.2g} (95th percentile {kl.p95:.2g}, largest {kl.largest:.2g})"
        for name, kl in named
        if kl is not None
    )


def _count(number: int, what: str) -> str:
    """`1 prompt`, `3 prompts in another language`."""
    first, *rest = what.split(" in ")
    return " in ".join([f"{number} {first}" if number == 1 else f"{number} {first}s", *rest])
