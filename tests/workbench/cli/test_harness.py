"""`harness`, and `unlearn --results`: what others read of our numbers."""

from __future__ import annotations

import json
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from analysis.intervening.clamps import parse_clamp
from analysis.opening.leases import lease_model
from analysis.opening.models import ModelRef
from analysis.recipes.recipes import write_recipe_document
from analysis.skills.answering import answer_prompts
from analysis.skills.items import SkillItem
from analysis.skills.metrics import Change
from analysis.skills.tasks import MeasureOptions, measure_items
from tests.analysis.harness.harness_files import GENERATE, task_file
from tests.workbench.conftest import Cli
from tests.workbench.skill_files_made import write_skill
from workbench.cli.app import app
from workbench.unlearning.answers import UnlearningAnswer
from workbench.unlearning.documents import read_method
from workbench.unlearning.results_file import write_harness_results
from workbench.unlearning.split_answers import SplitAnswer

needed = pytest.mark.skipif(
    find_spec("lm_eval") is None, reason="lm_eval is not installed: pip install -r requirements-evaluate.txt"
)
ARITHMETIC = """task: demo_arithmetic
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{prompt}}}}"
doc_to_target: "{{{{answer}}}}"
generation_kwargs: {{until: ["\\n\\n"], max_gen_toks: 40}}
filter_list:
  - name: last-number
    filter:
      - {{function: regex, regex_pattern: "(-?[0-9]+)", group_select: -1}}
      - {{function: take_first}}
metric_list:
  - {{metric: exact_match, aggregation: mean, higher_is_better: true}}
"""


@pytest.fixture
def task(tmp_path: Path, tiny: Path) -> Path:
    """A task in the tiny model's own words, all of whose answers it gives."""
    prompts = [f"{a}{b}{c}" for a in "abcdef" for b in "ghijk" for c in "xyz"]
    with lease_model(ModelRef(str(tiny))) as loaded:
        found = answer_prompts(loaded, [loaded.tokenizer.encode(p) for p in prompts], max_new_tokens=5)
    records = [{"question": p, "answer": a.text} for p, a in zip(prompts, found, strict=True)]
    return task_file(tmp_path, GENERATE, records)


@needed
def test_a_task_is_measured_and_then_read(cli: Cli, tiny: Path, task: Path, tmp_path: Path) -> None:
    out = tmp_path / "results.json"
    first = cli("harness", tiny, "--task", task, "--out", out, "--json").document
    assert first["results"]["tiny_generate"]["exact_match,none"] == 1.0
    assert first["n-samples"] == {"tiny_generate": {"original": 90, "effective": 90}}
    assert not first["cached"]
    assert json.loads(out.read_text()) == first
    again = cli("harness", tiny, "--task", task, "--json").document
    assert again == first | {"cached": True}
    limited = cli("harness", tiny, "--task", task, "--limit", "4", "--json").document
    assert (limited["run"] != first["run"], limited["n-samples"]["tiny_generate"]["effective"]) == (True, 4)


@needed
def test_changes_are_in_the_numbers_and_in_the_key(cli: Cli, tiny: Path, task: Path) -> None:
    plain = cli("harness", tiny, "--task", task, "--json").document
    changed = cli("harness", tiny, "--task", task, "--clamp", "L1.N3:add:30", "--json").document
    assert changed["results"]["tiny_generate"]["exact_match,none"] < 1.0
    assert changed["run"] != plain["run"]
    (run,) = [r for r in cli("runs", "list", "--json").document["runs"] if r["key"] == changed["run"]]
    assert run["kind"] == "harness"
    assert run["parameters"]["changes"] == [["L1.N3:key:add:30@all", 30.0]]


@needed
def test_the_table_is_for_people(cli: Cli, tiny: Path, task: Path) -> None:
    shown = cli("harness", tiny, "--task", task, "--limit", "5")
    assert shown.out.splitlines()[0].split() == ["task", "metric", "value", "stderr", "n", "refused"]
    assert shown.out.splitlines()[1].split() == ["tiny_generate", "exact_match", "1", "0", "5", "0"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--task", "gone.yaml"), "gone.yaml cannot be read"),
        (("--task", "a.yaml", "--task", "a.yaml"), "each once"),
        (("--task", "{task}", "--clamp", "L9.N1:ablate"), "layer 9"),
        (("--task", "{task}", "--chat-template"), "no chat template"),
    ],
)
@needed
def test_what_is_of_no_use_is_refused(
    cli: Cli, tiny: Path, task: Path, arguments: tuple[str, ...], told: str
) -> None:
    answer = cli("harness", tiny, *(word.format(task=task) for word in arguments))
    assert (answer.code, answer.out) == (2, "")
    assert told in answer.err
    assert len(answer.err.strip().splitlines()) == 1


def test_without_the_package_the_command_says_what_to_install(
    cli: Cli, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("analysis.harness.measuring.find_spec", lambda name: None)
    answer = cli("harness", tiny, "--task", "arc_easy")
    assert (answer.code, answer.out) == (2, "")
    assert "pip install -r requirements-evaluate.txt" in answer.err


@needed
def test_the_bundled_model_s_arithmetic_is_what_our_own_judge_says(
    cli: Cli, repo_root: Path, tmp_path: Path
) -> None:
    """As it is, and under a recipe that pushes 32 of its neurons, which costs it some answers."""
    lines = (repo_root / "demo" / "skills" / "arithmetic.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines[:60]]
    path = task_file(tmp_path, ARITHMETIC, records)
    recipe = tmp_path / "recipe.json"
    pushed = [parse_clamp(f"L{layer}.N{n}:add:20") for layer in (1, 2) for n in range(0, 1024, 64)]
    with lease_model(ModelRef("demo/base")) as loaded:
        items = [SkillItem(r["prompt"], r["answer"], "number") for r in records]
        changes = [clamp.resolve(largest=1.0, mean=0.0) for clamp in pushed]
        recipe.write_text(json.dumps(write_recipe_document(loaded, changes)))
        for own, options in (((), ()), (changes, ("--recipe", recipe))):
            judged = measure_items(loaded, items, own, MeasureOptions(max_new_tokens=40))
            accuracy = sum(v.right for v in judged.verdicts) / len(records)
            found = cli("harness", "demo/base", "--task", path, *options, "--json").document
            numbers = found["results"]["demo_arithmetic"]
            assert numbers["exact_match,last-number"] == pytest.approx(accuracy)
            assert accuracy == 1 if not own else 0.1 < accuracy < 0.95


@pytest.fixture(scope="module")
def unlearned(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> tuple[Any, Any]:
    """What `unlearn --json` says of two skills, and the file that --results wrote."""
    folder = tmp_path_factory.mktemp("unlearned")
    one = write_skill(folder / "one.jsonl", tiny, "abcdefghijklm")
    two = write_skill(folder / "two.jsonl", tiny, "nopqrstuvwxyz")
    out = folder / "results.json"
    question = ("--forget", one, "--retain", two, "--method", "sp", "--method", "ksd", "--share", "5")
    arguments = ("unlearn", tiny, *question, "--max-new-tokens", "3", "--no-robustness", "--results", out)
    result = CliRunner().invoke(app, [str(a) for a in (*arguments, "--db", folder / "a.db", "--json")])
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout), json.loads(out.read_text())


def test_unlearning_results_are_those_of_the_document(unlearned: tuple[Any, Any]) -> None:
    document, results = unlearned
    states = {"base": "before", "sp": "after", "ksd": "after"}
    assert results["group_subtasks"] == {state: [f"{state}/one", f"{state}/two"] for state in states}
    for method in document["methods"]:
        for state in ("base", method["method"]):
            for skill in method["skills"]:
                numbers = results["results"][f"{state}/{skill['skill']}"]
                assert numbers["acc,none"] == skill[states[state]]
                variance = skill[states[state]] * (1 - skill[states[state]])
                assert numbers["acc_stderr,none"] == pytest.approx((variance / (skill["n"] - 1)) ** 0.5)
    assert 0 < results["results"]["sp/one"]["acc,none"] < 1


def test_a_perplexity_skill_has_a_ratio_and_no_base() -> None:
    change = Change(9, 0.0, None, None, None, None, None, None, None, 0.0, perplexity_ratio=1.5)
    skill = {"skill": "text", "role": "retain"} | asdict(change)
    method = read_method({"method": "na", "parameters": {"q": 3}, "skills": [skill]})
    unlearned = UnlearningAnswer("r", "one", SplitAnswer(0, ()), (method,))
    results = write_harness_results(unlearned, "tiny", "2026-01-01T00:00:00+00:00")
    assert results["group_subtasks"] == {"na": ["na/text"]}
    assert results["results"]["na/text"]["perplexity_ratio,none"] == 1.5
    assert results["date"] == 1767225600.0


@needed
def test_the_harness_reads_them_as_its_own(
    unlearned: tuple[Any, Any], cli: Cli, tiny: Path, task: Path
) -> None:
    """The same keys that it writes itself, its own standard error, and its own table of them."""
    from lm_eval.api.metrics import mean_stderr
    from lm_eval.utils import make_table

    _, results = unlearned
    own = cli("harness", tiny, "--task", task, "--limit", "5", "--json").document
    assert set(results) <= set(own)
    numbers = results["results"]["sp/one"]
    written = {key.replace("exact_match", "acc") for key in own["results"]["tiny_generate"]}
    assert set(numbers) == written
    right = round(numbers["acc,none"] * numbers["sample_len"])
    verdicts = [1] * right + [0] * (numbers["sample_len"] - right)
    assert numbers["acc_stderr,none"] == pytest.approx(mean_stderr(verdicts))
    shown = make_table(results)
    assert all(text in shown for text in ("one", "two", f"{numbers['acc,none']:.4f}"))
