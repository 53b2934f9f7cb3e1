"""The shards of a Hub model, fetched one at a time when a layer needs them, and deleted after use if wished.

A shard is fetched only within `fetching`, by the thread that is in it: a page that is looked at never
downloads. Those that are kept go into the Hub's own cache, where every program finds them. Those that pass
through lie apart from it, so that whatever was there before stays.
"""

from __future__ import annotations

import logging
import shutil
import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from huggingface_hub import hf_hub_download
from huggingface_hub.utils import tqdm

from analysis.checkpoints.fingerprint import file_hash
from analysis.checkpoints.headers import tensors_of
from analysis.checkpoints.hub import HubModel
from analysis.checkpoints.hub_errors import explained
from analysis.checkpoints.stored import Source
from analysis.checkpoints.streaming import is_layer
from analysis.errors import FetchFailed, ModelError, NotFetched
from analysis.pulse import Pulse

log = logging.getLogger(__name__)
Step = Mapping[str, Collection[Path]]
"""What one step of a work reads: groups of parameters, and the files of each."""


@dataclass
class _Plan:
    """What a work still reads, step by step; pulse: called while a file comes, may raise to end it."""

    steps: Sequence[Step]
    pulse: Pulse
    at: int = 0

    def needs(self, but: str = "") -> set[str]:
        """The files that this step and later ones read, for any group but one."""
        left = self.steps[self.at :]
        return {file.name for step in left for group, files in step.items() if group != but for file in files}


class HubCheckpoint:
    """See Checkpoint. keep: whether shards stay on the disk once they were read."""

    def __init__(self, model: HubModel, *, keep: bool) -> None:
        self.model, self.keep = model, keep
        self._mine = threading.local()
        self._checked: set[Path] = set()

    def keys(self) -> Mapping[str, Path]:
        """See Checkpoint. The files need not be there."""
        return {key: self.model.folder / file for key, file in self.model.keys.items()}

    @contextmanager
    def reading(self, group: str, keys: Mapping[str, Path]) -> Iterator[Mapping[str, Source]]:
        """See Checkpoint. One shard after the other; one that nothing else needs is deleted before the next.

        Raises NotFetched outside of `fetching` where a shard is not here, FetchFailed where it does not come.
        """
        of_file: defaultdict[str, list[str]] = defaultdict(list)
        for key, file in keys.items():
            of_file[file.name].append(key)
        *others, last = sorted(of_file)
        tensors: dict[str, Source] = {}
        for name in others:
            found = tensors_of(self._here(name), of_file[name])
            tensors |= {key: tensor.held() for key, tensor in found.items()}
            self._read_from(name, group)
        yield tensors | tensors_of(self._here(last), of_file[last])
        self._read_from(last, group)

    @contextmanager
    def fetching(self, steps: Sequence[Step], pulse: Pulse) -> Iterator[Callable[[], None]]:
        """While the body runs, this thread may fetch what the steps read; it calls what it gets after each.

        Where shards are deleted, one work at a time may do so, in all processes. What a body that failed
        leaves on the disk is used by the next.
        """
        with ExitStack() as stack:
            if not self.keep:
                stack.enter_context(self._alone())
            plan = self._mine.plan = _Plan(steps, pulse)
            stack.callback(self._mine.__dict__.clear)

            def done() -> None:
                plan.at += 1
                self._tidy(plan.needs())

            self._tidy(plan.needs())
            yield done
            if not self.keep:
                shutil.rmtree(self.model.passing, ignore_errors=True)

    @property
    def _plan(self) -> _Plan | None:
        return getattr(self._mine, "plan", None)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with explained(self.model.name, "the weights"):
            self.model.passing.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.model.passing.with_suffix(".lock"), thread_local=False)
            try:
                lock.acquire(timeout=0)
            except Timeout as error:
                raise ModelError(
                    f"the shards of {self.model.name} are fetched and deleted by another work already; "
                    "wait until it is done, or keep them"
                ) from error
        try:
            yield
        finally:
            lock.release()

    def _here(self, name: str) -> Path:
        """A shard on this machine, its bytes those that the fingerprint speaks of."""
        path = next((p for p in self._places(name) if p.is_file()), None)
        if path is None:
            path = self._fetched(name)
        if path not in self._checked:
            if file_hash(path) != self.model.shards[name].sha256:
                path.resolve().unlink(missing_ok=True)
                path.unlink(missing_ok=True)
                raise FetchFailed(
                    f"{name} of {self.model.name} is not what the Hub lists, so it was deleted; ask again"
                )
            self._checked.add(path)
        return path

    def _places(self, name: str) -> list[Path]:
        folders = [self.model.folder] if self.keep else [self.model.folder, self.model.passing]
        return [folder / name for folder in folders]

    def _fetched(self, name: str) -> Path:
        plan, model = self._plan, self.model
        if plan is None:
            raise NotFetched(
                f"{name} of {model.name} is not on this machine, and this reads the neurons' own vectors; "
                "decode it with its shards kept, or fetch the model"
            )
        bar, stopped = _bar(plan.pulse)
        log.info("Fetching %s of %s, %.2f GB", name, model.name, model.shards[name].bytes / 1e9)
        target = None if self.keep else model.passing
        try:
            with explained(model.name, name):
                path = hf_hub_download(
                    model.name, name, revision=model.commit, local_dir=target, tqdm_class=bar
                )
        except FetchFailed:
            if stopped:
                raise stopped[0] from None
            raise
        if stopped:  # where a thread of its own fetches, it does not hear
            raise stopped[0]
        return Path(path)

    def _read_from(self, name: str, group: str) -> None:
        """A group was read from a shard: delete it, unless something else is yet to be."""
        if self._plan is not None and name not in self._plan.needs(but=group if is_layer(group) else ""):
            self._drop(name)

    def _drop(self, name: str) -> None:
        if not self.keep:
            path = self.model.passing / name
            path.unlink(missing_ok=True)
            self._checked.discard(path)

    def _tidy(self, needed: Collection[str]) -> None:
        """Delete what passed through and is of no use any more."""
        for path in self.model.passing.glob("*.safetensors"):
            if path.name not in needed:
                self._drop(path.name)


def _bar(pulse: Pulse) -> tuple[type[tqdm], list[BaseException]]:
    """A progress bar that shows nothing and calls pulse; and where it notes what pulse raised."""
    stopped: list[BaseException] = []

    class Heard(tqdm):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options | {"disable": True})  # type: ignore[no-untyped-call]

        def update(self, n: float | None = 1) -> None:
            try:
                pulse(0, 0)
            except BaseException as error:
                stopped.append(error)
                raise

    return Heard, stopped
