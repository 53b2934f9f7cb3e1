"""A model at work, for tests of what must not wait for it."""

from __future__ import annotations

import threading

from analysis.opening.models import LoadedModel


class HeldModel:
    """The model's lock, held by another thread."""

    def __init__(self, loaded: LoadedModel) -> None:
        self.taken, self.done = threading.Event(), threading.Event()
        self.thread = threading.Thread(target=self._hold, args=(loaded,))

    def _hold(self, loaded: LoadedModel) -> None:
        with loaded.lock:
            self.taken.set()
            self.done.wait(60)

    def __enter__(self) -> None:
        self.thread.start()
        self.taken.wait(60)

    def __exit__(self, *_: object) -> None:
        self.done.set()
        self.thread.join()
