"""Findings as Markdown: model text in fences it cannot close, everything else escaped."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence

from store.evidence import (
    EvidenceView,
    format_digits,
    list_facts,
    make_token_visible,
    make_visible,
    read_evidence,
)
from store.findings import Finding

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
    if finding.note:
        yield "\n>\n".join(f"> {escape_markdown(line)}" for line in finding.note.splitlines() if line.strip())
    yield _table(
        ("", ""), [(name, escape_markdown(fact)) for name, fact in list_facts(finding, shown).items()]
    )
    texts = {"Prompt": shown.prompt, "Base": shown.base_text, "Changed": shown.changed_text}
    for name, text in texts.items():
        if text:
            yield f"**{name}**\n\n{fence_code(text)}"
    yield from _tables(shown)
    rest = {"Recipe": finding.evidence.get("recipe"), "Evidence": None if shown.tells else finding.evidence}
    for name, part in rest.items():
        if part:
            yield f"**{name}**\n\n" + fence_code(json.dumps(part, indent=1), "json")


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


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
