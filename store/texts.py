"""Texts given by users, stored under their SHA-256 beside the default database.

Jobs name a text by its digest, so that any process finds the same text even if the file changed.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from store.database import default_path
from store.errors import TextMissing, translate_errors
from store.files import write_whole


def digest_text(text: str) -> str:
    """SHA-256 of a text as UTF-8."""
    return hashlib.sha256(text.encode()).hexdigest()


def keep_text(text: str) -> str:
    """Store a text; returns its digest. An existing one stays. DatabaseReadOnly, StoreFull, Unwritable."""
    digest = digest_text(text)
    path = _path(digest)
    with translate_errors(path):
        if not path.is_file():
            write_whole(path, text.encode())
    return digest


def load_text(digest: str) -> str:
    """The text with this digest. TextMissing if it is not here, or was changed."""
    try:
        text = _path(digest).read_bytes().decode()
    except (OSError, UnicodeDecodeError):
        text = ""
    if digest_text(text) != digest:
        raise TextMissing(
            f"the text with SHA-256 {digest[:12]}… is not in {_path(digest).parent}; "
            "repeat the request with the text itself, and the job resumes where it stopped"
        )
    return text


def _path(digest: str) -> Path:
    return default_path().absolute().parent / "texts" / f"{digest}.txt"
