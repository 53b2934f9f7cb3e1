"""Findings as Markdown: model text in fences it cannot close, everything else escaped."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence

from store.evidence import (
    EvidenceView,
    format_cell,
    format_digits,
    list_facts,
    make_token_visible,
    make_visible,
    read_evidence,
)
from store.findings import Finding
from store.headlines import write_headline
from store.pruning_evidence import SET_COLUMNS
from store.unlearning_evidence import MEASURE_COLUMNS
from store.word_evidence import DOSE_COLUMNS, LEVER_COLUMNS, WordEvidence

_SPECIAL = re.compile(r"([\\`*_\[\]<>|#~$&])")


def write_findings_markdown(findings: Iterable[Finding]) -> str:
    """The findings as one Markdown document (CommonMark with tables), each under its own heading."""
    parts = ["# Headlamp findings"]
    for finding in findings:
        parts += _finding(finding)
    return "\n\n".join(parts) + "\n"


def fence_code(text: str, language: str = "") -> str:
    """`text` in a code block whose fence is longer than any run of backticks in it."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{make_visible(text)}\n{fence}"


def escape_markdown(text: str) -> str:
    """`text` on one line, with nothing Markdown or HTML would act on."""
    return _SPECIAL.sub(r"\\\1", make_visible(" ".join(text.split())))


def _finding(finding: Finding) -> Iterator[str]:
    shown = read_evidence(finding.evidence)
    yield f"## {escape_markdown(finding.title)}"
    headline = write_headline(finding, shown)
    if headline:
        yield f"**{escape_markdown(headline)}**"
    if finding.note:
        yield "\n>\n".join(f"> {escape_markdown(line)}" for line in finding.note.splitlines() if line.strip())
    yield from _texts(shown)
    yield from _word(shown.said)
    if shown.pruned_sets:
        rows = [[escape_markdown(format_cell(cell)) for cell in one.cells()] for one in shown.pruned_sets]
        yield "**Sets of experts**\n\n" + _table(SET_COLUMNS, rows)
    for method in shown.methods:
        rows = [list(map(escape_markdown, row.cells())) for row in method.rows]
        yield f"**{escape_markdown(method.title)}: {escape_markdown(method.took)}**"
        yield _table(MEASURE_COLUMNS, rows)
    yield from _tables(shown)
    facts = [(name, escape_markdown(fact)) for name, fact in list_facts(finding, shown).items()]
    yield "**Settings**\n\n" + _table(("", ""), facts)
    rest = {"Recipe": finding.evidence.get("recipe"), "Evidence": None if shown.tells else finding.evidence}
    for name, part in rest.items():
        if part:
            yield f"**{name}**\n\n" + fence_code(json.dumps(part, indent=1), "json")


def _texts(shown: EvidenceView) -> Iterator[str]:
    """What was said before, turn by turn, and both texts."""
    for speaker, text in shown.conversation:
        yield f"**{escape_markdown(speaker)}**\n\n{fence_code(text)}"
    begun = shown.opening if shown.conversation else ""
    who = ", Assistant" if shown.conversation else ""
    texts = {
        "Prompt": "" if shown.conversation else shown.prompt,
        f"Base{who}": shown.base_text and begun + shown.base_text,
        f"Changed{who}": shown.changed_text and begun + shown.changed_text,
    }
    for name, text in texts.items():
        if text:
            yield f"**{name}**\n\n{fence_code(text)}"


def _tables(shown: EvidenceView) -> Iterator[str]:
    if shown.answer:
        rows = [
            (
                escape_markdown(make_token_visible(row.token)),
                format_digits(row.base),
                format_digits(row.changed),
            )
            for row in shown.answer
        ]
        yield "**Answer position**\n\n" + _table(("token", "p base", "p changed"), rows)
    for decoded in shown.sites:
        rows = [
            (escape_markdown(make_token_visible(token)), format_digits(logit), format_digits(probability))
            for token, logit, probability in decoded.tokens
        ]
        name = escape_markdown(f"{decoded.site}, {decoded.end} tokens")
        yield f"**{name}**\n\n" + _table(("token", "logit", "probability"), rows)


def _word(said: WordEvidence) -> Iterator[str]:
    """The tables of a word's levers or doses, and the prompts."""
    for name, columns, facts in (
        ("Levers", LEVER_COLUMNS, [one.cells() for one in said.levers]),
        (f"Doses, {said.unit}", DOSE_COLUMNS, [one.cells() for one in said.doses]),
    ):
        if facts:
            rows = [[escape_markdown(format_cell(cell)) for cell in cells] for cells in facts]
            yield f"**{escape_markdown(name)}**\n\n{_table(columns, rows)}"
    if said.prompts and said.verdict:
        rows = [[one.purpose, escape_markdown(one.line)] for one in said.prompts]
        yield f"**Prompts**\n\n{_table(('', 'prompt'), rows)}"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
