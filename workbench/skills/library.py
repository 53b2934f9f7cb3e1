"""The skill library: bundled skills and user-defined ones, each a JSON lines file.

source = add_skill(store, "capitals", data, "csv")     # skills/capitals.jsonl beside the database
[one.name for one in skill_library(store)]              # arithmetic, facts, …, capitals
"""

from __future__ import annotations

import threading
import unicodedata
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote

from analysis.errors import BadSkillFile, SkillError
from analysis.skills.files import parse_skill_bytes, write_skill_lines
from analysis.skills.items import Skill
from analysis.skills.tables import end_lines, read_table
from demo import BUNDLED_SKILLS
from store import Store
from store.errors import translate_errors
from store.files import write_whole
from workbench.skills.sources import SkillSource, make_skill_source

FORMS = {"jsonl": "the JSON lines", "csv": "the CSV", "text": "the text", "paste": "what was pasted"}
"""Input form → its name in messages. The form of pasted text is detected."""

LONGEST_NAME = 180
"""Largest number of bytes of a skill's file name without its suffix."""

_WRITING = threading.Lock()


def list_skills(store: Store) -> list[SkillSource]:
    """The bundled skills, then the defined ones, by name; unreadable files are left out."""
    found = [source for path in _files(store) if (source := _readable(path)) is not None]
    return list_bundled_skills() + sorted(found, key=lambda source: (source.name.casefold(), source.name))


def list_bundled_skills() -> list[SkillSource]:
    """The bundled skills, by name."""
    return [_source(path) for _, path in sorted(BUNDLED_SKILLS.items())]


def list_others(skill: SkillSource) -> tuple[SkillSource, ...]:
    """The bundled skills that a skill is compared with: neither the same examples nor of its name."""
    return tuple(
        one for one in list_bundled_skills() if one.digest != skill.digest and one.name != skill.name
    )


def list_unreadable_skills(store: Store) -> dict[str, str]:
    """Unreadable files among the defined skills: name → why."""
    told = {}
    for path in _files(store):
        try:
            _source(path)
        except SkillError as error:
            told[_name_of(path)] = str(error)
    return told


def parse_given_skill(name: str, data: bytes, form: str) -> Skill:
    """Parse the skill in given data, under a valid name; stores nothing.

    form: of FORMS. Raises BadSkillFile and related errors, SkillError for an invalid name or form.
    """
    if form not in FORMS:
        raise SkillError(f"the input form {form!r} is unknown; choose {', '.join(FORMS)}")
    name = _clean(name)
    _check_form(data, form)
    return parse_skill_bytes(data, FORMS[form], name)


def add_skill(store: Store, name: str, data: bytes, form: str) -> SkillSource:
    """Define a skill: `parse_given_skill`, stored by `keep_skill`."""
    return keep_skill(store, parse_given_skill(name, data, form))


def keep_skill(store: Store, skill: Skill) -> SkillSource:
    """Store a skill under its name. An existing one with the same examples stays.

    Raises SkillError if the name is taken by other examples, StoreError if the folder cannot be
    written.
    """
    name = _clean(skill.name)
    data = write_skill_lines(skill)
    with _WRITING:
        taken = _find_taken(store, name)
        if taken is not None:
            source = _readable(taken)
            if source is not None and source.digest == skill.digest:
                return source
            raise SkillError(
                f"there is a skill {_name_of(taken)!r} with other examples; choose another name"
                + ("" if taken in BUNDLED_SKILLS.values() else ", or remove that one first")
            )
        path = _folder(store) / f"{_file_stem(name)}.jsonl"
        with translate_errors(path):
            write_whole(path, data)
    return _source(path)


def remove_skill(store: Store, name: str) -> None:
    """Remove a defined skill; results on it stay. Raises SkillError for any other."""
    path = next((path for path in _files(store) if _name_of(path) == name), None)
    if path is None:
        bundled = name in BUNDLED_SKILLS
        raise SkillError(
            f"the skill {name!r} is bundled and cannot be removed"
            if bundled
            else f"there is no skill {name!r} to remove"
        )
    with translate_errors(path):
        path.unlink(missing_ok=True)


def _folder(store: Store) -> Path:
    return store.path.parent / "skills"


def _files(store: Store) -> list[Path]:
    """The defined skills' files; a bundled skill takes precedence over a file of the same name."""
    paths = sorted(path for path in _folder(store).glob("*.jsonl") if not path.name.startswith("."))
    return [path for path in paths if _name_of(path) not in BUNDLED_SKILLS]


def _find_taken(store: Store, name: str) -> Path | None:
    """The file of a skill of this name, ignoring case, as some file systems do."""
    every = [*BUNDLED_SKILLS.values(), *_files(store)]
    return next((path for path in every if _name_of(path).casefold() == name.casefold()), None)


def _readable(path: Path) -> SkillSource | None:
    with suppress(SkillError):
        return _source(path)
    return None


def _source(path: Path) -> SkillSource:
    """A skill file's current contents. Raises BadSkillFile, also if it is gone."""
    try:
        now = path.stat()
    except OSError as error:
        raise BadSkillFile(f"{path} cannot be read: {error.strerror}") from error
    return _source_of(path, now.st_mtime_ns, now.st_size)


@lru_cache(maxsize=1000)
def _source_of(path: Path, changed: int, size: int) -> SkillSource:
    """A skill file's contents, cached until it changes."""
    return make_skill_source(path, _name_of(path))


def _clean(name: str) -> str:
    """A name as stored: one line, composed characters. Raises SkillError if a file cannot have it."""
    clean = " ".join(unicodedata.normalize("NFC", name).split())
    if not clean:
        raise SkillError("a skill needs a name; write one or two words")
    if any(unicodedata.category(character).startswith("C") for character in clean):
        raise SkillError(f"the name {clean!r} contains invisible characters; write letters and digits")
    if len(_file_stem(clean).encode()) > LONGEST_NAME:
        raise SkillError(f"the name {clean[:40]!r}… is too long; one or two words are enough")
    return clean


def _file_stem(name: str) -> str:
    """A file name for a skill's name: letters, digits, `-`, `_`, spaces, inner dots stay, else %2F."""
    kept = (c if c.isalnum() or c in "-_ " or (c == "." and i) else _quote(c) for i, c in enumerate(name))
    return "".join(kept)


def _quote(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode())


def _name_of(path: Path) -> str:
    return unicodedata.normalize("NFC", unquote(path.stem))


def _check_form(data: bytes, form: str) -> None:
    """Refuse data that is not in the declared form and would be read as plain text."""
    text = ""
    with suppress(UnicodeDecodeError):  # reported by the reader
        text = data.decode("utf-8-sig").lstrip()
    if form == "jsonl" and text and text[0] not in "[{":
        raise BadSkillFile(
            f"{FORMS[form]} begin with {text[:20]!r}; write one JSON document per line, such as "
            '{"prompt": "2 + 2 =", "answer": "4", "judge": "number"}'
        )
    if form == "csv" and text and not _is_table(text):
        raise BadSkillFile(
            "it is no table: its first line names no column prompt, question or text, or its rows are of "
            "different lengths"
        )


def _is_table(text: str) -> bool:
    try:
        return read_table(end_lines(text)) is not None
    except BadSkillFile:  # reported by the reader, too
        return True
