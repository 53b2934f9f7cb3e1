"""What every command begins with: the store, the output, quiet libraries, and the model it names."""

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
from workbench.cli.shared.progress import Bar, wiped
from workbench.models import opened


@dataclass(frozen=True)
class Session:
    """The store and the output of one command."""

    store: Store
    output: Output

    @contextmanager
    def model(
        self, name: str, device: str, dtype: str, *, streamed: bool = False, shards: Shards = "local"
    ) -> Iterator[LoadedModel]:
        """The loaded model; raises a ModelError that says what to do instead."""
        at_home(Path(name))
        ref = ModelRef(name, device=device, dtype=dtype, streamed=streamed, shards=shards)
        with opened(ref, self.store, fetch=True) as loaded:
            yield loaded

    def show(self, document: dict[str, Any], text: str) -> None:
        """Print the command's answer."""
        self.output.show(document, text)


@contextmanager
def session(db: Path | None, as_json: bool) -> Iterator[Session]:
    """A command's session. What libraries print in the meantime goes to stderr, never between the answer."""
    if sys.stdout is None:
        raise HeadlampError("stdout is closed, so the answer has nowhere to go; redirect it to a file")
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    output = Output(sys.stdout, as_json)
    with redirect_stdout(sys.stderr), _told("analysis.checkpoints.hub_shards"):
        store = open_store(None if db is None else at_home(db))
        try:
            yield Session(store, output)
        finally:
            store.close()


class _Said(logging.Handler):
    """What is logged is said on stderr, on a line of its own."""

    def emit(self, record: logging.LogRecord) -> None:
        wiped(sys.stderr)
        say(record.getMessage())


@contextmanager
def _told(name: str) -> Iterator[None]:
    """What a module logs is said while the body runs: what takes long and is no progress of the job."""
    logger, handler = logging.getLogger(name), _Said()
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)


@contextmanager
def bar(label: str) -> Iterator[Bar]:
    """A progress callback that leaves a clean line behind, also after an error."""
    shown = Bar(label)
    try:
        yield shown
    finally:
        shown.close()


def at_home(path: Path) -> Path:
    """The path with ~ spelled out. Raises HeadlampError for the home of somebody unknown."""
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise HeadlampError(f"{path}: there is no such home folder; write the whole path") from error


def read_text(path: Path) -> str:
    """A file's text. Raises HeadlampError where it cannot be read or is no text."""
    try:
        check_input(path)
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise HeadlampError(f"{path} is not UTF-8 text; it is damaged, or another kind of file") from error
    except OSError as error:
        raise HeadlampError(
            f"{path} cannot be read: {error.strerror}; check its name and its rights"
        ) from error
