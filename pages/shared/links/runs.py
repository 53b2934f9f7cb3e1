"""Stored runs: what each was, in plain words, and the page that shows it with everything filled in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pages.shared import state
from pages.shared.links.questions import (
    View,
    make_pruning_view,
    make_unlearn_view,
    make_window_view,
    read_items,
    read_named,
)
from pages.shared.tokens import show_token
from store import Run
from store.phrases import describe_changes

LONGEST = 60
"""Characters of a prompt in a name."""

Asked = Mapping[str, Any]
Maker = Callable[[Asked], tuple[str, str, View]]


def describe_stored_run(run: Run) -> tuple[str, str, View]:
    """(plain name, page, parameters); unknown kinds lead to the run itself on the page Runs.

    The name is not escaped: it may hold what a user typed.
    """
    maker = _MAKERS.get(run.kind)
    name, page, view = maker(run.parameters) if maker else (run.kind, "/runs", {state.RUN: run.key})
    if run.kind == "generate":
        view = view | {state.SEED: run.seed}
    return name, page, {state.MODEL: run.model_name, **view}


def _decode(asked: Asked) -> tuple[str, str, View]:
    norm = asked.get("norm")
    behind = "" if norm == "none" else f", norm {norm}"
    return f"Map of the neurons at {asked.get('site')}{behind}", "/neurons", _pick(asked, "site", "norm")


def _find(asked: Asked) -> tuple[str, str, View]:
    return f"Search for a word at {asked.get('site')}", "/neurons", _pick(asked, "site", "norm")


def _profile(asked: Asked) -> tuple[str, str, View]:
    return "Activations of the neurons on the reference text", "/neurons", {}


def _generate(asked: Asked) -> tuple[str, str, View]:
    clamps = [str(read_items(one)[0]) for one in read_items(asked.get("clamps")) if read_items(one)]
    prompt, prefix = str(asked.get("prompt", "")), str(asked.get("answer_prefix") or "")
    turns = [read_items(turn) for turn in read_items(asked.get("turns"))]
    view: View = {
        state.CLAMPS: state.SEPARATOR.join(clamps),
        state.PROMPT: prompt,
        state.PREFIX: prefix,
        state.SYSTEM: asked.get("system"),
        state.TURNS: "\n".join(f"{turn[0]}: {turn[1]}" for turn in turns if len(turn) == 2),
        state.RAW: "true" if asked.get("raw") is True else "",
        state.WORD: asked.get("word"),
        state.FOLD: "true" if asked.get("fold_case") is True else "",
        state.TOKENS: asked.get("max_new_tokens"),
        state.TEMPERATURE: asked.get("temperature"),
    }
    return (
        f"{describe_changes(clamps)} on “{_shorten(' '.join(filter(None, (prompt, prefix))))}”",
        "/clamp",
        view,
    )


def _levers(asked: Asked) -> tuple[str, str, View]:
    word = str(asked.get("word", ""))
    return f"Best levers of “{show_token(word)}”", "/neurons", {state.WORD: word, state.LEVERS: "true"}


def _sweep(asked: Asked) -> tuple[str, str, View]:
    neurons, word = list(map(str, read_items(asked.get("neurons")))), str(asked.get("word", ""))
    view = {state.WORD: word, state.NEURON: next(iter(neurons), None)}
    return f"Dose curve of {', '.join(neurons)} for “{show_token(word)}”", "/neurons", view


def _experts(asked: Asked) -> tuple[str, str, View]:
    text = asked.get("text") if asked.get("split") is True else None
    view: View = {state.CALIBRATION: text, **make_window_view(asked)}
    if asked.get("released") is True:
        view[state.RELEASED] = "true"
    return "Profile of the experts", "/experts", view


def _prune(asked: Asked) -> tuple[str, str, View]:
    view = make_pruning_view(asked)
    return f"The model without {view[state.PRUNE]}", "/experts", view


def _unlearn(asked: Asked) -> tuple[str, str, View]:
    retain = ", ".join(map(read_named, read_items(asked.get("retain"))))
    kept = f", retain {retain}" if retain else ""
    return f"Forget {read_named(asked.get('forget'))}{kept}", "/unlearn", make_unlearn_view(asked)


def _tars(asked: Asked) -> tuple[str, str, View]:
    concept = str(asked.get("concept", ""))
    view = {state.REMOVE: "a concept", state.CONCEPT: concept}
    return f"Remove the concept “{show_token(concept)}”", "/unlearn", view


def _skill(asked: Asked) -> tuple[str, str, View]:
    name = read_named(asked.get("skill"))
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


def _pick(asked: Asked, *names: str) -> View:
    return {name: asked.get(name) for name in names}


def _shorten(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= LONGEST else f"…{line[-LONGEST:]}"
