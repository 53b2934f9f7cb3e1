"""Reasoning blocks: told apart from the answer, opened by the model or by the prompt."""

from __future__ import annotations

import pytest

from analysis.opening.models import ModelRef, load_model
from analysis.running.prompts import encode_prompt
from analysis.running.reasoning import opens_reasoning, split_reasoning


@pytest.mark.parametrize(
    ("text", "opened", "expected"),
    [
        ("Paris", False, (None, "Paris")),
        ("<think>\nFrance.\n\nSo…\n</think>\n\nParis", False, ("\nFrance.\n\nSo…\n", "\n\nParis")),
        (" \n<think></think>Paris", False, ("", "Paris")),
        ("<think>It is Paris", False, ("It is Paris", "")),
        ("So…</think>Paris", True, ("So…", "Paris")),
        ("It is Paris", True, ("It is Paris", "")),
        ("Paris <think>x</think>", False, (None, "Paris <think>x</think>")),
        ("<think>a</think>b<think>c</think>", True, ("a", "b<think>c</think>")),
    ],
)
def test_the_answer_is_what_follows_the_first_block(
    text: str, opened: bool, expected: tuple[str | None, str]
) -> None:
    assert split_reasoning(text, opened) == expected


def test_a_prompt_may_open_the_block() -> None:
    loaded = load_model(ModelRef("demo/chat"))
    for prefix, opened in (("", False), ("<think>\n", True), ("<think>x</think>", False)):
        assert opens_reasoning(loaded, encode_prompt(loaded, "Who?", prefix)) is opened
