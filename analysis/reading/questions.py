"""Short everyday questions about many subjects, on which the side effects of a change are measured."""

from __future__ import annotations

from functools import cache
from pathlib import Path

QUESTIONS = Path(__file__).parent / "questions.txt"


@cache
def list_questions() -> tuple[str, ...]:
    """The shipped questions, one a line in the file; none asks for a city, a person or a place."""
    return tuple(line.strip() for line in QUESTIONS.read_text(encoding="utf-8").splitlines() if line.strip())
