"""Examples as token ids: formatted, tokenised with what is scored of them, and left out where too long."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from analysis.errors import PromptTooLong, TooFewExamples
from analysis.opening.models import LoadedModel
from analysis.running.answers import add_space, encode_answers
from analysis.running.conversations import Conversation
from analysis.running.prompts import encode_open_end, encode_prompt, encode_text
from analysis.skills.items import SkillItem


@dataclass(frozen=True)
class Form:
    """How an example becomes a prompt; the chat template, if any, is applied around it.

    shots: answered examples before it. prefix: a text before everything. suffix: a text behind it.
    """

    shots: tuple[SkillItem, ...] = ()
    prefix: str = ""
    suffix: str = ""

    def prompt(self, item: SkillItem) -> str:
        """The prompt text of an example."""
        shown = "".join(f"{shot.prompt}{add_space(shot.prompt, shot.answer)}\n\n" for shot in self.shots)
        return f"{self.prefix}{shown}{item.prompt}{self.suffix}"


def select_fitting(
    loaded: LoadedModel, items: Sequence[SkillItem], form: Form | None = None
) -> tuple[list[SkillItem], list[list[int]], int]:
    """The examples that fit into the context, their prompts' token ids, and how many do not fit.

    Raises TooFewExamples if none fits. Of a choice only the prompt counts here.
    """
    form = form or Form()
    kept, ids, too_long = [], [], 0
    for item in items:
        try:
            if item.judge == "perplexity" and not item.answer:
                found = _clip(loaded, form.prompt(item))
            else:
                found = encode_prompt(loaded, form.prompt(item))
        except PromptTooLong:
            too_long += 1
            continue
        kept.append(item)
        ids.append(found)
    if items and not kept:
        raise _none_fits(loaded, len(items))
    return kept, ids, too_long


def _none_fits(loaded: LoadedModel, count: int) -> TooFewExamples:
    return TooFewExamples(
        f"all {count} examples are longer than the model's context of {loaded.anatomy.context} "
        "tokens; use shorter ones, or another model"
    )


@dataclass(frozen=True)
class AskedItem:
    """An example and what is fed of it: its prompt's token ids, and those of the texts that are scored."""

    item: SkillItem
    ids: Sequence[int]
    scored: Sequence[Sequence[int]] = ()


def encode_items(loaded: LoadedModel, items: Sequence[SkillItem], form: Form) -> tuple[list[AskedItem], int]:
    """The examples that fit, with their choices or answers, and how many are too long.

    A choice is too long if all but its last token, which is scored but not fed, exceeds the context; an
    answer that is scored is cut to the context.
    """
    kept, ids, too_long = select_fitting(loaded, items, form)
    asked = []
    for item, own in zip(kept, ids, strict=True):
        texts = item.choices if item.judge == "choice" else (item.answer,) * (item.judge == "perplexity")
        if not texts or (item.judge == "perplexity" and not item.answer):
            asked.append(AskedItem(item, own))
            continue
        before, scored = encode_answers(loaded, Conversation(form.prompt(item)), texts)
        _refuse_empty(texts, scored)
        room = loaded.anatomy.context - len(before)
        if item.judge == "choice" and max(map(len, scored)) > room + 1:
            too_long += 1
        else:
            cut = scored if item.judge == "choice" else [one[:room] for one in scored]
            asked.append(AskedItem(item, before, cut))
    if items and not asked:
        raise _none_fits(loaded, len(items))
    return asked, too_long


def encode_answered(loaded: LoadedModel, items: Sequence[SkillItem]) -> list[list[int]]:
    """Token ids of each prompt with its answer behind it, where that is a text, of those that fit.

    Raises TooFewExamples if none fits.
    """
    kept, ids, _ = select_fitting(loaded, items)
    found = []
    for item, own in zip(kept, ids, strict=True):
        if item.judge in ("number", "substring", "exact"):
            before, (answer,) = encode_answers(loaded, Conversation(item.prompt), [item.answer])
            own = [*before, *answer]
        if len(own) < loaded.anatomy.context or item.judge == "perplexity":
            found.append(own)
    if items and not found:
        raise _none_fits(loaded, len(items))
    return found


def _refuse_empty(texts: Sequence[str], scored: Sequence[Sequence[int]]) -> None:
    for text, ids in zip(texts, scored, strict=True):
        if not ids:
            raise TooFewExamples(f"the tokenizer encodes {text[:40]!r} to no tokens; leave this example out")


def _clip(loaded: LoadedModel, text: str) -> list[int]:
    """The first tokens of a text, up to the context length. PromptTooLong for fewer than two."""
    longest = loaded.anatomy.context
    ids = encode_open_end(loaded.tokenizer, text)[:longest]
    if len(ids) < 2:
        raise PromptTooLong("a text of one token has no perplexity")
    return ids if len(ids) == longest else encode_text(loaded, text)
