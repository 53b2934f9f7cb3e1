"""Answers that are cut off are counted, and the limit is raised where that lets them end."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from analysis.opening.models import LoadedModel
from analysis.skills.answering import answer_prompts
from analysis.skills.items import SkillItem
from analysis.skills.tasks import MeasureOptions, measure_items
from analysis.unlearning.scenes import Scene
from analysis.unlearning.token_limits import LONGEST, answer_within_limit, foresee_limits
from tests.analysis.skills_made import make_skill
from tests.analysis.unlearning.evaluations_made import run, scene  # noqa: F401 - fixtures


def ending_after(loaded: LoadedModel, tokens: int, groups: int = 6) -> list[SkillItem]:
    """Examples whose answers reach their stop with token number `tokens`; 0: never."""
    items = make_skill("some", groups, wordings=2).items
    ids = [loaded.tokenizer.encode(item.prompt) for item in items]
    found = answer_prompts(loaded, ids, stops=[()] * len(ids), max_new_tokens=tokens or 1)
    return [
        replace(item, stop=(answer.text,) if tokens else (), answer="w")
        for item, answer in zip(items, found, strict=True)
    ]


def test_an_answer_is_cut_off_where_neither_stop_nor_end_came(
    llama: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = [*ending_after(llama, 2, 1), *ending_after(llama, 3, 1), *ending_after(llama, 0, 1)]
    ids = [llama.tokenizer.encode(item.prompt) for item in items]
    found = answer_prompts(llama, ids, stops=[item.stop for item in items], max_new_tokens=2)
    assert [answer.cut_off for answer in found] == [False, False, True, True, True, True]
    [free] = answer_prompts(llama, ids[:1], stops=[()], max_new_tokens=2)
    assert free.cut_off
    monkeypatch.setattr(type(llama), "ends_of_text", frozenset(free.token_ids[-1:]))
    [ended] = answer_prompts(llama, ids[:1], stops=[()], max_new_tokens=2)
    assert not ended.cut_off


def test_the_share_cut_off_is_of_generated_answers(llama: LoadedModel) -> None:
    items = [*ending_after(llama, 2, 1), *ending_after(llama, 0, 1)]
    choices = [SkillItem(f" w{n}", "0", "choice", ("w3", "w4")) for n in range(4)]
    ways = MeasureOptions(max_new_tokens=2)
    assert measure_items(llama, [*items, *choices], (), ways).cut_off == 0.5
    assert measure_items(llama, choices, (), ways).cut_off == 0
    assert measure_items(llama, [], (), ways).cut_off == 0


def test_the_limit_is_doubled_until_the_answers_end(llama: LoadedModel) -> None:
    skills = {"long": ending_after(llama, 7), "short": ending_after(llama, 1)}
    found, limit = answer_within_limit(llama, skills, MeasureOptions(max_new_tokens=2))
    assert limit == 8
    assert found == {
        n: measure_items(llama, s, (), MeasureOptions(max_new_tokens=8)) for n, s in skills.items()
    }
    assert {name: one.cut_off for name, one in found.items()} == {"long": 0, "short": 0}
    assert answer_within_limit(llama, skills, MeasureOptions(max_new_tokens=7))[1] == 7


def test_only_what_was_cut_off_is_answered_again(llama: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def counted(loaded: LoadedModel, prompts: list[list[int]], *rest: object, **named: object) -> object:
        asked.append(len(prompts))
        return answer_prompts(loaded, prompts, *rest, **named)  # type: ignore[arg-type]

    monkeypatch.setattr("analysis.skills.tasks.answer_prompts", counted)
    mixed = [*ending_after(llama, 1, 5), *ending_after(llama, 4, 1)]
    _, limit = answer_within_limit(llama, {"mixed": mixed}, MeasureOptions(max_new_tokens=2))
    assert (limit, asked) == (4, [12, 2])


def test_a_limit_that_does_not_help_or_is_too_large_is_not_kept(
    llama: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    endless = {"endless": ending_after(llama, 0)}
    found, limit = answer_within_limit(llama, endless, MeasureOptions(max_new_tokens=2))
    assert (limit, found["endless"].cut_off) == (2, 1.0)
    late = {"late": ending_after(llama, 20)}
    assert answer_within_limit(llama, late, MeasureOptions(max_new_tokens=2))[1] == 2
    slow = {"slow": ending_after(llama, 9)}
    monkeypatch.setattr("analysis.unlearning.token_limits.LONGEST", 9)
    assert answer_within_limit(llama, slow, MeasureOptions(max_new_tokens=5))[1] == 9
    assert answer_within_limit(llama, endless, MeasureOptions(max_new_tokens=30))[1] == 30


@pytest.mark.parametrize(
    ("ends", "limit"),
    [((7, 1), 2), ((1, 1), 2), ((0, 1), 2), ((20, 3), 2), ((9, 0), 5), ((3, 3), 3), ((0, 5), 4)],
)
def test_the_limit_is_foreseen_from_the_lengths_of_answers(
    llama: LoadedModel, ends: tuple[int, ...], limit: int
) -> None:
    skills = {str(tokens): ending_after(llama, tokens) for tokens in ends}
    lengths = [[tokens or LONGEST] * len(skills[str(tokens)]) for tokens in ends]
    _, kept = answer_within_limit(llama, skills, MeasureOptions(max_new_tokens=limit))
    assert foresee_limits(lengths, limit)[0] == kept


def test_limits_that_are_tried_are_foreseen_too() -> None:
    assert foresee_limits([[1, 2], [50, 3]], 40) == (80, 80)
    assert foresee_limits([[LONGEST, 3]], 40) == (40, 80, 160)
    assert foresee_limits([[LONGEST, LONGEST - 1]], 40) == (160, 80, 160)
    assert foresee_limits([[30, 3]], 40) == (40,)
    assert foresee_limits([[500]], 300) == (300,)
    assert foresee_limits([], 40) == (40,)


def test_a_tenth_cut_off_is_tolerated(llama: LoadedModel) -> None:
    few = {"few": [*ending_after(llama, 1, 9), *ending_after(llama, 3, 1)]}
    found, limit = answer_within_limit(llama, few, MeasureOptions(max_new_tokens=2))
    assert (limit, found["few"].cut_off) == (2, 0.1)


def test_the_share_cut_off_on_the_unchanged_test_is_in_the_result(
    llama: LoadedModel,
    scene: Scene,  # noqa: F811
) -> None:
    found, base = run(llama, scene, "sp", robustness=False, controls=False)
    assert base.max_new_tokens == found.parameters["max_new_tokens"] == 2
    assert found.cut_off == base.cut_off == max(m.cut_off for m in base.test.values()) > 0.1


def test_every_measurement_has_the_raised_limit(
    llama: LoadedModel,
    scene: Scene,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limits: list[int] = []

    def counted(loaded: LoadedModel, items: Any, changes: Any, ways: MeasureOptions, pulse: Any) -> Any:
        limits.append(ways.max_new_tokens)
        return measure_items(loaded, items, changes, ways, pulse)

    monkeypatch.setattr("analysis.unlearning.evaluating.measure_items", counted)
    monkeypatch.setattr("analysis.unlearning.sharing.measure_items", counted)
    monkeypatch.setattr("analysis.unlearning.robustness.measure_items", counted)
    late = replace(scene.retain[0], validation=tuple(ending_after(llama, 3)))
    found, base = run(llama, Scene(scene.forget, (late,)), "sp", shares=(1.0,))
    assert base.max_new_tokens == found.parameters["max_new_tokens"] == 4
    assert len(limits) > 6
    assert set(limits) == {4}
