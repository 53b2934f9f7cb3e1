"""The first sentence of a finding: what was found, for a reader who knows nothing else of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from store.evidence import EvidenceView, make_token_visible
from store.findings import Finding
from store.odd_fields import read_field, read_list, read_map, read_number
from store.phrases import describe_changes, format_share

EXCERPT = 90
"""Characters of a text's first line in a headline or a list."""
NAMED_TOKENS = 4


def write_headline(finding: Finding, shown: EvidenceView) -> str:
    """One or a few plain sentences, with numbers; "" where the evidence says nothing. Never raises."""
    document = read_map(finding.evidence.get("document"))
    if finding.kind == "unlearning":
        return _tell_unlearning(document, shown)
    if finding.kind == "skill":
        return _tell_skill(finding.evidence)
    verdict = shown.said.verdict or read_field(document.get("verdict"))
    if verdict:
        return verdict
    if shown.sites:
        return _tell_neuron(shown)
    return _tell_generation(shown) if shown.base_text or shown.changed_text or shown.word else ""


def excerpt_texts(shown: EvidenceView) -> tuple[str, str]:
    """The first line of either text, shortened; "" where there is none."""
    return _excerpt(shown.base_text), _excerpt(shown.changed_text)


def _tell_generation(shown: EvidenceView) -> str:
    change = describe_changes(shown.clamps)
    base, changed = shown.word_base, shown.word_changed
    if shown.word and base is not None and changed is not None:
        verb = "raises" if changed > base else "lowers" if changed < base else "leaves"
        word = make_token_visible(shown.word)
        moved = f"from {format_share(base)} to {format_share(changed)}"
        moved = f"at {format_share(base)}" if verb == "leaves" else moved
        return f"{change} {verb} the probability of “{word}” {moved}{_tell_texts(shown)}."
    if shown.base_text == shown.changed_text:
        return f"{change} leaves the text as it was." if shown.clamps else "No clamp, and one text."
    before, after = excerpt_texts(shown)
    return f"{change} turns “{before}” into “{after}”."


def _tell_texts(shown: EvidenceView) -> str:
    before, after = excerpt_texts(shown)
    if not (before or after):
        return ""
    if shown.base_text == shown.changed_text:
        return "; the text stays the same"
    return f"; the text goes on “{after}” instead of “{before}”"


def _tell_neuron(shown: EvidenceView) -> str:
    best = {(one.site, one.end): one for one in shown.sites}
    said = []
    for site, verb in (("down", "writes"), ("up", "reads")):
        found = best.get((site, "top"))
        if found is not None:
            tokens = [f"“{make_token_visible(token)}”" for token, _, _ in found.tokens[:NAMED_TOKENS]]
            said.append(f"{verb} {', '.join(tokens)}")
    if not said:
        return ""
    against = best.get(("down", "bottom"))
    if against is not None and against.tokens:
        said[0] += f" (and suppresses “{make_token_visible(against.tokens[0][0])}”)"
    return f"Neuron {shown.address} {'; it '.join(said)}, read through the language-model head."


def _tell_unlearning(document: Mapping[str, Any], shown: EvidenceView) -> str:
    """The verdicts; evidence of earlier versions has none, and is told by accuracy and its worst form."""
    if shown.methods:
        return " ".join(method.sentence for method in shown.methods)
    forget = read_field(document.get("forget"))
    said = [_tell_method(forget, read_map(one)) for one in read_list(document.get("methods"))]
    return " ".join(filter(None, said))


def _tell_method(forget: str, method: Mapping[str, Any]) -> str:
    names = {"ksd": "Key Space Detection", "na": "Neuron Adjust", "sp": "Selective pruning"}
    code = read_field(method.get("method"))
    skills = [read_map(one) for one in read_list(method.get("skills"))]
    own = next((one for one in skills if one.get("role") == "forget"), {})
    before, after = read_number(own.get("before")), read_number(own.get("after"))
    if before is None or after is None:
        return ""
    kept = [
        (drop, read_field(one.get("skill")))
        for one in skills
        if one.get("role") == "retain" and (drop := read_number(one.get("relative_drop"))) is not None
    ]
    verb = "takes" if after < before else "leaves"
    said = f"{names.get(code, code)} {verb} {forget} from {_percent(before)} to {_percent(after)} correct"
    forms = [read_map(one) for one in read_list(method.get("robustness"))]
    drops = [
        (drop, read_field(one.get("form")).replace("_", " "))
        for one in forms
        if (drop := read_number(one.get("relative_drop"))) is not None
    ]
    if drops:
        said += f" (drop in its worst other form, {min(drops)[1]}: {_percent(min(drops)[0])})"
    if not kept:
        return f"{said}; no retained skill was measured."
    worst = max(kept)
    lost = f"loses {_percent(worst[0])}" if worst[0] > 0 else "loses nothing"
    return f"{said}; of {len(kept)} retained skills, {worst[1]} {lost}, the most."


def _tell_skill(evidence: Mapping[str, Any]) -> str:
    sets = [read_map(one) for one in read_list(evidence.get("sets"))]
    shares = [
        (read_field(one.get("set")), share)
        for one in sets
        if (share := read_number(one.get("refused"))) is not None
    ]
    if not shares:
        return ""
    name, own = shares[0]
    said = f"A guard on the key box of {name or 'the skill'} refuses {_percent(own)} of its own queries"
    others = [f"{_percent(share)} of {other}" for other, share in shares[1:]]
    return f"{said}{', and ' + ', '.join(others) if others else ''}."


def _excerpt(text: str) -> str:
    line = next((part for part in text.strip().split("\n") if part.strip()), "")
    line = " ".join(line.split())
    return line if len(line) <= EXCERPT else f"{line[:EXCERPT].rstrip()}…"


def _percent(share: float) -> str:
    """Of a share of examples, whose resolution is coarse: `97 %`."""
    return f"{100 * share:.0f} %"
