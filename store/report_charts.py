"""Interactive charts inside the HTML report: data and library inline, allowed by their hashes alone."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_DRAW = """
for (const place of document.querySelectorAll("div.plot")) {
  const figure = JSON.parse(place.nextElementSibling.textContent);
  Plotly.newPlot(place, figure.data, figure.layout, {responsive: true, displaylogo: false});
}
"""


@dataclass(frozen=True)
class Chart:
    """A chart of a finding. figure: a plotly figure as JSON; caption: how to read it."""

    title: str
    figure: Mapping[str, Any]
    caption: str


@dataclass(frozen=True)
class ReportCharts:
    """Charts of a report by id of their finding, and plotly's library as JavaScript; empty without charts."""

    library: str = ""
    by_finding: Mapping[str, Sequence[Chart]] = field(default_factory=dict)

    @property
    def scripts(self) -> tuple[str, ...]:
        """The scripts of a report, in order; none where it has no chart."""
        return (self.library, _DRAW) if self.library and any(self.by_finding.values()) else ()

    @property
    def policy(self) -> str:
        """The content security policy: nothing is fetched, and only these very scripts run."""
        policy = "default-src 'none'; style-src 'unsafe-inline'"
        if not self.scripts:
            return policy
        allowed = " ".join(f"'sha256-{_hash(script)}'" for script in self.scripts)
        return f"{policy}; img-src data: blob:; script-src {allowed}"

    def write_scripts(self) -> str:
        """The script elements for the end of the report."""
        return "".join(f"<script>{script}</script>" for script in self.scripts)


def write_chart_data(chart: Chart) -> str:
    """The place of a chart, and its data as JSON in which nothing can end the element or begin another."""
    whole = json.dumps(chart.figure, allow_nan=False)
    safe = whole.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    return f'<div class="plot"></div><script type="application/json">{safe}</script>'


def _hash(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
