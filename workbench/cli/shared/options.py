"""Arguments and options shared by several commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def check_readable_text(value: Any) -> Any:
    """The text as typed. Raises BadParameter for bytes that are not text, which no tokenizer accepts."""
    for text in value if isinstance(value, list | tuple) else [value]:
        if isinstance(text, str) and any("\ud800" <= c <= "\udfff" for c in text):
            raise typer.BadParameter("this is not UTF-8 text; check the terminal's or the script's encoding")
    return value


ModelName = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A bundled name (demo/base), a local folder (./demo/base forces one) or .gguf file, or a Hub id "
        "(ORG/NAME, ORG/NAME:FILE.gguf); +ADAPTER behind it merges a LoRA adapter, a folder or a Hub id.",
        show_default=False,
    ),
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, mps, or balanced: over all GPUs.")]
Dtype = Annotated[
    str,
    typer.Option(
        "--dtype", help="auto, float32, bfloat16 or float16; auto is float32 on the CPU, else bfloat16."
    ),
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of random draws.")]
Db = Annotated[
    Path | None,
    typer.Option(
        "--db",
        metavar="FILE",
        help="The database; default: HEADLAMP_DB, else headlamp.db in the user's data folder.",
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
