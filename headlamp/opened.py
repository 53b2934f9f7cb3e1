"""A model that is open, with the database its answers are in."""

from __future__ import annotations

import weakref
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from analysis.opening.models import LoadedModel, ModelRef
from store import Store, open_store
from workbench.cli.shared.output import drop_non_finite
from workbench.cli.shared.session import expand_home, quiet_libraries
from workbench.models import open_model

File = str | Path
"""A file or folder; `~` is the user's home."""


class OpenModel:
    """A loaded model, held in memory until `close`, the end of a `with` block or the last reference to it."""

    def __init__(self, name: str, *, db: File | None, device: str, dtype: str) -> None:
        quiet_libraries()
        with ExitStack() as stack:
            self.store: Store = open_store(None if db is None else expand_home(Path(db)))
            stack.callback(self.store.close)
            ref = ModelRef(name, device=device, dtype=dtype)
            self.loaded: LoadedModel = stack.enter_context(open_model(ref, self.store, fetch=True))
            self.close = weakref.finalize(self, stack.pop_all().close)
            """Release the model and close the database; a second call does nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        found = self.loaded
        return (
            f"<{type(self).__name__} {found.ref.name}: {found.anatomy.architecture}, "
            f"{found.anatomy.neurons:,} neurons in {found.anatomy.layers} layers>"
        )

    def write(self, document: dict[str, Any]) -> dict[str, Any]:
        """A document as the command line prints it: numbers that JSON cannot hold are None, and dequantised
        weights are said.
        """
        if self.loaded.weights_format:
            document = {**document, "weights": self.loaded.weights_format}
        made: dict[str, Any] = drop_non_finite(document)
        return made
