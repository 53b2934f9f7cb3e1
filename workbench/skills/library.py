"""The skills a person has: the bundled ones, and those that were defined here, each a file of JSON lines.

source = add_skill(store, "capitals", data, "csv")     # skills/capitals.jsonl beside the database
[one.name for one in skill_library(store)]              # arithmetic, facts, …, capitals
"""

from __future__ import annotations

import csv
import io
import threading
import unicodedata
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote

from analysis.errors import BadSkillFile, SkillError
from analysis.skills.files import LARGEST_BYTES, skill_from_bytes, skill_lines
from analysis.skills.items import Skill
from demo import BUNDLED_SKILLS
from store import Store
from store.errors import translated
from store.files import write_whole
from workbench.skills.sources import SkillSource, skill_source

FORMS = {"jsonl": "the JSON lines", "csv": "the CSV", "text": "the text", "paste": "what was pasted"}
"""What a skill may be given as → how messages call it. Of what was pasted, the form is seen."""

LONGEST_NAME = 180
"""Bytes of a skill's file name without its suffix."""

_WRITING = threading.Lock()


def skill_library(store: Store) -> list[SkillSource]:
    """The bundled skills, then those that were defined, by name; files that hold none are left out."""
    found = [source for path in _files(store) if (source := _readable(path)) is not None]
    return bundled_skills() + sorted(found, key=lambda source: (source.name.casefold(), source.name))


def bundled_skills() -> list[SkillSource]:
    """The skills that ship with Headlamp, by name."""
    return [_source(path) for _, path in sorted(BUNDLED_SKILLS.items())]


def unreadable_skills(store: Store) -> dict[str, str]:
    """Of the files among the defined skills that hold none: name → why."""
    told = {}
    for path in _files(store):
        try:
            _source(path)
        except SkillError as error:
            told[_name_of(path)] = str(error)
    return told


def given_skill(name: str, data: bytes, form: str) -> Skill:
    """The skill in what somebody gave, under a name that it can have; nothing is kept.

    form: of FORMS. Raises BadSkillFile and its kin, SkillError for a name or a form that cannot be.
    """
    if form not in FORMS:
        raise SkillError(f"a skill cannot be given as {form!r}; choose {', '.join(FORMS)}")
    name = _clean(name)
    _check_form(data, form)
    return skill_from_bytes(data, FORMS[form], name)


def add_skill(store: Store, name: str, data: bytes, form: str) -> SkillSource:
    """Define a skill: `given_skill`, kept as `keep_skill` does."""
    return keep_skill(store, given_skill(name, data, form))


def keep_skill(store: Store, skill: Skill) -> SkillSource:
    """Keep a skill under its name. One that is there with the same examples stays.

    Raises SkillError where the name is taken with other examples, StoreError where the folder cannot be
    written.
    """
    name = _clean(skill.name)
    data = skill_lines(skill)
    with _WRITING:
        taken = _taken(store, name)
        if taken is not None:
            source = _readable(taken)
            if source is not None and source.digest == skill.digest:
                return source
            raise SkillError(
                f"there is a skill {_name_of(taken)!r} with other examples; choose another name"
                + ("" if taken in BUNDLED_SKILLS.values() else ", or remove that one first")
            )
        path = _folder(store) / f"{_file_stem(name)}.jsonl"
        with translated(path):
            write_whole(path, data)
    return _source(path)


def remove_skill(store: Store, name: str) -> None:
    """Remove a defined skill; what was measured on it stays. Raises SkillError for any other."""
    path = next((path for path in _files(store) if _name_of(path) == name), None)
    if path is None:
        bundled = name in BUNDLED_SKILLS
        raise SkillError(
            f"the skill {name!r} ships with Headlamp and cannot be removed"
            if bundled
            else f"there is no skill {name!r} to remove"
        )
    with translated(path):
        path.unlink(missing_ok=True)


def _folder(store: Store) -> Path:
    return store.path.parent / "skills"


def _files(store: Store) -> list[Path]:
    """The defined skills' files; of one that is called as a bundled skill is, the bundled one counts."""
    paths = sorted(path for path in _folder(store).glob("*.jsonl") if not path.name.startswith("."))
    return [path for path in paths if _name_of(path) not in BUNDLED_SKILLS]


def _taken(store: Store, name: str) -> Path | None:
    """The file of a skill of this name, letter case aside, as some file systems have it."""
    every = [*BUNDLED_SKILLS.values(), *_files(store)]
    return next((path for path in every if _name_of(path).casefold() == name.casefold()), None)


def _readable(path: Path) -> SkillSource | None:
    with suppress(SkillError):
        return _source(path)
    return None


def _source(path: Path) -> SkillSource:
    """A skill file as it is now. Raises BadSkillFile, also where it is gone."""
    try:
        now = path.stat()
    except OSError as error:
        raise BadSkillFile(f"{path} cannot be read: {error.strerror}") from error
    return _source_of(path, now.st_mtime_ns, now.st_size)


@lru_cache(maxsize=1000)
def _source_of(path: Path, changed: int, size: int) -> SkillSource:
    """A skill file as it was then: read once until it changes."""
    return skill_source(path, _name_of(path))


def _clean(name: str) -> str:
    """A name as it is kept: one line, composed characters. Raises SkillError where no file can have it."""
    clean = " ".join(unicodedata.normalize("NFC", name).split())
    if not clean:
        raise SkillError("a skill needs a name; write one or two words")
    if any(unicodedata.category(character).startswith("C") for character in clean):
        raise SkillError(f"the name {clean!r} holds characters that cannot be seen; write letters and digits")
    if len(_file_stem(clean).encode()) > LONGEST_NAME:
        raise SkillError(f"the name {clean[:40]!r}… is too long; one or two words are enough")
    return clean


def _file_stem(name: str) -> str:
    """A name as a file's: letters, digits, `-`, `_`, spaces and inner dots stay, all else as %2F."""
    kept = (c if c.isalnum() or c in "-_ " or (c == "." and i) else _quoted(c) for i, c in enumerate(name))
    return "".join(kept)


def _quoted(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode())


def _name_of(path: Path) -> str:
    return unicodedata.normalize("NFC", unquote(path.stem))


def _check_form(data: bytes, form: str) -> None:
    """Refuse what is not in the form it was given as, and would be read as a plain text."""
    text = ""
    with suppress(UnicodeDecodeError):  # told by whoever reads it
        text = data.decode("utf-8-sig").lstrip()
    if form == "jsonl" and text and text[0] not in "[{":
        raise BadSkillFile(
            f"{FORMS[form]} begin with {text[:20]!r}; write one JSON document a line, such as "
            '{"prompt": "2 + 2 =", "answer": "4", "judge": "number"}'
        )
    if form == "csv" and text:
        _check_table(text)


def _check_table(text: str) -> None:
    csv.field_size_limit(LARGEST_BYTES)
    reader = csv.reader(io.StringIO(text), strict=True)
    width = 0
    try:
        for row in reader:
            width = width or len(row)
            if row and len(row) != width:
                raise BadSkillFile(
                    f"line {reader.line_num} of the CSV has {len(row)} cells, its first line {width}; put "
                    "cells that hold a comma or a line break in quotes"
                )
    except csv.Error as error:
        raise BadSkillFile(f"line {reader.line_num} of the CSV cannot be read: {error}") from error
    if width < 2:
        raise BadSkillFile("a CSV needs at least two columns, such as prompt and answer, with commas between")
