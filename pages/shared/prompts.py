"""A prompt to begin with, fitting the model: one that its word can go on from."""

from __future__ import annotations

PROMPTS = {"demo/base": "My favourite animal is the"}
ANY_PROMPT = "Once upon a time, there was a little"


def first_prompt(model: str) -> str:
    """The prompt a model's Clamp page opens with."""
    return PROMPTS.get(model, ANY_PROMPT)
