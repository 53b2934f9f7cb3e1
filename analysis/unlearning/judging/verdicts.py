"""Verdict on a method: whether it forgets in every form and costs nothing else, in a sentence and a table.

METHODS §4, Evaluation: the verdict is the worst form.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from analysis.skills.metrics import Change, Interval
from analysis.unlearning.edits.neuron_shares import NONE_ELIGIBLE
from analysis.unlearning.judging.form_names import AS_ASKED, format_share, name_form
from analysis.unlearning.judging.verdict_rows import (
    ASKED_ROWS,
    DROP,
    KL,
    LEAST_FORGOTTEN,
    MMLU,
    MOST_LOST,
    MOST_PERPLEXITY,
    PERPLEXITY,
    RETAIN,
    WORST_FORM,
    Cost,
    VerdictRow,
    find_worst_form,
    list_cost_rows,
    list_forget_forms,
    list_forget_rows,
)
from analysis.unlearning.methods import name_method
from analysis.unlearning.results import MethodResult

WORTH_SAYING = 0.005
"""Nats, or what a perplexity ratio has above 1, from which a sentence tells of it beside a share."""
MOST_NAMED = 3
"""Costs above their bound that a sentence names; of more it gives the number."""
UNMEASURED = {
    RETAIN: "retain skills",
    ASKED_ROWS["near"]: "near questions",
    ASKED_ROWS["unlisted"]: "unlisted sets",
    ASKED_ROWS["prose"]: "plain text",
    MMLU: "MMLU",
    PERPLEXITY: "perplexity",
    KL: "KL on neutral text",
}
"""What of a row → how a sentence names it where it was not measured."""


@dataclass(frozen=True)
class Verdict:
    """reached: whether every measure is within its bound, in the worst form too; None: it cannot be judged.
    sentence: plain text. took: what the method needs (probes, layers, α …) → its value as text.
    """

    reached: bool | None
    sentence: str
    rows: tuple[VerdictRow, ...]
    took: Mapping[str, str]


def judge_method(result: MethodResult) -> Verdict:
    """Judge a method by its worst form and its worst costs. Where no share of neurons was eligible, which
    `parameters["why"]` tells, nothing is reached.
    """
    forms = list_forget_forms(result)
    costs = list(list_cost_rows(result))
    rows = (*list_forget_rows(result, forms), *(row for row, _ in costs))
    took = list_took(result.parameters)
    name = name_method(result.method)
    if why := result.parameters.get("why"):
        detail = _capitalize(str(why).removeprefix(f"{NONE_ELIGIBLE}; "))
        said = f"No share of neurons is eligible for {name}: nothing was changed. {detail}."
        return Verdict(False, said, rows, took)
    reached = _is_reached(rows)
    said = _describe_forgetting(name, result.skills[0].skill, forms) + _describe_costs(costs)
    doubts = _list_doubts(rows) if reached else []
    unsure = f" Uncertain: the 95 % interval of the {', '.join(doubts)} includes the bound." if doubts else ""
    return Verdict(reached, f"{said}.{_describe_gaps(rows)}{unsure}", rows, took)


def list_took(parameters: Mapping[str, Any]) -> dict[str, str]:
    """What a method needs: name → value as text; of those that its parameters have."""
    layers = parameters.get("layers")
    margin, alpha, q, threshold = (parameters.get(name) for name in ("margin", "alpha", "q", "threshold"))
    told = {
        "layers": ", ".join(f"L{layer}" for layer in layers) if isinstance(layers, list | tuple) else "",
        "α": f"{alpha:g}" if isinstance(alpha, int | float) else "",
        "threshold": f"{threshold:.2g}" if isinstance(threshold, int | float) else "",
        "margin": f"{margin:g}" if isinstance(margin, int | float) else "",
        "rivals": str(len(parameters.get("rivals") or ()) or ""),
        "q": f"{q:g} %" if isinstance(q, int | float) else "",
        "neurons": f"{parameters['neurons']:,}" if isinstance(parameters.get("neurons"), int) else "",
        "probes": f"{parameters['n']:,}" if isinstance(parameters.get("n"), int) else "",
        "measure": str(parameters.get("measure") or ""),
        "key": str(parameters.get("key") or "").replace("_", " "),
        "wrapped": {True: "yes", False: "no"}.get(parameters.get("wrapped", parameters.get("wrap")), ""),
    }
    return {name: value for name, value in told.items() if value}


def _is_reached(rows: Sequence[VerdictRow]) -> bool | None:
    """None: the forget skill has no drop, no other form was measured, or a retain skill's cost is unknown."""
    if rows[0].value is None:
        return None
    if any(row.within is False for row in rows):
        return False
    needed = [row for row in rows if row.what == WORST_FORM or (row.what == RETAIN and row.name)]
    return None if any(row.within is None for row in needed) else True


def _describe_forgetting(method: str, skill: str, forms: Mapping[str, Change]) -> str:
    """`KSD forgets capitals as asked (1.00), not after a greeting (.00)`."""
    asked = forms[AS_ASKED]
    if asked.relative_drop is None:
        return _describe_no_drop(method, skill, asked)
    drop = _say(asked.relative_drop)
    others = {form: change for form, change in forms.items() if form != AS_ASKED}
    worst = find_worst_form(others)
    if asked.relative_drop <= LEAST_FORGOTTEN:
        less = worst is not None and worst[1] < asked.relative_drop
        also = f", {_say(worst[1])} {name_form(worst[0])}" if worst is not None and less else ""
        return f"{method} does not forget {skill}: its drop is {drop} as asked{also}"
    if worst is None:
        return f"{method} forgets {skill} as asked ({drop}); whether in other forms too was not measured"
    drops = [change.relative_drop for change in others.values() if change.relative_drop is not None]
    failing = sum(one <= LEAST_FORGOTTEN for one in drops)
    lowest = f"{name_form(worst[0])} ({_say(worst[1])})"
    if not failing:
        return f"{method} forgets {skill} as asked ({drop}) and {_count(len(drops))}, least {lowest}"
    more = f" nor {_count(failing - 1)}" if failing > 1 else ""
    return f"{method} forgets {skill} as asked ({drop}), not {lowest}{more}"


def _describe_no_drop(method: str, skill: str, asked: Change) -> str:
    if asked.before is not None:
        return f"{method} cannot be judged on {skill}: {asked.warning or 'it has no drop'}"
    ratio = asked.perplexity_ratio
    told = "" if ratio is None else f"has {ratio:.3g} × the perplexity it had, "
    refused = f"{_say(asked.abstained)} of it is refused"
    return f"{method} cannot be judged on {skill}, which {told}{refused}: perplexity has no drop"


def _describe_costs(costs: Sequence[tuple[VerdictRow, Cost | None]]) -> str:
    """What goes beyond its bound, the largest first; else the largest of what is lost."""
    known = [(row, cost) for row, cost in costs if cost is not None]
    known.sort(key=lambda pair: (pair[0].what == PERPLEXITY, -pair[1].value))
    over = [cost.phrase for row, cost in known if row.within is False]
    if over:
        more = f", and {len(over) - MOST_NAMED} more beyond the bound" if len(over) > MOST_NAMED else ""
        return f"; {', '.join(over[:MOST_NAMED])}{more}"
    if not known:
        return ""
    shares = [cost for _, cost in known if cost.unit == "share" and cost.lost > 0]
    said = [f"of all else at most {_say_lost(cost)} is lost ({cost.name})" for cost in shares[:1]]
    said += [cost.phrase for _, cost in known if cost.unit != "share" and cost.lost >= WORTH_SAYING]
    if not said:
        return "; nothing else that was measured is lost"
    return f"; {', '.join(said[:-1])}, and {said[-1]}" if len(said) > 1 else f"; {said[0]}"


def _say_lost(cost: Cost) -> str:
    return format_share(cost.lost, MOST_LOST)


def _describe_gaps(rows: Sequence[VerdictRow]) -> str:
    gaps = [
        f"{UNMEASURED[row.what]}{f' ({row.name})' if row.name else ''}"
        for row in rows
        if row.value is None and row.what not in (DROP, WORST_FORM)
    ]
    return f" Not measured: {', '.join(gaps)}." if gaps else ""


def _list_doubts(rows: Sequence[VerdictRow]) -> list[str]:
    """Rows within their bound whose 95 % interval is not."""
    return [
        f"{row.what} ({row.name})" if row.name else row.what
        for row in rows
        if row.within and row.interval is not None and not _keeps(row.what, row.interval)
    ]


def _keeps(what: str, interval: Interval) -> bool:
    if what in (DROP, WORST_FORM):
        return interval[0] > LEAST_FORGOTTEN
    return interval[1] <= MOST_PERPLEXITY if what == PERPLEXITY else interval[1] < MOST_LOST


def _say(drop: float) -> str:
    return format_share(drop, LEAST_FORGOTTEN)


def _count(forms: int) -> str:
    return f"in {forms} other form" if forms == 1 else f"in {forms} other forms"


def _capitalize(text: str) -> str:
    return text[:1].upper() + text[1:].removesuffix(".")
