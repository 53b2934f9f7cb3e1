"""What the clamps did to a text, in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from analysis.intervening.clamps import Clamp
from analysis.intervening.interventions import Change
from analysis.levers.collapse import Continuation, collapses
from analysis.levers.verdicts import count
from analysis.running.differences import join_tokens
from store.phrases import format_share
from workbench.generating.clamping import Generation

LONGEST_WORD = 20
"""Characters of a word in a verdict."""


def shorten_change(change: Change) -> str:
    """A clamp in the notation of links with its value in three digits, for a sentence; no value changes."""
    if not isinstance(change, Clamp) or change.value is None:
        return str(change)
    return str(replace(change, value=float(f"{change.value:.3g}")))


def describe_word_change(result: Generation) -> str:
    """`dog 0.5 % → 93 %`; empty without a word."""
    if result.word is None:
        return ""
    base, changed = map(format_share, result.word)
    return f"{result.request.word.strip()} {base} → {changed}"


def judge_pair(result: Generation) -> str:
    """What a recipe did: P(word) at the answer position before and after, and where the texts differ."""
    texts = _judge_texts(result)
    if result.word is None:
        return f"{texts[:1].upper()}{texts[1:]}."
    return f"{_judge_word(result.request.word.strip(), *result.word)}; {texts}."


def _judge_word(word: str, base: float, changed: float) -> str:
    before, after = format_share(base), format_share(changed)
    if base == changed:
        return f"{word}: {before} at the answer position in both texts"
    if before == after:
        return f"{word}: {before} at the answer position, hardly changed"
    return f"{word}: {before} → {after} at the answer position"


def _judge_texts(result: Generation) -> str:
    if result.base_ids == result.changed_ids:
        return f"both texts are identical: {_explain_identical(result)}"
    base, changed = result.base_tokens, result.changed_tokens
    same = next((at for at, pair in enumerate(zip(base, changed, strict=False)) if pair[0] != pair[1]), None)
    number = _word_number(changed, same)
    said = f"the text changed at its {_ordinal(number)} word"
    before, after = (_take_word(tokens, number) for tokens in (base, changed))
    if before and after and before != after:
        said += f", “{before}” to “{after}”"
    if not changed:
        said = "the changed text is empty: the model ends it at once"
    elif same is None:
        shorter = "changed" if len(changed) < len(base) else "base"
        said = f"the {shorter} text ends sooner, after {count(len(min(base, changed, key=len)), 'token')}"
    if collapses(Continuation(result.changed_ids), Continuation(result.base_ids)):
        said += ", and repeats itself"
    return said


def _take_word(tokens: Sequence[str], number: int) -> str:
    """A text's word of this number, from 1, without punctuation around it; empty where there is none."""
    words = join_tokens(tokens).split()[number - 1 : number]
    word = "".join(words).strip(".,;:!?…()[]\"'“”*")
    return word if len(word) <= LONGEST_WORD else f"{word[:LONGEST_WORD]}…"


def _explain_identical(result: Generation) -> str:
    reach = result.reach
    if not result.request.clamps:
        return "the recipe has no clamp"
    if reach.covered and not any(reach.covered):
        return "no clamp covers a position of this text, so choose another scope"
    if reach.acted and not any(reach.acted):
        return "the expert of the clamp was routed to at none of the positions it covers"
    moved = any(row.base != row.changed for row in result.answer) or any(
        one.other not in (None, one.own) for row in result.chosen or () for one in row
    )
    if moved:
        return "probabilities changed, but at no position enough for another token"
    return "the clamps changed no probability that was read"


def _word_number(tokens: Sequence[str], at: int | None) -> int:
    """The number, from 1, of the word that token `at` is in."""
    before = join_tokens(tokens[:at])
    begins = not before or before[-1].isspace() or tokens[at or 0][:1].isspace()
    return len(before.split()) + begins or 1


def _ordinal(number: int) -> str:
    if number == 1:
        return "first"
    ending = "th" if number // 10 % 10 == 1 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"
