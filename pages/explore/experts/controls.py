"""What is asked of the Experts page: the text, the rules, and what is pruned; each in the URL."""

from __future__ import annotations

import streamlit as st

from analysis.opening.models import LoadedModel
from analysis.super_experts.controls import Part, parse_parts, super_parts
from analysis.super_experts.criterion import LAYERS, PERCENTILE, RATIO, RULES, Criterion
from analysis.super_experts.verdict import Verdict
from pages.shared import state
from pages.shared.layout import method
from workbench.experts.profiles import Texts, keep_texts

_PASTED = "_calibration_text"


def chosen_texts(loaded: LoadedModel) -> Texts:
    """The text the experts are profiled on: the one in the URL, by its digest, else those that ship."""
    digest = st.text_input(
        "Text read, by its digest",
        key=state.CALIBRATION,
        bind="query-params",
        placeholder="the model's own, or the one that ships with Headlamp",
        disabled=True,
        help="Another text goes in below. A link carries its digest, not the text.",
    )
    with st.expander("Read another text", icon=":material/article:"), st.form("another_text", border=False):
        st.text_area(
            "Text",
            key=_PASTED,
            height=160,
            placeholder="At least a few hundred words; every fourth window of it is kept for pruning",
        )
        taken, own = st.columns(2)
        taken.form_submit_button("Read this text", on_click=_take, args=(loaded,))
        own.form_submit_button("Back to the text that ships", on_click=_forget)
    return Texts(digest, digest) if digest else keep_texts(loaded)


def _take(loaded: LoadedModel) -> None:
    text = str(st.session_state.get(_PASTED) or "")
    if text.strip():
        st.session_state[state.CALIBRATION] = keep_texts(loaded, text).calibration


def _forget() -> None:
    st.session_state[state.CALIBRATION] = ""


def criterion() -> Criterion:
    """The threshold playground: it moves the set at once, from stored maxima."""
    released = st.toggle(
        "As the authors' code does it", key=state.RELEASED, bind="query-params", help=_RELEASED_HELP
    )
    rule, forming, percentile, ratio = st.columns(4)
    asked = Criterion(
        rule=rule.selectbox(
            "Rule", RULES, key=state.RULE, bind="query-params", help=_RULE_HELP, disabled=released
        ),
        layers=forming.selectbox(
            "Layers", LAYERS, key=state.FORMING, bind="query-params", help=_LAYERS_HELP, disabled=released
        ),
        percentile=percentile.slider(
            *("Percentile", 80.0, 99.9, PERCENTILE, 0.1),
            key=state.PERCENTILE,
            bind="query-params",
            disabled=released,
        ),
        ratio=ratio.slider(
            *("Share of the largest", 0.0, 1.0, RATIO, 0.01),
            key=state.RATIO,
            bind="query-params",
            disabled=released,
        ),
    )
    method("How super experts are told", _FORMULA, "Su et al. 2025, ICLR 2026, arXiv 2507.23279")
    return Criterion(as_released=True) if released else asked


_RULE_HELP = (
    "percentile: above that percentile of all experts. small: log a above median + 5 · 1.4826 · MAD, for "
    "models with few experts, where a percentile always names one. auto: small below 400 experts."
)
_LAYERS_HELP = "massive: layers whose own FFN forms massive activations. first75: the first three quarters."
_RELEASED_HELP = (
    "First routed token of each window (all tokens of shared experts), percentile 99.5 and largest // 10, "
    "all of it among the first 75 % of the layers, where an expert that saw no token counts as 0."
)
_FORMULA = r"""
$a_{l,e}$ is the largest $|\text{down output}|$ of expert $e$ in layer $l$ over all tokens routed to it,
before the routing weight. An expert is super where

$$a_{l,e} > P_{99.5}(A), \qquad a_{l,e} > \tfrac{1}{10}\max A, \qquad l \in L.$$

$L$: layers after which some $|h| > 100$ and $> 1000 \times$ the median $|h|$, at least half of it from the
layer's FFN. With fewer than 400 experts the percentile gives way to
$\log a > \text{median} + 5 \cdot 1.4826 \cdot \text{MAD}$.
"""


def parts_to_prune(loaded: LoadedModel, verdict: Verdict) -> list[Part]:
    """What is taken out: typed, clicked on the map, or the super experts. Raises BadAddress."""
    dense = all(block.address.expert is None for block in loaded.anatomy.blocks)
    example = "L2, L2.N47" if dense else "L1.E68, L2.E92"
    text = st.text_input(
        "Prune",
        key=state.PRUNE,
        bind="query-params",
        placeholder=", ".join(map(str, super_parts(verdict.supers))) or example,
        help="L1.E68 a routed expert, L8.S0 a shared one, L2 a dense block, L2.N47 one of its columns. "
        "Empty: the super experts. A click on the map adds an expert or takes it away.",
    ).strip()
    return parse_parts(text) if text else super_parts(verdict.supers)


def toggle(name: str, chosen: list[str]) -> None:
    """Add an expert to what is pruned, or take it away; for callbacks."""
    left = [one for one in chosen if one != name] if name in chosen else [*chosen, name]
    st.session_state[state.PRUNE] = ", ".join(left)
