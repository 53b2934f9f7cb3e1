"""Texts that people gave are found again by their digest, whole or not at all."""

import hashlib
from pathlib import Path

import pytest

from store import TextMissing, default_path, digest_text, keep_text, load_text

TEXT = "Zwei\r\nZeilen 🐟\n"


def test_a_text_comes_back_to_the_byte_under_its_sha_256() -> None:
    digest = keep_text(TEXT)
    assert digest == digest_text(TEXT) == hashlib.sha256(TEXT.encode()).hexdigest()
    assert load_text(digest) == TEXT
    assert keep_text(TEXT) == digest
    assert len(list(texts().iterdir())) == 1


def texts() -> Path:
    return default_path().parent / "texts"


def test_a_text_that_is_not_there_or_was_changed_is_missed() -> None:
    with pytest.raises(TextMissing, match="repeat the request with the text itself"):
        load_text("0" * 64)
    digest = keep_text(TEXT)
    (file,) = texts().iterdir()
    file.write_text("other")
    with pytest.raises(TextMissing, match=digest[:12]):
        load_text(digest)
