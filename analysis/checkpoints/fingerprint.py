"""A model's identity: SHA-256 over every byte that can change an answer."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from pathlib import Path

FileKey = tuple[str, int, int, int]
"""(path, size, mtime_ns, inode): as long as these stand, so do a file's bytes."""

HashCache = MutableMapping[FileKey, str]

_NAMES = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "chat_template.jinja",
    "chat_template.json",
)
_hashes: dict[FileKey, str] = {}


def identity_files(folder: Path, *, weights: bool = True) -> list[Path]:
    """The files a fingerprint covers, by name: all safetensors, config, tokenizer, chat template.

    weights: whether the safetensors are among them.
    """
    files = [folder / name for name in _NAMES if (folder / name).is_file()]
    files += folder.glob("*.safetensors.index.json")
    return sorted([*files, *(folder.glob("*.safetensors") if weights else ())], key=lambda path: path.name)


def stamp(folder: Path) -> tuple[FileKey, ...]:
    """What stands still as long as no identity file is replaced or rewritten; reads no file."""
    return tuple(_key(path) for path in identity_files(folder))


def fingerprint(folder: Path, hashes: HashCache | None = None) -> str:
    """SHA-256 (hex) over the names and bytes of `identity_files`.

    hashes: where file hashes are remembered between calls; an in-process table where none is given.
    """
    return combined({path.name: file_hash(path, hashes) for path in identity_files(folder)})


def combined(digests: Mapping[str, str]) -> str:
    """The fingerprint of files whose digests are known: name → SHA-256 (hex) of the bytes."""
    total = hashlib.sha256()
    for name in sorted(digests):
        total.update(f"{name}\0{digests[name]}\n".encode())
    return total.hexdigest()


def known_fingerprint(folder: Path, hashes: HashCache | None = None) -> str | None:
    """The fingerprint if every file's hash is remembered, else None: never reads weights."""
    known = _hashes if hashes is None else hashes
    if all(_key(path) in known for path in identity_files(folder)):
        return fingerprint(folder, hashes)
    return None


def _key(path: Path) -> FileKey:
    stat = path.resolve().stat()
    return str(path.resolve()), stat.st_size, stat.st_mtime_ns, stat.st_ino


def file_hash(path: Path, hashes: HashCache | None = None) -> str:
    """SHA-256 (hex) of a file's bytes, remembered as in `fingerprint`."""
    known = _hashes if hashes is None else hashes
    key = _key(path)
    if key not in known:
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256")
        with suppress(Exception):  # a memory that cannot be written costs reading the file again, no more
            known[key] = digest.hexdigest()
        return digest.hexdigest()
    return known[key]
