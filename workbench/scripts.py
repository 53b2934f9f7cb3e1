"""How a script that only needs torch and transformers names and opens a model."""

from __future__ import annotations

from analysis.checkpoints.gguf.files import split_hub_file
from analysis.opening.models import LoadedModel
from demo import BUNDLED

_OF_GGUF = {
    "DynamicCache\n": "DynamicCache, GgufConfig\n",
    "(MODEL, revision=REVISION": "(MODEL, revision=REVISION, gguf_file=GGUF_FILE",
    "dtype=DTYPE)": "dtype=DTYPE, quantization_config=GgufConfig(dequantize=True))",
}
"""Text of a script → the same for a GGUF file."""


def name_source(loaded: LoadedModel) -> dict[str, str | None]:
    """The constants that say where a model is: MODEL and REVISION, and GGUF_FILE where it is a file in
    MODEL.
    """
    name, file = str(BUNDLED.get(loaded.ref.name, loaded.ref.name)), None
    if loaded.path.is_file():
        name, file = split_hub_file(loaded.ref.name) or (str(loaded.path.parent), loaded.path.name)
    found = {"MODEL": name, "REVISION": loaded.ref.revision}
    return found if file is None else found | {"GGUF_FILE": file}


def adapt_script(script: str, loaded: LoadedModel) -> str:
    """The script, dequantising where the model is a GGUF file; else unchanged."""
    for text, replacement in _OF_GGUF.items() if loaded.path.is_file() else ():
        script = script.replace(text, replacement)
    return script
