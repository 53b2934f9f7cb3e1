"""FFN blocks made of separate projection modules: one down, one up, perhaps a gate (METHODS §0).

Found from what the probe run computed, not from names: a projection is a down projection if what it read is
an activation of an earlier projection of the same layer, or that times a second one. Up and gate may be two
modules or the halves of one, one after the other or interleaved.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import permutations
from typing import Literal

from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from analysis.anatomy.addresses import BlockAddress
from analysis.anatomy.anatomy import Block, WeightView
from analysis.anatomy.contract import TOLERANCE, nearest_activation
from analysis.anatomy.norms import as_norm, input_norm, post_norm
from analysis.anatomy.replay import is_gating, replay_keys
from analysis.anatomy.tracing import PROBE_TOKENS, Call, Trace, same

NOT_AN_FFN = re.compile(r"attn|attention|router|mamba|mixer", re.IGNORECASE)
_AN_FFN = re.compile(r"mlp|ffn|feed_?forward|expert|fc[12]", re.IGNORECASE)


@dataclass(frozen=True)
class Site:
    """m outputs of a projection that may be a gate or up site: (rows, m) values and their location."""

    call: Call
    values: Tensor
    start: int
    step: int


def dense_blocks(
    trace: Trace, layer: str, width: int, number: int, parameters: Mapping[str, Tensor]
) -> Iterator[tuple[Block, Call, Call]]:
    """Every block of a layer that maps width to m and back, with its first and its down call."""
    calls = trace.in_layer(layer)
    projections = [call for call in calls if is_projection(call.module)]
    for index, down in enumerate(projections):
        m, outputs = shape(down.module)
        if outputs != width:
            continue
        key = _before_norm(calls, down.inputs[0]).reshape(-1, m)
        rows = [c for c in projections[:index] if shape(c.module)[0] == width and _rows(c) == len(key)]
        sites = _by_activation(key, rows, calls) or _by_replay(trace, down, rows, parameters)
        if sites and not _is_adapter(sites, down, width):
            yield _block(trace, down, sites, number), sites[0].call, down


def _is_adapter(sites: tuple[Site, ...], down: Call, width: int) -> bool:
    """A plain bottleneck narrower than the stream: part of a gate, norm or adapter, not an FFN."""
    return len(sites) == 1 and shape(down.module)[0] < width and not _called_an_ffn(down.name)


def _called_an_ffn(name: str) -> bool:
    return _AN_FFN.search(name) is not None and "norm" not in name


def _rows(call: Call) -> int:
    return call.output.shape[:-1].numel()


def unproven(trace: Trace, layer: str, width: int, proven: set[str]) -> str | None:
    """A module of a layer with an FFN's shapes of which no projection was proven."""
    for call in trace.in_layer(layer):
        if NOT_AN_FFN.search(call.name.removeprefix(layer)):
            continue
        inner = [
            (child, shape(m))
            for child, m in call.module.named_children()
            if is_projection(m) and trace.of(f"{call.name}.{child}") is not None
        ]
        names = {f"{call.name}.{child}" for child, _ in inner}
        least = 1 if _called_an_ffn(call.name.removeprefix(layer)) else width + 1
        if _like_an_ffn([size for _, size in inner], width, least) and not names & proven:
            return call.name
    return None


def _like_an_ffn(sizes: list[tuple[int, int]], width: int, least: int) -> bool:
    """Two or three projections: width → m (or 2m) once or twice, m → width once, m no less than `least`."""
    down = [m for m, outputs in sizes if outputs == width and m >= least]
    up = [m for inputs, m in sizes if inputs == width]
    if len(sizes) == 2:
        return any(m in up or 2 * m in up for m in down)
    return len(sizes) == 3 and any(up.count(m) == 2 for m in down)


def _by_activation(key: Tensor, rows: list[Call], calls: list[Call]) -> tuple[Site, ...]:
    """(up,) or (gate, up) whose activation is the key (n, m); empty if there are none."""
    wrong: float = 1.0
    sites: tuple[Site, ...] = ()
    for found in _readings(rows, key.shape[-1]):
        gate = found[0].values if len(found) == 2 else None
        error = nearest_activation(key, gate, found[-1].values, calls)
        if error < wrong:
            wrong, sites = error, found
    return sites if wrong <= TOLERANCE[key.dtype] else ()


def _by_replay(
    trace: Trace, down: Call, rows: list[Call], parameters: Mapping[str, Tensor]
) -> tuple[Site, ...]:
    """(gate, up) from which their parent module computes the key in its own way; empty if there are none."""
    for gate, up in (found for found in _readings(rows, shape(down.module)[0]) if len(found) == 2):
        around = trace.of(_around(gate.call.name, down.name))
        if around is None or len(around.inputs) > 1 or NOT_AN_FFN.search(around.name):
            continue
        if not same(around.inputs[0], gate.call.inputs[0]):
            continue
        inside = len(around.name) + 1
        views = [_view(site, up.values.shape[-1]) for site in (gate, up)]
        for view in views:
            parameters[view.parameter]
        local = [replace(view, parameter=view.parameter[inside:]) for view in views]
        key_of = replay_keys(around.module, around.inputs[0], local, down.name[inside:])
        if is_gating(key_of, gate.values, up.values):
            return gate, up
    return ()


def _readings(rows: list[Call], m: int) -> Iterator[tuple[Site, ...]]:
    whole = [Site(c, c.output.reshape(-1, m), 0, 1) for c in rows if shape(c.module)[1] == m]
    yield from ((up,) for up in whole)
    for gate, up in permutations(whole, 2):
        if same(gate.call.inputs[0], up.call.inputs[0]):
            yield gate, up
    for call in rows:
        if shape(call.module)[1] == 2 * m:
            both = call.output.reshape(-1, 2 * m)
            for starts, step in (((0, m), 1), ((0, 1), 2)):
                halves = [Site(call, both[:, s : s + step * (m - 1) + 1 : step], s, step) for s in starts]
                yield from permutations(halves, 2)


def _before_norm(calls: list[Call], key: Tensor) -> Tensor:
    """The input of a norm between activation and down projection, if there is one; else the key."""
    return next((c.inputs[0] for c in calls if same(c.output, key) and as_norm(c) is not None), key)


def _block(trace: Trace, down: Call, sites: tuple[Site, ...], number: int) -> Block:
    m = shape(down.module)[0]
    up, first = sites[-1], sites[0].call
    return Block(
        address=BlockAddress(number),
        d_ff=m,
        module=_around(first.name, down.name),
        up=_view(up, m),
        gate=_view(sites[0], m) if len(sites) == 2 else None,
        down=_view(Site(down, down.inputs[0], 0, 1), m, neurons_are_outputs=False),
        input_norm=input_norm(trace, first.inputs[0]),
        post_norm=post_norm(trace, down.name),
        time_first=down.inputs[0].shape[:-1] == (PROBE_TOKENS, 1),
    )


def _around(one: str, other: str) -> str:
    """The innermost module that contains both."""
    shared = []
    for a, b in zip(one.split("."), other.split("."), strict=False):
        if a != b:
            break
        shared.append(a)
    return ".".join(shared)


def is_projection(module: nn.Module) -> bool:
    """Whether a module multiplies by a weight of its own."""
    return isinstance(module, nn.Linear | Conv1D)


def shape(projection: nn.Module) -> tuple[int, int]:
    """(inputs, outputs) of a projection; GPT-2's Conv1D stores them transposed."""
    rows, columns = projection.weight.shape  # type: ignore[misc]
    return (rows, columns) if isinstance(projection, Conv1D) else (columns, rows)


def _view(site: Site, m: int, *, neurons_are_outputs: bool = True) -> WeightView:
    name, module = site.call.name, site.call.module
    rows_are_outputs = not isinstance(module, Conv1D)
    bias = f"{name}.bias" if getattr(module, "bias", None) is not None else None
    axis: Literal[0, 1] = 0 if neurons_are_outputs == rows_are_outputs else 1
    return WeightView(f"{name}.weight", axis, m, site.start, site.step, bias=bias)
