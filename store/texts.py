"""Texts that people gave, kept under their SHA-256 beside the default database.

Long work names a text by its digest, so that any process finds the same one, whatever became of the file.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from store.database import default_path
from store.errors import TextMissing, translated
from store.files import write_whole


def digest_of(text: str) -> str:
    """SHA-256 of a text as UTF-8."""
    return hashlib.sha256(text.encode()).hexdigest()


def keep_text(text: str) -> str:
    """Keep a text; its digest. One that is there already stays. DatabaseReadOnly, StoreFull, Unwritable."""
    digest = digest_of(text)
    path = _path(digest)
    with translated(path):
        if not path.is_file():
            write_whole(path, text.encode())
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
