"""What every test gets: a database of its own, no network, and the real models and data if present."""

import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
REAL = Path(os.environ.get("HEADLAMP_REAL", ROOT.parent / "shared" / "real"))

if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

# Read by the libraries once, while they are imported, so set before any test module is.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"


@pytest.fixture(autouse=True)
def isolated_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database of the test's own, and none of the settings of whoever runs it."""
    monkeypatch.setenv("HEADLAMP_DB", str(tmp_path / "headlamp.db"))
    monkeypatch.delenv("HEADLAMP_MODEL", raising=False)


@pytest.fixture(scope="session")
def repo_root() -> Path:
    """The folder that holds app.py."""
    return ROOT


@pytest.fixture(scope="session")
def real_folder() -> Path:
    """The folder of real models and data (HEADLAMP_REAL names another); the test skips without it."""
    if not (REAL / "data").is_dir():
        pytest.skip(f"no real models and data at {REAL}; HEADLAMP_REAL names another folder")
    return REAL


@pytest.fixture(scope="session")
def stories(real_folder: Path) -> Path:
    """The folder of stories260K, a trained Llama of 260,032 parameters."""
    folder = real_folder / "models" / "stories260K"
    if not (folder / "config.json").is_file():
        pytest.skip(f"no stories260K model at {folder}")
    return folder
