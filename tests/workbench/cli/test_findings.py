"""The notebook and the stored runs from the command line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from store import Store, get_finding, keep_finding, open_store
from tests.workbench.conftest import Answer, Cli
from workbench.findings import findings as workbench_findings

Keep = Callable[..., str]
PROMPT = ("--prompt", "the dog", "--max-new-tokens", "6")


@pytest.fixture
def keep(cli: Cli, tiny: Path) -> Keep:
    """Keeps a pair of texts under a title; the finding's id."""

    def kept(title: str, *options: str) -> str:
        answer = cli("generate", tiny, *PROMPT, "--clamp", "L1.N5:set:9", *options, "--keep", title, "--json")
        assert "finding" not in answer.document
        assert "Kept as finding" in answer.err
        return str(cli("findings", "list", "--json").document["findings"][0]["id"])

    return kept


def tampered(change: Callable[[dict[str, Any]], None], finding_id: str) -> str:
    """A copy of a finding with other evidence; its id."""
    store: Store = open_store()
    found = get_finding(store, finding_id)
    evidence = json.loads(json.dumps(found.evidence))
    change(evidence)
    facts = {name: getattr(found, name) for name in ("kind", "model_name", "model_fingerprint")}
    copy = keep_finding(store, title="copy", evidence=evidence, **facts)
    store.close()
    return copy.id


def test_list_shows_what_was_kept_without_its_evidence(cli: Cli, keep: Keep) -> None:
    assert cli("findings", "list", "--json").document == {"findings": [], "unreadable": []}
    assert "No findings yet" in cli("findings", "list").out
    finding = keep("a dog neuron")
    (found,) = cli("findings", "list", "--json").document["findings"]
    assert list(found) == [
        *("id", "title", "note", "tags", "model_name", "model_fingerprint", "kind"),
        *("created_at", "updated_at"),
    ]
    assert (found["id"], found["title"], found["kind"]) == (finding, "a dog neuron", "generation")
    assert "a dog neuron" in cli("findings", "list").out


def test_list_searches_and_limits(cli: Cli, keep: Keep) -> None:
    keep("a dog neuron")
    keep("a cat neuron")

    def titles(*options: str) -> list[str]:
        return [f["title"] for f in cli("findings", "list", *options, "--json").document["findings"]]

    assert titles() == ["a cat neuron", "a dog neuron"]
    assert titles("--search", "cat neu") == ["a cat neuron"]
    assert titles("--tag", "none") == []
    assert titles("--limit", "1") == ["a cat neuron"]


def test_show_has_all_the_evidence(cli: Cli, keep: Keep) -> None:
    finding = keep("a dog neuron")
    found = cli("findings", "show", finding[:8], "--json").document
    assert found["evidence"]["prompt"] == "the dog"
    assert found["evidence"]["clamps"] == ["L1.N5:key:set:9@all"]
    shown = cli("findings", "show", finding).out
    assert "a dog neuron" in shown
    assert "L1.N5:key:set:9@all" in shown


@pytest.mark.parametrize(
    ("format", "begins"), [("json", b"{"), ("csv", b'"id"'), ("md", b"# "), ("html", b"<!")]
)
def test_export_writes_each_format(cli: Cli, keep: Keep, tmp_path: Path, format: str, begins: bytes) -> None:
    keep("a dog neuron")
    out = tmp_path / "findings"
    found = cli("findings", "export", "--format", format, "--out", out, "--json").document
    assert found == {"findings": 1, "format": format, "out": str(out)}
    assert out.read_bytes().lower().startswith(begins)
    assert b"a dog neuron" in out.read_bytes()


def test_export_takes_those_that_are_named_or_found(cli: Cli, keep: Keep, tmp_path: Path) -> None:
    first, _ = keep("a dog neuron"), keep("a cat neuron")
    out = tmp_path / "findings.json"

    def titles(*options: str) -> list[str]:
        cli("findings", "export", *options, "--format", "json", "--out", out)
        return [f["title"] for f in json.loads(out.read_text())["findings"]]

    assert titles() == ["a cat neuron", "a dog neuron"]
    assert titles(first, first[:10]) == ["a dog neuron"]
    assert titles("--search", "cat") == ["a cat neuron"]
    assert titles(first, "--search", "cat") == []
    assert titles("--tag", "none") == []


def test_an_export_can_be_imported_elsewhere_once(cli: Cli, keep: Keep, tmp_path: Path) -> None:
    finding, out, other = keep("a dog neuron"), tmp_path / "f.json", ("--db", tmp_path / "other.db")
    cli("findings", "export", "--format", "json", "--out", out)
    assert cli("findings", "import", out, *other, "--json").document == {"added": 1, "already_there": 0}
    assert cli("findings", "import", out, *other, "--json").document == {"added": 0, "already_there": 1}
    here, there = (cli("findings", "show", finding, *db, "--json").document for db in ((), other))
    assert here == there


def test_rerun_gives_the_same_again_as_a_run_of_its_own(cli: Cli, keep: Keep) -> None:
    finding = keep("a dog neuron", "--word", "cat", "--temperature", "2", "--seed", "5")
    answer = cli("findings", "rerun", finding, "--json")
    found = answer.document
    assert answer.code == 0
    assert list(found) == [
        *("id", "same", "tokens_equal", "largest_difference", "tolerance", "run", "explanation")
    ]
    assert (found["id"], found["same"], found["tokens_equal"]) == (finding, True, True)
    assert found["largest_difference"] <= found["tolerance"]
    then = cli("findings", "show", finding, "--json").document["evidence"]["run"]
    assert found["run"] != then


def test_rerun_ends_with_1_where_it_comes_out_another(cli: Cli, keep: Keep) -> None:
    def change(evidence: dict[str, Any]) -> None:
        evidence["changed"]["token_ids"][0] += 1

    answer: Answer = cli("findings", "rerun", tampered(change, keep("a dog neuron")), "--json")
    assert answer.code == 1
    assert (answer.document["same"], answer.document["tokens_equal"]) == (False, False)


@pytest.mark.parametrize("part", ["prompt", "recipe", "seed"])
def test_rerun_refuses_evidence_that_is_not_complete(cli: Cli, keep: Keep, part: str) -> None:
    answer = cli("findings", "rerun", tampered(lambda evidence: evidence.pop(part), keep("a dog neuron")))
    assert answer.code == 2
    assert "not complete enough" in answer.err


def test_rerun_knows_that_it_must_be_close(cli: Cli, keep: Keep, monkeypatch: pytest.MonkeyPatch) -> None:
    finding = keep("a dog neuron")
    monkeypatch.setattr(workbench_findings, "TOLERANCE", -1.0)
    assert cli("findings", "rerun", finding, "--json").code == 1


def test_runs_are_listed_and_deleted(cli: Cli, tiny: Path) -> None:
    run = cli("decode", tiny, "--json").document["run"]
    cli("neuron", tiny, "L0.N0", "--profile")
    listed = cli("runs", "list", "--json").document
    assert set(listed) == {"runs", "storage", "unreadable"}
    assert set(listed["storage"]) == {"file_bytes", "reclaimable_bytes"}
    assert {r["kind"] for r in listed["runs"]} == {"decode", "profile"}
    assert len(cli("runs", "list", "--kind", "profile", "--json").document["runs"]) == 1
    assert len(cli("runs", "list", "--limit", "2", "--json").document["runs"]) == 2
    assert run in cli("runs", "list").out
    found = cli("runs", "delete", run, run, "--json").document
    assert found["deleted"] == [run]
    assert found["freed_bytes"] > 0
    assert run not in cli("runs", "list").out
    assert not cli("decode", tiny, "--json").document["cached"]


def test_a_run_that_is_not_there_keeps_the_others_from_being_deleted(cli: Cli, tiny: Path) -> None:
    run = cli("decode", tiny, "--json").document["run"]
    assert cli("runs", "delete", run, "0" * 32).code == 2
    assert cli("decode", tiny, "--json").document["cached"]
