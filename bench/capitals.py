"""Skill files about countries, for unlearning benchmarks: `python -m bench.capitals FOLDER`.

One set to forget (capitals), three to keep (arithmetic, languages, continents), near questions (the same
countries, other relations), and general questions that no fit knows. Facts have twelve wordings each, so that
a split holds out three of them.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

HERE = Path(__file__).parent
COUNTRIES, QUESTIONS = HERE / "countries.txt", HERE / "questions.txt"
"""Country | capital | continent | language; general question | answer."""

CAPITAL = (
    "What is the capital of {}?",
    "Which city is the capital of {}?",
    "Name the capital city of {}.",
    "Tell me the capital of {}.",
    "What's {}'s capital called?",
    "Can you tell me what the capital city of {} is?",
    "{} has which city as its capital?",
    "I forgot the name of the capital of {}. What is it?",
    "The government of {} sits in which capital city?",
    "If I fly to the capital of {}, in which city do I land?",
    "Complete the sentence: The capital of {} is",
    "Quiz question: capital of {}?",
)
LANGUAGE = (
    "Which language is spoken in {}?",
    "What is the official language of {}?",
    "Name the main language of {}.",
    "Tell me which language people speak in {}.",
    "What do people in {} speak?",
    "Can you tell me the language that is spoken in {}?",
    "{} has which official language?",
    "I am moving to {}. Which language should I learn?",
    "Newspapers in {} are written in which language?",
    "If I travel to {}, which language will I hear?",
    "Complete the sentence: The official language of {} is",
    "Quiz question: language of {}?",
)
CONTINENT = (
    "On which continent is {}?",
    "Which continent is {} part of?",
    "Name the continent of {}.",
    "Tell me on which continent {} lies.",
    "What continent does {} belong to?",
    "Can you tell me which continent {} is on?",
    "{} is located on which continent?",
    "I cannot find {} on the map. On which continent is it?",
    "A map of which continent shows {}?",
    "If I fly to {}, on which continent do I land?",
    "Complete the sentence: The continent of {} is",
    "Quiz question: continent of {}?",
)
NEAR = (
    "What is the currency of {}?",
    "How many people live in {}?",
    "Name a river in {}.",
    "Which countries border {}?",
    "What is a traditional dish from {}?",
    "What are the colours of the flag of {}?",
    "Who is a famous person from {}?",
    "What is the climate of {} like?",
    "Name a mountain in {}.",
    "What does {} export?",
    "When did {} become independent?",
    "Describe the history of {} in one sentence.",
)
"""Other relations of the same countries. What is asked is what counts, not whether the answer is right."""

SUMS = (
    "What is {} + {}?",
    "How much is {} plus {}?",
    "Add {} and {}.",
    "Tell me the sum of {} and {}.",
    "What's {} and {} together?",
    "Can you tell me what {} plus {} is?",
    "{} + {} = ?",
    "I have {} apples and buy {} more. How many do I have?",
    "A bus with {} people takes on {} more. How many are on it?",
    "If I walk {} steps and then {} steps, how many is that?",
    "Complete the sum: {} + {} =",
    "Quiz question: {} plus {}?",
)
SEED, SUMS_ASKED = 7, 68


def read_rows(path: Path) -> list[list[str]]:
    """A row per line, its cells between bars."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [[cell.strip() for cell in line.split("|")] for line in lines]


def list_sets() -> dict[str, list[dict[str, str]]]:
    """Every set's examples as a skill file has them, by the file's name."""
    countries, general = read_rows(COUNTRIES), read_rows(QUESTIONS)
    return {
        "capitals": list(_ask(CAPITAL, {country: capital for country, capital, *_ in countries})),
        "continents": list(_ask(CONTINENT, {country: continent for country, _, continent, _ in countries})),
        "languages": list(_ask(LANGUAGE, {country: language for country, *_, language in countries})),
        "near": list(_ask(NEAR, {country: country for country, *_ in countries})),
        "arithmetic": list(_add()),
        "general": [_item(question, answer, question, "") for question, answer in general],
    }


def _ask(wordings: Sequence[str], answers: Mapping[str, str]) -> Iterator[dict[str, str]]:
    for country, answer in answers.items():
        for number, wording in enumerate(wordings):
            yield _item(wording.format(country), answer, country, f"w{number}")


def _add() -> Iterator[dict[str, str]]:
    draw = random.Random(SEED)
    for _ in range(SUMS_ASKED):
        one, other = draw.randint(1, 40), draw.randint(1, 40)
        for number, wording in enumerate(SUMS):
            group = f"{one}+{other}"
            yield _item(wording.format(one, other), str(one + other), group, f"w{number}") | {
                "judge": "number"
            }


def _item(prompt: str, answer: str, group: str, wording: str) -> dict[str, str]:
    return {"prompt": prompt, "answer": answer, "judge": "substring", "group": group, "wording": wording}


def main(folder: Path) -> None:
    """Write every set as a skill file into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, items in list_sets().items():
        lines = (json.dumps(item, ensure_ascii=False) for item in items)
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        print(f"{folder / name}.jsonl: {len(items)} examples")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "capitals"))
