"""Replaced feed-forward vectors and head rows: the intervention behind TARS."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from analysis.anatomy.addresses import NeuronAddress
from analysis.anatomy.anatomy import Block, Site, WeightView
from analysis.errors import SkillError
from analysis.intervening.clamps import ClampSite
from analysis.intervening.hooks import at_positions, site_columns, site_module
from analysis.intervening.steps import ForwardStep, Handle
from analysis.opening.models import LoadedModel


@dataclass(frozen=True, order=True)
class HeadRow:
    """One token's row of the LM head."""

    token: int

    def __str__(self) -> str:
        return f"head.T{self.token}"


@dataclass(frozen=True, eq=False)
class Reversal:
    """One replaced vector. value (d,) float32; cosine: of the old vector with v*.

    site: which vector of a neuron; `head` for a row of the head.
    """

    address: NeuronAddress | HeadRow
    site: Site | Literal["head"]
    cosine: float
    value: Tensor

    def __post_init__(self) -> None:
        if isinstance(self.address, HeadRow) != (self.site == "head") or self.value.dim() != 1:
            raise SkillError(f"{self.address} has no vector {self.site}")


@dataclass(frozen=True, eq=False)
class Tars:
    """The intervention: some feed-forward vectors are replaced."""

    edits: tuple[Reversal, ...]

    def check(self, loaded: LoadedModel) -> None:
        """Raise AddressOutOfRange or SkillError if a vector does not exist in this model, or cannot be
        hooked.
        """
        for edit in self.edits:
            if len(edit.value) != loaded.anatomy.d_model:
                raise SkillError(
                    f"{edit.address}: the vector has {len(edit.value)} numbers, the model is "
                    f"{loaded.anatomy.d_model} wide; it belongs to another model"
                )
            if isinstance(edit.address, HeadRow):
                if edit.address.token not in range(len(loaded.vocabulary)):
                    raise SkillError(f"{edit.address}: the model has {len(loaded.vocabulary)} tokens")
            elif loaded.anatomy.block(edit.address).fused:
                raise SkillError(
                    f"{edit.address} belongs to experts that share one parameter, so no hook reaches a "
                    "single "
                    "vector; save the model with the edit baked in"
                )

    def attach(self, step: ForwardStep, rows: Sequence[int] | None) -> Iterator[Handle]:
        """See Attaching."""
        where = step.in_rows(rows)
        for edit in self.edits if bool(where.any()) else ():
            if isinstance(edit.address, HeadRow):
                head = step.loaded.model.get_output_embeddings()
                yield head.register_forward_hook(_replace_logit(step, edit.address.token, edit.value, where))
                continue
            block = step.loaded.anatomy.block(edit.address)
            site: ClampSite = "key" if edit.site == "down" else "gate" if edit.site == "gate" else "up"
            hook = _replace_written if edit.site == "down" else _replace_read
            module = step.loaded.model.get_submodule(site_module(block, site))
            yield module.register_forward_hook(hook(step, block, edit.address.neuron, edit, where))


def _replace_logit(step: ForwardStep, token: int, value: Tensor, where: Tensor) -> Callable[..., Tensor]:
    """Recompute the logit of a token whose head row is replaced."""

    def hook(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        changed = output.clone(memory_format=torch.contiguous_format)
        new = args[0] @ value.to(output.device, output.dtype)
        bias = getattr(module, "bias", None)
        new = new if bias is None else new + bias[token]
        kept = where[:, -output.shape[1] :].to(output.device)
        changed[..., token] = torch.where(kept, new, output[..., token])
        return changed

    return hook


def _replace_written(
    step: ForwardStep, block: Block, neuron: int, edit: Reversal, where: Tensor
) -> Callable[..., Tensor]:
    """Replace what a neuron writes: add key · (new − old) to the output of the down projection."""
    old = block.down.vectors(step.loaded.parameters)[neuron]
    delta = edit.value.to(old.device, old.dtype) - old

    def hook(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        changed = output.clone(memory_format=torch.contiguous_format)
        keys = at_positions(args[0].contiguous(), step, block)[..., neuron]
        states = at_positions(changed, step, block)
        states += torch.where(where.to(keys.device), keys, torch.zeros_like(keys))[..., None] * delta
        return changed

    return hook


def _replace_read(
    step: ForwardStep, block: Block, neuron: int, edit: Reversal, where: Tensor
) -> Callable[..., Tensor]:
    """Replace what a neuron reads: recompute its column of the projection's output."""
    site: Literal["up", "gate"] = "gate" if edit.site == "gate" else "up"
    view, columns = block.view(site), site_columns(block, site)
    bias = view.unit_biases(step.loaded.parameters)

    def hook(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        changed = output.clone(memory_format=torch.contiguous_format)
        states = at_positions(changed, step, block)[..., columns][..., neuron]
        given = at_positions(args[0].contiguous(), step, block)
        new = given @ edit.value.to(given.device, given.dtype)
        if bias is not None:
            new = new + bias[neuron]
        states.copy_(torch.where(where.to(states.device), new, states))
        return changed

    return hook


def place_of(view: WeightView, neuron: int) -> tuple[str, tuple[int | slice, ...]]:
    """A vector's parameter and index, for writing it into weights."""
    row = view.start + view.step * neuron
    inner: tuple[int | slice, ...] = (row, slice(None)) if view.neuron_axis == 0 else (slice(None), row)
    return view.parameter, inner if view.expert is None else (view.expert, *inner)
