"""A skill before it is kept: Hub data sets with their fields mapped, and what is told of a draft."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from analysis.errors import BadSkillFile, SkillError
from analysis.skills.items import Skill, SkillItem
from store import open_store
from tests.analysis.skills_made import make_skill
from workbench.skills.drafts import (
    FIRST,
    HubRequest,
    can_fetch,
    describe_skill,
    explain_shortage,
    fetch_skill,
    read_skill_facts,
)
from workbench.skills.library import keep_skill

ROWS = [{"q": f"What is {i} + 1?", "a": i + 1, "topic": f"t{i % 3}", "options": ["x", "y"]} for i in range(9)]


class Loader:
    """Stands for datasets.load_dataset: what it was asked, and rows without end."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.rows, self.asked, self.given = rows, list[Any](), 0

    def __call__(self, *args: object, **named: object) -> Iterator[Mapping[str, Any]]:
        self.asked.append((*args, named))
        while True:
            for row in self.rows:
                self.given += 1
                yield row


def test_fields_are_mapped_by_name_and_template_and_the_judge_is_set() -> None:
    load = Loader(ROWS)
    fields = {"prompt": "Question: {q}\nAnswer:", "answer": "a", "group": "topic", "choices": ""}
    skill = fetch_skill(HubRequest(" me/sums ", "main", "train", fields, "number", limit=9), "sums", load)
    assert load.asked == [("me/sums", "main", {"split": "train", "streaming": True})]
    assert load.given == 9
    assert (skill.name, len(skill.items)) == ("sums", 9)
    assert skill.items[4] == SkillItem("Question: What is 4 + 1?\nAnswer:", "5", "number", group="t1")


def test_a_judge_that_needs_no_answer_is_known_before_the_answer_is_missed() -> None:
    asked = HubRequest("me/texts", fields={"prompt": "q"}, judge="perplexity", limit=1)
    assert fetch_skill(asked, "t", Loader(ROWS)).items == (SkillItem("What is 0 + 1?", "", "perplexity"),)


def test_without_fields_known_layouts_are_seen_and_blank_config_is_none() -> None:
    load = Loader([{"question": "1 + 1?", "answer": "it is\n#### 2"}])
    skill = fetch_skill(HubRequest("me/gsm", limit=2), "g", load)
    assert skill.items[0].judge == "number"
    assert load.asked == [("me/gsm", None, {"split": "test", "streaming": True})]


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (("  ", ""), "name a Hub data set"),
        (("me/x", "oracle"), "judge 'oracle' is unknown; choose number"),
    ],
)
def test_a_request_that_cannot_be_is_refused(asked: tuple[str, str], told: str) -> None:
    with pytest.raises(SkillError, match=told):
        HubRequest(asked[0], judge=asked[1])


def test_a_field_that_is_not_there_is_named() -> None:
    with pytest.raises(BadSkillFile, match="'nothing' for 'prompt' is not in the data: q, a, topic, options"):
        fetch_skill(HubRequest("me/x", fields={"prompt": "nothing"}, limit=1), "x", Loader(ROWS))


def test_what_the_hub_says_is_told_and_a_missing_package_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*args: object, **named: object) -> Any:
        raise FileNotFoundError("Dataset 'me/x' doesn't exist on the Hub")

    with pytest.raises(SkillError, match=r"could not be loaded: .*doesn't exist on the Hub.*check its name"):
        fetch_skill(HubRequest("me/x"), "x", absent)
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert not can_fetch()
    with pytest.raises(SkillError, match=r"pip install -r requirements-skills.txt"):
        fetch_skill(HubRequest("me/x"), "x")


def test_a_draft_is_described_and_a_shortage_of_probes_is_told() -> None:
    whole = make_skill("mine")
    assert describe_skill(whole) == "160 examples, 40 groups, 4 wordings; judged by substring (160)"
    assert explain_shortage(whole) == ""
    one = Skill("x", (SkillItem("2 + 2 =", "4", "number"),))
    assert describe_skill(one) == "1 example, 1 group; judged by number (1)"
    assert explain_shortage(one).startswith("0 of these examples will be probes")
    few = make_skill("few", groups=20, wordings=1)
    assert explain_shortage(few).startswith("8 of these examples")
    assert "at least 30 probes" in explain_shortage(few)


def test_the_facts_of_a_skill_are_read_once(tmp_path: Path) -> None:
    store = open_store(tmp_path / "h.db")
    source = keep_skill(store, make_skill("mine"))
    facts = read_skill_facts(source)
    assert len(facts.first) == FIRST
    Path(source.path).unlink()
    assert read_skill_facts(source) is facts
