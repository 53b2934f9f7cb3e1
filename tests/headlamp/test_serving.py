"""Ports that the app cannot listen on, and the process that `app` becomes."""

import os
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from headlamp import ports
from headlamp.ports import HOST, problem
from scripts.servers import free_port
from tests.workbench.conftest import Cli
from workbench.cli.serving import find_package


@pytest.mark.parametrize("port", ["", "0", "65536", "-1", "８５０１", "app"])
def test_what_is_no_port_is_refused(port: str) -> None:
    assert "is not a port: give a whole number from 1 to 65535" in (problem(port) or "")


def test_a_port_in_use_is_refused_with_a_free_one() -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        said = problem(str(port)) or ""
    assert f"Port {port} on {HOST} is in use" in said
    assert "headlamp app --port" in said
    assert "make app PORT=" in said


def test_a_free_port_is_not_refused() -> None:
    assert problem(str(free_port())) is None


def test_a_port_that_this_user_may_not_take_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "bind_error", lambda port: 13)
    assert "may not listen on port" in (problem(str(free_port())) or "")


def test_app_becomes_the_server_with_model_and_database(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Any] = []
    monkeypatch.setattr(os, "execve", lambda *arguments: started.append(arguments))
    cli("app", "demo/moe", "--port", "8555", "--db", tmp_path / "a.db")
    ((program, command, environment),) = started
    assert program == sys.executable
    assert command[1:] == ["-P", "-m", "headlamp.serving", "8555"]
    assert environment["HEADLAMP_MODEL"] == "demo/moe"
    assert environment["HEADLAMP_DB"] == str(tmp_path / "a.db")


def test_the_package_is_found_in_a_clone_and_in_an_installed_wheel(repo_root: Path, tmp_path: Path) -> None:
    assert find_package(repo_root) == repo_root
    house = tmp_path / "site-packages" / "headlamp" / "house"
    house.mkdir(parents=True)
    assert find_package(house) == tmp_path / "site-packages"
