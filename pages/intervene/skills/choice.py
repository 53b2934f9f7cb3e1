"""The skill to examine, the skills it is compared with, and the job that fits its boxes."""

from __future__ import annotations

import streamlit as st

from analysis.opening.models import LoadedModel
from analysis.unlearning.guards.key_spaces import KeySpace
from pages.intervene.skills.define import show_examples
from pages.shared import state
from pages.shared.errors import show_errors, toast_errors
from pages.shared.jobs.timing import estimate_reading
from pages.shared.jobs.waiting import ensure_done, has_failed, is_under_way
from pages.shared.layout import show_empty, show_page_link
from pages.shared.resources import get_store
from pages.shared.tokens import escape_text
from workbench.skills.drafts import read_skill_facts
from workbench.skills.key_space import KeySpaceQuestion, count_key_space_tokens, find_key_space
from workbench.skills.library import list_bundled_skills, list_others, list_skills, remove_skill
from workbench.skills.sources import SkillSource

FOLLOWS = "_alpha_follows_validation"
_COUNTED = "_key_space_tokens"
MOST_EXAMPLES, LAST_SEED = 100_000, 2**53 - 1
WHY = (
    "The model reads the probes of the skill, then the validation queries of every skill, in all its dense "
    "layers. The page continues automatically."
)


def read_fit_question(loaded: LoadedModel) -> KeySpaceQuestion | None:
    """The question to fit; None, with advice, if no skill is chosen."""
    library = {source.name: source for source in list_skills(get_store())}
    chosen = _skill(library)
    compared = _choose_compared(library, chosen)
    examples, seed = st.columns(2)
    limit = examples.number_input(
        "Examples per skill at most",
        *(0, MOST_EXAMPLES, 0),
        key=state.EXAMPLES,
        bind="query-params",
        on_change=forget_alpha,
        help="Evenly spaced over the skill; 0 uses all. Part of the split, and so of every number below.",
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
        show_empty("Choose a skill, or define one above. Then its key box can be fitted.")
        return None
    _facts(chosen)
    return KeySpaceQuestion(chosen, compared, int(limit), int(split_seed))


_SEED_HELP = (
    "This seed assigns groups of examples to probe (40 %), validation (20 %) and test (40 %). Boxes are "
    "fitted on probes, everything below is measured on validation; the test is reserved for Unlearn."
)


def _skill(library: dict[str, SkillSource]) -> SkillSource | None:
    wanted = st.query_params.get(state.SKILL)
    if wanted and wanted not in library:
        st.warning(
            f"There is no skill {escape_text(wanted)} here. A link carries a skill's name, not its examples: "
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
    """Return to the α chosen on validation; for callbacks."""
    st.session_state[FOLLOWS] = True


def _choose_compared(library: dict[str, SkillSource], chosen: SkillSource | None) -> tuple[SkillSource, ...]:
    others = {name: source for name, source in library.items() if source != chosen}
    names = st.multiselect(
        "Compared with",
        list(others),
        key=state.COMPARED,
        bind="query-params",
        placeholder="the other bundled skills",
        help="Retain skills: a guard should not refuse them. α is chosen on validation so that at most 5 % "
        "of "
        "any of them is refused. Unrelated text is always included.",
        on_change=forget_alpha,
    )
    if names:
        return tuple(source for name, source in others.items() if name in names)
    return tuple(list_bundled_skills()) if chosen is None else list_others(chosen)


def _facts(source: SkillSource) -> None:
    facts = read_skill_facts(source)
    with st.expander(
        f"Examples of {escape_text(source.name)}: {escape_text(facts.told)}", icon=":material/list:"
    ):
        show_examples(facts.first)
        if source not in list_bundled_skills():
            st.button(
                "Remove this skill",
                icon=":material/delete:",
                type="tertiary",
                on_click=_remove,
                args=(source.name,),
                help="Results on it stay under Runs.",
            )


def _remove(name: str) -> None:
    with toast_errors():
        remove_skill(get_store(), name)
        st.session_state[state.SKILL] = None
        st.toast(f"Removed: {escape_text(name)}", icon=":material/delete:")


def load_key_space(loaded: LoadedModel, question: KeySpaceQuestion) -> tuple[str, KeySpace] | None:
    """The run and its answer; until they exist, the fit button or the fitting job."""
    found = find_key_space(loaded, get_store(), question)
    if found is None:
        order = question.order(loaded)
        begun = is_under_way(order) or has_failed(order)
        if (begun or _offer_fit(loaded, question)) and ensure_done(order, WHY):
            found = find_key_space(loaded, get_store(), question)
    return found


def _offer_fit(loaded: LoadedModel, question: KeySpaceQuestion) -> bool:
    """Whether the fit is requested; until then, an explanation."""
    with st.container(horizontal=True, vertical_alignment="center"):
        name = escape_text(question.skill.name)
        pressed = st.button(f"Fit the box of {name}", type="primary", icon=":material/fit_screen:")
        show_unlearn_link(question.skill.name)
    if not pressed:
        with show_errors():
            takes = estimate_reading(loaded, _count_tokens(loaded, question))
            show_empty(
                "The model reads the skill's probes and every skill's validation queries, and stores the "
                f"result.{takes}"
            )
    return pressed


def _count_tokens(loaded: LoadedModel, question: KeySpaceQuestion) -> int:
    """What the model reads, counted once per session. Raises SkillError where the fit cannot work."""
    known: dict[object, int] = st.session_state.setdefault(_COUNTED, {})
    key = (loaded.fingerprint, question)
    if key not in known:
        known[key] = count_key_space_tokens(loaded, question)
    return known[key]


def show_unlearn_link(name: str) -> None:
    """Link to the page that unlearns this skill."""
    show_page_link("Unlearn it", "/unlearn", icon=":material/ink_eraser:", forget=name)
