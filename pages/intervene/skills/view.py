"""The current view: layer, one box or all together, and α; and what a guard would refuse there."""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st

from analysis.skills.metrics import wilson_interval
from analysis.unlearning.guards.key_spaces import KeySpace
from analysis.unlearning.guards.operating import ALPHAS, MOST_RETAIN, OperatingPoint, choose_point
from pages.intervene.skills.choice import FOLLOWS, forget_alpha
from pages.shared import state
from pages.shared.layout import show_caption, show_method
from pages.shared.tokens import escape_text

STEP = 0.05
_LOOKED_AT = "_boxes_looked_at"


@dataclass(frozen=True)
class View:
    """layer: whose plane is drawn. layers: those whose boxes must all contain a query. alpha: their size."""

    layer: int
    layers: tuple[int, ...]
    alpha: float
    chosen: OperatingPoint

    @property
    def boxes(self) -> str:
        """`the box of L3`, `the boxes of all 4 layers`."""
        if self.layers == (self.layer,):
            return f"the box of L{self.layer}"
        return f"the boxes of all {len(self.layers)} layers"


def choose_view(space: KeySpace, run: str) -> View:
    """Layer, together and α, each in the URL; α starts at the value chosen on validation."""
    every = tuple(space.layers)
    left, middle, right = st.columns([1, 1, 2], vertical_alignment="bottom")
    names = [f"L{layer}" for layer in every]
    name = left.selectbox(
        "Layer",
        names,
        len(names) - 1,
        key=state.LAYER,
        bind="query-params",
        on_change=forget_alpha,
        help="The paper uses the last one.",
    )
    layer = every[names.index(name)]
    together = middle.toggle(
        "All layers together",
        key=state.TOGETHER,
        bind="query-params",
        on_change=forget_alpha,
        disabled=len(every) < 2,
        help="A query is refused if the boxes of all layers contain it.",
    )
    layers = every if together else (layer,)
    chosen = choose_point(space.curve(layers))
    _follow_validation((run, layers), chosen.alpha)
    alpha = right.slider(
        "α, size of the box",
        *(ALPHAS[0], ALPHAS[-1], chosen.alpha, STEP),
        key=state.ALPHA,
        bind="query-params",
        help="1: the smallest box of its shape that contains every probe.",
    )
    return View(layer, layers, round(float(alpha), 2), chosen)


def _follow_validation(looked_at: tuple[str, tuple[int, ...]], chosen: float) -> None:
    """Reset α to the value chosen on validation when other boxes are selected, unless set by a link."""
    linked, last = st.query_params.get(state.ALPHA), st.session_state.get(_LOOKED_AT, looked_at)
    follows = st.session_state.pop(FOLLOWS, False)
    if follows or (last != looked_at and linked in (None, str(chosen))):
        st.session_state[state.ALPHA] = chosen
    st.session_state[_LOOKED_AT] = looked_at


def show_refused(space: KeySpace, view: View) -> None:
    """The shares of validation queries that a guard at α refuses, with intervals."""
    shares = space.count_refused(view.layers, view.alpha)
    told = list(zip(space.names, shares, strict=True))
    worst = max(told[1:-1], key=lambda pair: pair[1], default=None)
    with st.container(horizontal=True):
        _metric(f"{space.names[0]}, refused", shares[0])
        if worst is not None:
            _metric(f"{worst[0]}, the most refused retain skill", worst[1])
        _metric(f"{space.names[-1]}, refused", shares[-1])
    layer = space.layers[view.layer]
    left_out = [
        f"{n} of {escape_text(name)}" for name, n in zip(space.names, space.too_long, strict=False) if n
    ]
    show_caption(
        f"Share of validation queries that a guard with {view.boxes} at α = {view.alpha:g} refuses, with "
        f"95 % intervals (Wilson). Chosen on validation: α = {view.chosen.alpha:g}: "
        f"{explain_alpha(space.names[0], view)}. {layer.box.n} probes, {len(layer.box.mean):,} dimensions."
        + (f" Longer than the context and left out: {', '.join(left_out)}." if left_out else "")
    )
    show_method("How the box is fitted", _FORMULA, "Li, Hsu, Weng, NAACL 2025, arXiv 2503.21730")


def explain_alpha(skill: str, view: View) -> str:
    """How α was chosen on validation, as Markdown."""
    name = escape_text(skill)
    if view.chosen.worst_retain > MOST_RETAIN or not view.chosen.forget:
        return (
            f"none refuses any of {name} and at most {MOST_RETAIN:.0%} of every skill compared, so the one "
            "with the largest difference"
        )
    return (
        f"of those that refuse at most {MOST_RETAIN:.0%} of every skill compared, the one that refuses most "
        f"of {name}"
    )


def _metric(label: str, share: tuple[float, int]) -> None:
    value, count = share
    if not count:
        st.metric(escape_text(label), "–", "no query", border=True, delta_color="off", delta_arrow="off")
        return
    low, high = wilson_interval(value, count)
    st.metric(
        escape_text(label),
        f"{value:.0%}",
        f"{low:.0%} to {high:.0%} of {count}",
        border=True,
        delta_color="off",
        delta_arrow="off",
    )


_FORMULA = r"""
The **key** of a query is the down projection's input at its last token, $x \in \mathbb{R}^m$,
in float32. Over the probes of the skill, with $\mu_j$ and $\sigma_j$ of each neuron
($\sigma_j \ge 10^{-4} \cdot$ median),

$$k = \max_{\text{probes},\,j} \frac{|x_j - \mu_j|}{\sigma_j}, \qquad
\text{box}(\alpha):\; |x_j - \mu_j| \le \alpha\, k\, \sigma_j \;\text{for every } j.$$

The **depth** of a query is the smallest $\alpha$ whose box holds it, so α changes without running the model.
With all layers together it is the largest of theirs. Probes and validation share no fact; validation holds
wordings that no probe has. The test part is not used here.
"""
