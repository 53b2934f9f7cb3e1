"""Neutral text (METHODS §2): 16 windows of 64 tokens on which the side effects of a change are measured.

Eight are passages of prose, eight are questions with their answers, rendered by the model's chat template
where it has one. None of them says a word that levers are usually looked for.
"""

from __future__ import annotations

from functools import cache
from itertools import cycle, islice
from pathlib import Path

from analysis.errors import TextError
from analysis.opening.models import LoadedModel
from analysis.running.answers import count_shared
from analysis.running.conversations import Conversation
from analysis.running.prompts import encode_open_end, encode_written, refuse_unknown_ids, write_prompt
from analysis.running.templates import has_template

NEUTRAL = Path(__file__).parent / "neutral.txt"
LENGTH = 64
"""Tokens of a window; fewer only where the model's context is shorter."""
MOST_PREAMBLE = 32
"""Tokens that all chat windows may have in common at their beginning, as a template's system prompt."""

Exchange = tuple[str, str]
"""(question, answer)."""


@cache
def neutral_passages() -> tuple[tuple[str, ...], tuple[Exchange, ...]]:
    """The shipped passages of prose, and the questions with their answers; eight of each."""
    parts = [part.strip() for part in NEUTRAL.read_text(encoding="utf-8").split("\n\n\n")]
    prose = tuple(part for part in parts if "\n\n" not in part)
    exchanges = [part.partition("\n\n") for part in parts if "\n\n" in part]
    return prose, tuple((question, answer) for question, _, answer in exchanges)


def neutral_windows(loaded: LoadedModel) -> tuple[tuple[int, ...], ...]:
    """16 windows of LENGTH token ids, or all of the context's length where that is shorter.

    The special tokens that belong before a text are in them. A template whose system prompt would fill more
    than MOST_PREAMBLE tokens loses the beginning of it, so that no two windows are equal. Questions follow
    plainly where the model has no template, or one that cannot render them. A passage that a tokenizer
    writes in fewer tokens begins again.
    Raises TextError for a tokenizer with ids beyond the model's, or one that writes nothing.
    """
    prose, exchanges = neutral_passages()
    texts = [encode_open_end(loaded.tokenizer, passage) for passage in prose]
    chats = _encode_exchanges(loaded, exchanges)
    preamble = max(count_shared(chats) - MOST_PREAMBLE, 0) if has_template(loaded) else 0
    length = min(LENGTH, loaded.anatomy.context)
    whole = [*texts, *(ids[preamble:] for ids in chats)]
    for ids in whole:
        refuse_unknown_ids(loaded, ids)
    if not all(whole):
        raise TextError(
            f"the tokenizer of {loaded.ref.name} writes nothing for a passage of the neutral text; check "
            "that it belongs to the model"
        )
    return tuple(tuple(islice(cycle(ids), length)) for ids in whole)


def _encode_exchanges(loaded: LoadedModel, exchanges: tuple[Exchange, ...]) -> list[list[int]]:
    """Each question with its answer behind the template's generation prompt; plainly without a template."""
    if has_template(loaded):
        asked = [Conversation(question, answer) for question, answer in exchanges]
        try:
            return [encode_written(loaded, write_prompt(loaded, one), one) for one in asked]
        except TextError:  # neutral text must not depend on a template that takes no such prompt
            pass
    return [encode_open_end(loaded.tokenizer, "\n\n".join(exchange)) for exchange in exchanges]
