"""Common start of every command: store, output, quiet libraries, and the named model."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers.utils import logging as transformers_logging

from analysis.errors import HeadlampError
from analysis.inputs import check_input
from analysis.opening.models import LoadedModel, ModelRef, Shards
from store import Store, open_store
from workbench.cli.shared.output import Output, say
from workbench.cli.shared.progress import Bar, wipe_line
from workbench.models import open_model


@dataclass(frozen=True)
class Session:
    """The store and the output of one command."""

    store: Store
    output: Output

    @contextmanager
    def model(
        self, name: str, device: str, dtype: str, *, streamed: bool = False, shards: Shards = "local"
    ) -> Iterator[LoadedModel]:
        """The loaded model; raises a ModelError that says what to do."""
        expand_home(Path(name))
        ref = ModelRef(name, device=device, dtype=dtype, streamed=streamed, shards=shards)
        with open_model(ref, self.store, fetch=True) as loaded:
            if loaded.weights_format and name not in self.output.weights:
                self.output.weights[name] = loaded.weights_format
                say(f"{name}: {loaded.weights_format}")
            yield loaded

    def show(self, document: dict[str, Any], text: str) -> None:
        """Print the command's answer."""
        self.output.show(document, text)


@contextmanager
def open_session(db: Path | None, as_json: bool) -> Iterator[Session]:
    """A command's session. Library output goes to stderr, never into the answer."""
    if sys.stdout is None:
        raise HeadlampError("stdout is closed, so the answer cannot be printed; redirect it to a file")
    quiet_libraries()
    output = Output(sys.stdout, as_json)
    with redirect_stdout(sys.stderr), _print_logs("analysis.checkpoints.hub_shards"):
        store = open_store(None if db is None else expand_home(db))
        try:
            yield Session(store, output)
        finally:
            store.close()


def quiet_libraries() -> None:
    """Let transformers say errors alone, and draw no bars of its own."""
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()


class _StderrHandler(logging.Handler):
    """Prints log records on stderr, each on its own line."""

    def emit(self, record: logging.LogRecord) -> None:
        wipe_line(sys.stderr)
        say(record.getMessage())


@contextmanager
def _print_logs(name: str) -> Iterator[None]:
    """Print a module's log while the body runs: for slow steps without progress of the job."""
    logger, handler = logging.getLogger(name), _StderrHandler()
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)


@contextmanager
def show_bar(label: str) -> Iterator[Bar]:
    """A progress callback that leaves a clean line, also after an error."""
    shown = Bar(label)
    try:
        yield shown
    finally:
        shown.close()


def expand_home(path: Path) -> Path:
    """The path with ~ expanded. Raises HeadlampError for an unknown user's home."""
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise HeadlampError(f"{path}: there is no such home folder; write the whole path") from error


def read_text(path: Path) -> str:
    """A file's text. Raises HeadlampError if it cannot be read or is not text."""
    try:
        check_input(path)
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise HeadlampError(f"{path} is not UTF-8 text; it is damaged, or another kind of file") from error
    except OSError as error:
        raise HeadlampError(
            f"{path} cannot be read: {error.strerror}; check its name and permissions"
        ) from error
