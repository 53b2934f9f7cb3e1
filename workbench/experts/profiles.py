"""What every expert of a model writes at most on a text, measured once, batch by batch."""

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
    evaluation_text,
    held_out,
    reference_text,
    text_windows,
    window_batches,
)
from analysis.super_experts import profiling
from analysis.super_experts.block_peaks import BlockPeaks
from analysis.super_experts.profile import BatchProfile, ExpertProfile, merge
from analysis.super_experts.profiling import profile_batch
from analysis.super_experts.residual_layers import Layer, residual_layers
from analysis.super_experts.residuals import ResidualPeaks
from store import RunSpec, Store, digest_of, find_run, get_run, keep_text, kept_text, read_array
from workbench.kinds import Kind
from workbench.runs import UnitResult, run_spec

_PARTS: dict[str, type[BlockPeaks] | type[ResidualPeaks]] = {"blocks": BlockPeaks, "residuals": ResidualPeaks}


@dataclass(frozen=True)
class Texts:
    """By digest, the text a model is calibrated on and the one it is evaluated on, which share no window.

    Where they are one text, every fourth window of it is kept for evaluation.
    """

    calibration: str
    evaluation: str

    @property
    def calibration_parameters(self) -> dict[str, Any]:
        """What an order for a profile names."""
        return {"text": self.calibration, "split": self.calibration == self.evaluation, "window": LONGEST}

    @property
    def evaluation_parameters(self) -> dict[str, Any]:
        """What an order for an evaluation names."""
        return self.calibration_parameters | {"text": self.evaluation}


OWN_TEXTS = ("calibration.txt", "evaluation.txt")
"""A model's folder may hold texts of its own, for a model that knows little else."""


def keep_texts(loaded: LoadedModel, text: str | None = None, evaluation: str | None = None) -> Texts:
    """Keep the texts that somebody gave. Where none was, those in the model's folder stand in, else those
    that ship with Headlamp."""
    if text is not None:
        first = keep_text(text)
        return Texts(first, first if evaluation is None else keep_text(evaluation))
    files = [loaded.path / name for name in OWN_TEXTS]
    shipped = [reference_text(), evaluation_text()]
    if all(file.is_file() for file in files):
        shipped = [file.read_text(encoding="utf-8") for file in files]
    return Texts(*map(keep_text, [shipped[0], shipped[1] if evaluation is None else evaluation]))


def windows_for(
    loaded: LoadedModel, asked: Mapping[str, Any], *, evaluation: bool = False
) -> tuple[Window, ...]:
    """The windows that an order's parameters name. Raises TextMissing, EmptyPrompt, TextError."""
    shipped = {digest_of(text): text for text in (reference_text(), evaluation_text())}
    text = shipped.get(asked["text"]) or kept_text(asked["text"])
    windows = text_windows(loaded, text, asked["window"])
    if not asked["split"]:
        return windows
    kept = held_out(windows)[evaluation]
    if not kept:
        raise TextError(
            f"the text is one window of {len(windows[0])} tokens, so that nothing is left to evaluate on; "
            "give a longer one, or another one to evaluate on"
        )
    return kept


def profile_spec(loaded: LoadedModel, asked: Mapping[str, Any]) -> RunSpec:
    """The run that reads a text; one unit per batch of windows."""
    check_readable(loaded)
    units = len(window_batches(windows_for(loaded, asked), asked["window"]))
    return run_spec(loaded, "experts", profiling.METHOD_VERSION, asked, units=units)


def _profile_units(
    loaded: LoadedModel, asked: Mapping[str, Any], units: Sequence[int], pulse: Pulse
) -> Iterator[tuple[int, UnitResult]]:
    together = window_batches(windows_for(loaded, asked), asked["window"])
    for index in units:
        pulse(0, 0)
        found = profile_batch(loaded, together[index])
        arrays = {
            f"{part}_{one.name}": getattr(getattr(found, part), one.name)
            for part, kind in _PARTS.items()
            for one in fields(kind)
        }
        yield index, UnitResult(f"batch {index}", arrays | {"ids": found.ids.astype("int32")})


def stored_expert_profile(
    loaded: LoadedModel, store: Store, asked: Mapping[str, Any]
) -> ExpertProfile | None:
    """The profile if this text was read with this model before."""
    run = find_run(store, profile_spec(loaded, asked).key)
    return None if run is None or not run.finished else read_expert_profile(loaded, store, run.key)


EXPERTS = Kind(
    name="experts",
    unit="batches",
    parameters=("text", "split", "window"),
    title=lambda asked: "Profile the experts",
    spec=profile_spec,
    compute=_profile_units,
)


def read_expert_profile(loaded: LoadedModel, store: Store, run: str) -> ExpertProfile:
    """A finished profile from the store; the last few are kept in memory."""
    return _read_profile(store, run, loaded.anatomy.blocks, residual_layers(loaded), loaded.anatomy.layers)


@lru_cache(maxsize=4)
def _read_profile(
    store: Store, run: str, blocks: tuple[Block, ...], layers: tuple[Layer, ...], depth: int
) -> ExpertProfile:
    units = range(get_run(store, run).units)
    return merge(blocks, layers, depth, (_read_batch(store, run, unit) for unit in units))


def _read_batch(store: Store, run: str, unit: int) -> BatchProfile:
    parts: dict[str, Any] = {
        part: kind(**{one.name: read_array(store, run, unit, f"{part}_{one.name}") for one in fields(kind)})
        for part, kind in _PARTS.items()
    }
    return BatchProfile(ids=read_array(store, run, unit, "ids"), **parts)
