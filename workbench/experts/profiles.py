"""Profiles of a model's experts: each expert's largest output on a text, measured once, batch by batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any

from analysis.anatomy.anatomy import Block
from analysis.errors import TextError
from analysis.intervening.pruning import check_readable
from analysis.opening.models import LoadedModel
from analysis.pulse import Pulse
from analysis.running.calibration import (
    LONGEST,
    Window,
    cut_windows,
    evaluation_text,
    reference_text,
    split_windows,
    window_batches,
)
from analysis.super_experts import profiling
from analysis.super_experts.block_peaks import BlockPeaks
from analysis.super_experts.profile import BatchProfile, ExpertProfile, merge_profiles
from analysis.super_experts.profiling import profile_batch
from analysis.super_experts.residual_layers import ResidualLayer, residual_layers
from analysis.super_experts.residuals import ResidualPeaks
from store import RunSpec, Store, digest_text, find_run, get_run, keep_text, load_text, read_array
from workbench.kinds import Kind
from workbench.runs import UnitResult, run_spec

_PARTS: dict[str, type[BlockPeaks] | type[ResidualPeaks]] = {"blocks": BlockPeaks, "residuals": ResidualPeaks}


@dataclass(frozen=True)
class ProfileTexts:
    """Digests of the calibration and evaluation texts, which share no window.

    If they are one text, every fourth window is held out for evaluation.
    """

    calibration: str
    evaluation: str

    @property
    def calibration_parameters(self) -> dict[str, Any]:
        """The parameters of a profile order."""
        return {"text": self.calibration, "split": self.calibration == self.evaluation, "window": LONGEST}

    @property
    def evaluation_parameters(self) -> dict[str, Any]:
        """The parameters of an evaluation order."""
        return self.calibration_parameters | {"text": self.evaluation}


OWN_TEXTS = ("calibration.txt", "evaluation.txt")
"""A model's folder may hold texts of its own, for a model with a narrow corpus."""


def keep_texts(loaded: LoadedModel, text: str | None = None, evaluation: str | None = None) -> ProfileTexts:
    """Store the given texts. Missing ones default to the model folder's, else to the bundled ones."""
    if text is not None:
        first = keep_text(text)
        return ProfileTexts(first, first if evaluation is None else keep_text(evaluation))
    files = [loaded.path / name for name in OWN_TEXTS]
    shipped = [reference_text(), evaluation_text()]
    if all(file.is_file() for file in files):
        shipped = [file.read_text(encoding="utf-8") for file in files]
    return ProfileTexts(*map(keep_text, [shipped[0], shipped[1] if evaluation is None else evaluation]))


def read_windows(
    loaded: LoadedModel, asked: Mapping[str, Any], *, evaluation: bool = False
) -> tuple[Window, ...]:
    """The windows named by an order's parameters. Raises TextMissing, EmptyPrompt, TextError."""
    shipped = {digest_text(text): text for text in (reference_text(), evaluation_text())}
    text = shipped.get(asked["text"]) or load_text(asked["text"])
    windows = cut_windows(loaded, text, asked["window"])
    if not asked["split"]:
        return windows
    kept = split_windows(windows)[evaluation]
    if not kept:
        raise TextError(
            f"the text is one window of {len(windows[0])} tokens, which leaves none for evaluation; "
            "give a longer one, or a separate evaluation text"
        )
    return kept


def expert_profile_spec(loaded: LoadedModel, asked: Mapping[str, Any]) -> RunSpec:
    """The run that profiles a text; one unit per batch of windows."""
    check_readable(loaded)
    units = len(window_batches(read_windows(loaded, asked), asked["window"]))
    return run_spec(loaded, "experts", profiling.METHOD_VERSION, asked, units=units)


def _profile_units(
    loaded: LoadedModel, asked: Mapping[str, Any], units: Sequence[int], pulse: Pulse
) -> Iterator[tuple[int, UnitResult]]:
    together = window_batches(read_windows(loaded, asked), asked["window"])
    for index in units:
        pulse(0, 0)
        found = profile_batch(loaded, together[index])
        arrays = {
            f"{part}_{one.name}": getattr(getattr(found, part), one.name)
            for part, kind in _PARTS.items()
            for one in fields(kind)
        }
        yield index, UnitResult(f"batch {index}", arrays | {"ids": found.ids.astype("int32")})


def find_expert_profile(loaded: LoadedModel, store: Store, asked: Mapping[str, Any]) -> ExpertProfile | None:
    """The stored profile of this text and model, if any."""
    run = find_run(store, expert_profile_spec(loaded, asked).key)
    return None if run is None or not run.finished else read_expert_profile(loaded, store, run.key)


EXPERTS = Kind(
    name="experts",
    unit="batches",
    parameters=("text", "split", "window"),
    title=lambda asked: "Profile the experts",
    spec=expert_profile_spec,
    compute=_profile_units,
)


def read_expert_profile(loaded: LoadedModel, store: Store, run: str) -> ExpertProfile:
    """A finished profile from the store; the last few are cached in memory."""
    return _read_profile(store, run, loaded.anatomy.blocks, residual_layers(loaded), loaded.anatomy.layers)


@lru_cache(maxsize=4)
def _read_profile(
    store: Store, run: str, blocks: tuple[Block, ...], layers: tuple[ResidualLayer, ...], depth: int
) -> ExpertProfile:
    units = range(get_run(store, run).units)
    return merge_profiles(blocks, layers, depth, (_read_batch(store, run, unit) for unit in units))


def _read_batch(store: Store, run: str, unit: int) -> BatchProfile:
    parts: dict[str, Any] = {
        part: kind(**{one.name: read_array(store, run, unit, f"{part}_{one.name}") for one in fields(kind)})
        for part, kind in _PARTS.items()
    }
    return BatchProfile(ids=read_array(store, run, unit, "ids"), **parts)
