"""Shards of a Hub model, fetched one at a time when a layer needs them, and optionally deleted after use.

A shard is fetched only within `fetching`, by the thread that entered it: viewing a page never
downloads. Kept shards go into the Hub's own cache, shared by all programs. Shards deleted after use are
stored apart from it, so that the cache stays untouched.
"""

from __future__ import annotations

import logging
import shutil
import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from huggingface_hub import hf_hub_download
from huggingface_hub.utils import tqdm

from analysis.checkpoints.fingerprint import hash_file
from analysis.checkpoints.headers import read_file_tensors
from analysis.checkpoints.hub import HubModel
from analysis.checkpoints.hub_errors import explain_hub_errors
from analysis.checkpoints.quantised.parts import Part
from analysis.checkpoints.quantised.weights import join_parts, list_roles, read_quantisation
from analysis.checkpoints.stored import Source
from analysis.checkpoints.streaming import is_layer
from analysis.errors import FetchFailed, ModelError, NotFetched
from analysis.pulse import Pulse

log = logging.getLogger(__name__)
Step = Mapping[str, Collection[Path]]
"""What one step of a job reads: groups of parameters, and the files of each."""


@dataclass
class _FetchSchedule:
    """The steps a job still has to read, as shards by group; pulse: called during a download, may raise to
    abort.
    """

    steps: Sequence[Mapping[str, Collection[str]]]
    pulse: Pulse
    at: int = 0

    def needs(self, but: str = "") -> set[str]:
        """The files that this and later steps read, for any group but one."""
        left = self.steps[self.at :]
        return {file for step in left for group, files in step.items() if group != but for file in files}


class HubCheckpoint:
    """See Checkpoint. keep: whether shards stay on disk after they were read."""

    def __init__(self, model: HubModel, *, keep: bool) -> None:
        self.model, self.keep = model, keep
        self._mine = threading.local()
        self._checked: set[Path] = set()
        self._quantisation = read_quantisation(model.folder)
        self._roles = list_roles(model.keys, self._quantisation)

    def keys(self) -> Mapping[str, tuple[Path, ...]]:
        """See Checkpoint. The files need not be there."""
        return {key: tuple(sorted(self._files(roles.values()))) for key, roles in self._roles.items()}

    @contextmanager
    def reading(self, group: str, keys: Mapping[str, tuple[Path, ...]]) -> Iterator[Mapping[str, Source]]:
        """See Checkpoint. Shards are read one after the other; one that is no longer needed is deleted before
        the next.

        Raises NotFetched outside of `fetching` if a shard is missing, FetchFailed if it cannot be fetched.
        """
        of_file: defaultdict[str, list[str]] = defaultdict(list)
        for part in (part for key in keys for part in self._roles[key].values()):
            of_file[self.model.keys[part]].append(part)
        *others, last = sorted(of_file)
        tensors: dict[str, Part] = {}
        for name in others:
            found = read_file_tensors(self._here(name), of_file[name])
            tensors |= {key: tensor.load() for key, tensor in found.items()}
            self._read_from(name, group)
        tensors |= read_file_tensors(self._here(last), of_file[last])
        yield {key: join_parts(key, self._roles[key], tensors, self._quantisation) for key in keys}
        self._read_from(last, group)

    def equal(self, first: str, second: str, dtype: torch.dtype) -> bool:
        """See Checkpoint. Two tensors count as different: the answers are the same either way."""
        return False

    @contextmanager
    def fetching(self, steps: Sequence[Step], pulse: Pulse) -> Iterator[Callable[[], None]]:
        """While the body runs, this thread may fetch what the steps read; call the yielded function after
        each.

        Only one job at a time, over all processes, may delete shards. What a failed body leaves on disk is
        reused by the next.
        """
        with ExitStack() as stack:
            if not self.keep:
                stack.enter_context(self._alone())
            shards = [{g: {self._shard(f) for f in files} for g, files in step.items()} for step in steps]
            plan = self._mine.plan = _FetchSchedule(shards, pulse)
            stack.callback(self._mine.__dict__.clear)

            def done() -> None:
                plan.at += 1
                self._tidy(plan.needs())

            self._tidy(plan.needs())
            yield done
            if not self.keep:
                shutil.rmtree(self.model.passing, ignore_errors=True)

    def _files(self, parts: Iterable[str]) -> set[Path]:
        return {self.model.folder / self.model.keys[part] for part in parts}

    def _shard(self, file: Path) -> str:
        """A shard's name in the model, for its path as `keys` gives it."""
        return file.relative_to(self.model.folder).as_posix()

    @property
    def _plan(self) -> _FetchSchedule | None:
        return getattr(self._mine, "plan", None)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with explain_hub_errors(self.model.name, "the weights"):
            self.model.passing.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.model.passing.with_suffix(".lock"), thread_local=False)
            try:
                lock.acquire(timeout=0)
            except Timeout as error:
                raise ModelError(
                    f"the shards of {self.model.name} are being fetched and deleted by another job; "
                    "wait until it is done, or keep the shards"
                ) from error
        try:
            yield
        finally:
            lock.release()

    def _here(self, name: str) -> Path:
        """A shard on this machine, its bytes verified against the fingerprint."""
        path = next((p for p in self._places(name) if p.is_file()), None)
        if path is None:
            path = self._fetched(name)
        if path not in self._checked:
            if hash_file(path) != self.model.shards[name].sha256:
                path.resolve().unlink(missing_ok=True)
                path.unlink(missing_ok=True)
                raise FetchFailed(
                    f"{name} of {self.model.name} differs from the Hub's digest, so it was deleted; try again"
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
                f"{name} of {model.name} is not on this machine, and this needs the neurons' vectors; "
                "decode it with its shards kept, or fetch the model"
            )
        bar, stopped = _bar(plan.pulse)
        log.info("Fetching %s of %s, %.2f GB", name, model.name, model.shards[name].bytes / 1e9)
        target = None if self.keep else model.passing
        try:
            with explain_hub_errors(model.name, name):
                path = hf_hub_download(
                    model.name, name, revision=model.commit, local_dir=target, tqdm_class=bar
                )
        except FetchFailed:
            if stopped:
                raise stopped[0] from None
            raise
        if stopped:  # a download in another thread does not receive it
            raise stopped[0]
        return Path(path)

    def _read_from(self, name: str, group: str) -> None:
        """A group was read from a shard: delete the shard unless another group needs it."""
        if self._plan is not None and name not in self._plan.needs(but=group if is_layer(group) else ""):
            self._drop(name)

    def _drop(self, name: str) -> None:
        if not self.keep:
            path = self.model.passing / name
            path.unlink(missing_ok=True)
            self._checked.discard(path)

    def _tidy(self, needed: Collection[str]) -> None:
        """Delete temporary shards that are no longer needed."""
        for path in self.model.passing.rglob("*.safetensors"):
            name = path.relative_to(self.model.passing).as_posix()
            if name not in needed:
                self._drop(name)


def _bar(pulse: Pulse) -> tuple[type[tqdm], list[BaseException]]:
    """A silent progress bar that calls pulse, and where it stores what pulse raised."""
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
