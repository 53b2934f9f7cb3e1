"""The one door into a model: `with intervened(…): forward` changes or observes it, and always undoes itself.

Entered for one forward step at a time. It takes the model's lock, attaches hooks, and on the way out,
also after an exception, detaches them and releases the lock, so that nothing leaks into another's text.
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
    Reach,
    See,
    Step,
    attach_clamps,
    attach_observer,
    by_module,
    check_clamp,
    plan_clamp,
)
from analysis.intervening.pruning import PruneExpert, PrunePlan, attach_pruning, check_prunable, plan_pruning
from analysis.intervening.steps import Attaching, Handle, Plan, Watch
from analysis.opening.models import LoadedModel


@dataclass(frozen=True)
class Observe:
    """Read every neuron of some blocks at some of their sites.

    where: (B, T) the positions that are read; all but padding where None. Experts are read whole.
    """

    blocks: tuple[Block, ...]
    see: See
    sites: tuple[ClampSite, ...] = CLAMP_SITES
    where: Tensor | None = None

    def attach(self, step: Step) -> Iterator[Handle]:
        """Attach the reading hooks; yields handles, each to be removed."""
        return attach_observer(step, self.blocks, self.see, self.sites, self.where)


Change = Clamp | PruneExpert | Attaching
"""What a recipe consists of."""

Intervention = Change | Watch


def check_changes(loaded: LoadedModel, changes: Sequence[Change]) -> None:
    """Raises AddressOutOfRange, ClampError, ExpertError, SkillError where this model cannot be changed so."""
    check_prunable(loaded, [change.address for change in changes if isinstance(change, PruneExpert)])
    for change in changes:
        if isinstance(change, Clamp):
            check_clamp(loaded, change)
        elif not isinstance(change, PruneExpert):
            change.check(loaded)


@contextmanager
def intervened(
    loaded: LoadedModel,
    interventions: Sequence[Intervention],
    *,
    positions: Tensor,
    prompt_length: int | Sequence[int] = 0,
    rows: Sequence[Sequence[int]] | None = None,
    examples: Sequence[int] | None = None,
) -> Iterator[Reach]:
    """Hold the model's lock with these interventions in force, for one forward call on `positions` (B, T).

    Changes apply in their order, but a pruned expert writes 0 whatever else is held in it.
    rows: for each change the batch rows it acts on; every change on every row where None. prompt_length: in
    tokens, for scopes; one, or one a row. examples: see Step.
    Raises ClampError, ExpertError, SkillError, AddressOutOfRange before the model is touched.
    """
    if loaded.streamed is not None:
        raise HeadlampError(
            f"the weights of {loaded.ref.name} stay on disk, which serves decoding alone; "
            "open it in memory to run it"
        )
    changes = [item for item in interventions if isinstance(item, Change)]
    ordered, prunings = _planned(loaded, changes, rows or (None,) * len(changes))
    reach = Reach([0] * len(changes), [0] * len(changes))
    step = Step(loaded, positions, prompt_length, reach, examples)
    with loaded.lock, ExitStack() as undo:
        for handle in _attached(step, ordered):
            undo.callback(handle.remove)
        for handle in attach_pruning(step, prunings):
            undo.callback(handle.remove)
        for item in interventions:
            if not isinstance(item, Change):
                for handle in item.attach(step):
                    undo.callback(handle.remove)
        yield reach


_Ordered = tuple[Plan | Attaching, Sequence[int] | None]


def _planned(
    loaded: LoadedModel, changes: Sequence[Change], rows: Sequence[Sequence[int] | None]
) -> tuple[list[_Ordered], list[PrunePlan]]:
    """What applies in its order, each with its batch rows, and the prunings, which come last."""
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


def _attached(step: Step, ordered: Sequence[_Ordered]) -> Iterator[Handle]:
    """Attach all in their order; neighbouring clamps together, since those of one expert share a hook."""
    for are_plans, group in groupby(ordered, key=lambda pair: isinstance(pair[0], Plan)):
        if are_plans:
            for plans in by_module([item for item, _ in group if isinstance(item, Plan)]):
                yield from attach_clamps(step, plans)
        else:
            for item, rows in group:
                if not isinstance(item, Plan):
                    yield from item.attach(step, rows)
