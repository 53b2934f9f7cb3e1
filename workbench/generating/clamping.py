"""Generation of base and changed text under a recipe, streamed; the finished pair is stored."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from analysis.intervening.hooks import Reach
from analysis.opening.models import LoadedModel
from analysis.recipes.recipes import versions, write_recipe_document
from analysis.running.generation import (
    BASE,
    CHANGED,
    BestTokens,
    GenerationStep,
    generate_steps,
    read_best_tokens,
)
from analysis.running.prompts import (
    decode_answer,
    decode_tokens,
    encode_conversation,
    list_shown,
    show_fed,
)
from analysis.running.reasoning import opens_reasoning, split_reasoning
from store import RunSpec, Store, StoreError, begin_run, list_stored_units, put_unit, read_unit
from workbench.generating.requests import GenerationRequest, generation_spec
from workbench.generating.token_chances import ChosenInBoth, measure_chosen, read_chosen
from workbench.generating.word_places import WordPlace, read_at_answer, spell_word
from workbench.neurons.profiles import is_profiled, needs_profile, resolve_clamps
from workbench.runs import Progress

PerPosition = tuple[tuple[float | None, ...], tuple[float | None, ...]]
"""(base, changed): a word's probability at each generated position."""


@dataclass(frozen=True)
class TokenProbability:
    """One token of the answer position. token: its exact text."""

    token_id: int
    token: str
    base: float
    changed: float


@dataclass(frozen=True)
class Generation:
    """Base and changed text generated so far; `done` when finished, `stored` when also stored.

    *_tokens: the text token by token, ends of text left out, for marking differences. *_reasoning: what the
    text's reasoning block says, None without one. rendered: the text that was fed, special tokens shown.
    word: (base, changed) probability of the word at the answer position, which `place` says: while the texts
    grow, the first position after the prompt. per_position: the same at every generated position of either
    row, None where the word would not fit into the context. chosen: the probability of each generated token.
    Both are None in texts stored before they were measured. reach: per clamp, positions covered and acted on.
    """

    run: str
    request: GenerationRequest
    prompt_ids: tuple[int, ...]
    base_ids: tuple[int, ...]
    changed_ids: tuple[int, ...]
    base_text: str
    changed_text: str
    base_tokens: tuple[str, ...]
    changed_tokens: tuple[str, ...]
    base_reasoning: str | None
    changed_reasoning: str | None
    rendered: str
    answer: tuple[TokenProbability, ...]
    word: tuple[float, float] | None
    reach: Reach
    recipe: dict[str, Any]
    done: bool
    stored: bool
    seconds: float
    warning: str = ""
    per_position: PerPosition | None = None
    place: WordPlace | None = None
    chosen: ChosenInBoth | None = None

    @property
    def position(self) -> int:
        """The answer position, 0-based in the fed sequence: its logits predict the word."""
        return len(self.prompt_ids) - 1 if self.place is None else self.place.position


def stream_pair(
    loaded: LoadedModel,
    store: Store,
    request: GenerationRequest,
    progress: Progress = lambda done, total: None,
    *,
    rerun: str = "",
    also: Sequence[int] = (),
) -> Iterator[Generation]:
    """Generate the pair, one snapshot per position; the last one is done, and stored unless it has a warning.

    A repeated request is answered from the store, in one snapshot. rerun: a name that makes it a new run.
    also: tokens whose probabilities are always reported at the answer position.
    """
    started = time.perf_counter()
    ids = encode_conversation(loaded, request.conversation)
    spellings = spell_word(loaded, request)
    clamps = tuple(resolve_clamps(loaded, store, request.clamps, progress))
    request = replace(request, clamps=clamps)
    spec = generation_spec(loaded, request, ids, rerun)
    if _is_stored(store, spec):
        yield _from_payload(loaded, request, spec.key, ids, read_unit(store, spec.key, 0).payload)
        return
    payload: dict[str, Any] = {"base": [], "changed": [], "answer": [], "word": None, "reach": None}
    payload |= {"per_position": None, "chosen": {"base": [], "changed": []}}
    reach = Reach()
    for step in generate_steps(loaded, ids, request.clamps, request.sampling, spellings):
        _add_step(payload, step, reach, also)
        payload["seconds"] = time.perf_counter() - started
        yield replace(_from_payload(loaded, request, spec.key, ids, payload), done=False, stored=False)
    if spellings:
        payload |= read_at_answer(loaded, request, payload["base"], payload["word"])
        payload["seconds"] = time.perf_counter() - started
    warning = _keep(store, spec, payload)
    finished = _from_payload(loaded, request, spec.key, ids, payload)
    yield replace(finished, stored=not warning, warning=warning)


def generate_pair(
    loaded: LoadedModel,
    store: Store,
    request: GenerationRequest,
    progress: Progress = lambda done, total: None,
) -> Generation:
    """Generate or load the finished pair."""
    *_, last = stream_pair(loaded, store, request, progress)
    return last


def regenerate_pair(
    loaded: LoadedModel, store: Store, request: GenerationRequest, also: Sequence[int] = ()
) -> Generation:
    """Generate the pair again, ignoring stored results, as a run of its own, so that both answers stay.

    also: tokens whose probabilities are always reported at the answer position.
    """
    *_, last = stream_pair(loaded, store, request, rerun=uuid.uuid4().hex, also=also)
    return last


def find_pair(loaded: LoadedModel, store: Store, request: GenerationRequest) -> Generation | None:
    """The stored pair of this exact request; generates nothing."""
    if any(needs_profile(change) for change in request.clamps) and not is_profiled(loaded, store):
        return None
    request = replace(request, clamps=tuple(resolve_clamps(loaded, store, request.clamps)))
    ids = encode_conversation(loaded, request.conversation)
    spec = generation_spec(loaded, request, ids)
    if not _is_stored(store, spec):
        return None
    return _from_payload(loaded, request, spec.key, ids, read_unit(store, spec.key, 0).payload)


def _is_stored(store: Store, spec: RunSpec) -> bool:
    """Whether the run is stored; an unreadable store counts as no, and the text is generated again."""
    try:
        return bool(list_stored_units(store, spec.key))
    except StoreError:
        return False


def _add_step(payload: dict[str, Any], step: GenerationStep, reach: Reach, also: Sequence[int]) -> None:
    chosen = measure_chosen(step, together=payload["base"] == payload["changed"])
    for name, probabilities in chosen.items():
        payload["chosen"][name].append(probabilities)
    for row, name in ((BASE, "base"), (CHANGED, "changed")):
        token = step.tokens[row]
        if token is not None:
            payload[name].append(token)
    reach.add(step.reach)
    payload["reach"] = reach.counts()
    if not payload["answer"]:
        payload["answer"] = _answer_rows(read_best_tokens(step, also=also))
        payload["word"] = step.word and list(step.word)
        payload["per_position"] = {"base": [], "changed": []} if step.word else None
    for row, name in ((BASE, "base"), (CHANGED, "changed")):
        if payload["per_position"] and step.tokens[row] is not None:
            payload["per_position"][name].append(step.word and step.word[row])


def _answer_rows(answer: BestTokens) -> list[tuple[int, float, float]]:
    return list(zip(answer.token_ids, answer.base, answer.changed, strict=True))


def _keep(store: Store, spec: RunSpec, payload: dict[str, Any]) -> str:
    """Store the pair; a store that cannot take it only adds a warning."""
    try:
        begin_run(store, spec, versions())
        put_unit(store, spec.key, 0, name="pair", payload=payload, seconds=payload.get("seconds", 0.0))
    except StoreError as error:
        return f"the text is shown but not stored: {error}"
    return ""


def _from_payload(
    loaded: LoadedModel, request: GenerationRequest, run: str, ids: Sequence[int], payload: dict[str, Any]
) -> Generation:
    texts = loaded.vocabulary.texts
    said = {row: decode_answer(loaded, payload[row]) for row in ("base", "changed")}
    tokens = {row: decode_tokens(loaded, list_shown(loaded, payload[row])) for row in ("base", "changed")}
    opened = opens_reasoning(loaded, ids)
    reach = Reach(**payload["reach"])
    return Generation(
        run=run,
        request=request,
        prompt_ids=tuple(ids),
        base_ids=tuple(payload["base"]),
        changed_ids=tuple(payload["changed"]),
        base_text=said["base"],
        changed_text=said["changed"],
        base_tokens=tuple(tokens["base"]),
        changed_tokens=tuple(tokens["changed"]),
        base_reasoning=split_reasoning(said["base"], opened)[0],
        changed_reasoning=split_reasoning(said["changed"], opened)[0],
        rendered=show_fed(loaded, ids),
        answer=tuple(TokenProbability(i, texts[i], b, c) for i, b, c in payload["answer"]),
        word=payload["word"] and (payload["word"][0], payload["word"][1]),
        per_position=_read_positions(payload.get("per_position")),
        chosen=read_chosen(payload.get("chosen")),
        place=WordPlace(**payload["place"]) if payload.get("place") else None,
        reach=reach,
        recipe=write_recipe_document(loaded, request.clamps, reach.used),
        done=True,
        stored=True,
        seconds=payload.get("seconds", 0.0),
    )


def _read_positions(stored: dict[str, list[float | None]] | None) -> PerPosition | None:
    return None if stored is None else (tuple(stored["base"]), tuple(stored["changed"]))
