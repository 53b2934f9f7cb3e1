"""Configuration and tokenizer of a GGUF file, as transformers derives them from its metadata.

transformers reads a vocabulary one token at a time to learn a model's configuration, which takes seconds. It
gets a small copy instead: the metadata without lists of texts, and the names of the tensors without their
bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from transformers import AutoConfig, PreTrainedTokenizerBase

from analysis.checkpoints.gguf.contents import GgufHeader
from analysis.checkpoints.gguf.header import MAGIC, read_gguf_header
from analysis.errors import NotAModel

_COPY = "metadata.gguf"
_TOKENS = "tokenizer.ggml.tokens"
_SIZES = (
    "embedding_length",
    "feed_forward_length",
    "vocab_size",
    "expert_count",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "rope.dimension_count",
    "ssm.conv_kernel",
    "ssm.state_size",
    "ssm.inner_size",
    "ssm.group_count",
    "ssm.time_step_rank",
    "shortconv.l_cache",
)
"""Sizes in the metadata from which a model is built, each at most the largest dimension of a tensor."""
_TEXT, _LIST, _COUNT, _FLOAT32 = 8, 9, 4, 0
"""Types in the file."""


def read_gguf_config(path: Path) -> Any:
    """The configuration transformers derives from a GGUF file's metadata.

    Raises NotAModel for a damaged file and for an architecture that transformers does not read from GGUF.
    """
    header = read_gguf_header(path)
    _refuse_larger_than_the_tensors(header)
    with _copied_metadata(header) as folder:
        try:
            config = AutoConfig.from_pretrained(folder, gguf_file=_COPY, local_files_only=True)
        except Exception as error:  # the edge to transformers: each architecture fails in its own way
            raise _explain(header, error) from error
    config.name_or_path = str(path)
    return config


def read_gguf_parameters(path: Path) -> dict[str, Any]:
    """The configuration as transformers' conversion of tensors takes it, before defaults are filled in."""
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

    header = read_gguf_header(path)
    with _copied_metadata(header) as folder:
        try:
            found: dict[str, Any] = load_gguf_checkpoint(str(folder / _COPY), return_tensors=False)["config"]
        except Exception as error:  # the edge to transformers
            raise _explain(header, error) from error
    return found


def read_gguf_tokenizer(path: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a GGUF file alone, whatever files lie beside it. Raises what transformers raises."""
    from transformers.models.auto.tokenization_auto import TOKENIZER_MAPPING
    from transformers.tokenization_utils_tokenizers import TokenizersBackend

    header, config = read_gguf_header(path), read_gguf_config(path)
    if _TOKENS not in header.fields:
        raise ValueError("the file holds no vocabulary")
    kind: Any = TOKENIZER_MAPPING.get(type(config), TokenizersBackend)
    if kind is None or not issubclass(kind, TokenizersBackend):
        kind = TokenizersBackend
    with TemporaryDirectory(prefix="headlamp-gguf-") as empty:
        found: PreTrainedTokenizerBase = kind.from_pretrained(
            empty, gguf_file=str(path.absolute()), local_files_only=True
        )
    found.name_or_path = str(path)
    return found


def _refuse_larger_than_the_tensors(header: GgufHeader) -> None:
    """Refuse sizes that no tensor of the file can have, before a model of that size is built."""
    blocks = {name.split(".")[1] for name in header.tensors if name.startswith("blk.")}
    largest = max((max(tensor.shape) for tensor in header.tensors.values()), default=0)
    for name, most in {"block_count": len(blocks), **dict.fromkeys(_SIZES, largest)}.items():
        value = header.value(f"{header.architecture}.{name}")
        for size in value if isinstance(value, list) else [value]:
            if isinstance(size, int) and not 0 <= size <= most:
                raise NotAModel(
                    f"{header.path}: its metadata gives {name} {size:,}, but its tensors have at most "
                    f"{most:,}; download or convert it again"
                )


def _explain(header: GgufHeader, error: Exception) -> NotAModel:
    if isinstance(error, KeyError):
        return NotAModel(
            f"{header.path} lacks {error.args[0]} in its metadata, which a {header.architecture} model "
            "needs; "
            "download or convert it again"
        )
    why = (str(error).strip() or type(error).__name__).splitlines()[0][:300].rstrip(".")
    return NotAModel(
        f"{header.path}: transformers refuses it ({why}); use the original model in safetensors format "
        "instead"
    )


@contextmanager
def _copied_metadata(header: GgufHeader) -> Iterator[Path]:
    """A folder with the small copy, while the body runs."""
    with TemporaryDirectory(prefix="headlamp-gguf-") as folder:
        (Path(folder) / _COPY).write_bytes(_copy_metadata(header))
        yield Path(folder)


def _copy_metadata(header: GgufHeader) -> bytes:
    """The file's metadata, and its tensors' names, each with one number."""
    entries = []
    with header.path.open("rb") as file:
        for key, field in header.fields.items():
            if not field.listed or isinstance(field.value, list):
                file.seek(field.start)
                entries.append(file.read(field.end - field.start))
            elif key == _TOKENS:
                entries.append(_state_vocabulary(header, field.value))
    names = [
        _text(name) + struct.pack("<IQIQ", 1, 1, _FLOAT32, 32 * number)
        for number, name in enumerate(header.tensors)
    ]
    whole = MAGIC + struct.pack("<IQQ", 3, len(names), len(entries)) + b"".join([*entries, *names])
    step = header.value("general.alignment") or 32
    return whole + bytes(-len(whole) % step + 32 * len(names))


def _state_vocabulary(header: GgufHeader, count: int) -> bytes:
    """An entry that says how many tokens there are: as a number where transformers takes one, else as a
    list.
    """
    from transformers.integrations.ggml import GGUF_CONFIG_MAPPING
    from transformers.integrations.gguf import GGUF_CONFIG_ARCHS

    known = {name.replace("_", ""): keys for name, keys in GGUF_CONFIG_MAPPING.items()}
    key = f"{header.architecture}.vocab_size"
    taken = "vocab_size" in known.get(header.architecture.replace("-", "").replace("_", ""), {})
    if taken and header.architecture not in GGUF_CONFIG_ARCHS:
        if key in header.fields:
            return _text("headlamp.vocabulary") + struct.pack("<II", _COUNT, count)
        return _text(key) + struct.pack("<II", _COUNT, count)
    return _text(_TOKENS) + struct.pack("<IIQ", _LIST, _TEXT, count) + bytes(8 * count)


def _text(value: str) -> bytes:
    raw = value.encode("utf-8")
    return struct.pack("<Q", len(raw)) + raw
