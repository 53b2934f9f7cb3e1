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
from analysis.hooks import (
    Reach,
    See,
    Step,
    attach_clamps,
    attach_observer,
    by_module,
    check_clamp,
    plan_clamp,
)
from analysis.models import LoadedModel
from analysis.pruning import PruneExpert, attach_pruning, check_prunable, plan_pruning
from analysis.steps import Handle, Watch


@dataclass(frozen=True)
class Observe:
    """Read every neuron of some blocks at all their sites."""

    blocks: tuple[Block, ...]
    see: See

    def attach(self, step: Step) -> Iterator[Handle]:
        """Attach the reading hooks; yields handles, each to be removed."""
        return attach_observer(step, self.blocks, self.see)


Change = Clamp | PruneExpert
"""What a recipe consists of."""

Intervention = Change | Watch


def check_changes(loaded: LoadedModel, changes: Sequence[Change]) -> None:
    """Raises AddressOutOfRange, ClampError, ExpertError where this model cannot be changed so."""
    check_prunable(loaded, [change.address for change in changes if isinstance(change, PruneExpert)])
    for change in changes:
        if isinstance(change, Clamp):
            check_clamp(loaded, change)


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

    rows: for each change the batch rows it acts on; every change on every row where None. prompt_length: in
    tokens, for scopes. A pruned expert writes 0 whatever else is held in it, in whichever order.
    Raises ClampError, ExpertError, AddressOutOfRange before the model is touched.
    """
    if loaded.streamed is not None:
        raise HeadlampError(
            f"the weights of {loaded.ref.name} stay on disk, which serves decoding alone; "
            "open it in memory to run it"
        )
    changes = [item for item in interventions if isinstance(item, Change)]
    given = list(enumerate(zip(changes, rows or (None,) * len(changes), strict=True)))
    clamps = [plan_clamp(loaded, c, at, where) for at, (c, where) in given if isinstance(c, Clamp)]
    pruned = [(at, c, where) for at, (c, where) in given if isinstance(c, PruneExpert)]
    prunings = plan_pruning(loaded, pruned) if pruned else []
    reach = Reach([0] * len(changes), [0] * len(changes))
    step = Step(loaded, positions, prompt_length, reach)
    with loaded.lock, ExitStack() as undo:
        for group in by_module(clamps):
            for handle in attach_clamps(step, group):
                undo.callback(handle.remove)
        for handle in attach_pruning(step, prunings):
            undo.callback(handle.remove)
        for item in interventions:
            if not isinstance(item, Change):
                for handle in item.attach(step):
                    undo.callback(handle.remove)
        yield reach
