"""Devices: which are here, what is free, where a spread model goes, and giving memory back."""

from __future__ import annotations

import ctypes
import gc
import weakref
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from transformers import GPT2Config, LlamaConfig

from analysis.checkpoints import devices
from analysis.checkpoints.devices import (
    BALANCED,
    FreeMemory,
    check_device,
    choose_device,
    free_unused,
    place_modules,
    read_free_memory,
)
from analysis.checkpoints.loading import empty_model
from analysis.errors import ModelError

SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 6, "num_attention_heads": 4}


def gpus(monkeypatch: pytest.MonkeyPatch, *free: int) -> None:
    """A machine with so many GPUs, each with so many bytes free."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(free))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(free))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda gpu: (free[gpu], 10 * free[gpu]))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda gpu: 30)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda gpu: 20)


def test_the_devices_that_are_here_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    gpus(monkeypatch)
    assert (devices.list_devices(), choose_device()) == (["cpu"], "cpu")
    gpus(monkeypatch, 100)
    assert (devices.list_devices(), choose_device()) == (["cpu", "cuda:0"], "cuda")
    gpus(monkeypatch, 100, 100)
    assert devices.list_devices() == ["cpu", "cuda:0", "cuda:1", BALANCED]


def test_auto_never_takes_mps_and_mps_can_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus(monkeypatch)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose_device() == "cpu"
    check_device("mps")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("cuda:7", r"'cuda:7' is not available; this machine has cpu, cuda:0$"),
        ("abacus", "'abacus' is not available"),
        (BALANCED, "over several accelerators, and this machine has 1; choose cpu, cuda:0"),
    ],
)
def test_a_device_that_is_not_here_is_refused(name: str, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    gpus(monkeypatch, 100)
    check_device("cuda")
    with pytest.raises(ModelError, match=says):
        check_device(name)


def test_free_memory_counts_what_torch_keeps_for_its_next_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    gpus(monkeypatch, 100, 200)
    assert read_free_memory().accelerators == (110, 210)


def test_the_room_is_that_of_the_device_asked_for() -> None:
    memory = FreeMemory(1000, (100, 200))
    rooms = [memory.room(device) for device in ("cpu", "cuda", "cuda:0", "cuda:1", "mps", BALANCED)]
    assert rooms == [900, 90, 90, 180, 90, 270]
    assert FreeMemory(1000).room("cuda") == 0


def group(folder: Path, limit: str, used: int, files: int) -> None:
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 5\ninactive_file {files}\nactive_file 7\n")


def test_a_control_groups_limit_counts_and_files_it_has_read_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "CGROUP", tmp_path)
    whole = psutil.virtual_memory().available
    assert read_free_memory().host == pytest.approx(whole, rel=0.2)
    group(tmp_path, "1000000", 900_000, 500_000)
    assert read_free_memory().host == 600_000
    group(tmp_path, "1000000", 1_900_000, 0)
    assert read_free_memory().host == 0
    group(tmp_path, "max", 900_000, 0)
    assert read_free_memory().host == pytest.approx(whole, rel=0.2)


def empty(config: Any) -> Any:
    return empty_model(config, torch.float32)


def test_one_device_takes_the_whole_model(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus(monkeypatch, 100)
    model = empty(LlamaConfig(vocab_size=97, **SIZES))
    assert place_modules("cpu", model) is None
    assert place_modules("cuda", model) == {"": "cuda"}
    with pytest.raises(ModelError, match="is not available"):
        place_modules("cuda:3", model)


@pytest.mark.parametrize(
    "config",
    [
        LlamaConfig(vocab_size=97, tie_word_embeddings=False, **SIZES),
        GPT2Config(vocab_size=97, n_embd=32, n_layer=6, n_head=4),
    ],
    ids=["own head", "tied head"],
)
def test_a_model_is_spread_over_gpus_in_whole_layers(config: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = empty(config)
    size = sum(p.numel() * p.element_size() for p in model.parameters())
    gpus(monkeypatch, size, size)
    found = place_modules(BALANCED, model)
    assert found is not None
    assert set(found.values()) == {0, 1}
    layers = model.base_model_prefix + (".h." if config.model_type == "gpt2" else ".layers.")
    assert sum(name.startswith(layers) and name.removeprefix(layers).isdigit() for name in found) == 6


def test_a_model_larger_than_all_gpus_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = empty(LlamaConfig(vocab_size=97, **SIZES))
    gpus(monkeypatch, 100_000, 100_000)
    with pytest.raises(ModelError, match=r"2 accelerators have .* free together; choose the device cpu"):
        place_modules(BALANCED, model)


def test_memory_is_given_back_to_gpus_and_to_mps(monkeypatch: pytest.MonkeyPatch) -> None:
    emptied: list[str] = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append("cuda"))
    monkeypatch.setattr(torch.mps, "empty_cache", lambda: emptied.append("mps"))
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    free_unused()
    assert emptied == ["cuda", "mps"]


def test_tensors_that_only_hold_one_another_are_let_go() -> None:
    gc.disable()
    try:
        ring: list[Any] = [torch.ones(3)]
        ring.append(ring)
        tensor = weakref.ref(ring[0])
        del ring
        assert tensor() is not None
        free_unused()
        assert tensor() is None
    finally:
        gc.enable()


def test_freed_memory_leaves_the_process() -> None:
    process = psutil.Process()
    kept = [torch.ones(1000) for _ in range(60_000)]  # too small to be mapped on their own
    last = torch.ones(1000)
    full = process.memory_info().rss
    del kept
    free_unused()
    assert last.sum() == 1000
    if not hasattr(ctypes.CDLL(None), "malloc_trim"):
        pytest.skip("this C library gives memory back in its own time")
    assert full - process.memory_info().rss > 100_000_000
