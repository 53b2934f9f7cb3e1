"""What is asked of the Unlearn page: skills at once, the rest in a form; each choice in the URL."""

from __future__ import annotations

import streamlit as st

from analysis.errors import SkillError
from analysis.opening.models import LoadedModel
from analysis.skills.answering import NEW_TOKENS
from analysis.unlearning.edits.selective_prune import SHARES
from analysis.unlearning.guards.key_guards import Check
from analysis.unlearning.scenes import METHODS, Method
from pages.shared import state
from pages.shared.errors import shown_errors
from pages.shared.layout import empty
from pages.shared.resources import store
from pages.shared.tokens import plain
from workbench.skills.library import bundled_skills, skill_library
from workbench.skills.sources import SkillSource
from workbench.unlearning.checks import METHOD_NAMES, layers_of, shares_of, why_not_offered
from workbench.unlearning.unlearning import Question

LONGEST_ANSWER, LAST_SEED = 4096, 2**53 - 1
LAYER_CHOICES = ("best", "last", "all")
TESTS = ("off", "contained")
_LAST_FORGET, _SWAPPED = "_unlearn_last_forget", "_unlearn_swapped"


def asked_for(loaded: LoadedModel) -> tuple[Question | None, bool]:
    """The question that the widgets ask, None where they ask none; and whether its button was pressed."""
    skills = {source.name: source for source in skill_library(store())}
    if not skills:
        empty("There is no skill to forget yet: define one on the page **Skills**.")
        return None, False
    _tell_unknown(skills)
    forget, retain = _skills(skills)
    pressed = _settings(loaded)
    with shown_errors():
        return _question(skills[forget], [skills[name] for name in retain]), pressed
    return None, False


def _tell_unknown(skills: dict[str, SkillSource]) -> None:
    """A link may name skills that are not on this machine."""
    named = [*st.query_params.get_all(state.FORGET), *st.query_params.get_all(state.RETAIN)]
    unknown = sorted({name for name in named if name and name not in skills})
    if unknown:
        st.warning(
            f"There is no skill called {plain(', '.join(unknown))} here, so this is not the view that the "
            "link was made from. Define it on the page **Skills** under that name, and open the link again.",
            icon=":material/link_off:",
        )


def _skills(skills: dict[str, SkillSource]) -> tuple[str, list[str]]:
    bundled = [source.name for source in bundled_skills()]
    first, second = st.columns([2, 5])
    forget = first.selectbox(
        "Skill to forget",
        list(skills),
        key=state.FORGET,
        bind="query-params",
        on_change=_swap,
        args=(bundled,),
        help="The bundled skills first, then those you defined on the page Skills.",
    )
    st.session_state[_LAST_FORGET] = forget
    swapped = st.session_state.pop(_SWAPPED, False)  # then the choice is made, and a default would contest it
    retain = second.multiselect(
        "Skills to keep",
        list(skills),
        None if swapped else [name for name in bundled if name != forget],
        key=state.RETAIN,
        bind="query-params",
        placeholder="none: only KSD can forget without them",
        help="What must stay: the damage to each is measured, and α or q is chosen so that they stay.",
    )
    return forget, retain


def _swap(bundled: list[str]) -> None:
    """What is now to be forgotten is no longer to be kept. All other bundled skills stay all others."""
    now, was = st.session_state[state.FORGET], st.session_state.get(_LAST_FORGET)
    kept = st.session_state.get(state.RETAIN, [])
    all_others = kept == [name for name in bundled if name != was]
    st.session_state[state.RETAIN] = [name for name in (bundled if all_others else kept) if name != now]
    st.session_state[_SWAPPED] = True


def _settings(loaded: LoadedModel) -> bool:
    """The form; whether its button was pressed."""
    refused = {method: why for method in METHODS if (why := why_not_offered(loaded, method))}
    names = [METHOD_NAMES[method] for method in METHODS if method not in refused]
    with st.form("unlearn-settings"):
        methods, layers, check = st.columns([4, 2, 2])
        methods.multiselect("Methods", names, names, key=state.METHODS, bind="query-params", help=_METHODS)
        layers.selectbox(
            "Layers of KSD's boxes",
            LAYER_CHOICES,
            key=state.BOXES,
            bind="query-params",
            accept_new_options=True,
            help=_LAYERS,
        )
        check.selectbox("KSD looks", list(CHECKS), key=state.CHECK, bind="query-params", help=_CHECK)
        for why in refused.values():
            st.caption(f"{plain(why)}.")
        with st.expander("More settings", icon=":material/tune:"):
            _more()
        return st.form_submit_button("Forget it and measure", type="primary", icon=":material/backspace:")


def _more() -> None:
    shares, limit, answer, tests = st.columns([3, 2, 2, 2])
    shares.text_input(
        "Shares q tried (%)",
        ", ".join(f"{share:g}" for share in SHARES),
        key=state.SHARES,
        bind="query-params",
        help="Of all neurons, for Neuron Adjust and selective pruning; validation chooses one.",
    )
    limit.number_input(
        "Examples per skill",
        0,
        None,
        0,
        key=state.EXAMPLES,
        bind="query-params",
        help="Spread evenly; 0 takes all. Fewer are quicker, with wider intervals.",
    )
    answer.number_input(
        "New tokens", 1, LONGEST_ANSWER, NEW_TOKENS, key=state.ANSWER, bind="query-params", help="Per answer."
    )
    tests.selectbox("Unit tests", TESTS, key=state.TESTS, bind="query-params", help=_TESTS)
    split, seed = st.columns(2)
    rivals, control, robust, released = st.columns(4)
    split.number_input(
        "Split seed",
        0,
        LAST_SEED,
        0,
        key=state.SPLIT,
        bind="query-params",
        help="Which examples are the test.",
    )
    seed.number_input(
        "Seed", 0, LAST_SEED, 0, key=state.SEED, bind="query-params", help="Of draws, controls and intervals."
    )
    rivals.toggle("Rivals", True, key=state.RIVALS, bind="query-params", help=_RIVALS)
    control.toggle("Controls", True, key=state.CONTROLS, bind="query-params", help=_CONTROLS)
    robust.toggle("Robustness", True, key=state.ROBUSTNESS, bind="query-params", help=_ROBUSTNESS)
    released.toggle("As the authors' code", key=state.RELEASED, bind="query-params", help=_RELEASED)


def _question(forget: SkillSource, retain: list[SkillSource]) -> Question:
    """Raises SkillError, HeadlampError for what cannot be read."""
    now = st.session_state
    if not now[state.METHODS]:
        raise SkillError("no method is chosen; choose at least one")
    code_of = {name: method for method, name in METHOD_NAMES.items()}
    chosen: tuple[Method, ...] = tuple(code_of[name] for name in now[state.METHODS])
    return Question(
        forget=forget,
        retain=tuple(retain),
        methods=tuple(method for method in METHODS if method in chosen),
        layers=layers_of(str(now[state.BOXES] or "best")),
        rivals=now[state.RIVALS],
        check=CHECKS[now[state.CHECK]],
        shares=shares_of(now[state.SHARES] or ""),
        as_released=now[state.RELEASED],
        split_seed=int(now[state.SPLIT]),
        seed=int(now[state.SEED]),
        limit=int(now[state.EXAMPLES]),
        max_new_tokens=int(now[state.ANSWER]),
        tests=now[state.TESTS],
        controls=now[state.CONTROLS],
        robustness=now[state.ROBUSTNESS],
    )


CHECKS: dict[str, Check] = {"prefill": "prefill", "each_step": "each_step"}
_METHODS = (
    "KSD refuses queries whose keys lie in the skill's boxes, deeper than in those of the skills to keep. "
    "Neuron Adjust mirrors the neurons that the skill drives. Selective pruning zeroes those that fire for "
    "it more than for the others."
)
_LAYERS = (
    "best: the last layer, the last two, three …, whichever validation likes. last: the paper's. all: every "
    "layer. Or type numbers, such as 1,3."
)
_RIVALS = (
    "The boxes of the skills to keep, and of everyday text, compete with those of the skill to forget, by a "
    "margin that validation chooses. Off: the paper's box alone, whose size validation chooses."
)
_CHECK = "prefill: once, at the prompt's last token. each_step: at every generated token too."
_TESTS = (
    "contained: code that the model writes is run against unit tests, without network or files and for 5 s "
    "at most; only where this machine can contain it. off: skills judged by tests are refused."
)
_CONTROLS = "Boxes fitted on shuffled skills, and as many random neurons: what does nothing special achieve?"
_ROBUSTNESS = "The forgotten skill asked in other forms: after answered examples, after a harmless prefix …"
_RELEASED = (
    "Where the released code says otherwise than the paper: variance for σ, one flag for a whole batch."
)
