"""From what a person typed to token ids, and back."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from torch import Tensor

from analysis.errors import EmptyPrompt, PromptTooLong
from analysis.models import LoadedModel

REFERENCE = Path(__file__).parent / "reference.txt"
WINDOW = 256
"""Longest stretch of the reference text read as one sequence, in tokens."""


def prompt_ids(loaded: LoadedModel, prompt: str, answer_prefix: str = "") -> list[int]:
    """Token ids of a prompt as the model expects it: through its chat template where it has one.

    answer_prefix: how the answer is made to begin. Raises EmptyPrompt or PromptTooLong.
    """
    if not prompt.strip():
        raise EmptyPrompt("the prompt is empty; write the text the model should continue")
    tokenizer = loaded.tokenizer
    if tokenizer.chat_template:
        chat = [{"role": "user", "content": prompt}]
        text = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
        ids = tokenizer.encode(str(text) + answer_prefix, add_special_tokens=False)
    else:
        ids = tokenizer.encode(prompt + answer_prefix)
    longest = loaded.anatomy.context - 1
    if len(ids) > longest:
        raise PromptTooLong(
            f"the prompt has {len(ids)} tokens, the model's context is {longest + 1} and one must be left "
            f"for the answer; shorten it by {len(ids) - longest} tokens"
        )
    return [int(i) for i in ids]


def text_ids(loaded: LoadedModel, text: str) -> list[int]:
    """Token ids of a plain text with its special tokens. Raises EmptyPrompt, PromptTooLong."""
    if not text.strip():
        raise EmptyPrompt("the text is empty; type something to see where the neuron fires")
    ids = [int(i) for i in loaded.tokenizer.encode(text)]
    if len(ids) > loaded.anatomy.context:
        raise PromptTooLong(
            f"the text has {len(ids)} tokens, the model's context is {loaded.anatomy.context}"
        )
    return ids


def answer_text(loaded: LoadedModel, ids: Sequence[int]) -> str:
    """What new tokens say after a prompt, exactly (leading space kept), special tokens left out."""
    special = set(loaded.tokenizer.all_special_ids)
    kept = [int(i) for i in ids if i not in special]
    anchor = loaded.tokenizer.encode("a", add_special_tokens=False)[-1]
    base = len(loaded.tokenizer.decode([anchor]))
    decoded = loaded.tokenizer.decode([anchor, *kept], clean_up_tokenization_spaces=False)
    return str(decoded)[base:]


def ends_of_text(loaded: LoadedModel) -> set[int]:
    """Token ids that end an answer, from the model's generation config and its tokenizer."""
    config = loaded.model.generation_config
    stated = None if config is None else config.eos_token_id
    ids = stated if isinstance(stated, list) else [stated]
    return {int(i) for i in (*ids, loaded.tokenizer.eos_token_id) if i is not None}


@cache
def reference_passages() -> tuple[str, ...]:
    """The reference text that ships with Headlamp, passage by passage."""
    text = REFERENCE.read_text(encoding="utf-8")
    return tuple(passage.strip() for passage in text.split("\n\n\n") if passage.strip())


def reference_windows(loaded: LoadedModel) -> list[list[int]]:
    """The reference text as sequences of at most WINDOW (or the context) tokens."""
    longest = min(WINDOW, loaded.anatomy.context)
    windows: list[list[int]] = []
    for passage in reference_passages():
        ids = [int(i) for i in loaded.tokenizer.encode(passage)]
        windows.extend(ids[start : start + longest] for start in range(0, len(ids), longest))
    return [window for window in windows if len(window) > 1]


def token_texts(loaded: LoadedModel, ids: Sequence[int] | Tensor) -> list[str]:
    """The exact text of each token."""
    texts = loaded.vocabulary.texts
    return [texts[int(i)] if int(i) < len(texts) else f"<row {int(i)}>" for i in ids]
