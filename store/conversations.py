"""The conversation of a generation's evidence: who said what, so that roles never run into the text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from store.odd_fields import read_bool, read_field, read_list

SPEAKERS = {"system": "System", "user": "User", "assistant": "Assistant"}
"""Role → its name in reports; other roles keep theirs."""

Turns = tuple[tuple[str, str], ...]


def read_conversation(evidence: Mapping[str, Any]) -> Turns:
    """(speaker, text) of everything before the answer, () for a text that is simply continued.

    Older evidence does not say whether a chat template rendered the prompt: it did where what was fed does
    not end with prompt and answer prefix as they were typed. Never raises.
    """
    prompt, prefix = read_field(evidence.get("prompt")), read_field(evidence.get("answer_prefix"))
    system = read_field(evidence.get("system"))
    earlier = [[read_field(part) for part in read_list(turn)] for turn in read_list(evidence.get("turns"))]
    fed = read_field(evidence.get("rendered_prompt"))
    said = read_bool(evidence.get("conversation"))
    rendered = bool(fed) and not _squeeze(fed).endswith(_squeeze(prompt + prefix))
    if not (said if said is not None else rendered and evidence.get("raw") is not True):
        return ()
    turns = [("system", system)] if system else []
    turns += [(turn[0], turn[1]) for turn in earlier if len(turn) == 2]
    turns += [("user", prompt)]
    return tuple((SPEAKERS.get(role, role), text) for role, text in turns)


def _squeeze(text: str) -> str:
    return "".join(text.split())
