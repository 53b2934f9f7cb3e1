"""Each bundled skill forgotten while the others are kept: `python -m bench.forgetting [MODEL] [METHOD]`.

Prints a row of docs/unlearning.md for every skill as soon as it is measured: the relative drop of the forget
skill (bold) and of the others, of unseen wordings, in each other form, the largest share of a kept skill
refused in one, the control, the share refused of unrelated text, the verdict; and the seconds said before the
start with those taken. Everything is stored in a temporary database.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from analysis.opening.leases import lease_model
from analysis.opening.models import ModelRef
from demo import BUNDLED_SKILLS
from store import open_store
from workbench.skills.sources import make_skill_source
from workbench.unlearning.presets import plan_time
from workbench.unlearning.questions import UnlearningQuestion
from workbench.unlearning.unlearning import unlearn

ORDER = ("arithmetic", "facts", "stories", "python", "french", "spanish")
FORMS = ("few_shot", "harmless_prefix", "instruction_before", "instruction_after")
MEASURED = ("unseen", *FORMS, "kept, worst form", "control", "unrelated", "verdict", "s said / taken")
COLUMNS = ("forget", *ORDER, *MEASURED)


def main() -> None:
    """Measure every skill of one model by one method."""
    model = sys.argv[1] if len(sys.argv) > 1 else "demo/base"
    method = sys.argv[2] if len(sys.argv) > 2 else "ksd"
    with tempfile.TemporaryDirectory() as folder, lease_model(ModelRef(model)) as loaded:
        store = open_store(Path(folder) / "forgetting.db")
        print(f"{model}, {method}\n\n| {' | '.join(COLUMNS)} |", flush=True)
        for name in ORDER:
            mine, *others = (
                make_skill_source(BUNDLED_SKILLS[one], one)
                for one in (name, *(other for other in ORDER if other != name))
            )
            question = UnlearningQuestion(mine, tuple(others), methods=(method,))
            planned = plan_time(loaded, question)
            started = time.perf_counter()
            document = unlearn(loaded, store, question).document
            said = 0.0 if planned is None else planned.seconds
            print(format_row(document["methods"][0], said, time.perf_counter() - started), flush=True)


def format_row(method: dict[str, Any], said: float, took: float) -> str:
    """One line of the table."""
    skills = {skill["skill"]: skill for skill in method["skills"]}
    forget = next(skill for skill in method["skills"] if skill["role"] == "forget")
    cells = [forget["skill"]]
    cells += [_bold(_number(skills[one]["relative_drop"]), skills[one] is forget) for one in ORDER]
    cells.append(_number((forget["unseen"] or {}).get("relative_drop")))
    forms = method["forms"]
    own = {one["form"]: one["forget_drop"] for one in forms if one["role"] == "forget"}
    cells += [_number(own.get(form)) for form in FORMS]
    cells.append(_number(max((one["refused"] for one in forms if one["role"] == "retain"), default=None)))
    drops = dict(method["control"]["drop"])
    mine = drops.pop(forget["skill"], None)
    worst = max((drop for drop in drops.values() if drop is not None), default=None)
    cells.append(f"{_number(mine)} ({_number(worst)})")
    prose = [one["refused"] for one in method["asked"] if one["role"] == "prose"]
    cells.append(_number(prose[0] if prose else None))
    reached = method["verdict"]["reached"]
    cells += [{True: "green", False: "red", None: "unknown"}[reached], f"{said:.0f} / {took:.0f}"]
    return f"| {' | '.join(cells)} |"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}".replace("-0.00", "0.00").replace("-", "−")


def _bold(text: str, wanted: bool) -> str:
    return f"**{text}**" if wanted else text


if __name__ == "__main__":
    main()
