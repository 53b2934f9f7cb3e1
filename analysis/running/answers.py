"""Answers as tokens: tokenised together with their prompt and cut off behind it.

A tokenizer may put a space before every text, or merge across the border; alone an answer would be other
tokens than the model writes behind its prompt.
"""

from __future__ import annotations

from collections.abc import Sequence

from analysis.errors import TextError
from analysis.opening.models import LoadedModel
from analysis.running.conversations import Conversation
from analysis.running.prompts import encode_written, is_rendered, write_prompt


def add_space(prompt: str, answer: str) -> str:
    """An answer as continuation of a text: after a space, unless the text ends with one."""
    return answer if prompt[-1:].isspace() or answer[:1].isspace() else f" {answer}"


def encode_answers(
    loaded: LoadedModel, conversation: Conversation, answers: Sequence[str]
) -> tuple[list[int], list[list[int]]]:
    """The prompt's token ids, and those of each answer behind it.

    Behind a template an answer follows without a space, behind plain text with one (`add_space`). Where an
    answer changes the prompt's last tokens, the prompt is cut at what all have in common, so that all are
    scored from there. An answer without a token of its own gives an empty list.
    """
    written = write_prompt(loaded, conversation)
    rendered = is_rendered(loaded, conversation)
    texts = [answer if rendered else add_space(written, answer) for answer in answers]
    prompt = encode_written(loaded, written, conversation)
    wholes = [encode_written(loaded, written + text, conversation) for text in texts]
    shared = count_shared([prompt, *wholes])
    if shared:
        return prompt[:shared], [whole[shared:] for whole in wholes]
    encode = loaded.tokenizer.encode  # nothing is left to predict the first token from: tokenised alone
    return prompt, [[int(i) for i in encode(text, add_special_tokens=False)] for text in texts]


def count_shared(sequences: Sequence[Sequence[int]]) -> int:
    """Length of the longest common beginning."""
    columns = zip(*sequences, strict=False)
    return next((n for n, column in enumerate(columns) if len(set(column)) > 1), min(map(len, sequences)))


def refusal_ids(loaded: LoadedModel, refusal: str) -> list[int]:
    """A refusal as token ids behind a prompt, at least one: end of text if none of it can be encoded."""
    try:
        _, (ids,) = encode_answers(loaded, Conversation("a"), [refusal])
    except TextError:  # the template takes no such prompt, so what is refused was fed without it
        _, (ids,) = encode_answers(loaded, Conversation("a", raw=True), [refusal])
    return ids or sorted(loaded.ends_of_text)[:1] or [0]
