"""Conversion between typed text and token ids."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from torch import Tensor

from analysis.errors import EmptyPrompt, PromptTooLong, TextError, first_line
from analysis.opening.models import LoadedModel

REFERENCE = Path(__file__).parent / "reference.txt"
WINDOW = 256
"""Longest window of the reference text, in tokens."""


def encode_prompt(loaded: LoadedModel, prompt: str, answer_prefix: str = "") -> list[int]:
    """Token ids of a prompt as the model expects it: through its chat template if it has one.

    answer_prefix: forced beginning of the answer. Raises EmptyPrompt or PromptTooLong.
    """
    if not prompt.strip():
        raise EmptyPrompt("the prompt is empty; write the text the model should continue")
    tokenizer = loaded.tokenizer
    if tokenizer.chat_template:
        ids = tokenizer.encode(_in_chat(loaded, prompt) + answer_prefix, add_special_tokens=False)
    else:
        ids = tokenizer.encode(prompt + answer_prefix)
    refuse_unknown_ids(loaded, ids)
    longest = loaded.anatomy.context - 1
    if len(ids) > longest:
        raise PromptTooLong(
            f"the prompt has {len(ids)} tokens, the model's context is {longest + 1} and one must be left "
            f"for the answer; shorten it by {len(ids) - longest} tokens"
        )
    return [int(i) for i in ids]


def _in_chat(loaded: LoadedModel, prompt: str) -> str:
    chat = [{"role": "user", "content": prompt}]
    try:
        return str(loaded.tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False))
    except Exception as error:  # a template is a program; it fails in its own ways
        raise TextError(
            f"the chat template of {loaded.ref.name} cannot take this prompt ({first_line(error)}); "
            "correct chat_template in its tokenizer_config.json or chat_template.jinja, or remove it"
        ) from error


def refuse_unknown_ids(loaded: LoadedModel, ids: Sequence[int]) -> None:
    """Refuse token ids beyond the model's vocabulary."""
    rows = len(loaded.vocabulary) + loaded.vocabulary.padding_rows
    unknown = [i for i in ids if i >= rows]
    if unknown:
        token = loaded.tokenizer.convert_ids_to_tokens([unknown[0]])[0]
        raise TextError(
            f"the tokenizer reads {token!r} as token {unknown[0]}, but the model has {rows} tokens; "
            "use the tokenizer that belongs to the model, or leave this token out"
        )


def encode_text(loaded: LoadedModel, text: str) -> list[int]:
    """Token ids of a plain text with its special tokens. Raises EmptyPrompt, PromptTooLong."""
    if not text.strip():
        raise EmptyPrompt("the text is empty; type something to see where the neuron fires")
    ids = [int(i) for i in loaded.tokenizer.encode(text)]
    refuse_unknown_ids(loaded, ids)
    if len(ids) > loaded.anatomy.context:
        raise PromptTooLong(
            f"the text has {len(ids)} tokens, the model's context is {loaded.anatomy.context}"
        )
    return ids


def decode_answer(loaded: LoadedModel, ids: Sequence[int]) -> str:
    """Decode new tokens after a prompt, exactly (leading space kept), without special tokens."""
    kept = [int(i) for i in ids if int(i) not in loaded.special_ids]
    anchor = loaded.tokenizer.encode("a", add_special_tokens=False)[-1]
    base = len(loaded.tokenizer.decode([anchor]))
    decoded = loaded.tokenizer.decode([anchor, *kept], clean_up_tokenization_spaces=False)
    return str(decoded)[base:]


@cache
def reference_passages() -> tuple[str, ...]:
    """The passages of the bundled reference text."""
    text = REFERENCE.read_text(encoding="utf-8")
    return tuple(passage.strip() for passage in text.split("\n\n\n") if passage.strip())


def reference_windows(loaded: LoadedModel) -> list[list[int]]:
    """The reference text in windows of at most WINDOW (or the context) tokens. Raises TextError."""
    longest = min(WINDOW, loaded.anatomy.context)
    windows: list[list[int]] = []
    for passage in reference_passages():
        ids = [int(i) for i in loaded.tokenizer.encode(passage)]
        refuse_unknown_ids(loaded, ids)
        windows.extend(ids[start : start + longest] for start in range(0, len(ids), longest))
    return [window for window in windows if len(window) > 1]


def decode_tokens(loaded: LoadedModel, ids: Sequence[int] | Tensor) -> list[str]:
    """The exact text of each token."""
    texts = loaded.vocabulary.texts
    return [texts[int(i)] if int(i) < len(texts) else f"<row {int(i)}>" for i in ids]


def refusal_ids(loaded: LoadedModel, refusal: str) -> list[int]:
    """A refusal as token ids, at least one: end of text if the tokenizer cannot encode any of it."""
    text = refusal if loaded.tokenizer.chat_template else f" {refusal}"
    ids = [int(i) for i in loaded.tokenizer.encode(text, add_special_tokens=False)]
    return ids or sorted(loaded.ends_of_text)[:1] or [0]
