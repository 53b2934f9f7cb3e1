"""Findings as Markdown: model text in fences it cannot close, everything else escaped."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence

from store.evidence import Reading, facts, read_evidence, shown_number, visible, visible_token
from store.findings import Finding

_SPECIAL = re.compile(r"([\\`*_\[\]<>|#~$&])")


def findings_markdown(findings: Iterable[Finding]) -> str:
    """The findings as one Markdown document (CommonMark with tables), each under its own heading."""
    parts = ["# Headlamp findings"]
    for finding in findings:
        parts += _finding(finding)
    return "\n\n".join(parts) + "\n"


def fenced(text: str, language: str = "") -> str:
    """`text` in a code block whose fence is longer than any run of backticks in it."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{visible(text)}\n{fence}"


def escaped(text: str) -> str:
    """`text` on one line, with nothing Markdown or HTML would act on."""
    return _SPECIAL.sub(r"\\\1", visible(" ".join(text.split())))


def _finding(finding: Finding) -> Iterator[str]:
    shown = read_evidence(finding.evidence)
    yield f"## {escaped(finding.title)}"
    if finding.note:
        yield "\n>\n".join(f"> {escaped(line)}" for line in finding.note.splitlines() if line.strip())
    yield _table(("", ""), [(name, escaped(fact)) for name, fact in facts(finding, shown).items()])
    texts = {"Prompt": shown.prompt, "Base": shown.base_text, "Changed": shown.changed_text}
    for name, text in texts.items():
        if text:
            yield f"**{name}**\n\n{fenced(text)}"
    yield from _tables(shown)
    rest = {"Recipe": finding.evidence.get("recipe"), "Evidence": None if shown.tells else finding.evidence}
    for name, part in rest.items():
        if part:
            yield f"**{name}**\n\n" + fenced(json.dumps(part, indent=1), "json")


def _tables(shown: Reading) -> Iterator[str]:
    if shown.answer:
        rows = [
            (escaped(visible_token(row.token)), shown_number(row.base), shown_number(row.changed))
            for row in shown.answer
        ]
        yield "**Answer position**\n\n" + _table(("token", "p base", "p changed"), rows)
    for decoded in shown.sites:
        rows = [
            (escaped(visible_token(token)), shown_number(logit), shown_number(probability))
            for token, logit, probability in decoded.tokens
        ]
        name = escaped(f"{decoded.site}, {decoded.end} tokens")
        yield f"**{name}**\n\n" + _table(("token", "logit", "probability"), rows)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
