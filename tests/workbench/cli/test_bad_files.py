"""Damaged checkpoints: every command that reads one says what is wrong with it and what to do."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.workbench.cli.bad_files_made import (
    AGAIN,
    DAMAGES,
    weights_of,
)
from tests.workbench.conftest import Cli
from tests.workbench.refusals import refused

COMMANDS = (
    ("inspect",),
    ("decode",),
    ("decode", "--from-disk"),
    ("generate", "--prompt", "the dog"),
)


def commands(folder: Path) -> list[tuple[object, ...]]:
    return [(name, folder, *options) for name, *options in COMMANDS]


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
        ("EACCES", "/cache/hub cannot be written (Permission denied); set HF_HOME to a writable folder"),
        ("EROFS", "/cache/hub cannot be written (Read-only file system); set HF_HOME to a writable folder"),
        ("ENOSPC", "the disk is full; free some space"),
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
