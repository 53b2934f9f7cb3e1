"""Fingerprint of a model: SHA-256 over every byte that can change an answer."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from pathlib import Path

from analysis.checkpoints.weight_files import find_weight_files
from analysis.checkpoints.wrappers.templates import PROCESSOR, holds_template
from analysis.errors import NotAModel, UnsafeWeights

FileKey = tuple[str, int, int, int]
"""(path, size, mtime_ns, inode): while these are unchanged, so are the file's bytes."""

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
    "vocab.bpe",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tekken.json",
    "chat_template.jinja",
    "chat_template.json",
)
_hashes: dict[FileKey, str] = {}


def identity_files(folder: Path, *, weights: bool = True) -> dict[str, Path]:
    """The files a fingerprint covers, by name in the folder: weights with their index (see
    `find_weight_files`), config, tokenizer, chat template.

    weights: whether to include the weights and their index. A folder without usable weights has none. Of a
    GGUF file it is the file, whatever its name.
    """
    if folder.is_file():
        return {"model.gguf": folder}
    names = [name for name in _NAMES if (folder / name).is_file()]
    names += [PROCESSOR] if holds_template(folder) else []
    names += [path.name for path in folder.glob("tokenizer.*.json")]  # of some versions of transformers only
    if weights:
        with suppress(NotAModel, UnsafeWeights):
            files = find_weight_files(folder)
            names += [*files.names, *([] if files.index is None else [files.index])]
    return {name: folder / name for name in sorted(names)}


def stamp(folder: Path) -> tuple[FileKey, ...]:
    """A value that changes whenever an identity file is replaced or rewritten; reads no file."""
    return tuple(file_key(path) for path in identity_files(folder).values())


def fingerprint(folder: Path, hashes: HashCache | None = None) -> str:
    """SHA-256 (hex) over the names and bytes of `identity_files`.

    hashes: cache of file hashes; an in-process table by default.
    """
    return combine_digests({name: hash_file(path, hashes) for name, path in identity_files(folder).items()})


def combine_digests(digests: Mapping[str, str]) -> str:
    """The fingerprint of files with known digests: name → SHA-256 (hex) of the bytes."""
    total = hashlib.sha256()
    for name in sorted(digests):
        total.update(f"{name}\0{digests[name]}\n".encode())
    return total.hexdigest()


def recall_fingerprint(folder: Path, hashes: HashCache | None = None) -> str | None:
    """The fingerprint if every file's hash is cached, else None: never reads weights."""
    known = _hashes if hashes is None else hashes
    if all(file_key(path) in known for path in identity_files(folder).values()):
        return fingerprint(folder, hashes)
    return None


def file_key(path: Path) -> FileKey:
    """What identifies a file's bytes without reading them: its place, size, time of change and inode.

    Raises OSError for a file that is not there.
    """
    stat = path.resolve().stat()
    return str(path.resolve()), stat.st_size, stat.st_mtime_ns, stat.st_ino


def hash_file(path: Path, hashes: HashCache | None = None) -> str:
    """SHA-256 (hex) of a file's bytes, cached as in `fingerprint`."""
    known = _hashes if hashes is None else hashes
    key = file_key(path)
    if key not in known:
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256")
        with suppress(Exception):  # a cache that cannot be written only means reading the file again
            known[key] = digest.hexdigest()
        return digest.hexdigest()
    return known[key]
