"""The wheel: what it holds, and that its command and its functions work from any folder."""

import http.client
import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from analysis.version import VERSION
from headlamp.locating import ROOMS
from scripts.servers import free_port, stop, wait_until_healthy
from tests.patience import SECONDS

pytestmark = pytest.mark.slow

AS_WEBSOCKET = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}
"""Headers that ask for a session of the app."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory, repo_root: Path) -> Path:
    """The wheel, built without the package index."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=repo_root, check=True, capture_output=True)
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Path:
    """The bin folder of an environment with the wheel; libraries are those of this one."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = folder / "lib" / version / "site-packages"
    (packages / "libraries.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
    pip = [
        sys.executable,
        "-m",
        "pip",
        "--disable-pip-version-check",
        "--python",
        str(folder / "bin" / "python"),
    ]
    subprocess.run([*pip, "install", "--no-deps", "--no-index", str(wheel)], check=True, capture_output=True)
    return folder / "bin"


def run(folder: Path, *command: object) -> subprocess.CompletedProcess[str]:
    """A command run in a folder, with none of this process's Python path."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    words = [str(word) for word in command]
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_the_wheel_holds_the_house_and_no_name_of_a_room(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {"headlamp", f"headlamp-{VERSION}.dist-info"}
    house = {name.removeprefix("headlamp/house/") for name in names if name.startswith("headlamp/house/")}
    assert {name.split("/")[0] for name in house} == {*ROOMS, "app.py", ".streamlit"}
    assert {"demo/base/model.safetensors", "demo/skills/facts.jsonl", "demo/finding.json"} <= house
    assert {
        "analysis/running/reference.txt",
        ".streamlit/config.toml",
        "pages/explore/neurons/page.py",
    } <= house
    assert not [name for name in names if "tests/" in name or "__pycache__" in name]
    assert wheel.stat().st_size < 40e6


def test_the_wheel_holds_every_file_of_the_rooms(wheel: Path, repo_root: Path) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "headlamp", *ROOMS], cwd=repo_root, capture_output=True, text=True, check=True
    ).stdout.split("\n")
    names = set(zipfile.ZipFile(wheel).namelist())
    places = {name if name.startswith("headlamp/") else f"headlamp/house/{name}" for name in listed if name}
    assert places - names == set()


def test_the_command_works_from_any_folder_and_so_do_its_processes(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "store.py").write_text("raise SystemExit('this is not Headlamp')", encoding="utf-8")
    how = ("--engine", "processes", "--workers", "1")
    found = run(tmp_path, installed / "headlamp", "decode", "demo/base", *how)
    assert "4096 neurons" in found.stdout, found.stderr


def test_the_functions_work_from_any_folder(installed: Path, tmp_path: Path) -> None:
    source = "import headlamp; print(len(headlamp.open('demo/base').find('dog', limit=3).figure().data))"
    found = run(tmp_path, installed / "python", "-c", source)
    assert found.stdout.strip() == "2", found.stderr


def test_the_app_starts_with_its_own_settings(installed: Path, tmp_path: Path) -> None:
    port = free_port()
    environment = {**os.environ, "HEADLAMP_DB": str(tmp_path / "app.db")}
    command = [str(installed / "headlamp"), "app", "--port", str(port)]
    with (tmp_path / "log.txt").open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=tmp_path,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        wait_until_healthy(process, port, seconds=SECONDS)
        asking = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)
        asking.request("GET", "/_stcore/stream", headers=AS_WEBSOCKET | {"Host": "example.org"})
        assert asking.getresponse().status == 403  # as .streamlit/config.toml has it
    finally:
        stop(process)
    assert f"http://127.0.0.1:{port}" in (tmp_path / "log.txt").read_text("utf-8")
