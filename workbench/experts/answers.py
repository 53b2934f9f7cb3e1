"""The profile of a model's experts as shown and printed: every block, the layers, and the verdict."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from analysis.opening.models import LoadedModel
from analysis.running.calibration import read_prefix_tokens
from analysis.running.prompts import decode_tokens
from analysis.super_experts.criterion import Threshold
from analysis.super_experts.profile import (
    BlockRow,
    ExpertProfile,
    FormedActivation,
    LayerRow,
    ResidualPeak,
    TokenPlace,
)
from analysis.super_experts.verdict import SuperExpertVerdict
from store.evidence import make_token_visible
from workbench.records import write_record


@dataclass(frozen=True)
class WindowsRead:
    """How many windows were read, tokens of the longest, the text of the token that all begin with, and
    whether that is the one the tokenizer puts before a text.
    """

    count: int
    length: int
    begins: str | None
    bos: bool

    def __str__(self) -> str:
        """`30 windows of at most 256 tokens, each behind <bos>`."""
        count = "1 window" if self.count == 1 else f"{self.count:,} windows"
        begin = f"each behind {make_token_visible(self.begins or '')}" if self.bos else "no token before them"
        return f"{count} of at most {self.length:,} tokens, {begin}"


@dataclass(frozen=True)
class ProfiledBlock:
    """One expert or dense block; None if it saw no token, or if it is unknown whether it forms anything.

    forms, formed_jointly, sink_share: shares of the windows, in [0, 1]. weight: the entry of the down
    projection at row and column. The token is the one with the largest output, at a position of a window.
    """

    address: str
    layer: int
    expert: int | None
    shared: bool
    max_abs: float
    first_routed: float
    token: str | None
    token_id: int | None
    position: int | None
    window: int | None
    count: int
    row: int | None
    column: int | None
    weight: float | None
    forms: float | None
    formed_jointly: float | None
    formed_share: float | None
    formed_value: float | None
    formed_row: int | None
    formed_column: int | None
    sink_share: float
    super: bool = False


@dataclass(frozen=True)
class LargestResidual:
    """The largest |h| after a layer at one kind of position, and the median |h|."""

    max_abs: float
    median: float
    dimension: int
    token: str
    token_id: int
    position: int
    window: int


@dataclass(frozen=True)
class FormedResidual:
    """A massive activation that a layer's own FFN formed; supplied: its share."""

    value: float
    supplied: float
    dimension: int
    token: str
    token_id: int
    position: int
    window: int


@dataclass(frozen=True)
class ProfiledLayer:
    """The residual after one layer: whether something is massive after it, in how many windows, whether its
    own FFN formed that (None: unknown), and the largest that it did.
    """

    layer: int
    after: bool
    formed_here: bool | None
    windows: int
    first: LargestResidual | None
    others: LargestResidual | None
    formed: FormedResidual | None


@dataclass(frozen=True)
class NearlySuper:
    """A block that passes every clause but one, which is `rule`."""

    address: str
    rule: str
    max_abs: float


@dataclass(frozen=True)
class ProfileAnswer:
    """Experts, dense blocks, layers (`massive`), and the verdict of a criterion; super: by address."""

    tokens: int
    windows: WindowsRead
    threshold: Threshold
    super: tuple[str, ...]
    near_misses: tuple[NearlySuper, ...]
    remarks: tuple[str, ...]
    experts: tuple[ProfiledBlock, ...]
    blocks: tuple[ProfiledBlock, ...]
    massive: tuple[ProfiledLayer, ...]

    def to_document(self) -> dict[str, Any]:
        """As `experts --json` prints it."""
        return write_record(self)


def answer_profile(loaded: LoadedModel, profile: ExpertProfile, verdict: SuperExpertVerdict) -> ProfileAnswer:
    """A profile under the verdict of a criterion."""
    supers = {row.block.address for row in verdict.supers}

    def describe(found: tuple[BlockRow, ...]) -> tuple[ProfiledBlock, ...]:
        blocks = ((row.block.address, describe_block(loaded, row, profile.windows)) for row in found)
        return tuple(replace(block, super=address in supers) for address, block in blocks)

    return ProfileAnswer(
        tokens=profile.tokens,
        windows=describe_windows(loaded, profile),
        threshold=verdict.threshold,
        super=tuple(str(row.block.address) for row in verdict.supers),
        near_misses=tuple(
            NearlySuper(str(miss.row.block.address), miss.rule, miss.row.max_abs)
            for miss in verdict.near_misses
        ),
        remarks=tuple(verdict.remarks),
        experts=describe(profile.experts),
        blocks=describe(profile.dense),
        massive=tuple(_describe_layer(loaded, row) for row in profile.layers),
    )


def list_judged_rows(profile: ExpertProfile, verdict: SuperExpertVerdict) -> list[tuple[BlockRow, str]]:
    """The rows worth a look, each with the verdict on it: super ones, near misses with the rule that excluded
    each, and what forms a massive activation but is neither.
    """
    rows = [(row, "super") for row in verdict.supers]
    rows += [(miss.row, f"fails {miss.rule}") for miss in verdict.near_misses]
    named = {row.block.address for row, _ in rows}
    form = [row for row in profile.blocks if row.formation is not None and row.formation.formed]
    return rows + [(row, "forms") for row in form if row.block.address not in named]


def describe_windows(loaded: LoadedModel, profile: ExpertProfile) -> WindowsRead:
    """The windows of a profile."""
    begins = None if profile.begins is None else decode_tokens(loaded, [profile.begins])[0]
    prefix = read_prefix_tokens(loaded)
    return WindowsRead(profile.windows, profile.length, begins, bool(prefix) and profile.begins == prefix[0])


def describe_block(loaded: LoadedModel, row: BlockRow, windows: int) -> ProfiledBlock:
    """One row of a profile of so many windows."""
    address, place, found = row.block.address, row.place, row.formation
    unknown = found is None or (found.unknown > 0 and not found.formed)
    return ProfiledBlock(
        address=str(address),
        layer=address.layer,
        expert=address.expert,
        shared=address.shared,
        max_abs=row.max_abs,
        first_routed=row.first_routed,
        token=None if place is None else token_at(loaded, place),
        token_id=None if place is None else place.token_id,
        position=None if place is None else place.position,
        window=None if place is None else place.window,
        count=row.count,
        row=row.row,
        column=row.column,
        weight=super_weight(loaded, row),
        forms=None if found is None or unknown else found.formed / windows,
        formed_jointly=None if found is None or unknown else found.jointly / windows,
        formed_share=found.share if found is not None and found.share else None,
        formed_value=found.added if found is not None and found.share else None,
        formed_row=None if found is None else found.dimension,
        formed_column=None if found is None else found.column,
        sink_share=row.sink / windows,
    )


def super_weight(loaded: LoadedModel, row: BlockRow) -> float | None:
    """The entry of the down projection at the block's row and column."""
    if row.row is None or row.column is None:
        return None
    return float(row.block.down.vectors(loaded.parameters)[row.column, row.row])


def token_at(loaded: LoadedModel, place: TokenPlace) -> str:
    """The text of the token at a place."""
    return decode_tokens(loaded, [place.token_id])[0]


def _describe_layer(loaded: LoadedModel, row: LayerRow) -> ProfiledLayer:
    return ProfiledLayer(
        layer=row.layer,
        after=row.massive > 0,
        formed_here=row.formed is not None if row.readable else None,
        windows=row.massive,
        first=_describe_peak(loaded, row.first),
        others=_describe_peak(loaded, row.others),
        formed=_describe_formed(loaded, row.formed),
    )


def _describe_peak(loaded: LoadedModel, peak: ResidualPeak | None) -> LargestResidual | None:
    if peak is None:
        return None
    at, token = peak.place, token_at(loaded, peak.place)
    return LargestResidual(
        peak.max_abs, peak.median, peak.dimension, token, at.token_id, at.position, at.window
    )


def _describe_formed(loaded: LoadedModel, formed: FormedActivation | None) -> FormedResidual | None:
    if formed is None:
        return None
    at, token = formed.place, token_at(loaded, formed.place)
    return FormedResidual(
        formed.value, formed.supplied, formed.dimension, token, at.token_id, at.position, at.window
    )
