"""The one door into a model: `with intervened(…): forward` changes or observes it, and always undoes itself.

Entered for one forward step at a time. It takes the model's lock, attaches hooks, and on the way out,
also after an exception, detaches them and releases the lock, so that nothing leaks into another's text.
An intervention sees the batch by *positions*: (B, T) integers, 0-based in the fed sequence, −1 at padding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from torch import Tensor

from analysis.anatomy import Block
from analysis.clamps import Clamp
from analysis.errors import HeadlampError
from analysis.hooks import Reach, See, Step, attach_clamps, attach_observer, by_module, plan_clamp
from analysis.models import LoadedModel


@dataclass(frozen=True)
class Observe:
    """Read every neuron of some blocks at all their sites."""

    blocks: tuple[Block, ...]
    see: See


Intervention = Clamp | Observe


@contextmanager
def intervened(
    loaded: LoadedModel,
    interventions: Sequence[Intervention],
    *,
    positions: Tensor,
    prompt_length: int = 0,
    rows: Sequence[Sequence[int]] | None = None,
) -> Iterator[Reach]:
    """Hold the model's lock with these interventions in force, for one forward call on `positions` (B, T).

    rows: for each clamp the batch rows it acts on; every clamp on every row where None.
    prompt_length: in tokens, for scopes. Raises ClampError, AddressOutOfRange before the model is touched.
    """
    if loaded.streamed is not None:
        raise HeadlampError(
            f"the weights of {loaded.ref.name} stay on disk, which serves decoding alone; "
            "open it in memory to run it"
        )
    clamps = [item for item in interventions if isinstance(item, Clamp)]
    plans = [
        plan_clamp(loaded, clamp, index, None if rows is None else rows[index])
        for index, clamp in enumerate(clamps)
    ]
    reach = Reach([0] * len(clamps), [0] * len(clamps))
    step = Step(loaded, positions, prompt_length, reach)
    with loaded.lock, ExitStack() as undo:
        for group in by_module(plans):
            for handle in attach_clamps(step, group):
                undo.callback(handle.remove)
        for item in interventions:
            if isinstance(item, Observe):
                for handle in attach_observer(step, item.blocks, item.see):
                    undo.callback(handle.remove)
        yield reach
