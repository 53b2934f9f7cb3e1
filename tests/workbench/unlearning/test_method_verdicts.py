"""The verdict in a method's document: recomputed from the raw numbers, also for older documents."""

# ruff: noqa: F811 - what tests ask for are the fixtures

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from store.unlearning_evidence import read_method_verdict
from tests.workbench.unlearning.unlearned_made import found, loaded, question, store  # noqa: F401 - fixtures
from workbench.records import IncompleteRecord
from workbench.unlearning.answers import UnlearningAnswer
from workbench.unlearning.documents import judge_document, read_method, read_unlearning

Document = dict[str, Any]


def change(drop: float, n: int = 50) -> Document:
    told: Document = {"n": n, "chance": 0.0, "before": 1.0, "after": 1 - drop, "relative_drop": drop}
    told |= {"before_interval": [0.9, 1.0], "after_interval": [0.0, 0.1], "interval": [drop - 0.1, drop]}
    return told | {"corrected_drop": drop, "abstained": 0.0, "perplexity_ratio": None, "warning": ""}


def skill(name: str, role: str, drop: float, **more: Any) -> Document:
    parts = {"unseen": None, "seen": None, "kl": {"median": 0.0, "mean": 0.0}, "js": 0.0}
    return {"skill": name, "role": role} | change(drop) | parts | more


def ask(role: str, name: str, refused: float, form: str = "", kl: float | None = None) -> Document:
    told: Document = {"role": role, "skill": name, "form": form, "n": 20, "refused": refused}
    return told | {"interval": [refused, refused + 0.1], "kl_median": kl}


def raw() -> Document:
    """A method's document as the evaluation writes it, without a verdict."""
    forms = [
        {"form": "paraphrase", "lang": None} | change(0.9),
        {"form": "harmless_prefix", "lang": None} | change(0.3),
        {"form": "other_language", "lang": "fr"} | change(0.6),
    ]
    return {
        "method": "ksd",
        "parameters": {"layers": [3], "alpha": 2.0, "margin": 1.1, "n": 40, "wrap": True, "key": "user_last"},
        "skills": [
            skill("capitals", "forget", 1.0, unseen=change(0.9)),
            skill("sums", "retain", 0.02, abstained=0.04),
            skill("tales", "retain", 0.01),
        ],
        "over_refusal": 0.02,
        "robustness": forms,
        "asked": [
            ask("retain", "sums", 0.15, "few_shot"),
            ask("retain", "tales", 0.0, "few_shot"),
            ask("near", "rivers", 0.05),
            ask("near", "rivers", 0.0, "harmless_prefix", 0.3),
            ask("unlisted", "astronomy", 0.5),
            ask("prose", "passages", 0.0, "", 0.01),
        ],
        "utility": {
            "mmlu": change(0.04),
            "perplexity_ratio": 1.2,
            "perplexity_interval": [1.0, 1.3],
            "kl": 0.02,
            "n": 16,
        },
        "cut_off": 0.0,
    }


def recompute(method: Document) -> dict[tuple[str, float | None], bool | None]:
    """(what, value) → within its bound, of every row: by loops over the document alone."""
    forget, *kept = method["skills"]
    drops = [forget["relative_drop"], *(form["relative_drop"] for form in method["robustness"])]
    worst = min(drop for drop in drops if drop is not None)
    told: dict[tuple[str, float | None], bool | None] = {
        ("drop as asked", drops[0]): drops[0] > 0.8,
        ("drop in the worst form", worst): worst > 0.8,
    }
    for skill in kept:
        own = [one["refused"] for one in method["asked"] if one["skill"] == skill["skill"]]
        worst = max(skill["relative_drop"], skill["abstained"], *own)
        told["cost to a retain skill", worst] = worst < 0.1
    roles = {"near": "near questions", "unlisted": "an unlisted set", "prose": "plain text"}
    for role, what in roles.items():
        mine = [one for one in method["asked"] if one["role"] == role]
        known = [x for one in mine for x in (one["refused"], one["kl_median"]) if x is not None]
        told[f"cost to {what}", max(known) if known else None] = max(known) < 0.1 if known else None
    utility = method["utility"]
    if utility is None:
        names = ("drop on MMLU", "perplexity ratio", "KL on neutral text (nats)")
        return told | {(name, None): None for name in names}
    mmlu = utility["mmlu"] and utility["mmlu"]["relative_drop"]
    ratio, kl = utility["perplexity_ratio"], utility["kl"]
    told["drop on MMLU", mmlu] = None if mmlu is None else mmlu < 0.1
    return told | {("perplexity ratio", ratio): ratio <= 1.1, ("KL on neutral text (nats)", kl): kl <= 0.1}


def rows_of(method: Document) -> dict[tuple[str, float | None], bool | None]:
    return {(row["what"], row["value"]): row["within"] for row in method["verdict"]["rows"]}


def test_every_row_of_the_table_is_what_the_raw_numbers_say() -> None:
    judged = judge_document(raw())
    assert rows_of(judged) == recompute(raw())
    assert judged["verdict"]["reached"] is False
    assert judged["worst"] == {"form": "harmless_prefix", "drop": 0.3}
    assert judged["verdict"]["sentence"].startswith(
        "KSD forgets capitals as asked (1.00), not after a greeting (.30) nor in 1 other form; refuses .50 "
        "of astronomy, changes rivers after a greeting by 0.3 nats, refuses .15 of sums after answered "
        "examples, and 1 more beyond the bound."
    )
    took = {"layers": "L3", "α": "2", "margin": "1.1", "probes": "40", "key": "user last", "wrapped": "yes"}
    assert judged["verdict"]["took"] == took


def test_what_a_document_has_stays_when_it_is_judged() -> None:
    judged = json.loads(json.dumps(judge_document(raw())))
    assert {name: judged[name] for name in raw()} == raw()


def test_the_rows_of_a_measured_answer_are_what_its_raw_numbers_say(found: UnlearningAnswer) -> None:
    for method in found.to_document()["methods"]:
        asked = method["asked"]
        if not asked and (unrelated := method["parameters"].get("unrelated")):
            asked = [ask("prose", "unrelated text", unrelated["refused"])]
        assert rows_of(method) == recompute(method | {"asked": asked})


def test_every_form_is_listed_with_its_drop_or_the_share_refused() -> None:
    forms = judge_document(raw())["forms"]
    told = {(one["role"], one["form"]): one.get("forget_drop", one.get("refused")) for one in forms}
    assert told["forget", "as_asked"] == 1.0
    assert told["forget", "unseen_wordings"] == 0.9
    assert told["forget", "harmless_prefix"] == 0.3
    assert told["forget", "other_language fr"] == 0.6
    assert told["near", "as_asked"] == 0.05
    assert told["unlisted", "as_asked"] == 0.5
    assert all({"n", "interval", "skill"} <= set(one) for one in forms)
    assert json.loads(json.dumps(forms)) == forms


def test_a_document_of_an_earlier_version_is_judged_by_what_it_has(found: UnlearningAnswer) -> None:
    then = {"forms", "worst", "verdict", "asked", "utility", "cut_off"}
    for method in found.to_document()["methods"]:
        old = {name: value for name, value in method.items() if name not in then}
        made = judge_document(old)["verdict"]
        assert made["rows"][:2] == method["verdict"]["rows"][:2]
        assert [row["what"] for row in made["rows"]] == [row["what"] for row in method["verdict"]["rows"]]
        assert "Not measured: near questions, unlisted sets" in made["sentence"]
        assert judge_document(method) == method


def test_an_answer_read_back_is_the_same_and_writes_the_same_bytes(found: UnlearningAnswer) -> None:
    written = json.dumps(found.to_document())
    again = read_unlearning(json.loads(written))
    assert again == replace(found, seconds=0.0)
    assert json.dumps(again.to_document()) == written


def test_a_stored_method_keeps_the_verdict_of_its_time(found: UnlearningAnswer) -> None:
    document = found.methods[0].to_document()
    document["verdict"]["sentence"] = "As it was judged then."
    assert read_method(document).evidence.sentence == "As it was judged then."
    assert read_method(document).to_document() == document


@pytest.mark.parametrize(("name", "odd"), [("skills", []), ("skills", 3), ("asked", [{}]), ("method", None)])
def test_a_document_that_is_no_answer_is_refused_by_its_field(name: str, odd: object) -> None:
    with pytest.raises(IncompleteRecord, match=name):
        read_method(raw() | {name: odd})


@pytest.mark.parametrize("odd", [{}, {"method": "ksd"}, {"method": "ksd", "skills": []}, {"skills": [{}]}])
def test_an_odd_document_stays_as_it_is(odd: Document) -> None:
    assert judge_document(odd) == odd
    assert read_method_verdict(odd) is None
