"""Reading of skills: JSON lines, JSON, CSV or plain text, optionally gzipped, and Hub data sets."""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields as dataclass_fields
from importlib import import_module
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any

from analysis.errors import BadSkillFile, SkillError, TooFewExamples, first_line
from analysis.inputs import check_input
from analysis.skills.items import JudgeName, Skill, SkillItem
from analysis.skills.layouts import join_chat, make_text_item, map_fields, read_items, settle_choices
from analysis.skills.tables import end_lines, read_table

LARGEST_BYTES = 64_000_000
"""Largest skill file, unpacked; a skill is measured on hundreds of examples."""

MOST_HUB_ROWS = 20_000
SHORTEST_TEXT = 40
"""Shortest paragraph of a plain text that counts as an example, in characters."""


def read_skill(path: Path, name: str = "", fields: Mapping[str, str] | None = None) -> Skill:
    """Read the skill in a file. fields: our names → the file's, if it has a layout of its own.

    Raises BadSkillFile for a file that is missing, too large, not UTF-8 or of unknown layout, SkillError
    for its examples.
    """
    try:
        check_input(path)
        with path.open("rb") as stream:
            data = stream.read(LARGEST_BYTES + 1)
    except OSError as error:
        raise BadSkillFile(
            f"{path} cannot be read: {error.strerror}; check its name and permissions"
        ) from error
    if len(data) > LARGEST_BYTES:
        raise _too_large(str(path))
    return parse_skill_bytes(data, path.name, name or path.name.split(".")[0], fields)


def parse_skill_bytes(
    data: bytes, file_name: str, name: str, fields: Mapping[str, str] | None = None
) -> Skill:
    """Read the skill in an uploaded or pasted file. Raises as read_skill."""
    if data[:2] == b"\x1f\x8b":
        data = _unpack(data, file_name)
    if len(data) > LARGEST_BYTES:
        raise _too_large(file_name)
    try:
        text = data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadSkillFile(
            f"{file_name} is not UTF-8 text (byte {error.start} is {data[error.start]:#04x}); "
            "save it as UTF-8"
        ) from error
    try:
        return Skill(name, tuple(_items(text, fields)))
    except SkillError as error:
        raise type(error)(f"{file_name}: {error}") from error


def read_hub_skill(
    repository: str,
    *,
    name: str = "",
    config: str | None = None,
    split: str = "test",
    fields: Mapping[str, str] | None = None,
    judge: JudgeName | None = None,
    limit: int = MOST_HUB_ROWS,
    load: Callable[..., Iterable[Mapping[str, Any]]] | None = None,
) -> Skill:
    """Read the first `limit` rows of a Hub data set, or of one in a local folder, streamed.

    fields: our names → the data set's, or texts with {theirs} in them. judge: for all examples.
    load: `datasets.load_dataset`, if not given. Raises SkillError if `datasets` is not installed or the
    data set cannot be loaded, BadSkillFile for fields it does not have.
    """
    if judge is not None and not fields:
        raise SkillError(f"judge {judge} needs a prompt and an answer; map both to fields")
    try:
        with _silence_datasets():
            load = load or _load_dataset()
            rows = list(islice(load(repository, config, split=split, streaming=True), limit))
    except SkillError:
        raise
    except Exception as error:  # the edge to `datasets`: any of its failures
        raise SkillError(
            f"the data set {repository!r} (config {config!r}, split {split!r}) could not be loaded: "
            f"{first_line(error)}; check its name, configuration and split"
        ) from error
    return Skill(
        name or repository, tuple(_number_records(rows, fields, {} if judge is None else {"judge": judge}))
    )


def write_skill_lines(skill: Skill) -> bytes:
    """A skill as a skill file: JSON lines, UTF-8; default values are left out."""
    plain = {field.name: field.default for field in dataclass_fields(SkillItem)}
    records = (
        {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in vars(item).items()
            if name in ("prompt", "answer", "judge") or value != plain[name]
        }
        for item in skill.items
    )
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode()


@contextmanager
def _silence_datasets() -> Iterator[None]:
    """Suppress progress bars and the usage count that the package sends to the Hub."""
    if find_spec("datasets") is None:
        yield
        return
    datasets = import_module("datasets")
    told, shown = datasets.config.HF_UPDATE_DOWNLOAD_COUNTS, datasets.is_progress_bar_enabled()
    datasets.config.HF_UPDATE_DOWNLOAD_COUNTS = False
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        datasets.config.HF_UPDATE_DOWNLOAD_COUNTS = told
        if shown:
            datasets.enable_progress_bars()


def _load_dataset() -> Callable[..., Iterable[Mapping[str, Any]]]:
    try:
        load: Callable[..., Iterable[Mapping[str, Any]]] = import_module("datasets").load_dataset
    except ImportError as error:
        raise SkillError(
            "Hub data sets need the package `datasets`: pip install -r requirements-skills.txt"
        ) from error
    return load


def _too_large(name: str) -> BadSkillFile:
    return BadSkillFile(
        f"{name} is larger than {LARGEST_BYTES // 1_000_000} MB; some hundred examples are enough, so cut it"
    )


def _unpack(data: bytes, name: str) -> bytes:
    try:
        with gzip.open(io.BytesIO(data)) as packed:
            return packed.read(LARGEST_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise BadSkillFile(
            f"{name} is a damaged gzip file: {first_line(error)}; download it again"
        ) from error


def _items(text: str, fields: Mapping[str, str] | None) -> Iterator[SkillItem]:
    text = end_lines(text)
    start = text.lstrip()[:1]
    if not start:
        return
    if start in "[{":
        records = list(_json_records(text))
        yield from _number_records(records if fields else join_chat(records), fields)
    elif (table := read_table(text, fields)) is not None:
        yield from _number_records(table, fields)
    else:
        yield from _paragraphs(text)


def _number_records(
    records: Iterable[Any], fields: Mapping[str, str] | None, fixed: Mapping[str, str] = MappingProxyType({})
) -> Iterator[SkillItem]:
    mapped = [_map_record(number, one, fields, fixed) for number, one in enumerate(records, 1)]
    for number, record in enumerate(settle_choices(mapped, mapped=bool(fields)), 1):
        with _name_example(number):
            if isinstance(record, str):
                yield make_text_item(record)
            elif isinstance(record, Mapping):
                yield from read_items(record)
            else:
                raise BadSkillFile(f"it is a {type(record).__name__}; write an object with fields")


def _map_record(number: int, record: Any, fields: Mapping[str, str] | None, fixed: Mapping[str, str]) -> Any:
    if not fields or not isinstance(record, Mapping):
        return record
    with _name_example(number):
        return {**map_fields(record, fields), **fixed}


@contextmanager
def _name_example(number: int) -> Iterator[None]:
    """Refusals with the number of the example, from 1."""
    try:
        yield
    except SkillError as error:
        raise type(error)(f"example {number}: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadSkillFile(f"example {number} cannot be read: {first_line(error)}") from error


def _json_records(text: str) -> Iterator[Any]:
    """The records of one document that is a list or holds SQuAD's data, else one document per line."""
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError) as error:
        if text.lstrip()[0] == "[":
            raise BadSkillFile(
                f"the list is not JSON ({str(error)[:80]}); look there for a missing quote or bracket, or a "
                "comma behind the last entry"
            ) from error
        yield from _json_lines(text)
        return
    yield from whole if isinstance(whole, list) else [whole]


def _json_lines(text: str) -> Iterator[Any]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                yield json.loads(line)
            except (ValueError, RecursionError) as error:
                raise BadSkillFile(
                    f"line {number} is not JSON ({str(error)[:80]}); write one JSON document per line"
                ) from error


def _paragraphs(text: str) -> Iterator[SkillItem]:
    """The paragraphs of a plain text without headings and short ones. Raises TooFewExamples for none."""
    long = [one.strip() for one in text.split("\n") if len(one.strip()) >= SHORTEST_TEXT]
    if not long:
        raise TooFewExamples(
            f"it is empty: no paragraph of {SHORTEST_TEXT} characters, no JSON, and no table, whose first "
            "line names prompt, question or text; write one of these"
        )
    yield from map(make_text_item, long)
