"""What a command is told to write is refused where it is no regular file, before any work for it is done."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from demo import BUNDLED_SKILLS
from tests.nodes import NODES, seen
from tests.workbench.conftest import Cli
from tests.workbench.refusals import refused
from workbench.files import ExportError, check_new_folder, check_writable

NOWHERE = "nobody/nothing"
"""No model: a command that is refused for what it writes has not looked for it."""

SKILL = next(iter(sorted(BUNDLED_SKILLS.values())))
UNLEARN = ("unlearn", NOWHERE, "--forget", SKILL, "--retain", SKILL)

COMMANDS: dict[str, tuple[object, ...]] = {
    "decode --out": ("decode", NOWHERE, "--out", "NODE.csv"),
    "generate --recipe-out": ("generate", NOWHERE, "--prompt", "the dog", "--recipe-out", "NODE"),
    "experts --recipe-out": ("experts", NOWHERE, "--prune", "super", "--recipe-out", "NODE"),
    "findings export --out": ("findings", "export", "--format", "html", "--out", "NODE"),
    "runs export --out": ("runs", "export", "0123abcd", "--out", "NODE"),
    "skill import --out": ("skill", "import", NOWHERE, "--out", "NODE"),
    "harness --out": ("harness", NOWHERE, "--task", "none", "--out", "NODE"),
    "tars --recipe": ("tars", NOWHERE, "--concept", "dog", "--prompt", "the", "--recipe", "NODE"),
    "unlearn --recipe": (*UNLEARN, "--recipe", "NODE"),
    "unlearn --snippet": (*UNLEARN, "--method", "ksd", "--recipe", "r.json", "--snippet", "NODE"),
    "unlearn --results": (*UNLEARN, "--results", "NODE"),
    "unlearn --bake": (*UNLEARN, "--method", "sp", "--bake", "NODE"),
    "--db": ("models", "--db", "NODE"),
}


def given(command: str, target: Path) -> list[object]:
    """A command's arguments with its target in their place."""
    if command.startswith("harness"):
        pytest.importorskip("lm_eval")
    return [
        target.with_name(argument.replace("NODE", target.name)) if "NODE" in str(argument) else argument
        for argument in map(str, COMMANDS[command])
    ]


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("linked", [False, True])
def test_a_pipe_is_refused_by_whatever_writes_before_it_works(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, linked: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    name = "node.csv" if command.startswith("decode") else "node"
    NODES["a named pipe"](tmp_path / "pipe")
    (tmp_path / name).symlink_to("pipe") if linked else (tmp_path / "pipe").rename(tmp_path / name)
    before = seen(tmp_path)
    arguments = given(command, tmp_path / "node")
    link = f" (a link to {tmp_path / 'pipe'})" if linked and "bake" not in command else ""
    why = "it exists and is not a folder" if "bake" in command else "it is a named pipe"
    refused(cli, *arguments, says=f"{name}{link} cannot be written: {why}")
    assert seen(tmp_path) == before


@pytest.mark.parametrize("kind", NODES)
def test_every_kind_of_node_is_refused_by_name(cli: Cli, tmp_path: Path, kind: str) -> None:
    NODES[kind](tmp_path / "node")
    before = seen(tmp_path)
    refused(cli, *given("findings export --out", tmp_path / "node"), says=f"cannot be written: it is {kind}")
    refused(cli, *given("--db", tmp_path / "node"), says=f"cannot be written: it is {kind}")
    assert seen(tmp_path) == before


def test_headlamp_db_is_held_to_the_same(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    NODES["a named pipe"](tmp_path / "node")
    monkeypatch.setenv("HEADLAMP_DB", str(tmp_path / "node"))
    refused(
        cli, "findings", "list", says="it is a named pipe, but only regular files can be written; name one"
    )
    refused(cli, "repair", says="it is a named pipe")


@pytest.mark.slow
def test_the_file_that_stdout_goes_to_is_not_replaced_under_it(tmp_path: Path, repo_root: Path) -> None:
    out = tmp_path / "all"
    command = [sys.executable, *"-m workbench findings export --format csv --out".split(), str(out)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(repo_root), *sys.path])}
    with out.open("w") as stdout:
        done = subprocess.run(
            command,
            stdout=stdout,
            stderr=subprocess.PIPE,
            cwd=repo_root,
            env=environment,
            check=False,
            text=True,
        )
    assert done.returncode == 2
    assert "this process has it open as stdout; name another file; the answer itself goes to" in done.stderr
    assert out.read_text() == ""


def test_the_file_beside_a_recipe_is_looked_at_before_the_work(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "r.safetensors").mkdir()
    refused(
        cli, *UNLEARN, "--recipe", tmp_path / "r.json", says="r.safetensors cannot be written: it is a folder"
    )
    refused(cli, *UNLEARN, "--recipe", tmp_path / "s.safetensors", says="end the recipe's name in .json")
    arguments = [tmp_path / "r.json" if "NODE" in str(a) else a for a in COMMANDS["tars --recipe"]]
    refused(cli, *arguments, says="r.safetensors cannot be written: it is a folder")


def test_a_new_folder_can_be_made_or_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "full" / "inner").mkdir(parents=True)
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("empty")
    (tmp_path / "lost").symlink_to("none")
    (tmp_path / "round").symlink_to("round")
    for name in ("empty", "link", "new", "new/below"):
        check_new_folder(tmp_path / name)
    with pytest.raises(ExportError, match="full is not empty; name a new folder"):
        check_new_folder(tmp_path / "full")
    for name in ("file", "lost", "round"):
        with pytest.raises(ExportError, match=f"{name} cannot be written: it exists and is not a folder"):
            check_new_folder(tmp_path / name)
    with pytest.raises(ExportError, match="file is not a folder"):
        check_new_folder(tmp_path / "file" / "new")


def test_a_folder_that_may_not_be_written_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("store.files.os.access", lambda *_, **__: False)
    for check in (check_new_folder, check_writable):
        with pytest.raises(ExportError, match=f"there is no write permission in {tmp_path}; name another"):
            check(tmp_path / "new")


def test_a_device_is_not_read(cli: Cli, tmp_path: Path) -> None:
    NODES["a character device"](tmp_path / "node")
    node, says = tmp_path / "node", "it is a device, which may never end; give a file"
    refused(cli, "experts", NOWHERE, "--text", node, says=says)
    refused(cli, "generate", NOWHERE, "--prompt", "the dog", "--recipe", node, says=says)
    refused(cli, "skill", "fit", NOWHERE, "--skill", node, says=says)
    refused(cli, "unlearn", NOWHERE, "--forget", node, says=says)
    refused(cli, "findings", "import", node, says=says)
    refused(cli, "runs", "import", node, says=says)


def test_a_pipe_is_read_to_its_end_as_the_shell_gives_one(cli: Cli, tmp_path: Path) -> None:
    NODES["a named pipe"](tmp_path / "pipe")
    writer = threading.Thread(
        target=(tmp_path / "pipe").write_text, args=('{"headlamp_findings": 1, "findings": []}',)
    )
    writer.start()
    assert cli("findings", "import", tmp_path / "pipe", "--json").document == {"added": 0, "already_there": 0}
    writer.join()
    refused(
        cli,
        "runs",
        "import",
        tmp_path / "pipe",
        says="it is a pipe, which cannot be read out of order; give a file",
    )
