"""The verdict on a method: its worst form and its worst costs, against bounds, in a sentence and rows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from analysis.skills.metrics import Change, Divergence
from analysis.unlearning.edits.neuron_shares import NONE_ELIGIBLE
from analysis.unlearning.judging.form_names import format_share, name_form
from analysis.unlearning.judging.verdicts import Verdict, judge_method
from analysis.unlearning.results import AskedResult, FormResult, MethodResult, SkillResult, Utility


def change(drop: float | None, *, n: int = 100, before: float | None = 0.9, **more: Any) -> Change:
    """A skill whose relative drop is this. Its interval is narrow, unless another is given."""
    after = None if before is None else before * (1 - (drop or 0.0))
    ends = None if drop is None else (drop - 0.01, drop + 0.01)
    told: dict[str, Any] = {"n": n, "chance": 0.0, "before": before, "after": after}
    told |= {"before_interval": None, "after_interval": None, "relative_drop": drop, "interval": ends}
    return Change(**told | {"corrected_drop": drop, "abstained": 0.0, "perplexity_ratio": None} | more)


def skill(name: str, of: Change, unseen: Change | None = None, kl: float | None = 0.0) -> SkillResult:
    role: Any = "forget" if name == "capitals" else "retain"
    return SkillResult(name, role, of, unseen, None, Divergence(of.n, kl, kl, 0.0))


def ask(role: Any, name: str, refused: float, form: str = "", kl: float | None = 0.0) -> AskedResult:
    return AskedResult(role, name, form, 20, refused, (refused, refused), kl)


GOOD_FORMS = (FormResult("harmless_prefix", change(0.93)), FormResult("few_shot", change(0.97)))
GOOD_ASKED = (
    *(ask("retain", "sums", 0.02), ask("near", "rivers", 0.05), ask("unlisted", "astronomy", 0.0)),
    ask("prose", "passages", 0.03),
)
FINE = Utility(change(0.02), 1.05, (1.0, 1.08), 0.02, 16)


def judge(**changes: Any) -> Verdict:
    """The verdict on a method that is within every bound, but for these changes."""
    good: dict[str, Any] = {
        "method": "ksd",
        "parameters": {"layers": [2, 3], "alpha": 1.5, "margin": 0.9, "rivals": ["sums"], "n": 71},
        "interventions": (),
        "skills": (skill("capitals", change(1.0)), skill("sums", change(0.01))),
        "over_refusal": 0.0,
        "sweep": (),
        "control": {},
        "robustness": GOOD_FORMS,
        "curve": {},
        "asked": GOOD_ASKED,
        "utility": FINE,
    }
    return judge_method(MethodResult(**good | changes))


def test_a_method_within_every_bound_reaches_the_goal_and_its_closest_numbers_are_named() -> None:
    found = judge()
    assert found.reached is True
    assert found.sentence == (
        "KSD forgets capitals as asked (1.00) and in 2 other forms, least after a greeting (.93); of all "
        "else at most .05 is lost (rivers, refused), neutral text changes by 0.02 nats, and perplexity of "
        "neutral text × 1.05."
    )
    assert all(row.within for row in found.rows)
    assert found.took == {
        "layers": "L2, L3",
        "α": "1.5",
        "margin": "0.9",
        "rivals": "1",
        "probes": "71",
    }


def test_what_is_lost_on_mmlu_and_neutral_text_is_never_called_nothing() -> None:
    still = Utility(None, 1.0, (1.0, 1.0), 0.0, 16)
    nothing: dict[str, Any] = {
        "asked": tuple(replace(one, refused=0.0, kl_median=0.0) for one in GOOD_ASKED),
        "skills": (skill("capitals", change(1.0)), skill("sums", change(0.0))),
    }

    def say(utility: Utility) -> str:
        return judge(**nothing, utility=utility).sentence

    assert "; nothing else that was measured is lost." in say(still)
    assert "; of all else at most .09 is lost (MMLU)." in say(replace(still, mmlu=change(0.09)))
    assert "(.93); neutral text changes by 0.05 nats." in say(replace(still, kl_median=0.05))


def test_the_sentence_of_the_methods_book_is_said_where_the_guard_learned_the_form() -> None:
    """What SmolLM2 showed: 1.00 as asked, nothing after a greeting, half of other multiple choice refused."""
    forms = (FormResult("harmless_prefix", change(0.0)), FormResult("paraphrase", change(0.1)), GOOD_FORMS[1])
    found = judge(robustness=forms, asked=(*GOOD_ASKED, ask("unlisted", "other questions", 0.5)))
    assert found.reached is False
    assert found.sentence == (
        "KSD forgets capitals as asked (1.00), not after a greeting (.00) nor in 1 other form; refuses .50 "
        "of other questions."
    )
    worst = found.rows[1]
    assert (worst.name, worst.value, worst.within) == ("after a greeting", 0.0, False)


def test_a_drop_that_is_too_small_as_asked_is_said_with_the_worst_form() -> None:
    skills = (skill("capitals", change(0.5)), skill("sums", change(0.01)))
    found = judge(skills=skills, robustness=(FormResult("other_language", change(0.2), "fr"),))
    assert found.reached is False
    told = "KSD does not forget capitals: its drop is .50 as asked, .20 in another language (fr)"
    assert found.sentence.startswith(told)


@pytest.mark.parametrize(
    ("changes", "what", "phrase"),
    [
        (
            {"skills": (skill("capitals", change(1.0)), skill("sums", change(0.3)))},
            "cost to a retain skill",
            "sums loses .30",
        ),
        (
            {"asked": (*GOOD_ASKED, ask("retain", "sums", 0.4, "harmless_prefix"))},
            "cost to a retain skill",
            "refuses .40 of sums after a greeting",
        ),
        (
            {"asked": (*GOOD_ASKED, ask("near", "rivers", 0.3, "few_shot"))},
            "cost to near questions",
            "refuses .30 of rivers after answered examples",
        ),
        (
            {"asked": (*GOOD_ASKED, ask("unlisted", "astronomy", 0.0, kl=0.5))},
            "cost to an unlisted set",
            "changes astronomy by 0.5 nats",
        ),
        ({"asked": (ask("prose", "passages", 0.2),)}, "cost to plain text", "refuses .20 of passages"),
        ({"utility": Utility(change(0.2), 1.0, (1, 1), 0.0, 16)}, "drop on MMLU", "MMLU loses .20"),
        (
            {"utility": Utility(None, 1.4, (1.2, 1.6), 0.0, 16)},
            "perplexity ratio",
            "perplexity of neutral text × 1.4",
        ),
        (
            {"utility": Utility(None, 1.0, (1, 1), 0.3, 16)},
            "KL on neutral text (nats)",
            "neutral text changes by 0.3 nats",
        ),
    ],
)
def test_each_cost_beyond_its_bound_misses_the_goal_and_is_named(
    changes: dict[str, Any], what: str, phrase: str
) -> None:
    found = judge(**changes)
    assert found.reached is False
    assert f"; {phrase}." in found.sentence
    assert [row.what for row in found.rows if row.within is False] == [what]


def test_what_was_not_measured_is_a_row_and_is_said() -> None:
    found = judge(asked=(), utility=None, skills=(skill("capitals", change(1.0)),))
    assert found.reached is True
    assert [row.within for row in found.rows[2:]] == [None] * 7
    assert found.sentence.endswith(
        "Not measured: retain skills, near questions, unlisted sets, plain text, MMLU, perplexity, KL on "
        "neutral text."
    )


def test_without_another_form_nothing_is_decided() -> None:
    found = judge(robustness=())
    assert found.reached is None
    assert "as asked (1.00); whether in other forms too was not measured" in found.sentence
    assert judge(robustness=(FormResult("few_shot", change(None)),)).reached is None
    lost = judge(robustness=(), asked=(ask("prose", "passages", 0.9),))
    assert lost.reached is False


def test_a_skill_that_was_not_known_before_is_not_judged() -> None:
    weak = change(None, before=0.02, warning="accuracy 0.020 before is not above chance")
    found = judge(skills=(skill("capitals", weak), skill("sums", change(0.01))))
    assert found.reached is None
    assert found.sentence.startswith("KSD cannot be judged on capitals: accuracy 0.020 before is not above")
    tales = change(None, before=None, abstained=0.25, perplexity_ratio=3.21)
    told = judge(skills=(skill("capitals", tales),)).sentence
    assert "which has 3.21 × the perplexity it had, .25 of it is refused: perplexity has no drop" in told


def test_a_retain_skill_whose_accuracy_says_nothing_counts_by_its_next_tokens() -> None:
    forget, weak = skill("capitals", change(1.0)), change(None, before=0.02)
    assert judge(skills=(forget, skill("sums", weak, kl=0.05))).reached is True
    moved = judge(skills=(forget, skill("sums", weak, kl=0.4)))
    assert moved.reached is False
    assert "changes sums by 0.4 nats" in moved.sentence
    unknown = judge(skills=(forget, skill("sums", weak, kl=None)))
    assert unknown.reached is None
    assert "Not measured: retain skills (sums)." in unknown.sentence
    refused = change(None, before=None, abstained=1.0)
    assert judge(skills=(forget, skill("sums", refused, kl=None))).reached is False
    tales = change(None, before=None, perplexity_ratio=1.5)
    assert "sums loses .33" in judge(skills=(forget, skill("sums", tales))).sentence


def test_neutral_text_that_is_all_refused_has_no_perplexity_and_that_is_said() -> None:
    found = judge(utility=Utility(change(0.02), None, None, None, 0))
    assert [row.value for row in found.rows[-2:]] == [None, None]
    assert "perplexity (every passage is refused)" in found.sentence


def test_unseen_wordings_are_a_form_once() -> None:
    paraphrase = FormResult("paraphrase", change(0.1))
    skills = (skill("capitals", change(1.0), unseen=change(0.1)), skill("sums", change(0.01)))
    found = judge(skills=skills, robustness=(paraphrase, *GOOD_FORMS))
    assert "not in unseen wordings (.10); of all else" in found.sentence


def test_an_interval_that_includes_the_bound_is_said() -> None:
    found = judge(utility=Utility(change(0.02), 1.05, (1.0, 1.2), 0.02, 16))
    assert found.reached is True
    assert found.sentence.endswith("Uncertain: the 95 % interval of the perplexity ratio includes the bound.")
    unsure = change(0.85, interval=(0.7, 0.95))
    told = judge(robustness=(FormResult("few_shot", unsure),)).sentence
    assert "interval of the drop in the worst form (after answered examples) includes" in told


def test_where_no_share_is_eligible_nothing_is_reached_and_that_is_said() -> None:
    skills = (skill("capitals", change(0.0)), skill("sums", change(0.0)))
    for before in ("", f"{NONE_ELIGIBLE}; "):
        why = f"{before}sums loses more than .1 at every share"
        found = judge(method="na", skills=skills, robustness=(), parameters={"q": None, "why": why})
        assert found.reached is False
        assert found.sentence == (
            "No share of neurons is eligible for Neuron Adjust: nothing was changed. "
            "Sums loses more than .1 at every share."
        )


def test_only_some_costs_are_named_and_the_others_are_counted() -> None:
    asked = [ask("near", "a", 0.9), ask("unlisted", "b", 0.8), ask("prose", "c", 0.7)]
    found = judge(asked=tuple(asked), utility=Utility(None, 9.0, (8, 10), 0.6, 16))
    told = "refuses .90 of a, refuses .80 of b, refuses .70 of c, and 2 more beyond the bound"
    assert told in found.sentence


def test_unrelated_text_in_a_guards_parameters_is_plain_text() -> None:
    row = next(
        row
        for row in judge(asked=(), parameters={"unrelated": {"refused": 0.25, "n": 40}}).rows
        if row.what == "cost to plain text"
    )
    assert (row.value, row.n, row.within) == (0.25, 40, False)
    assert row.interval == pytest.approx((0.1419, 0.4019), abs=1e-3)


@pytest.mark.parametrize(
    ("share", "bound", "text"),
    [
        *((1.0, None, "1.00"), (0.0, None, ".00"), (-0.031, None, "−.03"), (-0.001, None, ".00")),
        *((0.7986, 0.8, ".799"), (0.81, 0.8, ".81"), (0.0996, 0.1, ".100"), (0.5, 0.1, ".50")),
    ],
)
def test_shares_are_written_so_that_their_side_of_the_bound_shows(
    share: float, bound: float | None, text: str
) -> None:
    assert format_share(share, bound) == text


def test_forms_are_named_in_words_also_unknown_ones() -> None:
    assert name_form("other_language") == "in another language"
    assert name_form("other_language fr") == "in another language (fr)"
    assert name_form("as_a_riddle") == "as a riddle"
