"""Initial prompts that suit the bundled models."""

from __future__ import annotations

PROMPTS = {"demo/base": "My favourite animal is the"}
ANY_WORD = "dog"
"""The word of examples, where none is given."""
ANY_PROMPT = "Once upon a time, there was a little"


def choose_first_prompt(model: str) -> str:
    """The initial prompt of a model's Clamp page."""
    return PROMPTS.get(model, ANY_PROMPT)
