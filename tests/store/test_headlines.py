"""The first sentence of each kind of finding, clamps and probabilities in words, and who said what."""

from collections.abc import Callable
from typing import Any

import pytest

from store import Finding, write_findings_html, write_findings_markdown
from store.evidence import read_evidence
from store.headlines import write_headline
from store.phrases import describe_changes, format_share

Keep = Callable[..., Finding]


@pytest.mark.parametrize(
    ("clamps", "said"),
    [
        (["L29.N808:key:set:2.8284271247461903r@last"], "Holding L29.N808 at 2.83 × residual"),
        (["L2.N47:key:set:-8x@all"], "Holding L2.N47 at −8 × its largest activation everywhere"),
        (["L1.E68.N12:up:add:-2.5@generated"], "Adding −2.5 to the up of L1.E68.N12 in the generated text"),
        (["L0.N1:key:ablate@3-7"], "Ablating L0.N1 at positions 3-7"),
        (
            ["L0.N1:key:scale:0@prompt", "L0.N2:key:mean@all"],
            "Scaling L0.N1 by 0 in the prompt and setting L0.N2 to its mean everywhere",
        ),
        (
            ["L0.N1:key:set:1r@last", "L0.N2:key:set:2r@last"],
            "Holding L0.N1 at 1 × residual and L0.N2 at 2 × residual",
        ),
        (["L1.E9:prune"], "Pruning L1.E9"),
        (["a guard"], "Changing a guard"),
        ([f"L0.N{n}:key:ablate@all" for n in range(5)], "With 5 changes"),
        ([], "Without any change"),
    ],
)
def test_clamps_are_said_in_words(clamps: list[str], said: str) -> None:
    assert describe_changes(clamps) == said


@pytest.mark.parametrize(
    ("probability", "said"),
    [
        (0.934, "93 %"), (0.9999, "99.9 %"), (1.0, "100 %"), (0.0064, "0.6 %"), (2e-5, "0.002 %"),
        (9e-8, "under 0.00001 %"), (0.0, "0 %"),
    ],
)  # fmt: skip
def test_a_probability_is_never_rounded_to_none_or_all(probability: float, said: str) -> None:
    assert format_share(probability) == said


def headline(keep: Keep, kind: str, **evidence: Any) -> str:
    finding = keep(kind=kind, evidence=evidence)
    return write_headline(finding, read_evidence(finding.evidence))


def test_a_generation_says_what_became_of_the_word_and_of_the_text(keep: Keep) -> None:
    pair = {"base": {"text": " cat.\nMore"}, "changed": {"text": " dog!"}}
    told = headline(
        keep, "generation", clamps=["L2.N47:key:set:2r@last"],
        word={"word": "dog", "base": 0.006, "changed": 0.93}, **pair,
    )  # fmt: skip
    assert told == (
        "Holding L2.N47 at 2 × residual raises the probability of “dog” from 0.6 % to 93 %; "
        "the text goes on “dog!” instead of “cat.”."
    )
    assert headline(keep, "generation", clamps=["L2.N47:key:ablate@all"], **pair) == (
        "Ablating L2.N47 everywhere turns “cat.” into “dog!”."
    )
    same = {"base": {"text": "a"}, "changed": {"text": "a"}}
    assert headline(keep, "generation", clamps=[], **same) == "No clamp, and one text."


def test_a_neuron_says_what_it_writes_and_reads(keep: Keep) -> None:
    ends = {"top": [{"token": " dog"}, {"token": " cat"}], "bottom": [{"token": " sum"}]}
    told = headline(keep, "neuron", address="L2.N47", sites={"up": ends, "down": ends})
    assert told == (
        "Neuron L2.N47 writes “␣dog”, “␣cat” (and suppresses “␣sum”); it reads “␣dog”, “␣cat”, read through "
        "the language-model head."
    )


def test_unlearning_says_what_was_forgotten_and_what_was_lost(keep: Keep) -> None:
    skills = [
        {"skill": "arithmetic", "role": "forget", "before": 1.0, "after": 0.03, "relative_drop": 0.97},
        {"skill": "facts", "role": "retain", "before": 1.0, "after": 1.0, "relative_drop": 0.0},
        {"skill": "stories", "role": "retain", "before": 1.0, "after": 0.98, "relative_drop": 0.02},
    ]
    told = headline(
        keep,
        "unlearning",
        document={"forget": "arithmetic", "methods": [{"method": "ksd", "skills": skills}]},
    )
    assert told == (
        "Key Space Detection takes arithmetic from 100 % to 3 % correct; of 2 retained skills, stories loses "
        "2 %, the most."
    )


def test_a_skill_says_what_its_box_refuses(keep: Keep) -> None:
    sets = [{"set": "facts", "refused": 0.87}, {"set": "french", "refused": 0.02}]
    assert headline(keep, "skill", sets=sets) == (
        "A guard on the key box of facts refuses 87 % of its own queries, and 2 % of french."
    )


@pytest.mark.parametrize(
    "kind", ["generation", "levers", "neuron", "pruning", "skill", "sweep", "unlearning"]
)
@pytest.mark.parametrize(
    "evidence",
    [
        {},
        {"document": 3, "sets": 1, "sites": []},
        {"document": {"methods": [None, {"skills": [3]}], "verdict": 1}},
    ],
)
def test_odd_evidence_says_nothing(keep: Keep, kind: str, evidence: dict[str, Any]) -> None:
    assert headline(keep, kind, **evidence) == ""


CHAT: dict[str, Any] = {
    "prompt": "What is the best pet? Say it in one word.",
    "answer_prefix": "The",
    "system": "Be brief.",
    "turns": [["user", "Hi"], ["assistant", "Hello"]],
    "conversation": True,
    "base": {"text": " cat"},
    "changed": {"text": " dog"},
}


def test_a_conversation_is_told_turn_by_turn(keep: Keep) -> None:
    shown = read_evidence(CHAT)
    assert shown.conversation == (
        ("System", "Be brief."), ("User", "Hi"), ("Assistant", "Hello"), ("User", CHAT["prompt"]),
    )  # fmt: skip
    assert shown.opening == "The"
    finding = keep(evidence=CHAT)
    document, text = write_findings_html([finding]), write_findings_markdown([finding])
    assert (
        '<p class="speaker">User</p><pre dir="auto">\nWhat is the best pet? Say it in one word.</pre>'
        in document
    )
    assert 'Changed, Assistant</h3><pre dir="auto">\nThe dog</pre>' in document
    assert "**User**\n\n```\nHi\n```" in text
    assert "**Changed, Assistant**\n\n```\nThe dog\n```" in text
    assert "word.The" not in document.partition("<details>")[0] + text.partition("**Settings**")[0]


@pytest.mark.parametrize(
    ("more", "spoken"),
    [
        ({}, False),
        ({"rendered_prompt": "<s>My favourite animal is the"}, False),
        ({"rendered_prompt": "<|user|>\nMy favourite animal is<|assistant|>\n the"}, True),
        ({"rendered_prompt": "<|user|>\nMy favourite animal is<|assistant|>\n the", "raw": True}, False),
        ({"conversation": False, "rendered_prompt": "anything"}, False),
    ],
)
def test_older_evidence_is_a_conversation_where_more_was_fed_than_typed(
    more: dict[str, Any], spoken: bool
) -> None:
    shown = read_evidence({"prompt": "My favourite animal is", "answer_prefix": " the", **more})
    assert bool(shown.conversation) is spoken
    assert shown.opening == (" the" if spoken else "My favourite animal is the")
