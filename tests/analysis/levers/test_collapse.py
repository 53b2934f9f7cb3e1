"""Greedy texts under clamps equal generated ones, and texts that repeat themselves are told apart."""

from __future__ import annotations

import pytest

from analysis.levers.collapse import FEWEST, LONGEST, Continuation, collapses, continue_rows
from analysis.running.generation import Sampling, generate_steps
from tests.analysis.levers.rows_made import IDS, clamp, count_hooks, fresh, made

PROMPT = IDS[:12]
PERIODIC = Continuation((1, 2, 3) * 6 + (1, 2))
PLAIN = Continuation(tuple(range(20)))


@pytest.mark.parametrize(
    ("family", "scope"),
    [
        *(("llama", "last"), ("llama", "all"), ("llama", "3-5"), ("gpt2", "3-5"), ("mixtral", "last")),
        *(("mixtral", "all"), ("qwen3_next", "last")),
    ],
)
def test_rows_go_on_as_each_would_alone(family: str, scope: str) -> None:
    loaded = made(family)
    rows = [
        tuple(
            clamp(f"{block.address}.N{neuron}:set:{value}r@{scope}")
            for block in loaded.anatomy.blocks
            if block.address.layer == layer
            for neuron in (3, 7)
        )
        for layer, value in ((0, 8), (2, -8))
    ]
    found = continue_rows(loaded, PROMPT, [(), *rows])
    ends = loaded.ends_of_text
    for at, row in enumerate(rows):
        steps = list(generate_steps(loaded, PROMPT, row, Sampling(LONGEST)))
        base, changed = zip(*(step.tokens for step in steps), strict=True)
        assert found[at + 1].token_ids == tuple(i for i in changed if i is not None and i not in ends)
        assert found[0].token_ids == tuple(i for i in base if i is not None and i not in ends)
    assert len(found[0].token_ids) <= LONGEST
    assert len({one.token_ids for one in found}) > 1
    assert count_hooks(loaded) == 0


def test_a_text_ends_at_the_end_of_the_context_at_its_end_and_at_nan() -> None:
    loaded = fresh("llama")
    for cut in (60, 63):
        (text,) = continue_rows(loaded, (IDS * 4)[:cut], [()])
        assert len(text.token_ids) == 64 - cut
    broken = tuple(clamp("L2.N7:scale:1000000@last") for _ in range(8))
    base, ended = continue_rows(loaded, PROMPT, [(), broken])
    assert len(base.token_ids) > 1
    assert ended.token_ids == ()
    loaded.model.generation_config.eos_token_id = base.token_ids[3]
    vars(loaded).pop("ends_of_text", None)
    assert base.token_ids[3] in loaded.ends_of_text
    (short,) = continue_rows(loaded, PROMPT, [()])
    assert short.token_ids == base.token_ids[: base.token_ids.index(base.token_ids[3])]


def test_repetition_is_the_share_of_4_grams_that_occurred_before() -> None:
    assert PLAIN.repetition == 0
    assert PERIODIC.repetition == pytest.approx(14 / 17)
    assert Continuation((7,) * 8).repetition == pytest.approx(4 / 5)
    assert Continuation((7,) * (FEWEST - 1)).repetition is None


def test_a_text_collapses_if_it_repeats_itself_far_more_than_the_base() -> None:
    some = Continuation((1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10))
    half = Continuation(tuple(range(6)) * 3 + (0, 1))
    assert some.repetition == pytest.approx(7 / 17)
    assert half.repetition == pytest.approx(11 / 17)
    assert collapses(PERIODIC, PLAIN) is True
    assert collapses(PERIODIC, half) is False
    assert collapses(half, some) is False
    assert collapses(some, PLAIN) is False
    assert collapses(half, PLAIN) is True
    assert collapses(Continuation((7,) * 3), PLAIN) is None
    assert collapses(PERIODIC, Continuation(())) is True
