"""Copies of bundled models whose files are altered, as people's models are."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

ROOT = Path(__file__).resolve().parents[1]
END = "<|end|>"


def copied(name: str, folder: Path) -> Path:
    """A writable copy of a bundled model."""
    shutil.copytree(ROOT / "demo" / name, folder)
    for path in folder.iterdir():
        path.chmod(0o644)
    return folder


def edit_json(path: Path, **changes: Any) -> None:
    """Set entries of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def moved_end(folder: Path, new: int = 4019, rows: int = 4032) -> Path:
    """demo/chat whose end token has a larger id, behind ids that no token has."""
    copied("chat", folder)
    ends = json.loads((folder / "generation_config.json").read_text())["eos_token_id"]
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    (added,) = (token for token in tokenizer["added_tokens"] if token["content"] == END)
    old, added["id"] = added["id"], new
    tokenizer["model"]["vocab"][END] = new
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    weights = load_file(folder / "model.safetensors")
    table = weights["model.embed_tokens.weight"]
    longer = torch.randn(rows, table.shape[1]).to(table.dtype) * 9  # a hole that is not masked wins
    longer[: len(table)] = table
    longer[new] = table[old]
    weights["model.embed_tokens.weight"] = longer
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    edit_json(folder / "config.json", vocab_size=rows)
    edit_json(folder / "generation_config.json", eos_token_id=[new if i == old else i for i in ends])
    return folder


def with_template(folder: Path, template: str) -> Path:
    """demo/chat with another chat template."""
    copied("chat", folder)
    (folder / "chat_template.jinja").write_text(template)
    return folder
