"""Where to read a model's residual stream: after each layer, and where the layer's FFN adds to it.

Found by ablation: with all FFN blocks of a layer writing 0, the residual after the layer loses exactly what
they added, and the module whose output equals that, up to a constant factor, is where it is read.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from analysis.anatomy.contract import TOLERANCE
from analysis.anatomy.tracing import PROBE_TOKENS, layer_of
from analysis.intervening.interventions import intervene
from analysis.intervening.pruning import PrunePlan, attach_pruning
from analysis.intervening.steps import ForwardStep, Handle, Reach
from analysis.opening.models import LoadedModel


@dataclass(frozen=True)
class FfnWriter:
    """Modules whose summed outputs, times `factor`, are what a layer's FFN adds to the residual."""

    modules: tuple[str, ...]
    factor: float


@dataclass(frozen=True)
class ResidualLayer:
    """A layer with FFN blocks: its number, its module, and where its FFN's output is read (if found)."""

    number: int
    module: str
    writer: FfnWriter | None


ALIKE = 1e-3
"""How much more of the loss another module must explain to be preferred to an outer one."""

_known: WeakKeyDictionary[LoadedModel, tuple[ResidualLayer, ...]] = WeakKeyDictionary()
_table = threading.Lock()


def residual_layers(loaded: LoadedModel) -> tuple[ResidualLayer, ...]:
    """The layers whose output is the residual stream, in order; found by two short passes, once per model.

    Layers whose output is not a (batch, tokens, d) stream of the model's width are left out.
    """
    with _table:
        known = _known.get(loaded)
    if known is None:
        known = _find_layers(loaded)
        with _table:
            _known[loaded] = known
    return known


def _find_layers(loaded: LoadedModel) -> tuple[ResidualLayer, ...]:
    names = {layer_of(b.module): b.address.layer for b in loaded.anatomy.blocks if layer_of(b.module)}
    inside = {n: m for n, m in loaded.model.named_modules() if layer_of(n) in names}
    plain: dict[str, Tensor] = {}
    ablated: dict[str, Tensor] = {}

    def note(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            given = first_output(output)
            if isinstance(given, Tensor) and given.numel() == PROBE_TOKENS * loaded.anatomy.d_model:
                plain.setdefault(name, given.detach().clone())

        return hook

    def put_back(name: str) -> Callable[..., Any]:
        """Record the state without the FFN, and continue with the original one."""

        def hook(module: nn.Module, args: Any, output: Any) -> Any:
            ablated.setdefault(name, first_output(output).detach().clone())
            return (plain[name], *output[1:]) if isinstance(output, tuple) else plain[name]

        return hook

    _probe(loaded, {inside[n]: note(n) for n in inside})
    whole = (1, PROBE_TOKENS, loaded.anatomy.d_model)
    read = [n for n in names if n in plain and tuple(plain[n].shape) == whole]
    _probe(loaded, {inside[n]: put_back(n) for n in read}, without_ffn=True)
    found = [ResidualLayer(names[n], n, _writer(n, plain, plain[n], ablated[n])) for n in read]
    return tuple(sorted(found, key=lambda layer: layer.number))


def _probe(
    loaded: LoadedModel, hooks: dict[nn.Module, Callable[..., Any]], *, without_ffn: bool = False
) -> None:
    """One short pass with hooks on modules, with every FFN block writing 0 if requested."""
    device = loaded.device
    tokens = (torch.arange(PROBE_TOKENS, device=device) * 7 + 3)[None] % loaded.anatomy.head.vocab
    positions = torch.arange(PROBE_TOKENS, device=device)[None]
    with intervene(loaded, [_Hooks(hooks, without_ffn)], positions=positions), torch.inference_mode():
        loaded.model(input_ids=tokens, position_ids=positions, use_cache=False)


@dataclass(frozen=True)
class _Hooks:
    """Hooks of the probe; FFN blocks are silenced first, so that later hooks see the remainder."""

    hooks: dict[nn.Module, Callable[..., Any]]
    without_ffn: bool

    def attach(self, step: ForwardStep) -> Iterator[Handle]:
        if self.without_ffn:
            blocks = step.loaded.anatomy.blocks
            silent = ForwardStep(step.loaded, step.positions, 0, Reach([0] * len(blocks), [0] * len(blocks)))
            yield from attach_pruning(silent, [PrunePlan(b, i, None) for i, b in enumerate(blocks)])
        for module, hook in self.hooks.items():
            yield module.register_forward_hook(hook)


def _writer(layer: str, outputs: dict[str, Tensor], plain: Tensor, ablated: Tensor) -> FfnWriter | None:
    """The module in a layer whose output equals the residual's loss, the outermost of several; else the sum
    of two of the layer's submodules, such as routed and shared experts.

    plain, ablated (1, T, d): the residual with and without the FFN. Where it is massive, rounding
    hides the loss, so the tolerance is larger there.
    """
    lost = (plain - ablated).double()
    rounding = 2 * torch.finfo(plain.dtype).eps * (plain.abs() + ablated.abs()).double()
    allowed = TOLERANCE[plain.dtype] * lost.abs().amax(-1, keepdim=True) + rounding
    if not lost.abs().max() > 0 or not (allowed > 0).all():
        return None
    within = sorted((n for n in outputs if n.startswith(f"{layer}.")), key=lambda n: n.count("."))
    parts = [n for n in within if n.count(".") == layer.count(".") + 1]
    pairs = [(a, b) for i, a in enumerate(parts) for b in parts[i + 1 :]]
    fits: list[tuple[float, FfnWriter]] = []
    wanted = lost / allowed
    for names in [*((n,) for n in within), *pairs]:
        sized = torch.stack([outputs[n].reshape(lost.shape).double() for n in names]).sum(0) / allowed
        factor = float((sized * wanted).sum() / sized.pow(2).sum().clamp(min=1e-30))
        left = wanted - factor * sized
        explained = 1 - float(left.pow(2).sum() / wanted.pow(2).sum())
        if (left.abs() <= 1).all():
            fits.append((explained, FfnWriter(names, factor)))
    best = max((explained for explained, _ in fits), default=0.0)
    return next((writer for explained, writer in fits if explained >= best - ALIKE), None)


def first_output(output: Any) -> Any:
    """A layer's hidden states: its output, or the first of several outputs."""
    return output[0] if isinstance(output, tuple) else output
