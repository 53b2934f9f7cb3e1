"""Judges of exercises: number, substring, exact."""

import re
import unicodedata
from collections.abc import Callable

NUMBER = re.compile(r"[-+]?\d[\d,]*(?:\.\d+)?|[-+]?\.\d+")


def last_number(text: str) -> float | None:
    """The last number of a text, thousands' commas removed; None where there is none.

    A minus sign counts only where no digit, letter or ")" stands right before it: "3-2" ends in 2."""
    found = list(NUMBER.finditer(text))
    if not found:
        return None
    match = found[-1]
    digits = match.group().replace(",", "")
    before = text[match.start() - 1] if match.start() else " "
    return float(digits.lstrip("+-") if before.isalnum() or before == ")" else digits)


def fold_case(text: str) -> str:
    """Case-folded NFC, so that an accent written in two code points equals the one-point form."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())


def is_number(output: str, answer: str) -> bool:
    wanted = last_number(answer)
    return wanted is not None and last_number(output) == wanted


def is_substring(output: str, answer: str) -> bool:
    return bool(answer.strip()) and fold_case(answer.strip()) in fold_case(output)


def is_exact(output: str, answer: str) -> bool:
    """The first line that is not blank, trimmed."""
    lines = output.strip().splitlines()
    return bool(lines) and lines[0].strip() == answer.strip()


JUDGES: dict[str, Callable[[str, str], bool]] = {
    "number": is_number,
    "substring": is_substring,
    "exact": is_exact,
}


def judge(name: str, output: str, answer: str) -> bool:
    """Raises ValueError for a judge that does not exist."""
    if name not in JUDGES:
        raise ValueError(f"judge {name!r} is not known; use one of {', '.join(JUDGES)}")
    return JUDGES[name](output, answer)
