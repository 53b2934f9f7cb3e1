"""Every format of weights put through the same checks, as the table of docs/models.md lists them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from analysis.neurons.decoding import decode_vectors, read_block_vectors
from analysis.opening.models import LoadedModel, ModelRef, load_model
from tests.analysis.checkpoints.gguf.gguf_made import load_plain as load_plain_gguf
from tests.analysis.checkpoints.gguf.gguf_made import write_gguf
from tests.analysis.checkpoints.quantised.quantised_made import (
    TWIN,
    WRITERS,
    load_plain,
    make_llama,
    quantise_folder,
)
from tests.analysis.conftest import tiny_tokenizer
from tests.contract.checks import READING
from tests.contract.clamp_checks import CLAMPING
from tests.contract.edits import IDS
from tests.contract.expectations import Broken, expect

DTYPES = ("float32", "bfloat16")
BEGIN = "<!-- formats: python -m tests.contract formats -->"
END = "<!-- end -->"
WHOLE = {
    "FP8 in blocks, Llama",
    "FP8 in blocks, DeepSeek",
    "MXFP4, gpt-oss",
}
"""Formats of which a model passes every check of the contract, too: one per layout of blocks."""


@dataclass(frozen=True)
class FormatRow:
    """A row of the table. name: format and family. Each check: "yes", or what failed."""

    name: str
    opens: str
    decodes: str
    runs: str
    from_disk: str
    contract: str
    compared: str

    def __str__(self) -> str:
        kind, _, family = self.name.partition(", ")
        checks = (self.opens, self.decodes, self.runs, self.from_disk, self.contract)
        return f"| {' | '.join((kind, *checks, family, self.compared))} |"


@dataclass(frozen=True)
class _Case:
    """A checkpoint opened in memory and from disk, and what it must equal, by dtype."""

    loaded: Mapping[str, LoadedModel]
    streamed: Mapping[str, LoadedModel]
    plain: Mapping[str, PreTrainedModel]


def check_format(name: str) -> FormatRow:
    """Write a tiny checkpoint, open it in every way, and run every check."""
    with TemporaryDirectory() as temporary:
        path = write_format(name, Path(temporary))
        case = open_format(path)
        return FormatRow(
            name,
            opens=tell_result(check_opening, case),
            decodes=tell_result(check_decoding, case),
            runs=tell_result(check_running, case),
            from_disk=tell_result(check_disk, case),
            contract=tell_result(check_contract, case) if name in WHOLE else "–",
            compared="the published layout" if (path / TWIN).is_dir() else "transformers",
        )


def list_formats() -> tuple[str, ...]:
    """Every format and the family that it is tested on, in the order of the table."""
    plain = (f"safetensors {dtype}, Llama" for dtype in ("float32", "bfloat16", "float16"))
    return (*plain, "GGUF Q8_0, Llama", *WRITERS)


def write_section(rows: list[FormatRow]) -> str:
    """The table between its marks."""
    head = "| weights | opens | decodes | runs | from disk | contract | tested on | compared with |"
    return "\n".join([BEGIN, head, "|---" * 8 + "|", *map(str, rows), END])


def replace_section(page: str, section: str) -> str:
    """The page with another table."""
    return page.split(BEGIN)[0] + section + page.split(BEGIN)[1].split(END)[1]


def write_format(name: str, folder: Path) -> Path:
    kind, _, family = name.partition(", ")
    if kind.startswith("GGUF"):
        return write_gguf(folder / "a.gguf", family.lower(), kind.split()[1], tied=False)
    if kind.startswith("safetensors"):
        make_llama().to(getattr(torch, kind.split()[1])).save_pretrained(folder)
        tiny_tokenizer().save_pretrained(folder)
        return quantise_folder(folder, lambda key, tensor: None, {})
    return WRITERS[name](folder)


def open_format(path: Path) -> _Case:
    def opened(streamed: bool) -> dict[str, LoadedModel]:
        refs = {dtype: ModelRef(str(path), dtype=dtype, streamed=streamed) for dtype in DTYPES}
        return {dtype: load_model(ref) for dtype, ref in refs.items()}

    plain = {dtype: _load_plain(path, getattr(torch, dtype)) for dtype in DTYPES}
    return _Case(opened(False), opened(True), plain)


def _load_plain(path: Path, dtype: torch.dtype) -> Any:
    if path.is_file():
        return load_plain_gguf(path, dtype)
    if "quantization_config" in (path / "config.json").read_text():
        return load_plain(path, dtype)
    return AutoModelForCausalLM.from_pretrained(path, dtype=dtype).eval()


def tell_result(check: Callable[[_Case], None], case: _Case) -> str:
    try:
        check(case)
    except Broken as error:
        return f"no: {error}"
    return "yes"


def check_opening(case: _Case) -> None:
    """Every parameter is to the bit what it must equal, in float32 and in bfloat16."""
    for dtype, plain in case.plain.items():
        for name, value in plain.named_parameters():
            expect(torch.equal(case.loaded[dtype].parameters[name], value), f"{name} differs in {dtype}")


def check_running(case: _Case) -> None:
    """So are the logits of a text; within rounding where weights lie otherwise in memory."""
    for dtype, plain in case.plain.items():
        with torch.inference_mode():
            ours, theirs = case.loaded[dtype].model(IDS).logits, plain(IDS).logits
        near = 1e-5 if dtype == "float32" else 1e-2
        expect(torch.allclose(ours, theirs, rtol=near, atol=near), f"logits differ in {dtype}")


def check_decoding(case: _Case) -> None:
    """Every label is that of one float64 product over the vocabulary."""
    loaded = case.loaded["float32"]
    for block, ids in zip(loaded.anatomy.blocks, _label(loaded), strict=True):
        vectors = read_block_vectors(loaded.anatomy, block, loaded.parameters, "down").double()
        head = loaded.anatomy.head
        logits = vectors @ loaded.parameters[head.parameter].double().T * head.scale
        known = logits[:, : len(loaded.vocabulary)]
        expect(torch.equal(known.topk(3).indices.int(), ids), f"{block.address}: other labels")


def check_disk(case: _Case) -> None:
    """Read layer by layer, every parameter and every label is the same."""
    for dtype, loaded in case.loaded.items():
        streamed = case.streamed[dtype]
        for name, value in loaded.parameters.items():
            expect(torch.equal(streamed.parameters[name], value), f"{name} differs in {dtype}")
        same = all(torch.equal(a, b) for a, b in zip(_label(loaded), _label(streamed), strict=True))
        expect(same, f"other labels in {dtype}")


def check_contract(case: _Case) -> None:
    """Every check of the contract that needs no other checkpoint."""
    for check in (*READING, *CLAMPING):
        check(case.loaded["float32"])


@lru_cache(maxsize=4)
def _label(loaded: LoadedModel) -> list[torch.Tensor]:
    """The best tokens of every neuron, (m, 3) int32 per block."""
    found = []
    for block in loaded.anatomy.blocks:
        vectors = read_block_vectors(loaded.anatomy, block, loaded.parameters, "down")
        found.append(decode_vectors(vectors, loaded.head, 3).top_ids)
    return found
