"""Questions about a word and its neurons, as JSON: what a job needs to answer them anywhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from analysis.errors import HeadlampError, TextError, UnknownWord
from analysis.levers.controls import CONTROLS
from analysis.levers.grids import FULL
from analysis.levers.levers import BY_GRADIENT, MOST_SETS
from analysis.opening.models import LoadedModel
from analysis.reading.word_kinds import find_word_kind, list_other_prompts
from analysis.running.conversations import Conversation, read_conversation, write_conversation
from analysis.running.templates import has_template
from workbench.generating.prompt_files import PromptLine

MOST_PROMPTS = 64
"""Largest number of prompts to choose on, or to report on: every neuron tried is run on each."""
OTHERS = 8
"""How many prompts at which a word of another kind is due."""
SITES = ("down", "final", "up", "gate")
"""Labels that put neurons on a shortlist: sites, and down through the final norm."""


@dataclass(frozen=True)
class LeverQuestion:
    """A word, with prompts to choose on, to report on, and where a word of another kind is due.

    sites: of SITES. top: how many neurons the gradient, and the label at down, put on the shortlist.
    """

    word: str
    select: tuple[Conversation, ...]
    held_out: tuple[Conversation, ...]
    other: tuple[Conversation, ...]
    sites: tuple[str, ...] = SITES
    top: int = BY_GRADIENT
    set_size: int = MOST_SETS
    controls: int = CONTROLS
    search_matched: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least, most in (("top", 1, 4096), ("set_size", 1, 5), ("controls", 0, 200)):
            if not least <= getattr(self, name) <= most:
                raise HeadlampError(
                    f"--{name.replace('_', '-')} {getattr(self, name)}: choose {least} to {most}"
                )
        unknown = [site for site in self.sites if site not in SITES]
        if unknown or not self.sites:
            raise HeadlampError(f"--sites {', '.join(unknown) or 'none'}: choose of {', '.join(SITES)}")
        check_word(self.word)
        for name, prompts in (("to choose on", self.select), ("to report on", self.held_out)):
            check_prompts(prompts, name)
        both = [one for one in self.held_out if one in self.select]
        if both:
            raise TextError(
                f"the prompt {both[0].prompt[:48]!r} is both to choose on and to report on, so what is "
                "reported would be what was chosen; give other held-out prompts"
            )
        if self.other:
            check_prompts(self.other, "where a word of another kind is due")

    def document(self) -> dict[str, Any]:
        """As JSON: the parameters of a job."""
        return _write(self)


@dataclass(frozen=True)
class SweepQuestion:
    """A word, neurons, and the values at which each is held. raws: each neuron's values in its own units, for
    units other than × residual. neutral: whether neutral text and collapse are measured too.
    """

    word: str
    neurons: tuple[str, ...]
    prompts: tuple[Conversation, ...]
    values: tuple[float, ...] = tuple(sorted(FULL))
    unit: str = "residual"
    raws: tuple[tuple[float, ...], ...] | None = None
    site: str = "key"
    scope: str = "last"
    controls: int = CONTROLS
    neutral: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        check_word(self.word)
        check_prompts(self.prompts, "to sweep on")
        if not self.values:
            raise HeadlampError("no value to sweep; give some with --values, such as -4r..4r")
        if not self.neurons:
            raise HeadlampError("no neuron to sweep; name one, such as --neuron L29.N808")
        if len(set(self.neurons)) > 256:
            raise HeadlampError(
                f"{len(self.neurons)} neurons to sweep; give at most 256, or search with `levers`"
            )
        if not 0 <= self.controls <= 200:
            raise HeadlampError(f"--controls {self.controls}: choose 0 to 200")
        if self.scope.startswith("generated"):
            raise HeadlampError(
                "scope generated begins behind the answer position, so it cannot change the word there; use "
                "last, all or prompt"
            )

    def document(self) -> dict[str, Any]:
        """As JSON: the parameters of a job."""
        return _write(self)


def read_lever_question(document: Mapping[str, Any]) -> LeverQuestion:
    """The question of `LeverQuestion.document`. HeadlampError if it is not complete."""
    return _read(LeverQuestion, document)


def read_sweep_question(document: Mapping[str, Any]) -> SweepQuestion:
    """The question of `SweepQuestion.document`. HeadlampError if it is not complete."""
    return _read(SweepQuestion, document)


def check_word(word: str) -> None:
    """Refuse no word at all."""
    if not word.strip():
        raise UnknownWord("no word given; type one, such as dog")


def check_prompts(prompts: Sequence[Conversation], what: str) -> None:
    """Refuse none, and more than MOST_PROMPTS."""
    if not prompts:
        raise TextError(f"there is no prompt {what}; give one with --prompt")
    if len(prompts) > MOST_PROMPTS:
        raise TextError(
            f"{len(prompts)} prompts {what}: every neuron tried is run on each, so give at most "
            f"{MOST_PROMPTS}"
        )


def ask_levers(
    loaded: LoadedModel,
    word: str,
    lines: Sequence[PromptLine] = (),
    held_out: Sequence[str] = (),
    common: Conversation | None = None,
    **options: Any,
) -> LeverQuestion:
    """The question for a word; prompts that are not given are those of the word's kind, behind what all have.

    lines: of which those of another word are left out. held_out: more prompts to report on. common: answer
    prefix, system prompt and turns where a line has none of its own; its prompt is not used.
    """
    own = take_lines(lines, word)
    given: dict[str, list[Conversation]] = {"select": [], "held_out": [], "other": []}
    for line in own:
        given[line.split].append(surround(line, common))
    given["held_out"] += [surround(PromptLine(text), common) for text in held_out]
    kind = find_word_kind(word)
    select, held = tuple(given["select"]), tuple(given["held_out"])
    shipped = {name: adapt_prompts(loaded, getattr(kind, name), common) for name in ("select", "held_out")}
    return LeverQuestion(
        word=word.strip(),
        select=select or tuple(one for one in shipped["select"] if one not in held),
        held_out=held or tuple(one for one in shipped["held_out"] if one not in select),
        other=tuple(given["other"]) or adapt_prompts(loaded, list_other_prompts(word, OTHERS), common),
        **options,
    )


def surround(line: PromptLine, common: Conversation | None) -> Conversation:
    """A prompt with what all prompts have, where it has none of its own."""
    if common is None:
        return Conversation(line.prompt, line.answer_prefix, line.system)
    return Conversation(
        line.prompt,
        line.answer_prefix or common.answer_prefix,
        line.system or common.system,
        common.turns,
        common.raw,
    )


def take_lines(lines: Sequence[PromptLine], word: str) -> list[PromptLine]:
    """The lines for a word: those that name it, and those that name none."""
    return [line for line in lines if not line.word.strip() or line.word.strip() == word.strip()]


def adapt_prompts(
    loaded: LoadedModel, prompts: Sequence[Conversation], common: Conversation | None = None
) -> tuple[Conversation, ...]:
    """Shipped prompts for a model: without a chat template the beginning of the answer alone is continued.

    common: the system prompt and turns before each, and whether they are fed raw.
    """
    system, turns, raw = ("", (), False) if common is None else (common.system, common.turns, common.raw)
    if has_template(loaded) and not raw:
        return tuple(Conversation(one.prompt, one.answer_prefix, system, turns) for one in prompts)
    return tuple(Conversation(one.answer_prefix, "", system, turns, raw) for one in prompts)


def _write(question: LeverQuestion | SweepQuestion) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for field in fields(question):
        value = getattr(question, field.name)
        if field.name in _PROMPTS:
            value = [write_conversation(one) for one in value]
        elif isinstance(value, tuple):
            value = [list(one) if isinstance(one, tuple) else one for one in value]
        found[field.name] = value
    return found


Question = TypeVar("Question", LeverQuestion, SweepQuestion)
_PROMPTS = ("select", "held_out", "other", "prompts")


def _read(kind: type[Question], document: Mapping[str, Any]) -> Question:
    try:
        given = dict(document)
        for name, value in document.items():
            if name in _PROMPTS:
                given[name] = tuple(read_conversation(one) for one in value)
            elif isinstance(value, list):
                given[name] = tuple(tuple(one) if isinstance(one, list) else one for one in value)
        return kind(**{field.name: given[field.name] for field in fields(kind)})
    except (KeyError, TypeError, ValueError) as error:
        raise HeadlampError(
            f"this question is not complete enough to be asked again: {type(error).__name__} {error}"
        ) from error
