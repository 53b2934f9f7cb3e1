"""Names of GGUF files: on this machine, in a folder, and at the Hub."""

from __future__ import annotations

import re
from pathlib import Path

from analysis.errors import NotAModel

ENDING = ".gguf"
_AT_HUB = re.compile(
    r"(?P<model>\w[\w.-]{0,95}/\w[\w.-]{0,95}):(?P<file>(?:\w[\w.+ -]*/)*\w[\w.+ -]*\.gguf)", re.I
)
_PART = re.compile(r"-\d{5}-of-(\d{5})\.gguf$", re.I)


def find_gguf(folder: Path) -> Path | None:
    """The GGUF file of a folder without safetensors, None if it has none.

    Raises NotAModel if there are several: which is the model, only a person can say.
    """
    try:
        files = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    except OSError:  # the caller says what a folder that cannot be read lacks
        return None
    found = [path for path in files if path.name.lower().endswith(ENDING)]
    if not found or any(path.name.endswith(".safetensors") for path in files):
        return None
    part = _PART.search(found[0].name)
    if part is not None:
        raise NotAModel(
            f"{folder} holds {found[0].name}, one of {int(part[1])} parts, which transformers does not "
            "read; join "
            "them into one file: llama-gguf-split --merge FIRST-PART.gguf WHOLE.gguf"
        )
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise NotAModel(f"{folder} holds several GGUF files; name one of them instead of the folder: {names}")
    return found[0]


def split_hub_file(name: str) -> tuple[str, str] | None:
    """The Hub id and the file of `ORG/NAME:FILE.gguf`, None for any other name."""
    found = _AT_HUB.fullmatch(name)
    return None if found is None else (found["model"], found["file"])
