"""JSON documents of unlearning: what `unlearn --json` prints, and what is stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from analysis.skills.metrics import Change
from analysis.unlearning.guards.linear_fits import THRESHOLDS
from analysis.unlearning.guards.operating import ALPHAS
from analysis.unlearning.methods import find_method
from analysis.unlearning.results import MethodResult, SkillResult, Utility
from analysis.unlearning.scenes import Scene
from analysis.unlearning.token_limits import MOST_CUT_OFF
from workbench.unlearning.method_verdicts import verdict_document


def split_document(scene: Scene) -> dict[str, Any]:
    """How every skill was split, and the near-duplicates between its parts."""
    return {
        "seed": scene.forget.seed,
        "skills": [
            {
                "skill": split.skill,
                "probe": len(split.probe),
                "validation": len(split.validation),
                "test": len(split.test),
                "unseen_wordings": sum(split.unseen),
                "near_duplicates": len(split.near),
                "nearest": [asdict(pair) for pair in split.near[:3]],
            }
            for split in scene.splits
        ],
    }


def method_document(found: MethodResult) -> dict[str, Any]:
    """A method's result as `unlearn --json` prints it."""
    drops = [skill.change.relative_drop for skill in found.skills]
    kept = [drop for drop in drops[1:] if drop is not None]
    return {
        "method": found.method,
        "parameters": found.parameters,
        "skills": [_skill_document(skill) for skill in found.skills],
        "over_refusal": found.over_refusal,
        "frontier": {"forget_drop": drops[0], "worst_retain_drop": max(kept) if kept else None},
        "sweep": list(found.sweep),
        "control": {
            "kind": find_method(found.method).control,
            "drop": found.control,
        },
        "robustness": [
            {"form": r.form, "lang": r.lang or None} | change_document(r.change) for r in found.robustness
        ],
        "curve": _curve_document(found),
        "asked": [asdict(one) for one in found.asked],
        "utility": None if found.utility is None else utility_document(found.utility),
        "cut_off": found.cut_off,
        **verdict_document(found),
    }


def warn_cut_off(method: Mapping[str, Any]) -> str:
    """A warning if too many answers of the unchanged model were cut off; else empty, as for older results."""
    share = method.get("cut_off", 0.0)
    if share <= MOST_CUT_OFF:
        return ""
    limit = method["parameters"]["max_new_tokens"]
    return (
        f"{share:.0%} of a skill's answers are cut off at {limit} tokens, on the unchanged model too: what "
        "they would have gone on to say is not judged; allow more new tokens"
    )


def _curve_document(found: MethodResult) -> dict[str, Any] | None:
    if not found.curve:
        return None
    linear = found.parameters.get("measure") == "linear"
    points = {"thresholds": list(THRESHOLDS)} if linear else {"alphas": list(ALPHAS)}
    return points | {"abstention": found.curve}


def utility_document(utility: Utility) -> dict[str, Any]:
    """What a method costs in general, as JSON."""
    told = {
        "perplexity_ratio": utility.perplexity_ratio,
        "perplexity_interval": utility.perplexity_interval,
        "kl": utility.kl_median,
        "n": utility.n,
    }
    return {"mmlu": None if utility.mmlu is None else change_document(utility.mmlu)} | told


def _skill_document(skill: SkillResult) -> dict[str, Any]:
    parts = {"unseen": skill.unseen, "seen": skill.seen}
    return (
        {"skill": skill.skill, "role": skill.role}
        | change_document(skill.change)
        | {name: None if part is None else change_document(part) for name, part in parts.items()}
        | {"kl": {"median": skill.divergence.kl_median, "mean": skill.divergence.kl_mean}}
        | {"js": skill.divergence.js}
    )


def change_document(change: Change) -> dict[str, Any]:
    """One skill before and after, as JSON."""
    return asdict(change)
