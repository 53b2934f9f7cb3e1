"""Controls of the Experts page: text, criterion, and what is pruned; each in the URL."""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from analysis.opening.models import LoadedModel
from analysis.super_experts.controls import Part, list_super_parts, parse_parts
from analysis.super_experts.criterion import LAYERS, PERCENTILE, RATIO, RULES, Criterion, choose_rule
from analysis.super_experts.profile import ExpertProfile
from analysis.super_experts.verdict import SuperExpertVerdict
from pages.shared import state
from pages.shared.layout import show_method
from workbench.experts.profiles import ProfileTexts, keep_texts

_PASTED = "_calibration_text"
_WINDOW_HELP = (
    "The text is read in windows of so many tokens, each from its own first token, at most the context. 0: "
    "2,048 to profile, and to evaluate so many that there are at least 20 windows."
)


def choose_texts(loaded: LoadedModel) -> ProfileTexts:
    """The text to profile: the one in the URL, by its digest, else the bundled one."""
    digest = st.text_input(
        "Calibration text, by its digest",
        key=state.CALIBRATION,
        bind="query-params",
        placeholder="the model's own, or the bundled one",
        disabled=True,
        help="Enter another text below. A link carries its digest, not the text.",
    )
    with st.expander("Read another text", icon=":material/article:"), st.form("another_text", border=False):
        st.text_area(
            "Text",
            key=_PASTED,
            height=160,
            placeholder="At least a few hundred words; every fourth window is held out to evaluate pruning",
        )
        taken, own = st.columns(2)
        taken.form_submit_button("Read this text", on_click=_take, args=(loaded,))
        own.form_submit_button("Back to the bundled text", on_click=_forget)
    tokens = st.number_input(
        "Tokens of a window", 0, None, 0, 16, key=state.WINDOW, bind="query-params", help=_WINDOW_HELP
    )
    texts = ProfileTexts(digest, digest) if digest else keep_texts(loaded)
    return replace(texts, window=int(tokens) or None)


def _take(loaded: LoadedModel) -> None:
    text = str(st.session_state.get(_PASTED) or "")
    if text.strip():
        st.session_state[state.CALIBRATION] = keep_texts(loaded, text).calibration


def _forget() -> None:
    st.session_state[state.CALIBRATION] = ""


def choose_criterion(profile: ExpertProfile) -> Criterion:
    """The criterion: changing it updates the set at once, from stored maxima."""
    released = st.toggle(
        "As the authors' code does it", key=state.RELEASED, bind="query-params", help=_RELEASED_HELP
    )
    rule, forming, percentile, ratio = st.columns(4)
    named = rule.selectbox(
        "Rule", RULES, key=state.RULE, bind="query-params", help=_RULE_HELP, disabled=released
    )
    experts = sum(row.count > 0 for row in profile.experts)
    sizes = choose_rule(profile, experts, Criterion(named)) == "percentile" and not released
    asked = Criterion(
        rule=named,
        layers=forming.selectbox(
            "Layers", LAYERS, key=state.FORMING, bind="query-params", help=_LAYERS_HELP, disabled=released
        ),
    )
    if sizes:
        asked = replace(
            asked,
            percentile=percentile.slider(
                *("Percentile", 80.0, 99.9, PERCENTILE, 0.1), key=state.PERCENTILE, bind="query-params"
            ),
            ratio=ratio.slider(
                *("Share of the largest", 0.0, 1.0, RATIO, 0.01), key=state.RATIO, bind="query-params"
            ),
        )
    show_method("How super experts are found", _FORMULA, "Su et al. 2025, ICLR 2026, arXiv 2507.23279")
    return Criterion(as_released=True) if released else asked


_RULE_HELP = (
    "percentile: above that percentile of all experts, and above a share of the largest. forms: supplies "
    "half of a massive activation, whatever its size. auto: forms below 400 experts, where a percentile "
    "always names one, and for the blocks of dense models."
)
_LAYERS_HELP = "massive: layers whose own FFN forms massive activations. first75: the first three quarters."
_RELEASED_HELP = (
    "Reads again, in bfloat16, in windows of 2,048 tokens without a token before them. One token of each "
    "window: the first for which an expert is the router's first choice, else its second, and so on (all "
    "tokens of shared experts). Percentile 99.5 and largest // 10, within the first 75 % of the layers; an "
    "expert that saw no token counts as 0."
)
_FORMULA = r"""
$a_{l,e}$ is the largest $|\text{down output}|$ of expert $e$ in layer $l$ over all tokens routed to it,
before the routing weight. An expert is super where

$$a_{l,e} > P_{99.5}(A), \qquad a_{l,e} > \tfrac{1}{10}\max A, \qquad l \in L.$$

$L$: layers after which some $|h| > 100$ and $> 1000 \times$ the median $|h|$, at least half of it from the
layer's FFN. With fewer than 400 experts, and for the blocks of a dense model, rule *forms* is used instead:
at such an $h$ after the layer, with $s = \text{sign}\,h$ and $u$ what the expert adds to the residual there,

$$s\,u \ge \tfrac12\, s\,(h_\text{after} - h_\text{before}), \qquad
s \textstyle\sum \text{FFN} \ge \tfrac12 |h|.$$
"""


def choose_parts(loaded: LoadedModel, verdict: SuperExpertVerdict) -> list[Part]:
    """The parts to prune: typed, clicked on the map, or the super experts. Raises BadAddress."""
    dense = all(block.address.expert is None for block in loaded.anatomy.blocks)
    example = "L2, L2.N47" if dense else "L1.E68, L2.E92"
    text = st.text_input(
        "Prune",
        key=state.PRUNE,
        bind="query-params",
        placeholder=", ".join(map(str, list_super_parts(verdict.supers))) or example,
        help="L1.E68 a routed expert, L8.S0 a shared one, L2 a dense block, L2.N47 one of its columns. "
        "Empty: the super experts. A click on the map adds or removes an expert.",
    ).strip()
    return parse_parts(text) if text else list_super_parts(verdict.supers)


def toggle_expert(name: str, chosen: list[str]) -> None:
    """Add an expert to the parts to prune, or remove it; for callbacks."""
    left = [one for one in chosen if one != name] if name in chosen else [*chosen, name]
    st.session_state[state.PRUNE] = ", ".join(left)
