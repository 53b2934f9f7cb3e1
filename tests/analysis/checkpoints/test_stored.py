"""Headers and tensors of safetensors files: what they hold, and every way in which they can be wrong."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from analysis.checkpoints import stored
from analysis.checkpoints.headers import read_stored_tensors
from analysis.checkpoints.weight_files import INDEX
from analysis.errors import ModelError, NotAModel

Header = dict[str, Any]


def tensors() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {
        "half": torch.randn(7, 5).half(),
        "scalar": torch.tensor(3.5),
        "empty": torch.zeros(0, 4),
        "whole": torch.arange(6).view(2, 3),
        "brain": torch.randn(3, 4, 5).bfloat16(),
        "mask": torch.tensor([True, False, True]),
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_file(tensors(), tmp_path / "model.safetensors", metadata={"format": "pt"})
    return tmp_path


def test_headers_say_what_the_file_holds(folder: Path) -> None:
    found, real = read_stored_tensors(folder), tensors()
    assert set(found) == set(real)
    for key, tensor in real.items():
        assert (found[key].shape, found[key].dtype) == (tuple(tensor.shape), tensor.dtype)
        assert (found[key].numel, found[key].stored_bytes) == (tensor.numel(), tensor.nbytes)


@pytest.mark.parametrize("buffer", [8, 24, 1 << 20])
@pytest.mark.parametrize("dtype", [None, torch.float32, torch.bfloat16])
def test_tensors_are_read_into_any_place(
    folder: Path, monkeypatch: pytest.MonkeyPatch, buffer: int, dtype: torch.dtype | None
) -> None:
    monkeypatch.setattr(stored, "BUFFER", buffer)
    found = read_stored_tensors(folder)
    for key, tensor in tensors().items():
        wanted = tensor.to(dtype or tensor.dtype)
        plain = torch.empty_like(wanted)
        turned = torch.empty(tensor.shape[::-1], dtype=wanted.dtype).permute(tuple(range(tensor.dim()))[::-1])
        within = torch.zeros((*tensor.shape, 2), dtype=wanted.dtype)[..., 0]
        for place in (plain, turned, within):
            found[key].read_into(place)
            assert torch.equal(place, wanted), key


def test_a_place_of_another_shape_is_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"half is \(7, 5\), not \(5, 7\)"):
        read_stored_tensors(folder)["half"].read_into(torch.empty(5, 7))


def test_a_file_that_loses_its_end_while_it_is_read_is_told(folder: Path) -> None:
    last = max(read_stored_tensors(folder).values(), key=lambda tensor: tensor.start)
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(ModelError, match="ended while it was read"):
        last.read_into(torch.empty(last.shape, dtype=last.dtype))


def rewrite(path: Path, change: Callable[[Header], None]) -> None:
    """Give a file another header, its bytes as they are."""
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + raw[8 + length :])


def shifted(header: Header, key: str, begin: int, end: int) -> None:
    start, stop = header[key]["data_offsets"]
    header[key]["data_offsets"] = [start + begin, stop + end]


LIES: dict[str, tuple[Callable[[Header], None], str]] = {
    "bytes of another shape": (
        lambda h: h["half"].update(shape=[7, 6]),
        r"gives half 70 bytes, but .* takes 84",
    ),
    "bytes of another dtype": (lambda h: h["half"].update(dtype="F32"), "gives half 70 bytes, but F32"),
    "offsets beyond the file": (lambda h: shifted(h, "mask", 9000, 9000), "leaves a gap before mask"),
    "more than the file has": (
        lambda h: h.update(more={"dtype": "F32", "shape": [1000], "data_offsets": [245, 4245]}),
        "is truncated: its header lists 4,245 bytes of weights, it has 245",
    ),
    "shared bytes": (lambda h: shifted(h, "half", -2, -2), "has .* and half share bytes"),
    "less than the file has": (lambda h: h.pop("mask"), "has 3 bytes that its header does not list"),
    "a negative shape": (lambda h: h["half"].update(shape=[-7, -5]), "must be whole numbers"),
    "no offsets": (lambda h: h["half"].pop("data_offsets"), "cannot be read as safetensors"),
    "an unknown dtype": (
        lambda h: h["half"].update(dtype="F4"),
        "half is stored as F4, which Headlamp does not read",
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_header_that_cannot_be_true_is_refused(folder: Path, lie: str) -> None:
    change, says = LIES[lie]
    rewrite(folder / "model.safetensors", change)
    with pytest.raises(NotAModel, match=says):
        read_stored_tensors(folder)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "cannot be read as safetensors"),
        (b"\xff" * 100, "has no header"),
        (struct.pack("<Q", 4) + b"[1 ]", "is not a table"),
        (struct.pack("<Q", 90) + b"{", "is truncated within its header"),
        (struct.pack("<Q", 4) + b"{ab}", "cannot be read as safetensors"),
        (b"not safetensors at all", "has no header"),
    ],
)
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(NotAModel, match=says):
        read_stored_tensors(tmp_path)


def test_a_truncated_file_is_told(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(NotAModel, match=r"is truncated.*download or convert the model again"):
        read_stored_tensors(folder)


def sharded(folder: Path, weight_map: dict[str, str]) -> None:
    (folder / "model.safetensors").rename(folder / "one.safetensors")
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def test_all_tensors_of_the_files_that_an_index_names_count(folder: Path) -> None:
    save_file({"other": torch.ones(2)}, folder / "unnamed.safetensors")
    sharded(folder, {"half": "one.safetensors"})
    assert set(read_stored_tensors(folder)) == set(tensors())


def test_a_missing_shard_is_named(folder: Path) -> None:
    sharded(folder, {"half": "one.safetensors", "other": "two.safetensors"})
    with pytest.raises(NotAModel, match=r"its index names two\.safetensors, which is not there"):
        read_stored_tensors(folder)


def test_a_link_to_a_shard_that_is_gone_is_a_missing_shard(folder: Path) -> None:
    sharded(folder, {"half": "two.safetensors"})
    (folder / "two.safetensors").symlink_to(folder / "blob")
    with pytest.raises(NotAModel, match=r"names two\.safetensors, which is not there"):
        read_stored_tensors(folder)


def test_a_tensor_that_is_not_in_its_shard_is_named(folder: Path) -> None:
    sharded(folder, {"half": "one.safetensors", "other": "one.safetensors"})
    with pytest.raises(
        NotAModel, match=r"index assigns other to one\.safetensors, which does not contain it"
    ):
        read_stored_tensors(folder)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"weight_map": [1]}', '{"weight_map": {"a": 1}}'])
def test_an_index_of_another_form_is_refused(folder: Path, content: str) -> None:
    sharded(folder, {})
    (folder / INDEX).write_text(content)
    with pytest.raises(NotAModel, match="is not an index of weights"):
        read_stored_tensors(folder)
