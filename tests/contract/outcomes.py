"""One entry of the mapping put through every check, and what came of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Literal

import torch
import transformers

from analysis.anatomy.anatomy import Anatomy
from analysis.errors import HeadlampError
from tests.contract.builder import CannotBuild, build
from tests.contract.checks import READING
from tests.contract.clamp_checks import CLAMPING
from tests.contract.continuing import why_not_continued
from tests.contract.edits import opened
from tests.contract.expectations import Broken
from tests.contract.loading import check_loading

Status = Literal["supported", "refused", "broken", "not built"]


@dataclass(frozen=True)
class Outcome:
    """supported: every check passed. refused: the app says why. broken: opened, but a check failed.

    stuck: why it does not continue a text as the app has it do; empty where it does.
    """

    entry: str
    status: Status
    architecture: str = ""
    blocks: str = ""
    reason: str = ""
    stuck: str = ""

    def __str__(self) -> str:
        words = (self.blocks, self.reason, self.stuck and f"(text: {self.stuck})")
        return f"{self.entry:26} {self.status:10} {' '.join(word for word in words if word)}"


def outcome_of(entry: str) -> Outcome:
    """Build, open and check one entry."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(1)
    try:
        model = build(entry)
    except CannotBuild as error:
        return Outcome(entry, "not built", reason=str(error))
    kind = type(model).__name__
    try:
        loaded = opened(model)
    except HeadlampError as error:
        return Outcome(entry, "refused", kind, reason=str(error))
    blocks = described(loaded.anatomy)
    for check in (check_loading, *READING, *CLAMPING):
        try:
            check(loaded)
        except Broken as error:
            return Outcome(entry, "broken", kind, blocks, f"{check.__name__}: {error}")
    return Outcome(entry, "supported", kind, blocks, stuck=why_not_continued(model))


def described(anatomy: Anatomy) -> str:
    """`dense gated`, `routed gated + shared gated`: the kinds of blocks there are, the commonest first."""
    kinds = Counter(
        ("shared" if b.address.shared else "routed" if b.routed else "dense")
        + (" gated" if b.gated else " plain")
        for b in anatomy.blocks
    )
    return " + ".join(kind for kind, _ in kinds.most_common())
