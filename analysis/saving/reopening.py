"""A saved model opened anew by plain transformers, and held against the one in memory and its changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from torch.func import functional_call
from transformers import AutoModelForCausalLM, PreTrainedModel

from analysis.checkpoints.wrappers.rest import build_whole, read_left_out
from analysis.checkpoints.wrappers.text_part import find_left_out
from analysis.errors import HeadlampError
from analysis.intervening.interventions import Change, intervene
from analysis.opening.models import LoadedModel
from analysis.running.prompts import reference_windows
from analysis.saving.dropping import DropPlan, without_choice
from analysis.unlearning.edits.reversals import Tars

POSITIONS = 128
"""Tokens of the reference text whose logits are compared."""
TOLERANCE = {"float32": 1e-5, "float16": 2e-2, "bfloat16": 1e-1}
"""Largest difference of a logit, as a share of the largest logit: rounding, and no more."""


@dataclass(frozen=True)
class TensorChange:
    """A parameter, or a buffer that is saved, that differs from the original's.

    rows: of its vectors (its last axis), how many differ or are gone. cosine: of the whole old and new
    parameter, in float64, but for rows that are gone.
    """

    tensor: str
    rows: int
    cosine: float


@dataclass(frozen=True)
class Reopened:
    """What a fresh opening showed. logits_error: the largest difference of a logit from the changed model in
    memory, as a share of the largest logit, over `positions` tokens of the reference text; effect: the same
    of the changed model and the original.
    """

    changed: tuple[TensorChange, ...]
    logits_error: float
    effect: float
    positions: int


def compare_reopened(
    loaded: LoadedModel,
    changes: Sequence[Change],
    folder: Path,
    expected: Mapping[str, Tensor],
    drop: DropPlan | None = None,
) -> Reopened:
    """Open the folder as anybody would, and compare every tensor and the logits.

    expected: the parameters that should differ (`bake_weights`). drop: experts that were taken out, which the
    model in memory cannot choose then. Raises HeadlampError if any other parameter differs, one of these is
    not what it should be, or the logits are not those of the changed model.
    """
    left = find_left_out(loaded.model)
    kind = AutoModelForCausalLM if left is None else left.whole
    model, info = kind.from_pretrained(
        folder, dtype=getattr(torch, loaded.dtype), local_files_only=True, output_loading_info=True
    )
    if info["missing_keys"] or info["mismatched_keys"]:
        missing = sorted([*info["missing_keys"], *map(str, info["mismatched_keys"])])[:3]
        raise HeadlampError(f"the saved model lacks {', '.join(missing)}, so it was not kept")
    model = model.eval()
    rest = {}
    if left is not None:
        rest = read_left_out(loaded.path, build_whole(loaded.model.config, left, loaded.model.dtype), left)
    changed = _compare_tensors(loaded, model, expected, {} if drop is None else drop.kept, rest)
    ids = list(reference_windows(loaded)[0])[:POSITIONS]
    saved = _read_logits(model, ids, loaded)
    with nullcontext() if drop is None else without_choice(loaded, drop):
        wanted = _read_changed(loaded, changes, expected, ids)
    size = float(wanted.abs().max())
    error = float((saved - wanted).abs().max()) / size
    effect = float((wanted - _read_changed(loaded, (), {}, ids)).abs().max()) / size
    if not error <= TOLERANCE[loaded.dtype]:
        raise HeadlampError(
            f"the saved model's logits differ from the changed model's by {error:.1e} of the largest, more "
            f"than rounding in {loaded.dtype} explains, so it was not kept; use the recipe instead"
        )
    return Reopened(changed, error, effect, len(ids))


def _compare_tensors(
    loaded: LoadedModel,
    model: PreTrainedModel,
    expected: Mapping[str, Tensor],
    kept: Mapping[str, Tensor],
    rest: Mapping[str, Tensor],
) -> tuple[TensorChange, ...]:
    """The tensors that differ, each exactly what it should be; the others are equal bit for bit.

    rest: tensors that a multimodal model was opened without.
    """
    found, original = [], loaded.model.state_dict()
    for name, new in model.state_dict().items():
        old = loaded.parameters.get(name, original.get(name, rest.get(name)))
        if old is None:
            raise HeadlampError(f"the saved model has {name}, which the original lacks, so it was not kept")
        wanted, gone = expected.get(name, old).to(new.device), 0
        if name in kept:
            gone = (len(old) - len(kept[name])) * max(1, old[0].numel() // old.shape[-1])
            old, wanted = (one[kept[name].to(one.device)] for one in (old, wanted))
        if not torch.equal(new, wanted):
            raise HeadlampError(f"{name} of the saved model is not what it should be, so it was not kept")
        if gone or not torch.equal(new, old.to(new.device)):
            found.append(_describe(name, old, new, gone))
    return tuple(found)


def _describe(name: str, old: Tensor, new: Tensor, gone: int) -> TensorChange:
    before, after = old.detach().cpu(), new.detach().cpu()
    rows = int((before != after).reshape(-1, before.shape[-1]).any(-1).sum())
    products = [
        float((a.double() * b.double()).sum()) for a, b in ((before, after), (before, before), (after, after))
    ]
    size = (products[1] * products[2]) ** 0.5
    return TensorChange(name, rows + gone, products[0] / size if size else 0.0)


def _read_changed(
    loaded: LoadedModel, changes: Sequence[Change], baked: Mapping[str, Tensor], ids: Sequence[int]
) -> Tensor:
    """(T, V) logits of the model in memory under the changes, with vectors rounded to its dtype.

    Vectors of fused experts, which no hook reaches, are exchanged for the call.
    """
    rounded = [_round(change, loaded) for change in changes]
    positions = torch.arange(len(ids), device=loaded.device)[None]
    if any(isinstance(c, Tars) and _is_fused(loaded, c) for c in rounded):
        fed = torch.tensor([list(ids)], device=loaded.device)
        with loaded.lock, torch.inference_mode():
            inputs = {"input_ids": fed, "position_ids": positions, "use_cache": False}
            return _restrict(
                loaded, functional_call(loaded.model, dict(baked), (), inputs, tie_weights=False).logits
            )
    with intervene(loaded, rounded, positions=positions), torch.inference_mode():
        return _read_logits(loaded.model, ids, loaded)


def _read_logits(model: PreTrainedModel, ids: Sequence[int], loaded: LoadedModel) -> Tensor:
    fed = torch.tensor([list(ids)], device=model.device)
    positions = torch.arange(len(ids), device=model.device)[None]
    with torch.inference_mode():
        return _restrict(loaded, model(input_ids=fed, position_ids=positions, use_cache=False).logits)


def _restrict(loaded: LoadedModel, logits: Tensor) -> Tensor:
    return logits[0, :, : len(loaded.vocabulary)].float().cpu()


def _is_fused(loaded: LoadedModel, change: Tars) -> bool:
    return any(edit.site != "head" and loaded.anatomy.block(edit.address).fused for edit in change.edits)  # type: ignore[arg-type]


def _round(change: Change, loaded: LoadedModel) -> Change:
    if not isinstance(change, Tars):
        return change
    dtype = getattr(torch, loaded.dtype)
    return Tars(tuple(replace(edit, value=edit.value.to(dtype).float()) for edit in change.edits))
