"""What several tests share of from disk made."""

import shutil
from pathlib import Path

import pytest

from store import default_path, list_jobs, open_store

DISK = {"weights": "disk"}


@pytest.fixture
def folder(tiny_model_folder: Path, tmp_path: Path) -> Path:
    """The tiny model in a folder that no test before has opened."""
    return Path(shutil.copytree(tiny_model_folder, tmp_path / "tiny"))


def asked_models() -> list[tuple[str, bool]]:
    """Name and streamed of the model of every job, newest first."""
    models = [job.order["model"] for job in list_jobs(open_store(default_path()))]
    return [(model["name"], model["streamed"]) for model in models]
