"""Stored runs: what each was, in plain words, and the page that shows it with everything filled in."""

from __future__ import annotations

from collections.abc import Callable

from pages.shared import state
from pages.shared.links.questions import (
    View,
    list_names,
    make_pruning_view,
    make_unlearn_view,
    make_window_view,
)
from pages.shared.links.stored import (
    StoredConcept,
    StoredExperts,
    StoredGeneration,
    StoredKeySpace,
    StoredMap,
    StoredUnlearning,
    StoredWord,
)
from pages.shared.tokens import show_token
from store import Run
from store.phrases import describe_changes
from workbench.records import read_odd_record

LONGEST = 60
"""Characters of a prompt in a name."""

Maker = Callable[[object], tuple[str, str, View]]


def describe_stored_run(run: Run) -> tuple[str, str, View]:
    """(plain name, page, parameters); unknown kinds lead to the run itself on the page Runs.

    The name is not escaped: it may hold what a user typed.
    """
    maker = _MAKERS.get(run.kind)
    name, page, view = maker(run.parameters) if maker else (run.kind, "/runs", {state.RUN: run.key})
    if run.kind == "generate":
        view = view | {state.SEED: run.seed}
    return name, page, {state.MODEL: run.model_name, **view}


def _decode(asked: object) -> tuple[str, str, View]:
    stored = read_odd_record(StoredMap, asked)
    behind = "" if stored.norm == "none" else f", norm {stored.norm}"
    return f"Map of the neurons at {stored.site}{behind}", "/neurons", vars(stored)


def _find(asked: object) -> tuple[str, str, View]:
    stored = read_odd_record(StoredMap, asked)
    return f"Search for a word at {stored.site}", "/neurons", vars(stored)


def _profile(asked: object) -> tuple[str, str, View]:
    return "Activations of the neurons on the reference text", "/neurons", {}


def _generate(asked: object) -> tuple[str, str, View]:
    stored = read_odd_record(StoredGeneration, asked)
    clamps = [str(clamp[0]) for clamp in stored.clamps if clamp]
    prompt, prefix = stored.prompt, stored.answer_prefix or ""
    view: View = {
        state.CLAMPS: state.SEPARATOR.join(clamps),
        state.PROMPT: prompt,
        state.PREFIX: prefix,
        state.SYSTEM: stored.system,
        state.TURNS: "\n".join(f"{role}: {said}" for role, said in stored.turns),
        state.RAW: "true" if stored.raw else "",
        state.WORD: stored.word,
        state.FOLD: "true" if stored.fold_case else "",
        state.TOKENS: stored.max_new_tokens,
        state.TEMPERATURE: stored.temperature,
    }
    return (
        f"{describe_changes(clamps)} on “{_shorten(' '.join(filter(None, (prompt, prefix))))}”",
        "/clamp",
        view,
    )


def _levers(asked: object) -> tuple[str, str, View]:
    word = read_odd_record(StoredWord, asked).word
    return f"Best levers of “{show_token(word)}”", "/neurons", {state.WORD: word, state.LEVERS: "true"}


def _sweep(asked: object) -> tuple[str, str, View]:
    stored = read_odd_record(StoredWord, asked)
    view = {state.WORD: stored.word, state.NEURON: next(iter(stored.neurons), None)}
    name = f"Dose curve of {', '.join(stored.neurons)} for “{show_token(stored.word)}”"
    return name, "/neurons", view


def _experts(asked: object) -> tuple[str, str, View]:
    stored = read_odd_record(StoredExperts, asked)
    view: View = {state.CALIBRATION: stored.shared_text, **make_window_view(stored)}
    if stored.released:
        view[state.RELEASED] = "true"
    return "Profile of the experts", "/experts", view


def _prune(asked: object) -> tuple[str, str, View]:
    view = make_pruning_view(asked)
    return f"The model without {view[state.PRUNE]}", "/experts", view


def _unlearn(asked: object) -> tuple[str, str, View]:
    stored = read_odd_record(StoredUnlearning, asked)
    retain = ", ".join(list_names(stored.retain))
    kept = f", retain {retain}" if retain else ""
    return f"Forget {stored.forget.name}{kept}", "/unlearn", make_unlearn_view(asked)


def _tars(asked: object) -> tuple[str, str, View]:
    concept = read_odd_record(StoredConcept, asked).concept
    view = {state.REMOVE: "a concept", state.CONCEPT: concept}
    return f"Remove the concept “{show_token(concept)}”", "/unlearn", view


def _skill(asked: object) -> tuple[str, str, View]:
    name = read_odd_record(StoredKeySpace, asked).skill.name
    return f"Key space of the skill {name}".rstrip(), "/skills", {state.SKILL: name}


_MAKERS: dict[str, Maker] = {
    "decode": _decode,
    "experts": _experts,
    "find": _find,
    "generate": _generate,
    "keyspace": _skill,
    "levers": _levers,
    "profile": _profile,
    "prune": _prune,
    "skill": _skill,
    "sweep": _sweep,
    "tars": _tars,
    "unlearn": _unlearn,
}


def _shorten(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= LONGEST else f"…{line[-LONGEST:]}"
