"""Controls of the Unlearn page: skills apply at once, the rest is a form; each choice is in the URL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from analysis.errors import SkillError
from analysis.opening.models import LoadedModel
from analysis.skills.answering import NEW_TOKENS
from analysis.unlearning.edits.selective_prune import SHARES
from analysis.unlearning.guards.key_guards import Check
from analysis.unlearning.methods import METHODS, name_method
from analysis.unlearning.token_limits import LONGEST
from pages.intervene.unlearn.kept_sets import read_kept_sets, show_guard_choices, show_kept_sets
from pages.shared import state
from pages.shared.errors import show_errors
from pages.shared.layout import show_empty
from pages.shared.resources import get_store
from pages.shared.tokens import escape_text
from workbench.skills.library import list_bundled_skills, list_skills
from workbench.skills.sources import SkillSource
from workbench.skills.utility import MMLU_SAMPLE
from workbench.unlearning.checks import parse_layers, parse_shares, why_not_offered
from workbench.unlearning.questions import UnlearningQuestion

LONGEST_ANSWER, LAST_SEED = 4096, 2**53 - 1
LAYER_CHOICES = ("best", "last", "all")
TESTS = ("off", "contained")
_LAST_FORGET, _SWAPPED, _QUICK = "_unlearn_last_forget", "_unlearn_swapped", "_unlearn_quick"


def read_unlearn_question(loaded: LoadedModel) -> tuple[UnlearningQuestion | None, bool]:
    """The question entered in the widgets, None if incomplete; and whether its button was pressed."""
    skills = {source.name: source for source in list_skills(get_store())}
    if not skills:
        show_empty("There is no skill yet: define one on the page **Skills**.")
        return None, False
    _report_unknown(skills)
    forget, retain = _skills(skills)
    show_kept_sets(skills)
    pressed = _settings(loaded, list(skills)) or st.session_state.pop(_QUICK, False)
    with show_errors():
        utility = [skills[name] for name in st.session_state[state.UTILITY]]
        others = read_kept_sets(skills)
        return _question(skills[forget], [skills[name] for name in retain], utility, others), pressed
    return None, False


def _report_unknown(skills: dict[str, SkillSource]) -> None:
    """Report skills in a link that are not on this machine."""
    places = (state.FORGET, state.RETAIN, state.NEAR, state.UNLISTED, state.UTILITY)
    named = [name for place in places for name in st.query_params.get_all(place)]
    unknown = sorted({name for name in named if name and name not in skills})
    if unknown:
        st.warning(
            f"There is no skill called {escape_text(', '.join(unknown))} here, so this view differs from "
            "the link's. Define it on the page **Skills** under that name, and open the link again.",
            icon=":material/link_off:",
        )


def _skills(skills: dict[str, SkillSource]) -> tuple[str, list[str]]:
    bundled = [source.name for source in list_bundled_skills()]
    first, second = st.columns([2, 5])
    forget = first.selectbox(
        "Forget skill",
        list(skills),
        key=state.FORGET,
        bind="query-params",
        on_change=_swap,
        args=(bundled,),
        help="The bundled skills first, then those you defined on the page Skills.",
    )
    st.session_state[_LAST_FORGET] = forget
    swapped = st.session_state.pop(_SWAPPED, False)  # already chosen: a default would conflict
    retain = second.multiselect(
        "Retain skills",
        list(skills),
        None if swapped else [name for name in bundled if name != forget],
        key=state.RETAIN,
        bind="query-params",
        placeholder="none: only KSD can forget without them",
        help="What must stay: the damage to each is measured, and α or q is chosen to limit it.",
    )
    return forget, retain


def _swap(bundled: list[str]) -> None:
    """A skill that is now the forget skill is no longer a retain skill. All other bundled skills stays all
    others.
    """
    now, was = st.session_state[state.FORGET], st.session_state.get(_LAST_FORGET)
    kept = st.session_state.get(state.RETAIN, [])
    all_others = kept == [name for name in bundled if name != was]
    st.session_state[state.RETAIN] = [name for name in (bundled if all_others else kept) if name != now]
    st.session_state[_SWAPPED] = True


def _settings(loaded: LoadedModel, skills: list[str]) -> bool:
    """The form; returns whether its button was pressed."""
    refused = {method: why for method in METHODS if (why := why_not_offered(loaded, method))}
    names = [name_method(method) for method in METHODS if method not in refused]
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
        check.selectbox("KSD checks", list(CHECKS), key=state.CHECK, bind="query-params", help=_CHECK)
        for why in refused.values():
            st.caption(f"{escape_text(why)}.")
        with st.expander("More settings", icon=":material/tune:"):
            _more()
            st.multiselect(
                "Utility (multiple choice)",
                skills,
                key=state.UTILITY,
                bind="query-params",
                placeholder="none",
                help=_UTILITY,
            )
        return st.form_submit_button("Forget it and measure", type="primary", icon=":material/backspace:")


def _more() -> None:
    shares, limit, answer, tests = st.columns([3, 2, 2, 2])
    shares.text_input(
        "Candidate shares q (%)",
        ", ".join(f"{share:g}" for share in SHARES),
        key=state.SHARES,
        bind="query-params",
        help="Of all neurons, for Neuron Adjust and selective pruning; one is chosen on validation.",
    )
    limit.number_input(
        "Examples per skill",
        0,
        None,
        0,
        key=state.EXAMPLES,
        bind="query-params",
        help="Evenly spaced; 0 uses all. Fewer are faster, with wider intervals.",
    )
    answer.number_input(
        "New tokens", 1, LONGEST_ANSWER, NEW_TOKENS, key=state.ANSWER, bind="query-params", help=_ANSWER
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
    show_guard_choices()


def choose_quick(quick: UnlearningQuestion) -> None:
    """Fill the form as the quick preset has it, and start it; called before the page is drawn again."""
    now = st.session_state
    now[state.METHODS] = [name_method(method) for method in quick.methods]
    now[state.EXAMPLES], now[state.CONTROLS] = quick.limit, quick.controls
    now[state.SHARES] = ", ".join(f"{share:g}" for share in quick.shares)
    now[_QUICK] = True


def _question(
    forget: SkillSource, retain: list[SkillSource], utility: list[SkillSource], others: Mapping[str, Any]
) -> UnlearningQuestion:
    """Raises SkillError, HeadlampError for what cannot be read."""
    now = st.session_state
    if not now[state.METHODS]:
        raise SkillError("no method is chosen; choose at least one")
    chosen = set(now[state.METHODS])
    return UnlearningQuestion(
        forget=forget,
        retain=tuple(retain),
        methods=tuple(name for name, record in METHODS.items() if record.title in chosen),
        layers=parse_layers(str(now[state.BOXES] or "best")),
        rivals=now[state.RIVALS],
        check=CHECKS[now[state.CHECK]],
        shares=parse_shares(now[state.SHARES] or ""),
        as_released=now[state.RELEASED],
        split_seed=int(now[state.SPLIT]),
        seed=int(now[state.SEED]),
        limit=int(now[state.EXAMPLES]),
        max_new_tokens=int(now[state.ANSWER]),
        tests=now[state.TESTS],
        controls=now[state.CONTROLS],
        robustness=now[state.ROBUSTNESS],
        **others,
        mmlu=tuple(utility),
    )


CHECKS: dict[str, Check] = {"prefill": "prefill", "each_step": "each_step"}
_METHODS = (
    "KSD refuses queries whose keys lie in the skill's boxes, deeper than in those of the retain skills. "
    "Neuron Adjust mirrors the neurons that the skill activates. Selective pruning zeroes those that fire "
    "for "
    "it more than for the others."
)
_LAYERS = (
    "best: the last layer, the last two, three …, chosen on validation. last: the paper's. all: every "
    "layer. Or type numbers, such as 1,3."
)
_RIVALS = (
    "Rivals: the boxes of the retain skills, and of unrelated text, compete with those of the forget "
    "skill, by a margin chosen on validation. Off: the paper's box alone, its α chosen on validation."
)
_CHECK = "prefill: once, at the prompt's last token. each_step: at every generated token too."
_ANSWER = (
    f"Of an answer, to begin with; doubled by itself, twice at most and up to {LONGEST}, where more than a "
    "tenth of a skill's answers are cut off."
)
_TESTS = (
    "contained: model-written code is run against unit tests, without network or files and for 5 s "
    "at most; only if this machine has a sandbox. off: skills judged by tests are refused."
)
_CONTROLS = "Boxes fitted on shuffled skills, and as many random neurons: the effect to expect by chance."
_ROBUSTNESS = "The forget skill in other forms: after answered examples, after a greeting, an instruction …"
_UTILITY = (
    f"Skills of multiple choice, such as MMLU: {MMLU_SAMPLE} of their questions, evenly spaced, are answered "
    "before and after, whatever the method."
)
_RELEASED = (
    "Decide as the authors' code does where it differs from the paper, one query at a time. It also means a "
    "box of the last layer, without rivals, checked at each step, whatever is chosen above."
)
