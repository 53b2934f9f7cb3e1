"""Exports: complete, harmless whatever a model wrote, and readable back."""

import csv
import io
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from store import (
    BadImport,
    Finding,
    ImportResult,
    Store,
    get_finding,
    import_findings,
    list_findings,
    open_store,
    write_findings_csv,
    write_findings_html,
    write_findings_json,
    write_findings_markdown,
)
from store.csv_cells import csv_cell, write_csv

Keep = Callable[..., Finding]

HOSTILE = [
    "<script>alert(1)</script>",
    "```\n# out\n````",
    "=cmd()",
    "a|b",
    "\u202egnp.exe",
    "\0",
    '"><img src=x>',
]
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-9, 9)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
EVIDENCE_KEYS = [
    "run",
    "clamps",
    "prompt",
    "seed",
    "base",
    "changed",
    "answer",
    "word",
    "sites",
    "recipe",
    "address",
]


def hostile_evidence(text: str) -> dict[str, Any]:
    row = {"token_id": 1, "token": text, "probability": 0.5, "logit": 1.0}
    return {
        "run": text,
        "clamps": [text],
        "prompt": text,
        "base": {"text": text},
        "changed": {"text": text},
        "answer": {"base": [row], "changed": [row]},
        "word": {"word": text, "base": 0.1, "changed": 0.2},
        "sites": {text: {"top": [row], "bottom": [row]}},
        "recipe": {"note": text},
        "address": text,
    }


@pytest.fixture(params=HOSTILE)
def hostile(request: pytest.FixtureRequest, keep: Keep) -> Finding:
    text = request.param
    return keep(title=text, note=text, tags=[text, "t"], model_name=text, evidence=hostile_evidence(text))


def csv_rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_csv_has_one_row_per_finding_with_the_named_columns(keep: Keep) -> None:
    rows = csv_rows(write_findings_csv([keep(tags=["a", "b"]), keep(evidence={})]))
    assert list(rows[0]) == (
        "id,title,note,tags,model,fingerprint,kind,created_at,prompt,recipe clamps,base text,changed text,"
        "word,p base,p changed,run key,seed"
    ).split(",")
    first = rows[0]
    assert (first["tags"], first["prompt"], first["base text"]) == (
        "a, b",
        "The capital of France is",
        " Paris, of course",
    )
    assert (first["recipe clamps"], first["p base"], first["p changed"], first["seed"]) == (
        "L2.N47:key:set:-8x@all",
        "0.75",
        "0.125",
        "7",
    )
    assert rows[1]["prompt"] == rows[1]["p base"] == rows[1]["seed"] == ""


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "＝", " =", "\u3000@", "\ufeff="])
def test_no_csv_cell_is_a_formula(keep: Keep, start: str) -> None:
    text = start + "cmd()|'/c calc'!A1"
    (row,) = csv_rows(write_findings_csv([keep(title=text, note=text, evidence=hostile_evidence(text))]))
    for column in (
        "title",
        "note",
        "prompt",
        "base text",
        "changed text",
        "word",
        "recipe clamps",
        "run key",
    ):
        assert row[column] == "'" + text


@pytest.mark.parametrize(
    "text", ["=1+1", " =1+1", "\n=1", "\xa0-1", "+", "-dog", "@SUM", "\t=1", "\r1", "＝1", " ＋1", "\u200b=1"]
)
def test_a_cell_that_a_spreadsheet_would_run_is_made_text(text: str) -> None:
    assert csv_cell(text) == "'" + text


@pytest.mark.parametrize("value", [" dog", "a=b", "<script>", "", "'", -1, -0.25, True])
def test_any_other_cell_stays_as_it_is(value: object) -> None:
    assert csv_cell(value) is value


@pytest.mark.parametrize(("value", "written"), [(None, ""), ("a\0b", "a\ufffdb"), ("\ud83d", "\ufffd")])
def test_a_cell_that_csv_cannot_hold_is_replaced(value: object, written: str) -> None:
    assert csv_cell(value) == written


def test_a_table_quotes_texts_and_writes_numbers_as_numbers() -> None:
    stream = io.StringIO()
    write_csv(stream, ["token", "=p"], [[" -dog", -0.1], ["a", None]])
    assert stream.getvalue() == '"token","\'=p"\r\n"\' -dog",-0.1\r\n"a",""\r\n'


def test_csv_keeps_hostile_text_in_its_cell(hostile: Finding) -> None:
    (row,) = csv_rows(write_findings_csv([hostile]))
    assert row["title"].removeprefix("'") == hostile.title.replace("\0", "\ufffd")
    assert row["kind"] == "generation"


def outside_fences(markdown: str) -> str:
    """The document without its code blocks, read as CommonMark reads them."""
    lines, fence = [], ""
    for line in re.split("\r\n|\r|\n", markdown):
        run = re.match("`{3,}", line)
        if fence:
            closes = run and len(run[0]) >= len(fence) and not line.strip("` ")
            fence = "" if closes else fence
        elif run:
            fence = run[0]
        else:
            lines.append(line)
    assert not fence
    return "\n".join(lines)


def test_markdown_keeps_model_text_inside_its_fences_and_escapes_the_rest(hostile: Finding) -> None:
    document = write_findings_markdown([hostile])
    prose = outside_fences(document)
    assert not re.search(r"(?<!\\)<", prose)
    assert [line for line in prose.splitlines() if line.startswith("#")] == [
        "# Headlamp findings",
        *[line for line in prose.splitlines() if line.startswith("## ")],
    ]
    assert "`" not in re.sub(r"\\`", "", prose)
    assert not re.search("[\0\u202e]", document)
    tables = [line for line in prose.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in tables} == {3, 4}


def test_markdown_shows_texts_recipe_and_answer(keep: Keep) -> None:
    document = write_findings_markdown([keep(note="first\n\nsecond")])
    for part in (
        "## A capital neuron",
        "> first",
        "> second",
        "```\n Rome, I think\n```",
        "| ␣Rome | – | 0.5 |",
    ):
        assert part in document
    assert '"headlamp_recipe": 1' in document
    assert "␣Paris: 0.75 → 0.125" in document


def test_an_unknown_kind_shows_its_whole_evidence(keep: Keep) -> None:
    finding = keep(kind="experts", evidence={"super": ["L1.E68"]})
    assert '"L1.E68"' in write_findings_markdown([finding])
    assert "L1.E68" in write_findings_html([finding])


class Tags(HTMLParser):
    """Every tag and attribute of a document, its text, and whether each tag that opens also closes."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.open: list[str] = []
        self.words = ""
        self.feed(document)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data


def test_html_holds_hostile_text_as_text_only(hostile: Finding) -> None:
    document = write_findings_html([hostile])
    page = Tags(document)
    assert page.open == []
    assert not page.tags & {"script", "img", "link", "iframe", "svg"}
    assert page.attributes <= {
        *("lang", "charset", "http-equiv", "content", "name", "class", "style", "dir"),
    }
    assert not re.search("[\0\u202e]", document)
    assert "default-src 'none'" in document
    assert "://" not in document
    if hostile.title == HOSTILE[0]:
        assert page.words.count(hostile.title) > 10


def test_html_shows_both_columns_and_bars(keep: Keep) -> None:
    document = write_findings_html([keep()])
    assert 'Base</h3><pre dir="auto">\n Paris, of course</pre>' in document
    assert 'Changed</h3><pre dir="auto">\n Rome, I think</pre>' in document
    assert 'class="bar base" style="width:75.0%"' in document
    assert 'class="bar changed" style="width:50.0%"' in document
    assert "prefers-color-scheme: dark" in document


def test_right_to_left_text_is_kept_and_set_apart(keep: Keep) -> None:
    document = write_findings_html([keep(title="שלום", evidence={"base": {"text": "مرحبا"}})])
    assert '<h2 dir="auto">שלום</h2>' in document
    assert '<pre dir="auto">\nمرحبا</pre>' in document


def test_a_decoded_neuron_is_shown_with_both_ends(keep: Keep) -> None:
    row = {"token_id": 1, "token": "\n", "logit": 3.25, "probability": 0.5}
    site = {"top": [row], "bottom": [row | {"logit": -2}], "log_z": 1.0, "weight_norm": 2.0}
    finding = keep(kind="neuron", evidence={"address": "L2.N47", "sites": {"up": site}})
    document = write_findings_markdown([finding])
    assert "| ⏎ | 3.25 | 0.5 |" in document
    assert "| ⏎ | -2 | 0.5 |" in document
    assert "up, bottom tokens" in write_findings_html([finding])


@pytest.mark.slow
@settings(max_examples=80, deadline=None)
@given(st.dictionaries(st.sampled_from(EVIDENCE_KEYS), json_values, max_size=6), st.text(min_size=1))
def test_no_evidence_makes_an_export_raise(evidence: dict[str, Any], title: str) -> None:
    finding = Finding("0" * 32, title, title, (title,), title, "f", "k", evidence, "t", "t")
    for export in (write_findings_json, write_findings_csv, write_findings_markdown, write_findings_html):
        export([finding]).encode()
    outside_fences(write_findings_markdown([finding]))
    assert Tags(write_findings_html([finding])).open == []


def test_a_lone_surrogate_leaves_every_export_valid_utf8(keep: Keep) -> None:
    finding = keep(evidence=hostile_evidence("\ud83d"))
    for export in (write_findings_json, write_findings_csv, write_findings_markdown, write_findings_html):
        export([finding]).encode()


def test_findings_go_through_json_to_another_store_whole(hostile: Finding, tmp_path: Path) -> None:
    other = open_store(tmp_path / "other.db")
    text = write_findings_json([hostile])
    assert import_findings(other, text) == ImportResult(added=1, already_there=0)
    assert import_findings(other, text) == ImportResult(added=0, already_there=1)
    assert list_findings(other) == [hostile]
    assert list_findings(other, search="t", tag="t") == [hostile]
    other.close()


def test_an_import_leaves_a_finding_that_is_there_alone(keep: Keep, store: Store) -> None:
    kept = keep()
    document = json.loads(write_findings_json([kept, kept]))
    document["findings"][0]["title"] = "Forged"
    assert import_findings(store, json.dumps(document)) == ImportResult(added=0, already_there=2)
    assert get_finding(store, kept.id) == kept


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "not JSON"),
        ("[" * 200_000, "not JSON"),
        ('{"headlamp_findings": 1, "findings": [' + "9" * 5000 + "]}", "JSON"),
        ("[]", "headlamp_findings"),
        ('{"headlamp_findings": 2, "findings": []}', "update Headlamp"),
        ('{"headlamp_findings": true, "findings": []}', "an export's is 1"),
        ('{"headlamp_findings": 1, "findings": {}}', "not a list"),
        ('{"headlamp_findings": 1, "findings": [1]}', "finding 1 is malformed"),
        ('{"headlamp_findings": 1, "findings": [{}]}', "finding 1 is malformed .*'id'"),
    ],
)
def test_a_document_that_is_no_export_is_refused(store: Store, text: str, why: str) -> None:
    with pytest.raises(BadImport, match=why):
        import_findings(store, text)


@pytest.mark.parametrize(
    "change",
    [
        {"id": "'; DROP TABLE findings; --"},
        {"id": "A" * 32},
        {"title": "  "},
        {"title": None},
        {"tags": "text"},
        {"tags": [1]},
        {"kind": "`![a](http://x)`"},
        {"kind": "Neuron"},
        {"kind": ""},
        {"kind": "generation\n"},
        {"kind": "k" * 33},
        {"evidence": []},
        {"evidence": {"p": float("nan")}},
        {"evidence": {"p": float("inf")}},
        {"created_at": "yesterday"},
        {"created_at": "2026-01-01T00:00:00"},
        {"updated_at": 5},
        {"created_at": "0001-01-01T00:00:00+23:00"},
    ],
    ids=str,
)
def test_one_malformed_finding_refuses_the_whole_import(keep: Keep, tmp_path: Path, change: Any) -> None:
    document = json.loads(write_findings_json([keep(), keep()]))
    document["findings"][1] |= change
    other = open_store(tmp_path / "other.db")
    with pytest.raises(BadImport, match="finding 2 is malformed"):
        import_findings(other, json.dumps(document))
    assert list_findings(other) == []
    other.close()
