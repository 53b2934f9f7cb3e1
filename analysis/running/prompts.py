"""Conversion between typed text and token ids.

Nothing that is to be continued ends in an end token that the tokenizer appended.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from torch import Tensor
from transformers import PreTrainedTokenizerBase

from analysis.checkpoints.wrappers.text_part import find_left_out
from analysis.errors import EmptyPrompt, PromptTooLong, TextError
from analysis.opening.models import LoadedModel
from analysis.running.conversations import Conversation, make_messages
from analysis.running.reasoning import CLOSE, OPEN
from analysis.running.templates import has_template, render_conversation

REFERENCE = Path(__file__).parent / "reference.txt"
WINDOW = 256
"""Longest window of the reference text, in tokens."""


def encode_prompt(loaded: LoadedModel, prompt: str, answer_prefix: str = "") -> list[int]:
    """Token ids of a prompt as the model expects it: through its chat template if it has one.

    answer_prefix: forced beginning of the answer. Raises EmptyPrompt, PromptTooLong, TextError.
    """
    return encode_conversation(loaded, Conversation(prompt, answer_prefix))


def encode_conversation(loaded: LoadedModel, conversation: Conversation) -> list[int]:
    """Token ids of a conversation up to where the model goes on, at least one token below the context.

    Raises PromptTooLong, and TextError where model and conversation do not fit.
    """
    ids = encode_written(loaded, write_prompt(loaded, conversation), conversation)
    longest = loaded.anatomy.context - 1
    if len(ids) > longest:
        raise PromptTooLong(
            f"the prompt has {len(ids)} tokens, the model's context is {longest + 1} and one must be left "
            f"for the answer; shorten it by {len(ids) - longest} tokens"
        )
    return ids


def write_prompt(loaded: LoadedModel, conversation: Conversation) -> str:
    """The text whose tokens are fed: rendered by the chat template, or as typed; the answer prefix last.

    Raises TextError for what the template cannot render, or a model without one cannot be given.
    """
    if is_rendered(loaded, conversation):
        return render_conversation(loaded, conversation) + conversation.answer_prefix
    if conversation.surrounded:
        raise TextError(
            f"{loaded.ref.name} has no chat template, so it knows neither system prompt nor turns; write "
            "them into the prompt"
        )
    if conversation.raw and not has_template(loaded):
        raise TextError(
            f"{loaded.ref.name} has no chat template to leave out: its prompts are always raw; leave out "
            "--raw"
        )
    return conversation.prompt + conversation.answer_prefix


def is_rendered(loaded: LoadedModel, conversation: Conversation) -> bool:
    """Whether a chat template renders this conversation."""
    return has_template(loaded) and not conversation.raw


def encode_written(loaded: LoadedModel, text: str, conversation: Conversation) -> list[int]:
    """Token ids of what `write_prompt` wrote, with or without more text behind it. Raises TextError."""
    if is_rendered(loaded, conversation):
        ids = [int(i) for i in loaded.tokenizer.encode(text, add_special_tokens=False)]
    else:
        ids = encode_open_end(loaded.tokenizer, text)
    refuse_unknown_ids(loaded, ids)
    return ids


def is_scriptable(loaded: LoadedModel, conversation: Conversation, ids: Sequence[int]) -> bool:
    """Whether these ids are what the tokenizer's own calls give for the prompt alone, as a script makes them.

    Not so for a template that writes the time, an end token left out, a system prompt or a raw prompt, nor
    for a multimodal model, whose template its tokenizer may lack.
    """
    tokenizer = loaded.tokenizer
    if find_left_out(loaded.model) is not None or conversation.surrounded or conversation.raw:
        return False
    if not has_template(loaded):
        return list(tokenizer.encode(conversation.prompt + conversation.answer_prefix)) == list(ids)
    chat = make_messages(conversation.spoken, as_parts=False)
    try:
        text = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
    except Exception:  # a template is a program, and this one wants another form of message
        return False
    return list(tokenizer.encode(text + conversation.answer_prefix, add_special_tokens=False)) == list(ids)


def encode_open_end(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Token ids of a plain text with the special tokens put before it, without those appended to it."""
    ids = [int(i) for i in tokenizer.encode(text)]
    appended = read_added_tokens(tokenizer)[1]
    return ids[: -len(appended)] if appended and ids[-len(appended) :] == appended else ids


def read_added_tokens(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """The special tokens that the tokenizer puts (before, behind) a text; none for many models."""
    bare = [int(i) for i in tokenizer.encode("a", add_special_tokens=False)]
    whole = [int(i) for i in tokenizer.encode("a")]
    starts = (i for i in range(len(whole)) if whole[i : i + len(bare)] == bare)
    start = next(starts, None)
    return ([], []) if start is None else (whole[:start], whole[start + len(bare) :])


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
    """Token ids of a plain text with the special tokens before it. Raises EmptyPrompt, PromptTooLong."""
    if not text.strip():
        raise EmptyPrompt("the text is empty; type something to see where the neuron fires")
    ids = encode_open_end(loaded.tokenizer, text)
    refuse_unknown_ids(loaded, ids)
    if len(ids) > loaded.anatomy.context:
        raise PromptTooLong(
            f"the text has {len(ids)} tokens, the model's context is {loaded.anatomy.context}"
        )
    return ids


def decode_answer(loaded: LoadedModel, ids: Sequence[int]) -> str:
    """Decode new tokens after a prompt, exactly (leading space kept), without special tokens."""
    anchor = loaded.tokenizer.encode("a", add_special_tokens=False)[-1]
    base = len(loaded.tokenizer.decode([anchor]))
    kept = list_shown(loaded, ids)
    decoded = loaded.tokenizer.decode([anchor, *kept], clean_up_tokenization_spaces=False)
    return str(decoded)[base:]


def show_fed(loaded: LoadedModel, ids: Sequence[int]) -> str:
    """What was fed, as text: special tokens by their names."""
    return str(loaded.tokenizer.decode(list(ids), clean_up_tokenization_spaces=False))


def list_shown(loaded: LoadedModel, ids: Sequence[int]) -> list[int]:
    """Those of a text's tokens that are shown: all but special ones; what bounds reasoning is shown."""
    texts = loaded.vocabulary.texts
    return [int(i) for i in ids if int(i) not in loaded.special_ids or texts[int(i)] in (OPEN, CLOSE)]


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
        ids = encode_open_end(loaded.tokenizer, passage)
        refuse_unknown_ids(loaded, ids)
        windows.extend(ids[start : start + longest] for start in range(0, len(ids), longest))
    return [window for window in windows if len(window) > 1]


def decode_tokens(loaded: LoadedModel, ids: Sequence[int] | Tensor) -> list[str]:
    """The exact text of each token."""
    texts = loaded.vocabulary.texts
    return [texts[int(i)] if int(i) < len(texts) else f"<row {int(i)}>" for i in ids]
