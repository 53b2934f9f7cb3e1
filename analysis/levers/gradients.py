"""Which neurons would change a word most if held, to first order: attribution patching (METHODS §2).

    score = Σ_t g_t · (v_t − a_t)      g_t = ∂ log-odds(word) / ∂ key at position t

One backward pass per prompt gives G, the gradient at every block's output; g of a neuron is its routing
weight times G · w_down. v_t is what a clamp in × residual puts in, so w_down · v_t has the size of c times
the residual.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from analysis.anatomy.anatomy import Block
from analysis.anatomy.contract import activate, gate_and_up
from analysis.anatomy.residuals import writer_of
from analysis.intervening.clamps import Scope
from analysis.intervening.expert_hooks import find_sharing
from analysis.intervening.hooks import site_columns, site_module
from analysis.intervening.interventions import intervene
from analysis.intervening.residual_units import find_residual_place, replace_first
from analysis.intervening.steps import ForwardStep
from analysis.levers.readings import to_log_odds
from analysis.opening.models import LoadedModel

TIMES = 1.0
"""The value, in × residual, at which neurons are compared."""


@dataclass
class _Noted:
    """What one pass showed of one module that writes to the residual stream, by fed position.

    delta (T, d): zeros added to what it wrote. sizes (T,): of the residual. keys: of each of its blocks, the
    positions (n,) it saw, its key values (n, m) and their factors (n, 1).
    """

    delta: Tensor | None = None
    sizes: Tensor | None = None
    keys: dict[int, tuple[Tensor, Tensor, Tensor]] = field(default_factory=dict)


class _Notes:
    """A watch of every block: what it reads, writes, and what its output is added to."""

    def __init__(self, loaded: LoadedModel) -> None:
        self.loaded = loaded
        self.of: dict[str, _Noted] = {}

    def attach(self, step: ForwardStep) -> Iterator[Any]:
        """Attach all hooks; yields handles, each to be removed."""
        modules: dict[str, list[tuple[int, Block]]] = {}
        for index, block in enumerate(self.loaded.anatomy.blocks):
            modules.setdefault(writer_of(block), []).append((index, block))
        model = self.loaded.model
        for name, blocks in modules.items():
            place = find_residual_place(self.loaded, blocks[0][1])
            if place is None:
                continue
            noted = self.of[name] = _Noted()
            if not place.own_output:
                reader = model.get_submodule(place.module)
                yield reader.register_forward_pre_hook(_note_sizes(noted, step), with_kwargs=True)
            if blocks[0][1].fused:
                hook = _note_experts(noted, step, blocks, place.own_output)
                yield model.get_submodule(name).register_forward_hook(hook, with_kwargs=True)
            else:
                (index, block) = blocks[0]
                module = model.get_submodule(site_module(block, "key"))
                yield module.register_forward_hook(_note_dense(noted, step, index, block, place.own_output))


def _note_sizes(noted: _Noted, step: ForwardStep) -> Callable[..., None]:
    def hook(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        states = next(value for value in (*args, *kwargs.values()) if isinstance(value, Tensor))
        noted.sizes = _measure(states, step)

    return hook


def _measure(states: Tensor, step: ForwardStep) -> Tensor:
    """(T,) the size of states of one row, whatever axis is time."""
    sizes = states.detach().float().norm(dim=-1).reshape(1, -1)
    return replace_first(sizes, step.positions.to(sizes.device), step.lengths)[0]


def _add_zeros(noted: _Noted, output: Tensor) -> Tensor:
    noted.delta = torch.zeros_like(output, requires_grad=True)
    return output + noted.delta


def _note_dense(
    noted: _Noted, step: ForwardStep, index: int, block: Block, own_output: bool
) -> Callable[..., Tensor]:
    def hook(module: nn.Module, args: Any, output: Tensor) -> Tensor:
        keys = args[0].detach()[..., site_columns(block, "key")].reshape(-1, block.d_ff)
        every = torch.arange(len(keys), device=keys.device)
        noted.keys[index] = every, keys, torch.ones_like(keys[:, :1])
        if own_output:
            noted.sizes = _measure(output, step)
        return _add_zeros(noted, output)

    return hook


def _note_experts(
    noted: _Noted, step: ForwardStep, blocks: Sequence[tuple[int, Block]], own_output: bool
) -> Callable[..., Tensor]:
    share_of_block = find_sharing(step, blocks[0][1].module)

    def hook(module: nn.Module, args: Any, kwargs: dict[str, Any], output: Tensor) -> Tensor:
        with torch.no_grad():
            for index, block in blocks:
                share = share_of_block(block, args, kwargs)
                gate, up = gate_and_up(block, step.loaded.parameters, share.x)
                noted.keys[index] = share.token, activate(module, gate, up), share.weight
        if own_output:
            noted.sizes = _measure(output, step)
        return _add_zeros(noted, output)

    return hook


def score_gradients(
    loaded: LoadedModel, ids: Sequence[int], spellings: Sequence[Sequence[int]], scope: Scope
) -> Tensor:
    """(neurons, 2) float64: of every neuron, in the anatomy's order, the change of a word's log-odds to first
    order, held at + and at − TIMES × residual over the scope.

    ids: up to the answer position. −∞ for an expert that no position of the scope is routed to, and for
    blocks whose residual cannot be told.
    """
    several = [pieces[:-1] for pieces in spellings if len(pieces) > 1]
    passes: dict[tuple[int, ...], tuple[_Notes, Tensor]] = {}
    for tail in dict.fromkeys(tuple(pieces) for pieces in several or [()]):
        passes[tail] = _run(loaded, [*ids, *tail], len(ids), len(tail) + 1)
    first = next(iter(passes.values()))[1]
    logs = []
    for pieces in spellings:
        logits = passes[tuple(pieces[:-1])][1] if len(pieces) > 1 else first
        log_p = logits.log_softmax(-1)
        logs.append(torch.stack([log_p[at, piece] for at, piece in enumerate(pieces)]).sum())
    log_odds = to_log_odds(torch.stack(logs).double().logsumexp(0))
    deltas = [noted.delta for notes, _ in passes.values() for noted in notes.of.values()]
    used = [delta for delta in deltas if delta is not None]
    grads = torch.autograd.grad(log_odds, used, allow_unused=True) if used else ()
    found = dict(zip(map(id, used), grads, strict=True))
    low, high = scope.interval(len(ids))
    scores = torch.stack([_score(loaded, notes, found, low, high) for notes, _ in passes.values()])
    unused = torch.isneginf(scores)
    return scores.masked_fill(unused, 0.0).sum(0).masked_fill(unused.all(0), -torch.inf)


def _run(loaded: LoadedModel, ids: Sequence[int], prompt_length: int, keep: int) -> tuple[_Notes, Tensor]:
    """One pass with gradients: its notes, and the logits (keep, V) of the last positions."""
    notes = _Notes(loaded)
    fed = torch.tensor([list(ids)], device=loaded.device)
    positions = torch.arange(len(ids), device=loaded.device)[None]
    held = intervene(loaded, [notes], positions=positions, prompt_length=prompt_length)
    with held, torch.enable_grad():
        logits = loaded.model(
            input_ids=fed, position_ids=positions, use_cache=False, logits_to_keep=keep
        ).logits
    return notes, loaded.vocabulary.restrict(logits[0, -keep:].float())


def _score(
    loaded: LoadedModel, notes: _Notes, grads: Mapping[int, Tensor | None], low: float, high: float
) -> Tensor:
    """(neurons, 2) the scores from one pass's notes, over positions low to high."""
    parts = []
    for index, block in enumerate(loaded.anatomy.blocks):
        noted = notes.of.get(writer_of(block))
        scores = torch.full((block.d_ff, 2), -torch.inf, dtype=torch.float64)
        if noted is not None and noted.delta is not None and index in noted.keys:
            gradient = grads[id(noted.delta)]
            positions, keys, factors = noted.keys[index]
            here = (positions >= low) & (positions <= high)
            if gradient is not None and noted.sizes is not None and bool(here.any()):
                at = positions[here]
                down = block.down.vectors(loaded.parameters).float()
                along = gradient.reshape(-1, gradient.shape[-1])[at].float() @ down.T
                unit = along / down.norm(dim=-1).clamp(min=1e-12)
                written = TIMES * (noted.sizes[at, None] * unit).sum(0)
                now = (along * keys[here].float() * factors[here].float()).sum(0)
                scores = torch.stack([written - now, -written - now], -1).double().cpu()
        parts.append(scores)
    return torch.cat(parts)
