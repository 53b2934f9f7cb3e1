"""Results of unlearning: headlines, the matrix, the tables, and how the test was made."""

from __future__ import annotations

from dataclasses import asdict

import pandas as pd
import streamlit as st

from analysis.opening.models import LoadedModel
from analysis.unlearning.results import SkillResult
from pages.intervene.unlearn.asking import show_ask_box
from pages.intervene.unlearn.exports import offer_unlearning_exports
from pages.intervene.unlearn.pictures import show_abstention, show_forms, show_frontier, show_matrix
from pages.intervene.unlearn.sentences import format_drop, format_interval, format_value, name_method
from pages.shared.layout import show_caption, show_download, show_method
from pages.shared.resources import get_store
from pages.shared.tokens import escape_text
from pages.shared.verdicts.methods import show_measures, show_method_verdict
from workbench.unlearning.answers import MethodAnswer, UnlearningAnswer
from workbench.unlearning.documents import warn_cut_off
from workbench.unlearning.questions import UnlearningQuestion
from workbench.unlearning.tables import skills_csv
from workbench.unlearning.unlearning import read_method_recipe

MOST_CUT_OFF = 0.1
"""Share of answers ended by the token limit from which there is a warning."""
PAPER = (
    "KSD and Neuron Adjust: Li, Hsu and Weng, NAACL 2025, arXiv 2503.21730. Selective pruning: Pochinkov and "
    "Schoots 2024, arXiv 2403.01267"
)
METHOD = r"""
A skill's examples are split by fact and template, and a quarter of the wordings is reserved for the test:
methods are fitted on **probes**, set on **validation**, and measured once on the **test**.

- **KSD** boxes the keys $x$ of the probes' last tokens: $|x_j - \mu_j| \le \alpha\, k\, \sigma_j$ for every
  $j$, $k = \max |x_j - \mu_j| / \sigma_j$ over the probes. A query's depth $d$ is the smallest $\alpha$ whose
  box holds it. With rivals a query is refused where $d \le \alpha$ and $d \le \text{margin} \cdot d_r$ for
the boxes $r$ of every retain skill and of passages of the reference text ($d$: geometric mean over layers).
  Without rivals, as in the paper, if every layer's box holds it. The margin, or $\alpha$, is the one that
refuses most of the skill's validation and at most 5 % of any other's, if there is one; with a margin,
  $\alpha$ is 1.5 × the depth that 95 % of those refused lie under. A skill with fewer than 30 probes has no
boxes and is not a rival.
- **Neuron Adjust** takes the top $q$ % of neurons by $\mu_f - \mu_r$; where $\log p_f \ge \log p_r$, with
  probability $\mathrm{sigmoid}(\log p_f - \log p_r)$, $x' = \mu_r - \sigma_r (x - \mu_f)/\sigma_f$.
- **Selective pruning** zeroes the top $q$ % by $\overline{|a|}_f / (\overline{|a|}_r + 10^{-8})$ at the key.

Relative drop $= 1 - \text{after} / \text{before}$; a refused example is wrong. None where *before* is not
above chance by two standard errors. Intervals: 95 %, bootstrap over facts, in pairs; Wilson's at none and all
of $n$. Over-refusal: refused test prompts of retain skills. KL (nats, of what was answered) and
Jensen–Shannon compare next-token distributions after the prompt. The verdict is the worst form: the paper's
goal, a drop above 0.8 and every cost below 0.1, must be kept in every form that was measured; a cost is a
relative drop, a share refused, or a next-token KL in nats, whichever is largest.
"""


def show_results(loaded: LoadedModel, question: UnlearningQuestion, found: UnlearningAnswer) -> None:
    """All results, or those of the methods finished so far."""
    verdicts = [one.evidence for one in found.methods]
    for verdict in verdicts:
        show_method_verdict(verdict)
    for verdict in verdicts:
        show_measures(verdict)
    for one in found.methods:
        _warn(one)
    if wordy := warn_cut_off(found.methods[0]):
        st.warning(f"{escape_text(wordy)}.", icon=":material/content_cut:")
    show_method("How this is measured", METHOD, PAPER)
    show_matrix(found)
    for one in found.methods:
        _numbers(one)
    show_download(
        "Matrix as CSV", skills_csv(found), f"unlearn-{found.run[:8]}.csv", key="unlearn_skills_csv"
    )
    show_forms(found)
    show_frontier(found)
    for one in found.methods:
        show_abstention(found.forget, one)
    show_split(found)
    recipes = {
        one.method: read_method_recipe(get_store(), found.run, question.methods.index(one.method))
        for one in found.methods
    }
    offer_unlearning_exports(loaded, question, found, recipes)
    show_ask_box(loaded, question, found, recipes)


def _numbers(one: MethodAnswer) -> None:
    shown = pd.DataFrame([_row(one, skill) for skill in one.skills])
    if all(skill.change.perplexity_ratio is None for skill in one.skills):
        shown = shown.drop(columns="perplexity ×")
    with st.expander(f"Numbers: {escape_text(name_method(one))}", expanded=False):
        st.dataframe(shown, hide_index=True)
        show_caption(f"In brackets: 95 % intervals. {_control(one)}")


def _row(one: MethodAnswer, skill: SkillResult) -> dict[str, object]:
    change, divergence = skill.change, skill.divergence
    return {
        "skill": skill.skill,
        "role": skill.role,
        "n": change.n,
        "before": f"{format_value(change.before)} {format_interval(change.before_interval)}",
        "after": f"{format_value(change.after)} {format_interval(change.after_interval)}",
        "relative drop": format_drop(change),
        "above chance": format_value(change.corrected_drop),
        "refused": f"{change.abstained:.1%}",
        "KL median": format_value(divergence.kl_median),
        "JS": format_value(divergence.js),
        "perplexity ×": format_value(change.perplexity_ratio),
        f"drop by {one.control.kind}": format_value(one.control.drop.get(skill.skill)),
    }


def _warn(one: MethodAnswer) -> None:
    """Skills without a drop, and answers that were cut off."""
    if one.cut_off > MOST_CUT_OFF:
        st.warning(
            f"{escape_text(name_method(one))}: {one.cut_off:.0%} of a skill's answers ended at the token "
            "limit before they were finished, so they may be judged too early; raise **New tokens**.",
            icon=":material/warning:",
        )
    for skill in one.skills:
        if skill.change.warning:
            st.warning(
                f"{escape_text(name_method(one))}, {escape_text(skill.skill)}: "
                f"{escape_text(skill.change.warning)}; "
                "no drop is given.",
                icon=":material/warning:",
            )


def _control(one: MethodAnswer) -> str:
    if not one.control.drop:
        return "No control: it was turned off, there is no retain skill, or nothing was chosen."
    kind = escape_text(one.control.kind)
    return f"Last column: the control, the drop by {kind} under the same procedure."


def show_split(found: UnlearningAnswer) -> None:
    """How often this test was used, the sizes of its parts, and their near-duplicates."""
    split, opened = found.split, found.split.test_opened
    st.subheader("The test", anchor=False)
    st.markdown(
        f"This test of **{escape_text(found.forget)}** (split seed {split.seed}) was used for "
        f"**{opened}** "
        f"question{'' if opened == 1 else 's'} on this model."
    )
    rows = [
        {
            "skill": one.skill,
            "probes": one.probe,
            "validation": one.validation,
            "test": one.test,
            "of it in unseen wordings": one.unseen_wordings,
            "near-duplicates": one.near_duplicates,
        }
        for one in split.skills
    ]
    st.dataframe(pd.DataFrame(rows), hide_index=True)
    show_caption(
        "Choosing further questions by these numbers weakens the test; another split seed "
        "gives a fresh one. No fact or template is in two parts. Near-duplicates: pairs of prompts in the "
        "test and outside it that share 80 % of their neighbouring words."
    )
    near = [{"skill": one.skill} | asdict(pair) for one in split.skills for pair in one.nearest]
    if near:
        st.warning(
            "The parts share near-duplicate prompts, so the test is not fully held out.",
            icon=":material/warning:",
        )
        with st.expander("The most similar pairs"):
            st.dataframe(pd.DataFrame(near), hide_index=True)
