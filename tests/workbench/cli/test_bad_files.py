"""Damaged checkpoints: every command that reads one says what is wrong with it and what to do."""

from __future__ import annotations

import errno
import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from tests.workbench.cli.test_bad_input import refused
from tests.workbench.conftest import Cli

COMMANDS = (
    ("inspect",),
    ("decode",),
    ("decode", "--from-disk"),
    ("generate", "--prompt", "the dog"),
)
AGAIN = "fetch or convert the model again"


def commands(folder: Path) -> list[tuple[object, ...]]:
    return [(name, folder, *options) for name, *options in COMMANDS]


def weights_of(folder: Path) -> Path:
    return folder / "model.safetensors"


def with_header(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    raw = weights_of(folder).read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    weights_of(folder).write_bytes(struct.pack("<Q", len(text)) + text + raw[8 + length :])


def offsets(header: dict[str, Any], by: int) -> None:
    entry = header["model.norm.weight"]
    entry["data_offsets"] = [n + by for n in entry["data_offsets"]]


def two_shards(folder: Path) -> None:
    AutoModelForCausalLM.from_pretrained(folder).save_pretrained(folder, max_shard_size="10KB")
    weights_of(folder).unlink()


def missing_shard(folder: Path) -> None:
    two_shards(folder)
    sorted(folder.glob("*.safetensors"))[-1].unlink()


def no_index(folder: Path) -> None:
    (folder / "model.safetensors.index.json").write_text("{}")


def cut_off(folder: Path) -> None:
    weights_of(folder).write_bytes(weights_of(folder).read_bytes()[:-10])


DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "a truncated file": (cut_off, "is cut off"),
    "offsets beyond the file": (lambda f: with_header(f, lambda h: offsets(h, 10**9)), "leaves a gap before"),
    "overlapping tensors": (lambda f: with_header(f, lambda h: offsets(h, -4)), "share bytes"),
    "bytes of another shape": (
        lambda f: with_header(f, lambda h: h["model.norm.weight"].update(shape=[17])),
        "but F32 of shape [17] takes 68",
    ),
    "bytes of another dtype": (
        lambda f: with_header(f, lambda h: h["model.norm.weight"].update(dtype="BF16")),
        "but BF16 of shape [16] takes 32",
    ),
    "a missing shard": (missing_shard, "which is not there"),
    "an index that is none": (no_index, "is no index of weights"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_refused_by_every_command(
    cli: Cli, tiny: Path, tmp_path: Path, damage: str
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny, folder)
    spoil, says = DAMAGES[damage]
    spoil(folder)
    for command in commands(folder):
        refused(cli, *command, says=says)
        assert AGAIN in cli(*command).err


def test_mixed_dtypes_are_read_as_the_one_asked_for(cli: Cli, tiny: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny, folder)
    stored = load_file(weights_of(folder))
    kinds = (torch.float32, torch.bfloat16, torch.float16)
    mixed = {key: tensor.to(kinds[i % 3]) for i, (key, tensor) in enumerate(stored.items())}
    save_file(mixed, weights_of(folder), metadata={"format": "pt"})
    found = cli("inspect", folder, "--json").document
    assert found["bytes"] == cli("inspect", tiny, "--json").document["bytes"]
    for command in commands(folder):
        assert cli(*command).code == 0, command


def test_a_folder_that_cannot_be_written_is_read_all_the_same(cli: Cli, tiny: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny, folder)
    for path in (*folder.iterdir(), folder):
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    try:
        for command in commands(folder):
            assert cli(*command).code == 0, command
        assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    finally:
        folder.chmod(0o755)


@pytest.mark.parametrize(
    ("why", "says"),
    [
        ("EACCES", "/cache/hub cannot be written (Permission denied); let HF_HOME name a folder that can be"),
        ("EROFS", "/cache/hub cannot be written (Read-only file system); let HF_HOME name a folder"),
        ("ENOSPC", "the disk is full; make room"),
    ],
)
def test_a_hub_cache_that_cannot_be_written_is_told(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, why: str, says: str
) -> None:
    def hub(name: str, **options: Any) -> str:
        raise OSError(getattr(errno, why), os.strerror(getattr(errno, why)), "/cache/hub")

    monkeypatch.setattr("analysis.checkpoints.sources.snapshot_download", hub)
    monkeypatch.setattr("analysis.checkpoints.hub.snapshot_download", hub)
    for command in commands(Path("someone/model")):
        refused(cli, *command, says=says)
