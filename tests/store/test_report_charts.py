"""Charts inside the HTML report: nothing in their data can act, and only their own scripts may run."""

import base64
import hashlib
import json
import re
from collections.abc import Callable

from store import Finding, write_findings_html
from store.report_charts import Chart, ReportCharts

Keep = Callable[..., Finding]
HOSTILE = "</script><script>alert(1)</script><!--"
LIBRARY = "const Plotly = { newPlot() {} };"


def report(finding: Finding) -> str:
    chart = Chart(HOSTILE, {"data": [{"text": HOSTILE}], "layout": {}}, HOSTILE)
    return write_findings_html([finding], ReportCharts(LIBRARY, {finding.id: [chart]}))


def test_a_chart_lies_in_its_finding_with_its_caption_and_exact_data(keep: Keep) -> None:
    document = report(keep())
    (data,) = re.findall(r'<div class="plot"></div><script type="application/json">(.*?)</script>', document)
    assert not set("<>&") & set(data)
    assert json.loads(data) == {"data": [{"text": HOSTILE}], "layout": {}}
    assert "alert(1)</script>" not in document
    assert document.count("&lt;/script&gt;&lt;script&gt;alert(1)") == 2
    assert document.index("<article>") < document.index('class="plot"') < document.index("</article>")


def test_only_the_scripts_of_the_report_may_run_and_nothing_is_fetched(keep: Keep) -> None:
    document = report(keep())
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', document)
    scripts = re.findall(r"<script>(.*?)</script>", document, re.S)
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    assert len(scripts) == 2
    assert policy == (
        "default-src 'none'; style-src 'unsafe-inline'; img-src data: blob:; script-src "
        + " ".join(f"'sha256-{one}'" for one in hashes)
    )
    assert not re.search(r"(src|href)=", document)


def test_a_report_without_charts_holds_no_script(keep: Keep) -> None:
    finding = keep()
    document = write_findings_html([finding], ReportCharts(LIBRARY, {finding.id: []}))
    assert "<script" not in document
    assert "script-src" not in document
