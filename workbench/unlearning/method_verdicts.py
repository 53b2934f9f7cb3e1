"""Verdicts of methods as JSON: written into a method's document, and read or made from one.

Documents of earlier versions have no verdict; it is made from what they have (`judge_document`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, fields
from typing import Any, cast

from analysis.skills.metrics import Change, Divergence
from analysis.unlearning.judging.form_names import AS_ASKED
from analysis.unlearning.judging.verdict_rows import find_worst_form, list_forget_forms
from analysis.unlearning.judging.verdicts import judge_method
from analysis.unlearning.results import AskedResult, FormResult, MethodResult, SkillResult, Utility

Document = Mapping[str, Any]
_CHANGE = [field.name for field in fields(Change)]


def verdict_document(found: MethodResult) -> dict[str, Any]:
    """Every form with its drop or the share refused, the worst form, and the verdict."""
    verdict, worst = judge_method(found), find_worst_form(list_forget_forms(found))
    return {
        "forms": [*_forget_documents(found), *_asked_documents(found)],
        "worst": None if worst is None else {"form": worst[0], "drop": worst[1]},
        "verdict": {
            "reached": verdict.reached,
            "sentence": verdict.sentence,
            "rows": [asdict(row) for row in verdict.rows],
            "took": dict(verdict.took),
        },
    }


def judge_document(method: Document) -> dict[str, Any]:
    """A method's document with forms, worst form and verdict; unchanged where it has them, or where it is too
    odd to be judged.
    """
    if "verdict" not in method:
        with suppress(KeyError, TypeError, ValueError, AttributeError, IndexError):
            made = verdict_document(read_method_result(method))
            return {**method, **json.loads(json.dumps(made))}
    return dict(method)


def read_method_result(method: Document) -> MethodResult:
    """The numbers of a method's document, without interventions. Raises KeyError or TypeError for an odd
    one.
    """
    parameters = dict(method.get("parameters") or {})
    asked = tuple(
        AskedResult(**one | {"interval": _pair(one["interval"])}) for one in method.get("asked", ())
    )
    utility = method.get("utility")
    return MethodResult(
        method=method["method"],
        parameters=parameters,
        interventions=(),
        skills=tuple(_read_skill(skill) for skill in method["skills"]),
        over_refusal=method.get("over_refusal"),
        sweep=(),
        control={},
        robustness=tuple(
            FormResult(one["form"], _read_change(one), one.get("lang") or "")
            for one in method.get("robustness", ())
        ),
        curve={},
        asked=asked,
        utility=None if utility is None else _read_utility(utility),
        cut_off=method.get("cut_off", 0.0),
    )


def _forget_documents(found: MethodResult) -> list[dict[str, Any]]:
    skill = found.skills[0].skill
    return [
        {
            "form": form,
            "role": "forget",
            "skill": skill,
            "forget_drop": change.relative_drop,
            "n": change.n,
            "interval": change.interval,
        }
        for form, change in list_forget_forms(found).items()
    ]


def _asked_documents(found: MethodResult) -> list[dict[str, Any]]:
    return [
        {
            "form": one.form or AS_ASKED,
            "role": one.role,
            "skill": one.skill,
            "refused": one.refused,
            "n": one.n,
            "interval": one.interval,
        }
        for one in found.asked
    ]


def _read_skill(skill: Document) -> SkillResult:
    kl = skill.get("kl") or {}
    parts = (skill.get("unseen"), skill.get("seen"))
    unseen, seen = (None if part is None else _read_change(part) for part in parts)
    divergence = Divergence(skill["n"], kl.get("median"), kl.get("mean"), skill.get("js", 0.0))
    return SkillResult(skill["skill"], skill["role"], _read_change(skill), unseen, seen, divergence)


def _read_change(document: Document) -> Change:
    given = {name: document[name] for name in _CHANGE}
    pairs = {name: _pair(given[name]) for name in ("before_interval", "after_interval", "interval")}
    return Change(**given | pairs)


def _read_utility(utility: Document) -> Utility:
    mmlu, ends = utility["mmlu"], _pair(utility["perplexity_interval"])
    return Utility(
        mmlu=None if mmlu is None else _read_change(mmlu),
        perplexity_ratio=utility["perplexity_ratio"],
        perplexity_interval=cast("tuple[float, float]", ends),
        kl_median=utility["kl"],
        n=utility["n"],
    )


def _pair(ends: Any) -> tuple[float, float] | None:
    return None if ends is None else (ends[0], ends[1])
