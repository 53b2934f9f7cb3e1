"""Judges: whether an output answers an example. These judge text; `unit_tests.py` runs code, `likelihoods.py`
scores.

number     last number of the output, commas and units stripped, equal numerically to the answer
substring  answer within output, case-folded, NFC
exact      first line that is not blank, trimmed
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping

from analysis.errors import JudgeError
from analysis.skills.items import JUDGE_NAMES, SkillItem
from analysis.skills.numbers import find_last_number, read_number


def fold_case(text: str) -> str:
    """Case-folded NFC, so that composed and decomposed accents are equal."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())


def _is_number(output: str, answer: str) -> bool:
    return find_last_number(output) == read_number(answer)


def _is_within(output: str, answer: str) -> bool:
    return fold_case(answer.strip()) in fold_case(output)


def _is_exact(output: str, answer: str) -> bool:
    lines = output.strip().splitlines()
    return bool(lines) and lines[0].strip() == answer.strip()


TEXT_JUDGES: Mapping[str, Callable[[str, str], bool]] = {
    "number": _is_number,
    "substring": _is_within,
    "exact": _is_exact,
}
"""Judges that need only the output's text."""


def judge_output(item: SkillItem, output: str) -> bool:
    """Whether an output answers an example. Raises JudgeError for a judge that does not work on text."""
    if item.judge not in TEXT_JUDGES:
        known = ", ".join(TEXT_JUDGES)
        raise JudgeError(
            f"{item.judge} does not judge a text; choose one of {known}; all judges are "
            f"{', '.join(JUDGE_NAMES)}"
        )
    return TEXT_JUDGES[item.judge](output, item.answer)
