"""What a person asks: a prompt, with what surrounds it for a chat model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from analysis.errors import EmptyPrompt, TextError

ROLES = ("user", "assistant")
Turn = tuple[str, str]
"""(role, text) of an earlier turn; role: one of ROLES."""


@dataclass(frozen=True)
class Conversation:
    """A prompt and its surroundings. answer_prefix: forced beginning of the answer.

    system, turns: a system prompt and earlier turns, in order, for models with a chat template. raw: feed
    the prompt without the template. Raises EmptyPrompt, TextError for a combination that makes no sense.
    """

    prompt: str
    answer_prefix: str = ""
    system: str = ""
    turns: tuple[Turn, ...] = ()
    raw: bool = False

    def __post_init__(self) -> None:
        if not self.prompt.strip():
            raise EmptyPrompt("the prompt is empty; write the text the model should continue")
        for role, text in self.turns:
            if role not in ROLES:
                raise TextError(f"an earlier turn is of {role!r}; choose {' or '.join(ROLES)}")
            if not text.strip():
                raise TextError(f"an earlier turn of the {role} is empty; write what was said, or remove it")
        if self.raw and self.surrounded:
            raise TextError(
                "a system prompt and earlier turns need the chat template, which a raw prompt leaves out; "
                "write them into the prompt, or do not ask for a raw one"
            )

    @property
    def surrounded(self) -> bool:
        """Whether there is a system prompt or an earlier turn."""
        return bool(self.system.strip() or self.turns)

    @property
    def spoken(self) -> tuple[Turn, ...]:
        """(role, text) of everything said, in order, the prompt last."""
        first = (("system", self.system),) if self.system.strip() else ()
        return (*first, *self.turns, ("user", self.prompt))


def parse_turn(text: str) -> Turn:
    """The turn of `user:TEXT` or `assistant:TEXT`. Raises TextError for anything else."""
    role, colon, said = text.partition(":")
    if not colon or role.strip().lower() not in ROLES or not said.strip():
        raise TextError(f"the turn {text[:60]!r} cannot be read; write user:TEXT or assistant:TEXT")
    return role.strip().lower(), said.strip()


def parse_turns(text: str) -> tuple[Turn, ...]:
    """The turns of a text in which each begins a line with user: or assistant:. Raises TextError."""
    starts = [match.start() for match in re.finditer(r"^[ \t]*(?:user|assistant)[ \t]*:", text, re.M | re.I)]
    bounds = [0, *starts, len(text)]
    pieces = [text[start:end] for start, end in pairwise(bounds)]
    return tuple(parse_turn(piece) for piece in pieces if piece.strip())


def write_turns(turns: tuple[Turn, ...]) -> str:
    """The text that `parse_turns` reads."""
    return "\n".join(f"{role}: {said}" for role, said in turns)


def write_conversation(asked: Conversation) -> dict[str, Any]:
    """A conversation as JSON, without what is empty."""
    found = vars(asked) | {"turns": [list(turn) for turn in asked.turns]}
    return {name: value for name, value in found.items() if value}


def read_conversation(document: Mapping[str, Any]) -> Conversation:
    """What `write_conversation` wrote."""
    turns = tuple((str(role), str(said)) for role, said in document.get("turns", ()))
    return Conversation(**{**document, "turns": turns})


def make_messages(spoken: tuple[Turn, ...], *, as_parts: bool) -> list[dict[str, Any]]:
    """What a chat template takes. as_parts: each text as a list of one part, as multimodal templates want."""
    return [
        {"role": role, "content": [{"type": "text", "text": text}] if as_parts else text}
        for role, text in spoken
    ]
