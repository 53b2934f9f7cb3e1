"""Findings as one offline HTML file: nothing fetched, all escaped, no scripts but those of its charts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from html import escape

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
from store.report_charts import Chart, ReportCharts, write_chart_data
from store.unlearning_evidence import MEASURE_COLUMNS, MethodVerdict
from store.word_evidence import DOSE_COLUMNS, LEVER_COLUMNS, WordEvidence

_HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="POLICY">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Headlamp findings</title>
<style>
:root { color-scheme: light dark; --ink: #1b1f24; --dim: #57606a; --paper: #fff; --line: #d0d7de;
        --base: #0072b2; --changed: #d55e00; --good: #1a7f37; --bad: #b3402a; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6edf3; --dim: #9da7b1; --paper: #0d1117; --line: #30363d;
          --base: #56b4e9; --changed: #e69f00; --good: #3fb950; --bad: #f0796b; }
}
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem; font: 1rem/1.5 system-ui, sans-serif;
       color: var(--ink); background: var(--paper); }
article { border-top: 1px solid var(--line); margin-top: 2rem; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; border: 1px solid var(--line); border-radius: 4px;
      padding: .5rem; margin: .25rem 0; }
.columns { display: grid; grid-template-columns: 1fr 1fr; gap: 1rem; }
.note { white-space: pre-wrap; }
table { border-collapse: collapse; margin: .5rem 0; }
th, td { text-align: left; padding: .15rem .75rem .15rem 0; border-bottom: 1px solid var(--line); }
th { color: var(--dim); font-weight: 500; }
td.number { font-variant-numeric: tabular-nums; }
.bar { display: block; height: .4rem; min-width: 1px; background: var(--base); }
.bar.changed { background: var(--changed); }
.chart { display: block; width: 10rem; }
.plot { min-height: 12rem; }
.verdict { border-left: .4rem solid var(--dim); padding: .25rem .75rem; }
.verdict.reached { border-color: var(--good); }
.verdict.missed { border-color: var(--bad); }
.how { color: var(--dim); font-size: .9rem; }
.speaker { color: var(--dim); font-weight: 600; margin: .5rem 0 0; }
</style></head><body>
<h1>Headlamp findings</h1>
"""


def write_findings_html(findings: Iterable[Finding], charts: ReportCharts = ReportCharts()) -> str:
    """The findings as one self-contained HTML document, in light or dark colours, with interactive charts."""
    articles = [
        "\n".join(["<article>", *_finding(finding, charts.by_finding.get(finding.id, ())), "</article>"])
        for finding in findings
    ]
    head = _HEAD.replace("POLICY", charts.policy)
    return f"{head}{chr(10).join(articles)}\n{charts.write_scripts()}</body></html>\n"


def _finding(finding: Finding, charts: Sequence[Chart]) -> Iterator[str]:
    shown = read_evidence(finding.evidence)
    yield f'<h2 dir="auto">{_safe(finding.title)}</h2>'
    headline = write_headline(finding, shown)
    if headline and not shown.methods:
        yield f'<p dir="auto"><strong>{_safe(headline)}</strong></p>'
    yield from (_method_verdict(method) for method in shown.methods)
    if finding.note:
        yield f'<p class="note" dir="auto">{_safe(finding.note)}</p>'
    for chart in charts:
        yield f"<h3>{_safe(chart.title)}</h3>{write_chart_data(chart)}"
        yield f'<p class="how">{_safe(chart.caption)}</p>'
    yield from _texts(shown)
    yield from _word(shown.said)
    if shown.pruned_sets:
        rows = [list(map(_cell, one.cells())) for one in shown.pruned_sets]
        yield f"<h3>Sets of experts</h3>{_table(SET_COLUMNS, rows)}"
    for method in shown.methods:
        rows = [[_safe(cell) for cell in row.cells()] for row in method.rows]
        yield f"<h3>{_safe(method.title)}: what was measured</h3>{_table(MEASURE_COLUMNS, rows)}"
        yield f'<p class="how">What it took: {_safe(method.took or "–")}</p>'
    if shown.answer:
        yield "<h3>Answer position</h3>" + _answer(shown)
    for decoded in shown.sites:
        rows = [
            [_token(token), format_digits(logit), format_digits(probability) + _bar(probability, "base")]
            for token, logit, probability in decoded.tokens
        ]
        yield f"<h3>{_safe(decoded.site)}, {decoded.end} tokens</h3>"
        yield _table(("token", "logit", "probability"), rows)
    yield f"<h3>Settings</h3>{_facts(finding, shown)}"
    whole = json.dumps(finding.evidence, indent=1, ensure_ascii=False)
    yield f"<details><summary>All the evidence</summary>{_block(whole)}</details>"


def _texts(shown: EvidenceView) -> Iterator[str]:
    """What was said before, turn by turn, and both texts beside each other."""
    for speaker, text in shown.conversation:
        yield f'<p class="speaker">{_safe(speaker)}</p>{_block(text)}'
    if shown.prompt and not shown.conversation:
        yield f"<h3>Prompt</h3>{_block(shown.prompt)}"
    if shown.base_text or shown.changed_text:
        begun = shown.opening if shown.conversation else ""
        base, changed = _block(begun + shown.base_text), _block(begun + shown.changed_text)
        who = ", Assistant" if shown.conversation else ""
        yield (
            f'<div class="columns"><div><h3>Base{who}</h3>{base}</div>'
            f"<div><h3>Changed{who}</h3>{changed}</div></div>"
        )


def _method_verdict(method: MethodVerdict) -> str:
    """A verdict, framed in green where the goal is reached and in brick where it is not."""
    state = {True: "reached", False: "missed", None: "open"}[method.reached]
    return f'<p class="verdict {state}" dir="auto"><strong>{_safe(method.sentence)}</strong></p>'


def _facts(finding: Finding, shown: EvidenceView) -> str:
    rows = [
        f"<tr><th>{name}</th><td><bdi>{_safe(fact)}</bdi></td></tr>"
        for name, fact in list_facts(finding, shown).items()
    ]
    return f"<table>{''.join(rows)}</table>"


def _answer(shown: EvidenceView) -> str:
    rows = [
        [
            _token(row.token),
            format_digits(row.base),
            format_digits(row.changed),
            _bar(row.base, "base") + _bar(row.changed, "changed"),
        ]
        for row in shown.answer
    ]
    return _table(("token", "p base", "p changed", "base above, changed below"), rows)


def _word(said: WordEvidence) -> Iterator[str]:
    """The tables of a word's levers or doses, with a bar of P(word) each, and the prompts."""
    for name, columns, measured in (
        ("Levers", LEVER_COLUMNS, [(one.cells(), one.held_out) for one in said.levers]),
        (f"Doses, {said.unit}", DOSE_COLUMNS, [(one.cells(), one.mean) for one in said.doses]),
    ):
        if measured:
            rows = [[*map(_cell, cells), _bar(chance, "changed")] for cells, chance in measured]
            yield f"<h3>{_safe(name)}</h3>{_table((*columns, ''), rows)}"
    if said.prompts and said.verdict:
        rows = [[_safe(one.purpose), f"<bdi>{_safe(one.line)}</bdi>"] for one in said.prompts]
        yield f"<h3>Prompts</h3>{_table(('', 'prompt'), rows)}"


def _cell(value: object) -> str:
    return f"<bdi>{_safe(value)}</bdi>" if isinstance(value, str) else _safe(format_cell(value))


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells that are already HTML."""
    head = "".join(f"<th>{name}</th>" for name in header)
    body = "".join(
        "<tr>" + "".join(f'<td class="number">{cell}</td>' for cell in row) + "</tr>" for row in rows
    )
    return f"<table><tr>{head}</tr>{body}</table>"


def _bar(probability: float | None, side: str) -> str:
    if probability is None:
        return ""
    percent = 100 * min(1.0, max(0.0, probability))
    return f'<span class="chart"><span class="bar {side}" style="width:{percent:.1f}%"></span></span>'


def _token(token: str) -> str:
    return f"<bdi><code>{_safe(make_token_visible(token))}</code></bdi>"


def _block(text: str) -> str:
    return f'<pre dir="auto">\n{_safe(text)}</pre>'  # HTML drops the first newline of a pre


def _safe(text: str) -> str:
    return escape(make_visible(text), quote=True)
