"""Files that are given to be read: what never ends is refused, and a pipe is not."""

import json
import threading
from pathlib import Path

import pytest

from analysis.errors import BadSkillFile, RecipeError
from analysis.inputs import check_input
from analysis.recipes.files import read_recipe_tensors
from analysis.skills.files import LARGEST_BYTES, read_skill
from tests.nodes import NODES

DEVICES = ("a character device", "a block device")


@pytest.mark.parametrize("kind", DEVICES)
def test_a_device_is_refused_and_not_opened(tmp_path: Path, kind: str) -> None:
    NODES[kind](tmp_path / "node")
    (tmp_path / "link").symlink_to("node")
    for path in (tmp_path / "node", tmp_path / "link"):
        with pytest.raises(OSError, match="it is a device, which may never end"):
            check_input(path)
        with pytest.raises(BadSkillFile, match="it is a device"):
            read_skill(path)


def test_a_pipe_is_refused_only_where_it_would_be_read_out_of_order(tmp_path: Path) -> None:
    NODES["a named pipe"](tmp_path / "pipe")
    check_input(tmp_path / "pipe")
    with pytest.raises(OSError, match="it is a pipe"):
        check_input(tmp_path / "pipe", seekable=True)
    (tmp_path / "file").touch()
    check_input(tmp_path / "file", seekable=True)
    with pytest.raises(FileNotFoundError):
        check_input(tmp_path / "none")


def test_a_skill_is_read_from_a_pipe_and_no_more_of_it_than_a_skill_may_have(tmp_path: Path) -> None:
    NODES["a named pipe"](tmp_path / "pipe")
    line = json.dumps({"prompt": "a", "answer": "b"}).encode() + b"\n"
    sent = []

    def send(data: bytes) -> None:
        with (tmp_path / "pipe").open("wb", buffering=0) as stream:
            try:
                while data:
                    sent.append(stream.write(data[: 1 << 20]))
                    data = data[sent[-1] :]
            except BrokenPipeError:
                return

    for data in (line, b"\n" * (LARGEST_BYTES + (8 << 20))):
        writer = threading.Thread(target=send, args=(data,))
        writer.start()
        if data == line:
            assert read_skill(tmp_path / "pipe").items[0].prompt == "a"
        else:
            with pytest.raises(BadSkillFile, match="larger than 64 MB"):
                read_skill(tmp_path / "pipe")
        writer.join()
    assert sum(sent) < LARGEST_BYTES + (4 << 20)


def test_the_tensors_of_a_recipe_are_not_read_from_a_device(tmp_path: Path) -> None:
    NODES["a character device"](tmp_path / "r.safetensors")
    document = {
        "interventions": [{"kind": "selective_prune"}],
        "tensors": {"file": "r.safetensors", "sha256": ""},
    }
    with pytest.raises(RecipeError, match=r"r\.safetensors beside it \(it is a device"):
        read_recipe_tensors(tmp_path / "r.json", document)
