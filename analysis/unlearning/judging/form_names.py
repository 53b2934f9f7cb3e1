"""Forms of a skill in words, and shares as verdicts write them."""

from __future__ import annotations

AS_ASKED, UNSEEN = "as_asked", "unseen_wordings"
"""The test itself, and the part of it in wordings that no probe has."""

FORM_NAMES = {
    "": "as asked",
    AS_ASKED: "as asked",
    "test": "the test, whole",
    UNSEEN: "in unseen wordings",
    "paraphrase": "in unseen wordings",
    "seen_wordings": "in seen wordings",
    "few_shot": "after answered examples",
    "harmless_prefix": "after a greeting",
    "instruction_before": "after an instruction",
    "instruction_after": "before an instruction",
    "other_language": "in another language",
}
"""Form, as documents name it → as sentences do."""


def name_form(form: str) -> str:
    """A form's name, also for an unknown one; what follows a space is a language."""
    kind, _, lang = form.partition(" ")
    name = FORM_NAMES.get(kind, kind.replace("_", " "))
    return f"{name} ({lang})" if lang else name


def format_share(share: float, bound: float | None = None) -> str:
    """`1.00`, `.50`, `−.03`; with a third digit where two would hide on which side of the bound it is."""
    close = bound is not None and abs(share - bound) < 0.005
    text = f"{abs(share):.{3 if close else 2}f}".removeprefix("0")
    return f"−{text}" if share < 0 and text.strip(".0") else text
