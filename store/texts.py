"""Texts that people gave, kept under their SHA-256 beside the default database.

Long work names a text by its digest, so that any process finds the same one, whatever became of the file.
"""

from __future__ import annotations

import hashlib
import os
import uuid
from contextlib import suppress
from pathlib import Path

from store.database import default_path
from store.errors import TextMissing, translated


def digest_of(text: str) -> str:
    """SHA-256 of a text as UTF-8."""
    return hashlib.sha256(text.encode()).hexdigest()


def keep_text(text: str) -> str:
    """Keep a text; its digest. One that is there already stays. DatabaseReadOnly, StoreFull."""
    digest = digest_of(text)
    path = _path(digest)
    with translated(path):
        if path.is_file():
            return digest
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
        try:
            part.write_bytes(text.encode())
            os.replace(part, path)
        finally:
            with suppress(OSError):
                part.unlink(missing_ok=True)
    return digest


def kept_text(digest: str) -> str:
    """The text with this digest. TextMissing where it is not here, or was changed."""
    try:
        text = _path(digest).read_bytes().decode()
    except (OSError, UnicodeDecodeError):
        text = ""
    if digest_of(text) != digest:
        raise TextMissing(
            f"the text with SHA-256 {digest[:12]}… is not in {_path(digest).parent}; "
            "ask again with the text itself, and the work goes on where it stopped"
        )
    return text


def _path(digest: str) -> Path:
    return default_path().absolute().parent / "texts" / f"{digest}.txt"
