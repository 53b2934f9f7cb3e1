"""What came of unlearning: headlines, the matrix, the tables, and how the test was made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st

from analysis.opening.models import LoadedModel
from pages.intervene.unlearn.asking import ask_box
from pages.intervene.unlearn.exports import take_away
from pages.intervene.unlearn.pictures import abstention, frontier, matrix, ways
from pages.intervene.unlearn.sentences import drop, headline, interval, method_name, number, verdict
from pages.shared.layout import caption, download, method
from pages.shared.resources import store
from pages.shared.tokens import plain
from workbench.unlearning.tables import skills_csv
from workbench.unlearning.unlearning import Question, Unlearned, recipe_of

Document = Mapping[str, Any]
PAPER = (
    "KSD and Neuron Adjust: Li, Hsu and Weng, NAACL 2025, arXiv 2503.21730. Selective pruning: Pochinkov and "
    "Schoots 2024, arXiv 2403.01267"
)
METHOD = r"""
A skill's examples are split by fact and template, and a quarter of the wordings is kept for the test alone:
methods are fitted on **probes**, set on **validation**, and measured once on the **test**.

- **KSD** boxes the keys $x$ of the probes' last tokens: $|x_j - \mu_j| \le \alpha\, k\, \sigma_j$ for every
  $j$, $k = \max |x_j - \mu_j| / \sigma_j$ over the probes. A query's depth $d$ is the smallest $\alpha$ whose
  box holds it. With rivals a query is refused where $d \le \alpha$ and $d \le \text{margin} \cdot d_r$ for
  the boxes $r$ of every skill to keep and of pieces of the reference text ($d$: geometric mean over layers).
  Without, as in the paper, where every layer's box holds it. The margin, or $\alpha$, is the one that
  refuses most of the skill's validation and at most 5 % of any other's, where one does; beside a margin,
  $\alpha$ is 1.5 × the depth that 95 % of those refused lie under. A skill with fewer than 30 probes has no
  boxes, and is no rival.
- **Neuron Adjust** takes the top $q$ % of neurons by $\mu_f - \mu_r$; where $\log p_f \ge \log p_r$, with
  probability $\mathrm{sigmoid}(\log p_f - \log p_r)$, $x' = \mu_r - \sigma_r (x - \mu_f)/\sigma_f$.
- **Selective pruning** zeroes the top $q$ % by $\overline{|a|}_f / (\overline{|a|}_r + 10^{-8})$ at the key.

Relative drop $= 1 - \text{after} / \text{before}$; a refused example is wrong. None where *before* is not
above chance by two standard errors. Intervals: 95 %, bootstrap over facts, in pairs; Wilson's at none and all
of $n$. Over-refusal: refused test prompts among skills to keep. KL (nats, of what was answered) and
Jensen–Shannon compare next-token distributions after the prompt. The paper's goal: a drop above 0.8, every
other below 0.1.
"""


def show_results(loaded: LoadedModel, question: Question, found: Unlearned) -> None:
    """Everything of an answer, or of the methods that are done."""
    document = found.document
    for one in document["methods"]:
        _headline(one)
    method("How this is measured", METHOD, PAPER)
    matrix(document)
    for one in document["methods"]:
        _numbers(one)
    download("Matrix as CSV", skills_csv(document), f"unlearn-{found.run[:8]}.csv", key="unlearn_skills_csv")
    ways(document)
    frontier(document)
    for one in document["methods"]:
        abstention(document, one)
    show_split(document)
    recipes = {
        one["method"]: recipe_of(store(), found.run, question.methods.index(one["method"]))
        for one in document["methods"]
    }
    take_away(loaded, question, found, recipes)
    ask_box(loaded, question, found, recipes)


def _headline(one: Document) -> None:
    found = verdict(one)
    said = {True: "Reaches the goal", False: "Misses the goal", None: "Cannot be held against the goal"}
    tell = {True: st.success, False: st.warning, None: st.info}[found.reached]
    icons = {True: ":material/check_circle:", False: ":material/cancel:", None: ":material/help:"}
    tell(f"{headline(one)}  \n{said[found.reached]}: {found.why}.", icon=icons[found.reached])


def _numbers(one: Document) -> None:
    control = one["control"]
    rows = [
        {
            "skill": skill["skill"],
            "role": skill["role"],
            "n": skill["n"],
            "before": f"{number(skill['before'])} {interval(skill['before_interval'])}",
            "after": f"{number(skill['after'])} {interval(skill['after_interval'])}",
            "relative drop": drop(skill),
            "above chance": number(skill["corrected_drop"]),
            "refused": f"{skill['abstained']:.1%}",
            "KL median": number(skill["kl"]["median"]),
            "JS": number(skill["js"]),
            "perplexity ×": number(skill["perplexity_ratio"]),
            f"drop by {control['kind']}": number(control["drop"].get(skill["skill"])),
        }
        for skill in one["skills"]
    ]
    shown = pd.DataFrame(rows)
    if all(skill["perplexity_ratio"] is None for skill in one["skills"]):
        shown = shown.drop(columns="perplexity ×")
    with st.expander(f"Numbers: {plain(method_name(one))}", expanded=False):
        st.dataframe(shown, hide_index=True)
        caption(f"{_parameters(one)}. In brackets: 95 % intervals. {_control(one)}")
    for skill in one["skills"]:
        if skill["warning"]:
            st.warning(
                f"{plain(method_name(one))}, {plain(skill['skill'])}: {plain(skill['warning'])}; "
                "no drop is told.",
                icon=":material/warning:",
            )


def _parameters(one: Document) -> str:
    """`layers L0, L3 · α 1.35 · 71 probes`, of what the document tells."""
    told = one["parameters"]
    parts = []
    if "layers" in told:
        parts.append("layers " + ", ".join(f"L{layer}" for layer in told["layers"]))
    parts += [f"α {told['alpha']:g}"] if isinstance(told.get("alpha"), int | float) else []
    parts += [f"margin {told['margin']:g}"] if isinstance(told.get("margin"), int | float) else []
    parts += [f"{len(told['rivals'])} rivals"] if told.get("rivals") else []
    parts += [f"q {told['q']:g} %"] if isinstance(told.get("q"), int | float) else []
    parts += [f"{told['neurons']:,} neurons"] if "neurons" in told else []
    parts += [f"{told['n']:,} probes"] if "n" in told else []
    return "Chosen on validation: " + (" · ".join(parts) or "nothing")


def _control(one: Document) -> str:
    kind = one["control"]["kind"]
    if not one["control"]["drop"]:
        return "Without a control: it was turned off, or there is no skill to keep."
    return f"Last column: the control, what {plain(kind)} achieve in the same way."


def show_split(document: Document) -> None:
    """How often this test was opened, how large its parts are, and what they nearly share."""
    split = document["split"]
    opened = split["test_opened"]
    st.subheader("The test", anchor=False)
    st.markdown(
        f"This test of **{plain(document['forget'])}** (split seed {split['seed']}) has met **{opened}** "
        f"question{'' if opened == 1 else 's'} on this model."
    )
    rows = [
        {
            "skill": one["skill"],
            "probes": one["probe"],
            "validation": one["validation"],
            "test": one["test"],
            "of it in unseen wordings": one["unseen_wordings"],
            "near-duplicates": one["near_duplicates"],
        }
        for one in split["skills"]
    ]
    st.dataframe(pd.DataFrame(rows), hide_index=True)
    caption(
        "Each further question that is chosen by its numbers makes the test less of one; another split seed "
        "gives a fresh one. No fact or template is in two parts. Near-duplicates: pairs of prompts in the "
        "test and outside it that share 80 % of their neighbouring words."
    )
    near = [(one["skill"], pair) for one in split["skills"] for pair in one["nearest"]]
    if near:
        st.warning(
            "Parts nearly share prompts, so that the test is not quite held out.", icon=":material/warning:"
        )
        with st.expander("The most similar pairs"):
            st.dataframe(
                pd.DataFrame([{"skill": skill} | dict(pair) for skill, pair in near]), hide_index=True
            )
