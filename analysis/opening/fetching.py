"""Permission to fetch a model's shards while it is decoded."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager

from analysis.checkpoints.hub_shards import HubCheckpoint
from analysis.opening.models import LoadedModel
from analysis.pulse import Pulse


@contextmanager
def fetching(
    loaded: LoadedModel,
    reads: Sequence[Collection[str]],
    pulse: Pulse = lambda done, total: None,
) -> Iterator[Callable[[], None]]:
    """While the body runs, its thread may fetch missing shards of parameters it reads.

    reads: the parameter names to be read after the LM head, per step; call the yielded function after each
    step. pulse: called during a download; an exception it raises aborts it. Does nothing if the model is on
    this machine.
    """
    weights = loaded.streamed
    if weights is None or not isinstance(weights.checkpoint, HubCheckpoint):
        yield lambda: None
        return
    head = [] if "head" in vars(loaded) else [{loaded.anatomy.head.parameter}]
    steps = [weights.files_of(names) for names in [*head, *reads]]
    with weights.checkpoint.fetching(steps, pulse) as done:
        if head:
            _ = loaded.head
            done()
        yield done
