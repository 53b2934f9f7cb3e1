"""The one entry to a model's computation: `with intervened(…): forward` changes or observes it, then restores
it.

Entered for one forward step at a time. It takes the model's lock and attaches hooks; on exit, also after
an exception, it detaches them and releases the lock, so no change leaks into other generations.
An intervention sees the batch by *positions*: (B, T) integers, 0-based in the fed sequence, −1 at padding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import groupby

from torch import Tensor

from analysis.anatomy.anatomy import Block
from analysis.errors import HeadlampError
from analysis.intervening.clamps import CLAMP_SITES, Clamp, ClampSite
from analysis.intervening.hooks import (
    ForwardStep,
    Reach,
    See,
    attach_clamps,
    attach_observer,
    by_module,
    check_clamp,
    plan_clamp,
)
from analysis.intervening.pruning import PruneExpert, PrunePlan, attach_pruning, check_prunable, plan_pruning
from analysis.intervening.steps import AttachableChange, ClampPlan, Handle, Watch
from analysis.opening.models import LoadedModel


@dataclass(frozen=True)
class Observe:
    """Read every neuron of some blocks at some of their sites.

    where: (B, T) positions to read; None: all but padding. Experts are read whole.
    """

    blocks: tuple[Block, ...]
    see: See
    sites: tuple[ClampSite, ...] = CLAMP_SITES
    where: Tensor | None = None

    def attach(self, step: ForwardStep) -> Iterator[Handle]:
        """Attach the reading hooks; yields handles, each to be removed."""
        return attach_observer(step, self.blocks, self.see, self.sites, self.where)


Change = Clamp | PruneExpert | AttachableChange
"""The types of a recipe's changes."""

Intervention = Change | Watch


def check_changes(loaded: LoadedModel, changes: Sequence[Change]) -> None:
    """Raise AddressOutOfRange, ClampError, ExpertError or SkillError if this model does not allow the
    changes.
    """
    check_prunable(loaded, [change.address for change in changes if isinstance(change, PruneExpert)])
    for change in changes:
        if isinstance(change, Clamp):
            check_clamp(loaded, change)
        elif not isinstance(change, PruneExpert):
            change.check(loaded)


@contextmanager
def intervene(
    loaded: LoadedModel,
    interventions: Sequence[Intervention],
    *,
    positions: Tensor,
    prompt_length: int | Sequence[int] = 0,
    rows: Sequence[Sequence[int]] | None = None,
    examples: Sequence[int] | None = None,
) -> Iterator[Reach]:
    """Hold the model's lock with these interventions active, for one forward call on `positions` (B, T).

    Changes apply in order, but a pruned expert always writes 0.
    rows: the batch rows each change acts on; None: all rows. prompt_length: in
    tokens, for scopes; one, or one a row. examples: see Step.
    Raises ClampError, ExpertError, SkillError, AddressOutOfRange before the model is touched.
    """
    if loaded.streamed is not None:
        raise HeadlampError(
            f"the weights of {loaded.ref.name} stay on disk, so it can only be decoded; "
            "open it in memory to run it"
        )
    changes = [item for item in interventions if isinstance(item, Change)]
    ordered, prunings = _plan_changes(loaded, changes, rows or (None,) * len(changes))
    reach = Reach([0] * len(changes), [0] * len(changes))
    step = ForwardStep(loaded, positions, prompt_length, reach, examples)
    with loaded.lock, ExitStack() as undo:
        for handle in _attach_all(step, ordered):
            undo.callback(handle.remove)
        for handle in attach_pruning(step, prunings):
            undo.callback(handle.remove)
        for item in interventions:
            if not isinstance(item, Change):
                for handle in item.attach(step):
                    undo.callback(handle.remove)
        yield reach


_Ordered = tuple[ClampPlan | AttachableChange, Sequence[int] | None]


def _plan_changes(
    loaded: LoadedModel, changes: Sequence[Change], rows: Sequence[Sequence[int] | None]
) -> tuple[list[_Ordered], list[PrunePlan]]:
    """The changes in order, each with its batch rows; prunings come last."""
    ordered: list[_Ordered] = []
    pruned: list[tuple[int, PruneExpert, Sequence[int] | None]] = []
    for index, (item, own) in enumerate(zip(changes, rows, strict=True)):
        if isinstance(item, PruneExpert):
            pruned.append((index, item, own))
        elif isinstance(item, Clamp):
            ordered.append((plan_clamp(loaded, item, index, own), own))
        else:
            item.check(loaded)
            ordered.append((item, own))
    return ordered, plan_pruning(loaded, pruned) if pruned else []


def _attach_all(step: ForwardStep, ordered: Sequence[_Ordered]) -> Iterator[Handle]:
    """Attach all in order; adjacent clamps together, since those of one expert share a hook."""
    for are_plans, group in groupby(ordered, key=lambda pair: isinstance(pair[0], ClampPlan)):
        if are_plans:
            for plans in by_module([item for item, _ in group if isinstance(item, ClampPlan)]):
                yield from attach_clamps(step, plans)
        else:
            for item, rows in group:
                if not isinstance(item, ClampPlan):
                    yield from item.attach(step, rows)
