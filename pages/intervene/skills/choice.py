"""Which skill is looked at, beside which others; and the job that fits its boxes."""

from __future__ import annotations

import streamlit as st

from analysis.opening.models import LoadedModel
from analysis.unlearning.guards.key_spaces import KeySpace
from pages.intervene.skills.define import example_table
from pages.shared import state
from pages.shared.errors import toasted_errors
from pages.shared.jobs.waiting import finished, has_failed, is_under_way
from pages.shared.layout import empty, page_link
from pages.shared.resources import store
from pages.shared.tokens import plain
from workbench.skills.drafts import facts_of
from workbench.skills.key_space import KeySpaceQuestion, stored_key_space
from workbench.skills.library import bundled_skills, remove_skill, skill_library
from workbench.skills.sources import SkillSource

FOLLOWS = "_alpha_follows_validation"
MOST_EXAMPLES, LAST_SEED = 100_000, 2**53 - 1
WHY = (
    "The model reads the probes of the skill, then the validation queries of every skill, in all its dense "
    "layers. The page goes on by itself afterwards."
)


def asked_question(loaded: LoadedModel) -> KeySpaceQuestion | None:
    """What the page is asked to fit; None, and what to do, where no skill is chosen."""
    library = {source.name: source for source in skill_library(store())}
    chosen = _skill(library)
    compared = _compared(library, chosen)
    examples, seed = st.columns(2)
    limit = examples.number_input(
        "Examples per skill at most",
        *(0, MOST_EXAMPLES, 0),
        key=state.EXAMPLES,
        bind="query-params",
        on_change=forget_alpha,
        help="Spread evenly over the skill; 0 takes all. Part of the split, and so of every number below.",
    )
    split_seed = seed.number_input(
        "Seed of the split",
        *(0, LAST_SEED, 0),
        key=state.SPLIT,
        bind="query-params",
        on_change=forget_alpha,
        help=_SEED_HELP,
    )
    if chosen is None:
        empty("Choose a skill to look at, or define one above. Then its key box can be fitted.")
        return None
    _facts(chosen)
    return KeySpaceQuestion(chosen, compared, int(limit), int(split_seed))


_SEED_HELP = (
    "Groups of examples are dealt to probe (40 %), validation (20 %) and test (40 %) by this number. Boxes "
    "are fitted on probes, everything below is measured on validation; the test is left for Unlearn."
)


def _skill(library: dict[str, SkillSource]) -> SkillSource | None:
    wanted = st.query_params.get(state.SKILL)
    if wanted and wanted not in library:
        st.warning(
            f"There is no skill {plain(wanted)} here. A link carries a skill's name, not its examples: "
            "define it again, or choose another.",
            icon=":material/link_off:",
        )
    name = st.selectbox(
        "Skill",
        list(library),
        index=None,
        key=state.SKILL,
        bind="query-params",
        placeholder="Choose a skill",
        on_change=forget_alpha,
    )
    return library.get(str(name))


def forget_alpha() -> None:
    """Go back to the α that validation chooses; for callbacks of what changes it."""
    st.session_state[FOLLOWS] = True


def _compared(library: dict[str, SkillSource], chosen: SkillSource | None) -> tuple[SkillSource, ...]:
    others = {name: source for name, source in library.items() if source != chosen}
    names = st.multiselect(
        "Compared with",
        list(others),
        key=state.COMPARED,
        bind="query-params",
        placeholder="the other bundled skills",
        help="Skills that a guard should leave alone. Validation chooses the α that refuses at most 5 % of "
        "any of them. Text of no skill is always beside them.",
        on_change=forget_alpha,
    )
    if names:
        return tuple(source for name, source in others.items() if name in names)
    return tuple(source for source in bundled_skills() if source != chosen)


def _facts(source: SkillSource) -> None:
    facts = facts_of(source)
    with st.expander(f"Examples of {plain(source.name)}: {plain(facts.told)}", icon=":material/list:"):
        example_table(facts.first)
        if source not in bundled_skills():
            st.button(
                "Remove this skill",
                icon=":material/delete:",
                type="tertiary",
                on_click=_remove,
                args=(source.name,),
                help="What was measured on it stays among the runs.",
            )


def _remove(name: str) -> None:
    with toasted_errors():
        remove_skill(store(), name)
        st.session_state[state.SKILL] = None
        st.toast(f"Removed: {plain(name)}", icon=":material/delete:")


def fitted(loaded: LoadedModel, question: KeySpaceQuestion) -> tuple[str, KeySpace] | None:
    """The run and its answer; until it is there, the button that asks for it, or the job that makes it."""
    found = stored_key_space(loaded, store(), question)
    if found is None:
        order = question.order(loaded)
        if (is_under_way(order) or has_failed(order) or _pressed(question)) and finished(order, WHY):
            found = stored_key_space(loaded, store(), question)
    return found


def _pressed(question: KeySpaceQuestion) -> bool:
    """Whether somebody asks for the fit; until then, what it does."""
    with st.container(horizontal=True, vertical_alignment="center"):
        name = plain(question.skill.name)
        pressed = st.button(f"Fit the box of {name}", type="primary", icon=":material/fit_screen:")
        unlearn_link(question.skill.name)
    if not pressed:
        empty("The model reads the skill's probes and every skill's validation queries, and remembers them.")
    return pressed


def unlearn_link(name: str) -> None:
    """To the page that forgets this skill."""
    page_link("Unlearn it", "/unlearn", icon=":material/ink_eraser:", forget=name)
