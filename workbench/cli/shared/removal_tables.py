"""Removed concepts as text, and the question that a command line asks."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.errors import HeadlampError
from analysis.running.conversations import Conversation
from workbench.cli.shared.output import format_number, format_table
from workbench.generating.prompt_files import PromptLine
from workbench.levers.questions import surround, take_lines
from workbench.unlearning.concepts.answers import RemovalAnswer
from workbench.unlearning.concepts.questions import Concept

PROMPT_COLUMNS = ("prompts", "", "P before", "after", "head row zeroed", "answer still says")


def read_concepts(
    words: Sequence[str],
    lines: Sequence[PromptLine],
    common: Conversation,
    held_out: Sequence[str],
    languages: Sequence[str],
    synonyms: Sequence[str],
) -> tuple[tuple[Concept, ...], tuple[Conversation, ...]]:
    """The concepts with their prompts, and the prompts whose answers are to stay.

    Raises HeadlampError for options of one concept given with several.
    """
    if len(words) > 1 and (held_out or languages or synonyms):
        raise HeadlampError(
            "--held-out, --language and --synonym are of one concept; with several put the prompts into "
            '--prompts FILE, each with its "word", or remove one after the other'
        )

    def take(word: str, split: str) -> list[Conversation]:
        own = (line for line in take_lines(lines, word) if line.split == split)
        return [surround(line, common) for line in own]

    def wrap(texts: Sequence[str]) -> tuple[Conversation, ...]:
        return tuple(surround(PromptLine(text), common) for text in texts)

    concepts = tuple(
        Concept(
            word,
            tuple(take(word, "select")),
            (*take(word, "held_out"), *wrap(held_out)),
            wrap(languages),
            tuple(synonyms),
        )
        for word in words
    )
    other = dict.fromkeys(surround(line, common) for line in lines if line.split == "other")
    return concepts, tuple(other)


def format_removal(found: RemovalAnswer) -> str:
    """The verdict, then per concept its vectors and prompts, then the cost."""
    parts = [found.verdict]
    for one in found.concepts:
        vectors = [(edit.address, edit.vector, format_number(edit.cosine)) for edit in one.edits]
        prompts = [
            (
                p.split,
                p.prompt,
                format_number(p.before),
                format_number(p.after),
                format_number(p.zeroed),
                p.says or "–",
            )
            for p in one.prompts
        ]
        parts += [
            format_table((f"vector ({one.concept})", "of", "cosine"), vectors),
            format_table(PROMPT_COLUMNS, prompts),
        ]
    return "\n\n".join(parts)
