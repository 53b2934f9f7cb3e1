"""Anatomies proven before, kept so that opening the same model again need not prove them.

A proof depends on the weights and on the code that runs them: its key names the model's fingerprint, dtype
and device, the versions of torch and transformers, and the version of the proof.
"""

from __future__ import annotations

import hashlib
import json
import types
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, fields, is_dataclass
from typing import Any, Protocol, cast, get_args, get_origin, get_type_hints

import torch
import transformers

from analysis.anatomy.anatomy import Anatomy

PROOF_VERSION = "2"
"""Changes whenever anatomies are found or proven in another way."""


LIBRARIES = (str(torch.__version__), transformers.__version__)
"""Versions of the libraries that run the proof."""


class KeptProofs(Protocol):
    """Where documents of proven anatomies are kept."""

    def get(self, key: str) -> dict[str, Any] | None:
        """The document kept under a key, if any."""

    def keep(self, key: str, document: Mapping[str, Any]) -> None:
        """Keep a document under a key."""


def proof_key(fingerprint: str, architecture: str, dtype: str, device: str) -> str:
    """The key of a proof: SHA-256 (hex) of everything it depends on."""
    parts = [PROOF_VERSION, *LIBRARIES, fingerprint, architecture, dtype, device]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def recall_anatomy(proofs: KeptProofs, key: str, parameters: Mapping[str, Any]) -> Anatomy | None:
    """The anatomy proven under a key, if one is kept that can be read and names the model's parameters."""
    with suppress(Exception):  # a cache that cannot be read only means proving again
        document = proofs.get(key)
        if document is not None:
            anatomy = cast(Anatomy, _build(Anatomy, document))
            if all(name in parameters for name in _list_parameters(document)):
                return anatomy
    return None


def keep_anatomy(proofs: KeptProofs, key: str, anatomy: Anatomy) -> None:
    """Keep a proven anatomy; what cannot be kept is proven again."""
    with suppress(Exception):
        proofs.keep(key, asdict(anatomy))


def _list_parameters(document: Any) -> list[str]:
    """All parameter and bias names in an anatomy's document."""
    if isinstance(document, list):
        return [name for entry in document for name in _list_parameters(entry)]
    if not isinstance(document, dict):
        return []
    own = [document[kind] for kind in ("parameter", "bias") if isinstance(document.get(kind), str)]
    return own + [name for entry in document.values() for name in _list_parameters(entry)]


def _build(kind: Any, value: Any) -> Any:
    """A value of a JSON document as the dataclass, tuple or plain type it was. Raises TypeError."""
    if get_origin(kind) is tuple:
        return tuple(_build(get_args(kind)[0], entry) for entry in value)
    if isinstance(kind, types.UnionType):
        if value is None:
            return None
        kind = next(part for part in get_args(kind) if part is not types.NoneType)
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        if value.keys() != {field.name for field in fields(kind)}:
            raise TypeError(f"not a {kind}")
        return cast(Any, kind)(**{name: _build(hints[name], entry) for name, entry in value.items()})
    return value
