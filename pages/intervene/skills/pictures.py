"""Charts of the Skills page: keys in a plane, abstention over α, abstention by layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import streamlit as st

from analysis.figures.skills import SetPoints, abstention_figure, abstention_map, keys_figure
from analysis.unlearning.guards.key_spaces import KeySpace, TriedQuery
from analysis.unlearning.guards.operating import ALPHAS, MOST_RETAIN, measure_abstention
from pages.intervene.skills.view import View
from pages.shared.layout import CHART, show_caption, show_download
from workbench.files import table_csv


def place_keys_picture(space: KeySpace, view: View) -> Callable[[TriedQuery | None], None]:
    """Reserve the place of the key chart, to be filled once the tried query is known."""
    place = st.container()

    def fill(tried: TriedQuery | None) -> None:
        with place:
            _keys(space, view, tried)

    return fill


def _keys(space: KeySpace, view: View, tried: TriedQuery | None) -> None:
    layer = space.layers[view.layer]
    shares = layer.plane.shares.tolist()
    figure = keys_figure(
        list(_sets(space, view)),
        view.alpha * layer.corners.numpy(),
        (shares[0], shares[1]),
        None if tried is None else tried.point[view.layer],
    )
    st.subheader(f"Keys of L{view.layer}", anchor=False)
    st.plotly_chart(figure, key="skill_keys", alt="Keys in two principal components", config=CHART)
    show_caption(
        f"Each mark is a query's key in the plane of the first two principal components; filled where "
        f"{view.boxes} at α hold{'s' if len(view.layers) == 1 else ''} it. Shaded: the "
        "slice of the box through its centre. The other dimensions are not shown: a mark inside the "
        "slice may lie outside the box in one of them, and a mark outside the slice may be inside the box."
    )
    with st.container(horizontal=True):
        show_download("Keys as CSV", lambda: _keys_csv(space, view), "skill-keys.csv", key="keys_csv")
        show_download("Slice as CSV", lambda: _slice_csv(space, view), "skill-slice.csv", key="slice_csv")


def _sets(space: KeySpace, view: View) -> Iterator[SetPoints]:
    drawn = space.drawn
    inside, which, probe = (
        space.inside(view.layers, view.alpha)[drawn],
        space.which[drawn],
        space.probe[drawn],
    )
    points = space.layers[view.layer].points
    for index, name in enumerate(space.names):
        mine = which == index
        texts = [space.texts[i] for i in mine.nonzero()[:, 0].tolist()]
        yield SetPoints(name, points[mine].numpy(), inside[mine].numpy(), probe[mine].numpy(), texts)


def _keys_csv(space: KeySpace, view: View) -> bytes:
    depths = space.depths(view.layers)
    inside = space.inside(view.layers, view.alpha)
    points = space.layers[view.layer].points.tolist()
    rows = (
        [
            space.names[int(space.which[query])],
            "probe" if space.probe[query] else "validation",
            *points[i],
            float(depths[query]),
            bool(inside[query]),
            space.texts[i],
        ]
        for i, query in enumerate(space.drawn.tolist())
    )
    return table_csv(["set", "part", "component_1", "component_2", "depth", "inside", "query_ends"], rows)


def _slice_csv(space: KeySpace, view: View) -> bytes:
    corners = view.alpha * space.layers[view.layer].corners
    return table_csv(["component_1", "component_2"], corners.tolist())


def show_abstention_curve(space: KeySpace, view: View) -> None:
    """What a guard refuses of each set, over α."""
    curves = [
        (name, measure_abstention(depths))
        for name, depths in zip(space.names, space.select_held_out(view.layers), strict=True)
        if len(depths)
    ]
    st.subheader("Refused, over α", anchor=False)
    figure = abstention_figure(ALPHAS, curves, alpha=view.alpha, bound=MOST_RETAIN)
    st.plotly_chart(figure, key="skill_curve", alt="Abstention over α", config=CHART)
    show_caption(
        f"Share of each set's validation queries inside {view.boxes}. A good guard has a high thick "
        f"line and all others below the dotted {MOST_RETAIN:.0%}. Grey line: the current α."
    )
    header = ["alpha", *(name for name, _ in curves)]
    rows = [list(row) for row in zip(ALPHAS, *(shares for _, shares in curves), strict=True)]
    show_download("Curve as CSV", lambda: table_csv(header, rows), "skill-curve.csv", key="curve_csv")


def show_layer_map(space: KeySpace, view: View) -> None:
    """What each layer's box alone, and all together, refuse of each set at α."""
    every = tuple(space.layers)
    rows = {f"L{layer}": (layer,) for layer in every} | ({"all": every} if len(every) > 1 else {})
    told = [space.count_refused(own, view.alpha) for own in rows.values()]
    counts = [n for _, n in told[0]]
    shares = np.array([[value if n else np.nan for value, n in row] for row in told])
    st.subheader("Refused, by layer", anchor=False)
    figure = abstention_map(list(rows), list(space.names), shares, counts)
    st.plotly_chart(figure, key="skill_layers", alt="Abstention by layer and set", config=CHART)
    show_caption(
        f"Row: the box of one layer alone at α = {view.alpha:g}; all: where every layer's box holds the "
        "query. The first column should be near 1, the others near 0."
    )
    header = ["boxes", "set", "queries", "refused"]
    cells = [
        [row, name, count, value]
        for row, values in zip(rows, told, strict=True)
        for name, (value, count) in zip(space.names, values, strict=True)
    ]
    show_download("Layers as CSV", lambda: table_csv(header, cells), "skill-layers.csv", key="layers_csv")
