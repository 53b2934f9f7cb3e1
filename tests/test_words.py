"""Names and words: functions are verbs, a class name is unique, sentences use the terms of the glossary."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.names import APP, homonyms, participles, sources

SYNONYMS = {
    "as it is": "base, or unchanged",
    "skill to keep": "retain skill",
    "skills to keep": "retain skills",
    "skill to forget": "forget skill",
    "forgotten skill": "forget skill",
    "way of asking": "form",
    "ways of asking": "forms",
    "number format": "dtype",
    "turned round": "reversed",
    "made-up": "placeholder",
    "whoever": "who, by name",
    "somebody": "a user",
    "way out": "what to do",
}


def texts(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """The docstrings and sentences of a module, with their lines."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            yield node.lineno, " ".join(node.value.split()).lower()


def test_public_functions_are_no_participles() -> None:
    named, count = participles(sources((*APP, "bench", "demo", "scripts")))
    assert named == []
    assert count > 500


def test_a_class_name_stands_for_one_thing() -> None:
    assert homonyms(sources(APP), (ast.ClassDef,)) == {}


def test_sentences_use_the_terms_of_the_glossary() -> None:
    found = [
        f"{path}:{line}: {synonym!r}, say {SYNONYMS[synonym]}"
        for path, tree in sources(APP).items()
        for line, text in texts(tree)
        for synonym in SYNONYMS
        if re.search(rf"\b{synonym}\b", text) and text != "as it is"  # the name of a stored unit
    ]
    assert found == []


@pytest.mark.parametrize("synonym", SYNONYMS)
def test_the_glossary_names_no_synonym(repo_root: Path, synonym: str) -> None:
    assert synonym not in (repo_root / "docs" / "glossary.md").read_text("utf-8").lower()
