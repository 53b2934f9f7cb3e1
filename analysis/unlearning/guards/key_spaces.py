"""A skill's boxes in every dense layer, with the queries of this and other skills.

Boxes are fitted on the skill's probes; abstention and α use only the validation
parts, never the test parts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from analysis.anatomy.addresses import BlockAddress
from analysis.anatomy.anatomy import Block
from analysis.errors import SkillError
from analysis.opening.models import LoadedModel
from analysis.pulse import Pulse
from analysis.running.probing import last_keys, probe
from analysis.running.prompts import encode_prompt
from analysis.skills.forms import select_fitting
from analysis.skills.items import SkillItem
from analysis.skills.unrelated import NAME as UNRELATED
from analysis.skills.unrelated import read_unrelated_queries
from analysis.unlearning.guards.key_boxes import SLACK, KeyBox, dense_block, dense_layers, fit_boxes
from analysis.unlearning.guards.key_planes import Plane, fit_plane, slice_box
from analysis.unlearning.guards.operating import (
    OperatingPoint,
    make_single_checks,
    measure_abstention,
    trace_operating_curve,
)
from analysis.unlearning.scenes import Scene

METHOD_VERSION = "1"
MOST_DRAWN = 1500
"""Queries plotted in the plane, evenly spaced over all; the plane is fitted on their keys."""

TEXT_SHOWN = 160
"""Characters kept of a query's end."""

KEY_BYTES = 1_000_000_000
"""Memory for keys: if all layers need more, the model runs once per group of layers."""


@dataclass(frozen=True, eq=False)
class LayerKeys:
    """One layer: the skill's box, the depth in it (q,) of every query, the plane, the coordinates in it (d,
    2) of the plotted ones, and the corners (v, 2) of the slice of box(1).
    """

    box: KeyBox
    depths: Tensor
    plane: Plane
    points: Tensor
    corners: Tensor


@dataclass(frozen=True, eq=False)
class KeySpace:
    """Sets of queries relative to the boxes fitted on the first set's probes.

    names (s,): the skill, then those it is compared with, then unrelated text. which (q,): the set of each
    query; probe (q,): whether the boxes were fitted on it. drawn (d,): the queries that are plotted, with
    the ends of their texts (d,). too_long (s,): examples left out.
    """

    names: tuple[str, ...]
    which: Tensor
    probe: Tensor
    drawn: Tensor
    texts: tuple[str, ...]
    too_long: tuple[int, ...]
    layers: Mapping[int, LayerKeys]

    def depths(self, layers: Sequence[int]) -> Tensor:
        """(q,) the smallest α at which the boxes of all these layers hold each query."""
        return torch.stack([self.layers[layer].depths for layer in layers]).amax(0)

    def select_held_out(self, layers: Sequence[int]) -> list[Tensor]:
        """For each set the depths (n,) of the queries that were not used for fitting."""
        depths = self.depths(layers)
        return [depths[(self.which == i) & ~self.probe] for i in range(len(self.names))]

    def inside(self, layers: Sequence[int], alpha: float) -> Tensor:
        """(q,) whether the boxes of all these layers hold each query at α."""
        return self.depths(layers) <= alpha * SLACK

    def count_refused(self, layers: Sequence[int], alpha: float) -> list[tuple[float, int]]:
        """For each set (share in [0, 1] inside at α, number of held-out queries); (0, 0) if none."""
        found = [
            measure_abstention(depths, [alpha])[0] if len(depths) else 0.0
            for depths in self.select_held_out(layers)
        ]
        return [
            (share, len(depths)) for share, depths in zip(found, self.select_held_out(layers), strict=True)
        ]

    def curve(self, layers: Sequence[int]) -> list[OperatingPoint]:
        """Abstention on the skill and the largest on a compared skill, over ALPHAS."""
        forget, *others = (make_single_checks(depths) for depths in self.select_held_out(layers))
        return trace_operating_curve(forget, {str(i): checks for i, checks in enumerate(others[:-1])})


@dataclass(frozen=True, eq=False)
class TriedQuery:
    """One query. depth, point (2,) and the deciding neurons, with |x − μ|/(k·σ), by layer."""

    depth: Mapping[int, float]
    point: Mapping[int, tuple[float, float]]
    deciding: Mapping[int, tuple[tuple[int, float], ...]]


@dataclass(frozen=True)
class _Query:
    which: int
    probe: bool
    text: str
    ids: tuple[int, ...]


def check_boxes(loaded: LoadedModel) -> tuple[int, ...]:
    """The layers in which boxes can be fitted. Raises SkillError for a model without a dense layer."""
    layers = dense_layers(loaded)
    if not layers:
        dense_block(loaded, 0)
    return layers


def fit_key_space(
    loaded: LoadedModel, scene: Scene, unrelated: int, pulse: Pulse = lambda done, total: None
) -> KeySpace:
    """Fit the boxes of the scene's first skill and locate its probes, and every set's validation queries, in
    them.

    unrelated: passages of the bundled texts. Raises TooFewExamples under 30 probes, SkillError.
    """
    blocks = [dense_block(loaded, layer) for layer in check_boxes(loaded)]
    queries, too_long = _queries(loaded, scene, unrelated)
    drawn = _spread(len(queries))
    groups = list(_groups(blocks, len(queries)))
    probes = [query.ids for query in queries if query.probe]
    steps = len(groups) * (len(probes) + len(queries))
    done, layers = 0, dict[int, LayerKeys]()

    def onward(some: int, total: int) -> None:
        pulse(done + some, steps)

    for group in groups:
        boxes = fit_boxes(
            probe(loaded, probes, {"key": group}, pulse=onward), [block.address.layer for block in group]
        )
        done += len(probes)
        keys = last_keys(loaded, [query.ids for query in queries], group, pulse=onward)
        done += len(queries)
        for box in boxes:
            layers[box.layer] = _layer(box, keys.pop(BlockAddress(box.layer)), drawn)
    return KeySpace(
        (*(split.skill for split in scene.splits), UNRELATED),
        torch.tensor([query.which for query in queries]),
        torch.tensor([query.probe for query in queries]),
        drawn,
        tuple(queries[i].text[-TEXT_SHOWN:] for i in drawn.tolist()),
        too_long,
        layers,
    )


def count_key_tokens(loaded: LoadedModel, scene: Scene, unrelated: int) -> int:
    """Tokens that `fit_key_space` reads: every query once for the boxes' depths, and every probe for the
    boxes, for each group of layers.
    """
    blocks = [dense_block(loaded, layer) for layer in check_boxes(loaded)]
    queries, _ = _queries(loaded, scene, unrelated)
    groups = sum(1 for _ in _groups(blocks, len(queries)))
    return groups * sum((1 + query.probe) * len(query.ids) for query in queries)


def try_query(loaded: LoadedModel, space: KeySpace, text: str) -> TriedQuery:
    """Locate a query in each layer. Raises EmptyPrompt, PromptTooLong."""
    blocks = [dense_block(loaded, layer) for layer in space.layers]
    keys = last_keys(loaded, [encode_prompt(loaded, text)], blocks)
    own = {layer: (found, keys[BlockAddress(layer)]) for layer, found in space.layers.items()}
    points = {layer: found.plane.points(key)[0].tolist() for layer, (found, key) in own.items()}
    return TriedQuery(
        {layer: float(found.box.depths(key)) for layer, (found, key) in own.items()},
        {layer: (float(x), float(y)) for layer, (x, y) in points.items()},
        {layer: tuple(found.box.deciding(key[0])) for layer, (found, key) in own.items()},
    )


def _queries(loaded: LoadedModel, scene: Scene, unrelated: int) -> tuple[list[_Query], tuple[int, ...]]:
    parts: list[tuple[int, bool, Sequence[SkillItem]]] = [(0, True, scene.forget.probe)]
    parts += [(which, False, split.validation) for which, split in enumerate(scene.splits)]
    found, too_long = list[_Query](), [0] * (len(scene.splits) + 1)
    for which, is_probe, items in parts:
        try:
            kept, ids, left_out = select_fitting(loaded, items)
        except SkillError as error:
            raise type(error)(f"{scene.splits[which].skill}: {error}") from error
        too_long[which] += left_out
        found += [
            _Query(which, is_probe, item.prompt, tuple(own)) for item, own in zip(kept, ids, strict=True)
        ]
    pieces = read_unrelated_queries(loaded, unrelated)
    found += [_Query(len(scene.splits), False, text, tuple(ids)) for text, ids in pieces]
    return found, tuple(too_long)


def _spread(count: int) -> Tensor:
    """At most MOST_DRAWN of `count` indices, evenly spaced."""
    step = max(1.0, count / MOST_DRAWN)
    return torch.tensor([int(i * step) for i in range(min(count, MOST_DRAWN))])


def _groups(blocks: Sequence[Block], queries: int) -> Iterator[list[Block]]:
    """The blocks in order, grouped so that their keys fit into KEY_BYTES."""
    group, used = list[Block](), 0
    for block in blocks:
        needed = 4 * queries * block.d_ff
        if group and used + needed > KEY_BYTES:
            yield group
            group, used = [], 0
        group.append(block)
        used += needed
    yield group


def _layer(box: KeyBox, keys: Tensor, drawn: Tensor) -> LayerKeys:
    shown = keys[drawn]
    plane = fit_plane(shown, box.mean)
    return LayerKeys(box, box.depths(keys), plane, plane.points(shown), slice_box(box, plane))
