"""Findings: kept whole, found by any word, never made to raise by what people type."""

import sqlite3
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from store import (
    Finding,
    FindingNotFound,
    Store,
    UnstorableValue,
    all_tags,
    delete_finding,
    free_space,
    get_finding,
    keep_finding,
    list_findings,
    update_finding,
)

Keep = Callable[..., Finding]
MOMENT = "2026-01-01T00:00:00.000+00:00"

hostile = st.text(max_size=30) | st.sampled_from(
    ['"', "AND(", "a* OR", "NEAR(", "title:x", "^", "\0", "🙂", "-"]
)
within_fixture = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def titles(findings: list[Finding]) -> list[str]:
    return [finding.title for finding in findings]


@within_fixture
@given(hostile.filter(str.strip), hostile, st.lists(hostile, max_size=3), hostile)
def test_hostile_text_comes_back_as_it_was_kept(
    store: Store, title: str, note: str, tags: list[str], text: str
) -> None:
    evidence: dict[str, Any] = {"prompt": text, text: [text, 0.5, None, True]}
    kept = keep_finding(
        store,
        title=title,
        note=note,
        tags=tags,
        kind="k",
        model_name=text,
        model_fingerprint="f",
        evidence=evidence,
    )
    assert get_finding(store, kept.id) == kept
    assert (kept.title, kept.note, kept.evidence) == (title, note, evidence)
    for tag in kept.tags:
        assert kept in list_findings(store, tag=tag, limit=1000)


@within_fixture
@given(st.lists(hostile, max_size=4).map(" ".join))
def test_no_search_raises(store: Store, search: str) -> None:
    list_findings(store, search=search)


@pytest.mark.parametrize("search", ["word " * 3000, "(" * 3000, "\ud800", '"' * 999, "a\0b", "* * *"])
def test_no_extreme_search_raises(keep: Keep, store: Store, search: str) -> None:
    keep()
    list_findings(store, search=search)


def test_text_no_database_holds_is_mended_in_words_and_kept_in_evidence(keep: Keep, store: Store) -> None:
    kept = keep(title="a\ud800", note="\udfff", tags=["\ud800"], evidence={"token": "\ud83d"})
    assert get_finding(store, kept.id) == kept
    assert (kept.title, kept.note, kept.tags) == ("a\ufffd", "\ufffd", ("\ufffd",))
    assert kept.evidence == {"token": "\ud83d"}


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("capital", True),
        ("cap", True),
        ("cap neuron", False),
        ("neuron cap", True),
        ("CÀPITAL", True),
        ("because", True),
        ("geography", True),
        ("course", True),
        ("Rome paris", True),
        ("🙂", True),
        ("☕", True),
        ("13", False),
        ("token_id", False),
        ("capital OR nothing", False),
        ("  ", True),
        ("((", False),
        ('capital "', True),
        ("( capital & neu", True),
        ("& capital nothing", False),
    ],
)
def test_a_finding_is_found_by_its_words_in_every_field(
    keep: Keep, store: Store, search: str, found: bool
) -> None:
    keep(note="Because 🙂 ☕ it says so", tags=["geography"])
    assert len(list_findings(store, search=search)) == found


def test_a_match_in_the_title_comes_before_one_in_the_evidence(keep: Keep, store: Store) -> None:
    keep(title="Rome")
    keep(title="Other", evidence={"text": "Rome"})
    assert titles(list_findings(store, search="rome")) == ["Rome", "Other"]


def test_the_index_follows_edits_deletions_and_a_shrunk_file(keep: Keep, store: Store) -> None:
    gone, edited, kept = keep(title="one"), keep(title="two"), keep(title="three")
    update_finding(store, edited.id, title="four", note="five", tags=["six"])
    delete_finding(store, gone.id)
    free_space(store)
    for search, expected in {
        "one": [],
        "two": [],
        "four": ["four"],
        "five": ["four"],
        "six": ["four"],
    }.items():
        assert titles(list_findings(store, search=search)) == expected
    assert len(store.rows("SELECT rowid FROM findings_fts")) == 2
    assert list_findings(store, search="three") == [kept]
    assert titles(list_findings(store, search="france")) == ["three", "four"]


def test_findings_are_listed_newest_first_and_by_tag(keep: Keep, store: Store) -> None:
    keep(title="alpha", tags=["x", " x ", "", "two  words"])
    keep(title="b", tags=["X"])
    keep(title="c", tags=["x"])
    assert titles(list_findings(store)) == ["c", "b", "alpha"]
    assert titles(list_findings(store, limit=2)) == ["c", "b"]
    assert titles(list_findings(store, tag="x")) == ["c", "alpha"]
    assert titles(list_findings(store, tag="x", search="alpha")) == ["alpha"]
    assert all_tags(store) == {"X": 1, "two words": 1, "x": 2}


def test_an_edit_changes_only_what_is_given_and_never_the_evidence(keep: Keep, store: Store) -> None:
    before = keep(note="n", tags=["t"])
    after = update_finding(store, before.id, note="m")
    assert (after.title, after.note, after.tags) == (before.title, "m", ("t",))
    assert after.evidence == before.evidence
    assert after.updated_at >= before.updated_at
    with pytest.raises(sqlite3.IntegrityError, match="never changes"):
        store.db.execute("UPDATE findings SET evidence = '{}'")


def test_a_finding_does_not_change_with_the_document_it_was_kept_from(keep: Keep, store: Store) -> None:
    document = {"tokens": ["a"]}
    kept = keep(evidence=document)
    document["tokens"].append("b")
    assert kept.evidence == {"tokens": ["a"]} == get_finding(store, kept.id).evidence


def test_the_beginning_of_an_id_suffices_where_it_fits_one(keep: Keep, store: Store) -> None:
    kept = keep()
    assert get_finding(store, f" {kept.id[:6].upper()} ") == kept
    with pytest.raises(FindingNotFound, match="at least the first 6"):
        get_finding(store, kept.id[:5])
    with pytest.raises(FindingNotFound, match="not the id of a finding"):
        get_finding(store, "%%%%%%")
    with pytest.raises(FindingNotFound, match="findings list"):
        get_finding(store, "0" * 32)


def test_the_beginning_of_two_ids_is_refused(keep: Keep, store: Store) -> None:
    for digit in "0f":
        store.db.execute(
            "INSERT INTO findings (id, title, note, tags, model_name, model_fingerprint, kind, evidence,"
            " created_at, updated_at) VALUES (?, 't', '', '[]', '', '', '', '{}', ?, ?)",
            ["abcdef" + digit * 26, MOMENT, MOMENT],
        )
    with pytest.raises(FindingNotFound, match="write more"):
        get_finding(store, "abcdef")
    assert get_finding(store, "abcdeff").id == "abcdef" + "f" * 26


def test_a_blank_title_tags_as_one_text_and_numbers_no_json_holds_are_refused(
    keep: Keep, store: Store
) -> None:
    with pytest.raises(UnstorableValue, match="title"):
        keep(title=" \n")
    with pytest.raises(UnstorableValue, match="list of tags"):
        keep(tags="one")
    with pytest.raises(UnstorableValue, match=r"evidence\.p"):
        keep(evidence={"p": float("nan")})
    with pytest.raises(UnstorableValue, match="title"):
        update_finding(store, keep().id, title="")
    assert titles(list_findings(store)) == ["A capital neuron"]
