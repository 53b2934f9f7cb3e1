"""Findings: kept with their evidence, exported, imported, and run again."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Literal, get_args

from analysis.errors import HeadlampError
from analysis.opening.models import LoadedModel
from analysis.recipes.recipes import versions
from analysis.running.differences import cut_to_difference
from store import (
    Finding,
    ImportResult,
    Store,
    all_tags,
    delete_finding,
    get_finding,
    import_findings,
    list_findings,
    update_finding,
    write_findings_csv,
    write_findings_html,
    write_findings_json,
    write_findings_markdown,
)
from store.evidence import read_evidence
from workbench.experts.evidence import KIND as PRUNING_KIND
from workbench.experts.evidence import keep_pruning, prune_again
from workbench.findings.charts import make_report_charts
from workbench.findings.pair_evidence import collect_evidence
from workbench.findings.recorded import RecordedGeneration, read_recorded
from workbench.generating.clamping import Generation, regenerate_pair
from workbench.keeping import keep_evidence
from workbench.levers.evidence import KINDS as LEVER_KINDS
from workbench.levers.evidence import keep_effect, measure_again
from workbench.neurons.comparison_evidence import KIND as COMPARISON_KIND
from workbench.neurons.comparison_evidence import compare_again, keep_comparison
from workbench.neurons.profiles import NeuronView
from workbench.reruns import MeasuredAgain, open_unchanged
from workbench.unlearning.evidence import KIND, ask_again, keep_unlearning

ExportFormat = Literal["html", "json", "csv", "md"]
EXPORT_FORMATS: tuple[ExportFormat, ...] = get_args(ExportFormat)
TOLERANCE = 1e-4
"""Largest difference in a probability allowed in a re-run; token ids must be equal."""

_WRITERS: dict[str, Callable[[Iterable[Finding]], str]] = {
    "json": write_findings_json,
    "csv": write_findings_csv,
    "md": write_findings_markdown,
}

__all__ = [
    "EXPORT_FORMATS",
    "TOLERANCE",
    "ExportFormat",
    "Finding",
    "ImportResult",
    "Rerun",
    "all_tags",
    "delete_finding",
    "export_findings",
    "get_finding",
    "import_findings",
    "keep_comparison",
    "keep_effect",
    "keep_generation",
    "keep_neuron",
    "keep_pruning",
    "keep_unlearning",
    "list_findings",
    "rerun_finding",
    "update_finding",
]


def keep_generation(
    loaded: LoadedModel,
    store: Store,
    generation: Generation,
    *,
    title: str,
    note: str = "",
    tags: Sequence[str] = (),
) -> Finding:
    """Keep a finished pair of texts: recipe, prompt, outputs, probabilities, versions and seed."""
    if not generation.done:
        raise HeadlampError("the text is still being generated; keep it when it is finished")
    return keep_evidence(loaded, store, "generation", collect_evidence(loaded, generation), title, note, tags)


def keep_neuron(
    loaded: LoadedModel,
    store: Store,
    view: NeuronView,
    *,
    title: str,
    note: str = "",
    tags: Sequence[str] = (),
) -> Finding:
    """Keep a neuron's decoding at each site, and its activations on the reference text."""
    document = {
        "address": str(view.address),
        "sites": {site: neuron.to_document() for site, neuron in view.decoded.items()},
        "profile": None if view.profile is None else {s: asdict(p) for s, p in view.profile.items()},
        "dtype": loaded.dtype,
        "device": loaded.ref.device,
        "versions": versions(),
    }
    return keep_evidence(loaded, store, "neuron", document, title, note, tags)


def export_findings(findings: Iterable[Finding], format: ExportFormat) -> str:
    """Findings as one document. Raises HeadlampError for an unknown format."""
    if format not in EXPORT_FORMATS:
        raise HeadlampError(f"format {format!r} is unknown; choose {', '.join(EXPORT_FORMATS)}")
    if format == "html":
        listed = list(findings)
        return write_findings_html(listed, make_report_charts(listed))
    return _WRITERS[format](findings)


@dataclass(frozen=True)
class Rerun:
    """The result of running a finding again. same: prompt and tokens equal and no probability off by more
    than the tolerance.
    """

    same: bool
    tokens_equal: bool
    largest_difference: float
    tolerance: float
    run: str
    seconds: float
    explanation: str


def rerun_finding(store: Store, finding_id: str) -> Rerun:
    """Run a finding again, never from stored results: token ids exactly, numbers within TOLERANCE.

    Raises HeadlampError if the finding's model cannot be opened, or its bytes changed.
    """
    finding = get_finding(store, finding_id)
    if finding.kind == KIND:
        return _say_difference(finding, ask_again(store, finding))
    if finding.kind == PRUNING_KIND:
        return _say_difference(finding, prune_again(store, finding))
    if finding.kind == COMPARISON_KIND:
        return _say_difference(finding, compare_again(store, finding))
    if finding.kind in LEVER_KINDS:
        return _say_difference(finding, measure_again(store, finding))
    then = read_recorded(finding)
    with open_unchanged(then.ref, finding, store) as loaded:
        unknown = [i for i in then.answer if not 0 <= i < len(loaded.vocabulary)]
        if unknown:
            raise HeadlampError(f"this finding lists token {unknown[0]}, which the model does not have")
        started = time.perf_counter()
        result = regenerate_pair(loaded, store, then.request, also=list(then.answer))
    return _compare(then, result, time.perf_counter() - started)


def _say_difference(finding: Finding, found: MeasuredAgain) -> Rerun:
    same = found.difference <= TOLERANCE
    if not same:
        said = "the numbers are not the same; compare the versions and the device they were measured with"
    else:
        said = (
            f"no number differs by more than {found.difference:.1e}"
            if found.difference
            else "every number is the same"
        )
    gap = min(found.difference, 1.0)
    run = read_evidence(finding.evidence).run_key
    return Rerun(same, found.difference < math.inf, gap, TOLERANCE, run, found.seconds, said)


def _compare(then: RecordedGeneration, result: Generation, seconds: float) -> Rerun:
    difference = _largest_difference(then, result)
    tokens_equal = (then.base_ids, then.changed_ids) == (result.base_ids, result.changed_ids)
    close = difference <= TOLERANCE
    other_prompt = then.prompt_ids is not None and then.prompt_ids != result.prompt_ids
    if other_prompt:
        was, now = cut_to_difference(then.rendered, result.rendered)
        said = f"the template renders another prompt: {was!r} then, {now!r} now"
    elif tokens_equal and not difference:
        said = "every token and every probability is the same"
    elif tokens_equal and close:
        said = f"every token is the same and no probability differs by more than {difference:.1e}"
    elif tokens_equal:
        said = f"every token is the same, but a probability differs by {difference:.1e}"
    else:
        said = "the text is not the same; compare the versions and the device it was made with"
    if then.other_word:
        said += f"; P(word) was measured {then.other_word} then, so it is not compared"
    same = tokens_equal and close and not other_prompt
    return Rerun(same, tokens_equal, difference, TOLERANCE, result.run, seconds, said)


def _largest_difference(then: RecordedGeneration, result: Generation) -> float:
    """Over every token listed then, and the word: |p then − p now|; NaN counts as 1."""
    now = {token.token_id: (token.base, token.changed) for token in result.answer}
    pairs = [pair for token, was in then.answer.items() for pair in zip(was, now[token], strict=True)]
    if then.word is not None and result.word is not None:
        pairs += zip(then.word, result.word, strict=True)
    gaps = (abs(was - found) for was, found in pairs)
    return max((gap if gap <= 1 else 1.0 for gap in gaps), default=0.0)
