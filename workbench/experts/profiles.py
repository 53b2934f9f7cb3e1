"""Profiles of a model's experts: each expert's largest output on a text, measured once, batch by batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any

from analysis.anatomy.anatomy import Block
from analysis.errors import ExpertError, TextError
from analysis.intervening.pruning import check_readable
from analysis.opening.models import LoadedModel
from analysis.pulse import Pulse
from analysis.running.calibration import (
    LONGEST,
    SHORTEST,
    Window,
    choose_window_length,
    cut_as_released,
    cut_shorter,
    cut_windows,
    evaluation_text,
    reference_text,
    split_windows,
    window_batches,
)
from analysis.super_experts import profiling
from analysis.super_experts.block_peaks import BlockPeaks
from analysis.super_experts.forming import BlockForming
from analysis.super_experts.merging import merge_profiles
from analysis.super_experts.profile import BatchProfile, ExpertProfile
from analysis.super_experts.profiling import profile_batch
from analysis.super_experts.residual_layers import ResidualLayer, residual_layers
from analysis.super_experts.residuals import ResidualPeaks
from store import RunSpec, Store, digest_text, find_run, get_run, keep_text, load_text, read_array
from workbench.experts.questions import ProfileQuestion, PruneQuestion, read_profile_question
from workbench.kinds import Kind
from workbench.runs import UnitResult, run_spec

_PARTS: dict[str, type[BlockPeaks] | type[ResidualPeaks] | type[BlockForming]] = {
    "blocks": BlockPeaks,
    "residuals": ResidualPeaks,
    "forming": BlockForming,
}


@dataclass(frozen=True)
class ProfileTexts:
    """Digests of the calibration and evaluation texts, which share no window.

    If they are one text, every fourth window is held out for evaluation. window: tokens of a window; None:
    2,048 for calibration, and for evaluation so many that there are at least 20.
    """

    calibration: str
    evaluation: str
    window: int | None = None

    def __post_init__(self) -> None:
        if self.window is not None and self.window < SHORTEST:
            raise TextError(
                f"windows of {self.window} tokens are too short to say anything; choose {SHORTEST} or more"
            )

    @property
    def question(self) -> ProfileQuestion:
        """What to profile."""
        return ProfileQuestion(self.calibration, self.split, self.window or LONGEST)

    @property
    def released_question(self) -> ProfileQuestion:
        """The same as the authors' code reads a text."""
        return replace(self.question, window=LONGEST, released=True)

    @property
    def split(self) -> bool:
        """Whether the windows of one text are shared out."""
        return self.calibration == self.evaluation

    def find_evaluation_length(self, loaded: LoadedModel) -> int:
        """Tokens of an evaluation window. Raises TextMissing, EmptyPrompt, TextError."""
        held_out = read_evaluation_windows(loaded, replace(self.question, text=self.evaluation))
        return self.window or choose_window_length(loaded, held_out)


RELEASED_DTYPE = "bfloat16"
"""The dtype of the authors' code."""
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
    return ProfileTexts(keep_text(shipped[0]), keep_text(shipped[1] if evaluation is None else evaluation))


def read_windows(loaded: LoadedModel, asked: ProfileQuestion) -> tuple[Window, ...]:
    """The windows to profile. Raises TextMissing, EmptyPrompt, TextError."""
    windows = _cut(loaded, asked, asked.window, evaluation=False)
    return cut_as_released(loaded, windows) if asked.released else windows


def read_evaluation_windows(
    loaded: LoadedModel, asked: ProfileQuestion | PruneQuestion, length: int = 0
) -> tuple[Window, ...]:
    """The windows to evaluate on, of `length` tokens; 0: as long as those of calibration. Raises as
    `read_windows`.
    """
    windows = _cut(loaded, asked, asked.window if asked.split or not length else length, evaluation=True)
    return cut_shorter(loaded, windows, length) if asked.split and length else windows


def _cut(
    loaded: LoadedModel, asked: ProfileQuestion | PruneQuestion, window: int, *, evaluation: bool
) -> tuple[Window, ...]:
    shipped = {digest_text(text): text for text in (reference_text(), evaluation_text())}
    windows = cut_windows(loaded, shipped.get(asked.text) or load_text(asked.text), window)
    kept = split_windows(windows)[evaluation] if asked.split else windows
    if not kept:
        raise TextError(
            f"the text is one window of {len(windows[0])} tokens, which leaves none for evaluation; "
            "give a longer one, or a separate evaluation text"
        )
    return kept


def expert_profile_spec(loaded: LoadedModel, asked: Mapping[str, Any]) -> RunSpec:
    """The run that profiles a text; one unit per batch of windows."""
    check_readable(loaded)
    question = read_profile_question(asked)
    if question.released and loaded.dtype != RELEASED_DTYPE:
        raise ExpertError(
            f"the authors' code reads in {RELEASED_DTYPE}, and {loaded.ref.name} is open in {loaded.dtype}; "
            f"open it in {RELEASED_DTYPE}"
        )
    units = len(window_batches(read_windows(loaded, question)))
    return run_spec(loaded, "experts", profiling.METHOD_VERSION, question.document(), units=units)


def _profile_units(
    loaded: LoadedModel, asked: Mapping[str, Any], units: Sequence[int], pulse: Pulse
) -> Iterator[tuple[int, UnitResult]]:
    together = window_batches(read_windows(loaded, read_profile_question(asked)))
    for index in units:
        pulse(0, 0)
        found = profile_batch(loaded, together[index])
        arrays = {
            f"{part}_{one.name}": getattr(getattr(found, part), one.name)
            for part, kind in _PARTS.items()
            for one in fields(kind)
        }
        yield index, UnitResult(f"batch {index}", arrays | {"ids": found.ids.astype("int32")})


def find_expert_profile(loaded: LoadedModel, store: Store, asked: ProfileQuestion) -> ExpertProfile | None:
    """The stored profile of this text and model, if any."""
    run = find_run(store, expert_profile_spec(loaded, asked.document()).key)
    return None if run is None or not run.finished else read_expert_profile(loaded, store, run.key)


def count_calibration_tokens(loaded: LoadedModel, asked: ProfileQuestion) -> int:
    """Tokens that a profile reads. Raises as `read_windows`."""
    return sum(map(len, read_windows(loaded, asked)))


EXPERTS = Kind(
    name="experts",
    unit="batches",
    parameters=("text", "split", "window"),
    title=lambda asked: "Profile the experts",
    spec=expert_profile_spec,
    compute=_profile_units,
    defaults={"released": False},
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
