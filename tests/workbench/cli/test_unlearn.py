"""`unlearn`, `skill`, `tars`: their documents, what is stored, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from analysis.errors import SkillError
from analysis.opening.leases import lease_model
from analysis.opening.models import ModelRef
from analysis.unlearning.guards.key_guards import REFUSAL
from store import list_jobs, open_store
from tests.workbench.conftest import Cli
from tests.workbench.skill_files_made import LETTERS, write_skill
from workbench.kinds import Order
from workbench.skills.sources import make_skill_source
from workbench.skills.utility import MMLU_SAMPLE
from workbench.unlearning.questions import UnlearningQuestion, read_question
from workbench.unlearning.unlearning import find_unlearning_answer

QUICK = ("--max-new-tokens", "3", "--no-robustness")


@pytest.fixture(scope="module")
def skills(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> dict[str, Path]:
    """Two skill files in letters of their own, whose answers are the model's."""
    folder = tmp_path_factory.mktemp("skills")
    return {name: write_skill(folder / f"{name}.jsonl", tiny, letters) for name, letters in LETTERS.items()}


def asked(skills: dict[str, Path], *more: object) -> tuple[object, ...]:
    return ("--forget", skills["one"], "--retain", skills["two"], *QUICK, *more)


@pytest.mark.slow
def test_the_document_is_that_of_the_docs(cli: Cli, tiny: Path, skills: dict[str, Path]) -> None:
    found = cli("unlearn", tiny, *asked(skills, "--share", "5"), "--json").document
    assert list(found) == ["forget", "split", "methods", "run", "cached"]
    assert found["forget"] == "one"
    assert found["split"]["test_opened"] == 1
    assert [m["method"] for m in found["methods"]] == ["ksd", "na", "sp"]
    for method in found["methods"]:
        assert set(method) == {
            *("method", "parameters", "skills", "over_refusal", "frontier", "sweep", "control"),
            *("robustness", "curve", "asked", "utility", "cut_off", "forms", "worst", "verdict"),
        }
        forget, retain = method["skills"]
        assert (forget["skill"], forget["role"], retain["skill"], retain["role"]) == (
            *("one", "forget", "two", "retain"),
        )
        assert set(forget) == {
            *("skill", "role", "n", "chance", "before", "after", "before_interval", "after_interval"),
            *("relative_drop", "interval", "corrected_drop", "abstained", "perplexity_ratio", "warning"),
            *("unseen", "seen", "kl", "js"),
        }
        assert forget["before"] == retain["before"] == 1.0
        assert forget["relative_drop"] == pytest.approx(1 - forget["after"])
        assert set(method["control"]["drop"]) == {"one", "two"}
    assert found["methods"][1]["sweep"][0]["q"] == 5.0
    assert found["methods"][0]["curve"]["abstention"]["one"]


@pytest.mark.slow
def test_the_second_time_it_is_read_and_another_question_is_counted(
    cli: Cli, tiny: Path, skills: dict[str, Path]
) -> None:
    ask = asked(skills, "--method", "ksd", "--no-controls")
    first, second = (cli("unlearn", tiny, *ask, "--json").document for _ in range(2))
    assert (first["cached"], second["cached"]) == (False, True)
    assert first | {"cached": True} == second
    other = cli("unlearn", tiny, *ask, "--layers", "all", "--json").document
    assert other["split"]["test_opened"] == 2
    assert other["run"] != first["run"]
    elsewhere = cli("unlearn", tiny, *ask, "--split-seed", "1", "--json").document
    assert elsewhere["split"]["test_opened"] == 1


def write_mmlu(path: Path, questions: int) -> Path:
    """Questions in MMLU's layout, without a header."""
    rows = (f"is it {n}?,yes,no,maybe,never,{'ABCD'[n % 4]}" for n in range(questions))
    path.write_text("\n".join(rows), encoding="utf-8")
    return path


def test_multiple_choice_is_measured_as_utility(
    cli: Cli, tiny: Path, skills: dict[str, Path], tmp_path: Path
) -> None:
    folder = tmp_path / "mmlu"
    folder.mkdir()
    for name, count in (("law", 150), ("anatomy", 90)):
        write_mmlu(folder / f"{name}_test.csv", count)
    ask = asked(skills, "--method", "sp", "--share", "5", "--no-controls")
    whole = cli("unlearn", tiny, *ask, "--mmlu", folder, "--json").document
    utility = whole["methods"][0]["utility"]
    assert utility["mmlu"]["n"] == MMLU_SAMPLE
    assert utility["mmlu"]["chance"] == 0.25
    assert utility["n"] == 16
    assert (
        utility["perplexity_interval"][0] <= utility["perplexity_ratio"] <= utility["perplexity_interval"][1]
    )
    few = cli("unlearn", tiny, *ask, "--mmlu", folder / "anatomy_test.csv", "--json").document
    assert few["methods"][0]["utility"]["mmlu"]["n"] == 90
    none = cli("unlearn", tiny, *ask, "--json").document
    assert none["methods"][0]["utility"] == utility | {"mmlu": None}
    assert whole["run"] != none["run"]
    empty = tmp_path / "empty"
    empty.mkdir()
    for wrong, why in (
        (empty, "holds no CSV file"),
        (skills["two"], "the utility sample is multiple choice"),
    ):
        refused = cli("unlearn", tiny, *ask, "--mmlu", wrong)
        assert refused.code == 2
        assert why in refused.err


def test_where_no_share_is_eligible_that_is_said_and_nothing_is_exported(
    cli: Cli, tiny: Path, skills: dict[str, Path], tmp_path: Path
) -> None:
    ask = asked(skills, "--method", "sp", "--share", "100")
    shown = cli("unlearn", tiny, *ask)
    assert shown.code == 0
    assert "sp: q None, why no share of neurons is eligible; already at 100 %: it costs two" in shown.out
    found = cli("unlearn", tiny, *ask, "--json").document
    assert found["cached"]
    [method] = found["methods"]
    assert [skill["relative_drop"] for skill in method["skills"]] == [0, 0]
    assert (method["sweep"][0]["eligible"], method["control"]["drop"], method["robustness"]) == (
        False,
        {},
        [],
    )
    results = tmp_path / "results.json"
    assert cli("unlearn", tiny, *ask, "--results", results).code == 0
    assert results.exists()
    for option, path in (("--recipe", tmp_path / "sp.json"), ("--bake", tmp_path / "baked")):
        refused = cli("unlearn", tiny, *ask, option, path)
        assert refused.code == 2
        assert "nothing was changed: nothing to export; the numbers are stored" in refused.err
        assert not path.exists()


def test_where_the_files_lie_does_not_matter(
    cli: Cli, tiny: Path, skills: dict[str, Path], tmp_path: Path
) -> None:
    ask = ("--method", "ksd", "--no-controls", "--json")
    first = cli("unlearn", tiny, *asked(skills), *ask).document
    moved = {name: tmp_path / path.name for name, path in skills.items()}
    for name, path in skills.items():
        moved[name].write_bytes(path.read_bytes())
    assert cli("unlearn", tiny, *asked(moved), *ask).document["run"] == first["run"]


def test_a_table_is_printed_for_people(cli: Cli, tiny: Path, skills: dict[str, Path]) -> None:
    shown = cli("unlearn", tiny, *asked(skills, "--method", "ksd", "--no-controls")).out
    assert shown.startswith("KSD ")  # the verdict comes first, then its table
    assert "drop as asked" in shown
    assert "What it took: layers" in shown
    assert "one (forget)" in shown
    assert "over-refusal" in shown
    assert "in wordings that no probe had" in shown


def test_answers_that_are_cut_off_are_warned_of(cli: Cli, tiny: Path, skills: dict[str, Path]) -> None:
    done = cli("unlearn", tiny, *asked(skills, "--method", "ksd", "--no-controls"))
    assert "% of a skill's answers are cut off at 12 tokens" in done.err


@pytest.mark.slow
@pytest.mark.parametrize("method", ["ksd", "na", "sp"])
def test_a_recipe_does_in_generate_what_it_did_in_the_test(
    cli: Cli, tiny: Path, skills: dict[str, Path], tmp_path: Path, method: str
) -> None:
    out = tmp_path / "guard.json"
    ask = asked(skills, "--method", method, "--no-controls", "--share", "5", "--recipe", out)
    cli("unlearn", tiny, *ask)
    assert sorted(p.name for p in tmp_path.glob("guard*")) == ["guard.json", "guard.safetensors"]
    prompts = [json.loads(line)["prompt"] for line in skills["one"].read_text().splitlines()[:40:4]]
    found = [
        cli("generate", tiny, "--prompt", prompt, "--recipe", out, "--json").document for prompt in prompts
    ]
    assert any(pair["base"] != pair["changed"] for pair in found)
    prompt = prompts[0]
    refused = cli("generate", tiny, "--prompt", prompt, "--recipe", out, "--keep", "x")
    assert refused.code == 2
    assert "cannot hold tensors" in refused.err
    again = tmp_path / "again.json"
    clamp = ("--clamp", "L0.N1:ablate", "--recipe-out", again)
    wider = cli("generate", tiny, "--prompt", prompt, "--recipe", out, *clamp, "--json").document
    assert len(json.loads(again.read_text())["interventions"]) == 2
    same = cli("generate", tiny, "--prompt", prompt, "--recipe", again, "--json").document
    assert same["changed"] == wider["changed"]
    out.with_suffix(".safetensors").unlink()
    missing = cli("generate", tiny, "--prompt", prompt, "--recipe", out)
    assert missing.code == 2
    assert "keep both files together" in missing.err


def test_a_skill_is_fitted_and_a_query_held_against_it(cli: Cli, tiny: Path, skills: dict[str, Path]) -> None:
    asked = ("--skill", skills["one"], "--name", "letters", "--compared", skills["two"])
    first, again = (cli("skill", "fit", tiny, *asked, "--json").document for _ in range(2))
    assert list(first) == ["name", "run", "layer", "n", "k", "cached"]
    assert (first["name"], first["layer"], first["cached"], again["cached"]) == ("letters", 1, False, True)
    known = json.loads(skills["one"].read_text().splitlines()[3])["prompt"]
    found = cli("skill", "check", tiny, "--name", "letters", "--query", known, "--json").document
    assert list(found) == ["name", "inside", "alpha", "neurons"]
    assert found["inside"] is True
    assert 0 < found["alpha"] <= 1.0001
    assert found["neurons"][0]["share"] == pytest.approx(found["alpha"], rel=1e-5)
    assert "inside" in cli("skill", "check", tiny, "--name", "letters", "--query", known).out
    unknown = cli("skill", "check", tiny, "--name", "numbers", "--query", known)
    assert unknown.code == 2
    assert "fitted: letters. Fit it with `skill fit`" in unknown.err


def test_the_app_opens_what_the_command_computed_as_a_job(
    cli: Cli, tiny: Path, skills: dict[str, Path], tmp_path: Path
) -> None:
    database = tmp_path / "shared.db"
    told = cli("unlearn", tiny, *asked(skills, "--method", "sp", "--share", "5", "--no-controls"), "--db",
               database, "--json").document  # fmt: skip
    store = open_store(database)
    [job] = list_jobs(store)
    assert (job.title, job.state) == ("Forget one", "done")
    question = UnlearningQuestion(
        make_skill_source(skills["one"]),
        (make_skill_source(skills["two"]),),
        methods=("sp",),
        shares=(5.0,),
        max_new_tokens=3,
        controls=False,
        robustness=False,
    )
    with lease_model(ModelRef(str(tiny))) as loaded:
        found = find_unlearning_answer(loaded, store, question)
    assert found is not None
    assert found.document == told | {"cached": True}


@pytest.mark.slow
def test_a_guard_is_written_as_a_script(
    cli: Cli, tiny: Path, skills: dict[str, Path], tmp_path: Path
) -> None:
    recipe, script = tmp_path / "g.json", tmp_path / "g.py"
    cli(
        "unlearn",
        tiny,
        *asked(skills, "--method", "ksd", "--no-controls", "--recipe", recipe, "--snippet", script),
    )
    prompt = json.loads(skills["one"].read_text().splitlines()[0])["prompt"]
    pair = cli("generate", tiny, "--prompt", prompt, "--recipe", recipe, "--json").document
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == REFUSAL
    assert "do not know" in pair["changed"]["text"]  # the tiny model has no token for all of it
    assert "do not know" not in pair["base"]["text"]


def test_pruned_neurons_are_baked_into_a_model(
    cli: Cli, tiny: Path, skills: dict[str, Path], tmp_path: Path
) -> None:
    recipe, baked = tmp_path / "p.json", tmp_path / "baked"
    ask = ("--method", "sp", "--share", "5", "--no-controls", "--recipe", recipe, "--bake", baked)
    cli("unlearn", tiny, *asked(skills, *ask))
    prompt = json.loads(skills["one"].read_text().splitlines()[0])["prompt"]
    pair = cli("generate", tiny, "--prompt", prompt, "--recipe", recipe, "--json").document
    alone = cli("generate", baked, "--prompt", prompt, "--json").document
    assert alone["base"]["token_ids"] == pair["changed"]["token_ids"]
    assert pair["changed"] != pair["base"]


def test_a_concept_is_removed(cli: Cli, tmp_path: Path) -> None:
    lines = [
        {"prompt": "What is the capital of France?", "word": "Paris"},
        {"prompt": "Which city is the capital of France?", "word": "Paris", "split": "held_out"},
        {"prompt": "What is the capital of Greece?", "word": "Athens"},
        {"prompt": "Which animal barks?", "split": "other"},
    ]
    file = tmp_path / "prompts.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    ask = ("demo/chat", "--concept", "Paris", "--prompts", file, "--max-kl", "0.05")
    out = ("--db", tmp_path / "t.db", "--recipe", tmp_path / "t.json")
    found = cli("tars", *ask, *out, "--json").document
    assert list(found) == [
        *("verdict", "concepts", "kl", "answers_unchanged", "other_answers", "head_row_baseline", "version")
    ]
    (one,) = found["concepts"]
    assert one["probability"]["aimed"][1] <= 0.01 < one["probability"]["aimed"][0]
    assert len(one["probability"]["held_out"]) == 1
    assert set(found["kl"]["chat"]) == {"median", "p95", "max", "n"}
    changed = cli(
        *("generate", "demo/chat", "--prompt", "What is the capital of France?", "--word", "Paris"),
        *("--recipe", tmp_path / "t.json", "--json"),
    )
    word = changed.document["word"]
    assert word["changed"] < 0.02 < word["base"]
    shown = cli("tars", *ask, *out)
    assert shown.out.splitlines()[0] == found["verdict"]
    assert "head row zeroed" in shown.out
    refused = cli("tars", *ask, "--threshold", "1", "--no-head-rows")
    assert refused.code == 2
    assert "lower the threshold" in refused.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--concept", "Athens", "--prompt", "What is the capital of France?"), "does not say 'Athens'"),
        (("--concept", "Paris"), "no prompt that leads to 'Paris'"),
        (("--concept", "the", "--prompt", "Say it."), "a word that any text needs"),
        (("--concept", "Paris", "--prompt", "Is it Paris?"), "contains 'Paris' itself"),
        (("--concept", "Paris", "--prompt", "a", "--goal", "1"), "above 0 and below 1"),
        (
            ("--concept", "Paris", "--concept", "Athens", "--prompt", "a", "--held-out", "b"),
            "are of one concept",
        ),
    ],
)
def test_a_concept_that_cannot_be_removed_is_refused(
    cli: Cli, arguments: tuple[str, ...], message: str
) -> None:
    answer = cli("tars", "demo/chat", *arguments)
    assert answer.code == 2
    assert message in answer.err
    assert answer.out == ""


REFUSED: dict[str, tuple[tuple[object, ...], str]] = {
    "no such method": (("--method", "magic"), "choose of ksd, na, sp, each once"),
    "a method twice": (("--method", "sp", "--method", "sp"), "each once"),
    "no such layer": (("--method", "ksd", "--layers", "7"), "layer 7 has no dense FFN block"),
    "layers in words": (("--layers", "some"), "write last, best, all, or numbers"),
    "a share of nothing": (("--method", "sp", "--share", "0"), "choose a share above 0"),
    "too few": (("--method", "ksd", "--limit", "20"), "KSD needs at least 30; use 240 of its 294"),
    "a script without a recipe": (("--method", "ksd", "--snippet", "x.py"), "give --recipe too"),
    "a baked guard": (("--method", "ksd", "--bake", "baked"), "make sp the first --method"),
    "baked into what is there": (("--method", "sp", "--bake", "."), "is not empty"),
    "out of reach": (("--recipe", "/nowhere/x.json"), "there is no folder"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_refused_in_a_sentence(cli: Cli, tiny: Path, skills: dict[str, Path], case: str) -> None:
    arguments, message = REFUSED[case]
    answer = cli("unlearn", tiny, *asked(skills, *arguments))
    assert answer.code == 2
    assert message in answer.err
    assert answer.out == ""


def test_what_is_forgotten_cannot_be_kept(
    cli: Cli, tiny: Path, skills: dict[str, Path], tmp_path: Path
) -> None:
    copy = tmp_path / "copy.jsonl"
    copy.write_bytes(skills["one"].read_bytes())
    answer = cli("unlearn", tiny, "--forget", skills["one"], "--retain", copy)
    assert answer.code == 2
    assert "are in copy too, which is to be kept" in answer.err


def test_a_method_that_can_do_nothing_is_refused_before_any_other_has_worked(
    cli: Cli, tiny: Path, skills: dict[str, Path]
) -> None:
    before = len(cli("runs", "list", "--json").document["runs"])
    answer = cli("unlearn", tiny, "--forget", skills["one"], *QUICK)
    assert answer.code == 2
    assert "give at least one to retain, or choose KSD alone" in answer.err
    assert len(cli("runs", "list", "--json").document["runs"]) == before


def test_code_is_not_run_unless_asked_for(cli: Cli, tiny: Path, tmp_path: Path) -> None:
    records = [
        {"prompt": f"{a}{b}", "judge": "tests", "tests": ["assert True"]}
        for a in "abcdefgh"
        for b in "abcdefghij"
    ]
    code = tmp_path / "code.jsonl"
    code.write_text("\n".join(json.dumps(record) for record in records))
    answer = cli("unlearn", tiny, "--forget", code, "--method", "ksd")
    assert answer.code == 2
    assert "allow it with --tests" in answer.err


def test_a_file_that_changes_meanwhile_is_told(tiny: Path, skills: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_bytes(skills["one"].read_bytes())
    question = UnlearningQuestion(make_skill_source(path))
    assert read_question(question.document()) == question
    path.write_text(json.dumps({"prompt": "a", "answer": "b"}))
    with pytest.raises(SkillError, match="was changed during the job"):
        question.scene()


def test_the_skill_in_another_language_is_in_the_answer_and_in_the_key(
    cli: Cli, tiny: Path, skills: dict[str, Path], tmp_path: Path
) -> None:
    prompts = [json.loads(line) for line in skills["one"].read_text().splitlines()[::9]]
    other = tmp_path / "autre.jsonl"
    other.write_text("\n".join(json.dumps(p | {"prompt": f"<{p['prompt']}", "lang": "fr"}) for p in prompts))
    question = ("--forget", skills["one"], "--retain", skills["two"], "--method", "sp", "--share", "5")
    short = ("--max-new-tokens", "3", "--no-controls")
    plain = cli("unlearn", tiny, *question, *short, "--json").document
    found = cli("unlearn", tiny, *question, *short, "--other-language", other, "--json").document
    assert found["run"] != plain["run"]
    forms = [(form["form"], form["lang"]) for form in found["methods"][0]["robustness"]]
    assert forms[-1] == ("other_language", "fr")
    assert [form for form, _ in forms[:-1]] == [f["form"] for f in plain["methods"][0]["robustness"]]
    assert found["methods"][0]["robustness"][-1]["n"] == len(prompts)
    shown = cli("unlearn", tiny, *question, *short, "--other-language", other).out
    assert "other_language fr" in shown
    moved = tmp_path / "moved.jsonl"
    moved.write_bytes(other.read_bytes())
    again = cli("unlearn", tiny, *question, *short, "--other-language", moved, "--json").document
    assert again["run"] != found["run"]  # it has another name
    other.unlink()
    (tmp_path / "deep").mkdir()
    same = moved.rename(tmp_path / "deep" / "autre.jsonl")
    assert cli("unlearn", tiny, *question, *short, "--other-language", same, "--json").document["cached"]


def test_another_language_that_is_none_is_refused(cli: Cli, tiny: Path, skills: dict[str, Path]) -> None:
    answer = cli("unlearn", tiny, *asked(skills)[:4], "--other-language", skills["two"])
    assert answer.code == 2
    assert "two is in en, as the probes of one are" in answer.err
    answer = cli("unlearn", tiny, *asked(skills), "--other-language", skills["two"])
    assert answer.code == 2
    assert "which is off" in answer.err


def test_near_and_unlisted_sets_and_a_guards_choices_are_in_the_question(
    cli: Cli, tiny: Path, skills: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sets = {}
    for name in ("near", "far"):
        lines = [json.loads(line) for line in skills["two"].read_text().splitlines()[:60]]
        sets[name] = tmp_path / f"{name}.jsonl"
        made = [line | {"prompt": f"{name[0]}{line['prompt']}"} for line in lines]
        sets[name].write_text("\n".join(map(json.dumps, made)))
    seen: list[UnlearningQuestion] = []

    def stop(store: object, engine: object, order: Order, spec: object) -> None:
        seen.append(read_question(order.parameters["question"]))
        raise SkillError("that is enough")

    monkeypatch.setattr("workbench.cli.commands.unlearn.answer_order", stop)
    more = ("--near", sets["near"], "--unlisted", sets["far"], "--measure", "gauss")
    answer = cli("unlearn", tiny, *asked(skills, *more, "--key", "user_mean", "--wrap"))
    assert "that is enough" in answer.err
    assert "This takes about" in answer.err
    assert "by a short measurement of the model; --quick takes about" in answer.err
    (question,) = seen
    assert [source.name for source in question.near] == ["near"]
    assert [source.name for source in question.unlisted] == ["far"]
    assert (question.measure, question.key, question.wrap) == ("gauss", "user_mean", True)
    both = cli("unlearn", tiny, *asked(skills, "--near", skills["two"]))
    assert both.code == 2
    assert "two skills have the same name" in both.err
    quick = cli("unlearn", tiny, "--forget", skills["one"], "--retain", skills["two"], "--quick")
    assert "--quick takes" not in quick.err
    assert (seen[-1].methods, seen[-1].controls, seen[-1].robustness) == (("ksd",), False, True)
    assert 0 < seen[-1].limit < 361


def test_a_stored_answer_is_not_timed_again(
    cli: Cli, tiny: Path, skills: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = asked(skills, "--method", "ksd", "--no-controls")
    assert "This takes about" in cli("unlearn", tiny, *ask).err
    again = cli("unlearn", tiny, *ask)
    assert again.code == 0
    assert "This takes" not in again.err
