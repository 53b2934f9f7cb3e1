"""The chat template of a multimodal model, which its processor has and not its tokenizer."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from analysis.checkpoints.stored import AGAIN
from analysis.errors import NoTokenizer

PROCESSOR = "processor_config.json"
LEGACY = "chat_template.json"
_KEY = "chat_template"


def read_processor_template(folder: Path) -> Any:
    """The template that AutoProcessor takes: that in processor_config.json, else in chat_template.json; None
    if neither has one, and then it is the tokenizer's (chat_template.jinja among its files).

    Raises NoTokenizer for a file that cannot be read.
    """
    for name in (PROCESSOR, LEGACY):
        file = folder / name
        if not file.is_file():
            continue
        try:
            found = json.loads(file.read_bytes()).get(_KEY)
        except (OSError, ValueError, AttributeError) as error:
            raise NoTokenizer(f"{file} cannot be read ({error}){AGAIN}") from error
        if found is not None:
            return found
    return None


def holds_template(folder: Path) -> bool:
    """Whether processor_config.json holds a chat template, so that its bytes can change an answer."""
    try:
        stat = (folder / PROCESSOR).stat()
    except OSError:
        return False
    return _holds_template(folder / PROCESSOR, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=256)
def _holds_template(file: Path, changed: int, size: int) -> bool:
    return f'"{_KEY}"'.encode() in file.read_bytes()
