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
from analysis.running.generation import generate_steps
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
from workbench.generating.stored_pairs import StoredPair, read_pair
from workbench.generating.token_chances import ChosenInBoth
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
        yield _read_stored(loaded, store, request, spec, ids)
        return
    pair, reach = StoredPair(), Reach()
    for step in generate_steps(loaded, ids, request.clamps, request.sampling, spellings):
        reach.add(step.reach)
        pair = replace(pair.add(step, reach, also), seconds=time.perf_counter() - started)
        yield replace(_make_generation(loaded, request, spec.key, ids, pair), done=False, stored=False)
    if spellings:
        word, place = read_at_answer(loaded, request, pair.base, pair.word)
        pair = replace(pair, word=word, place=place, seconds=time.perf_counter() - started)
    warning = _keep(store, spec, pair)
    finished = _make_generation(loaded, request, spec.key, ids, pair)
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
    return _read_stored(loaded, store, request, spec, ids)


def _is_stored(store: Store, spec: RunSpec) -> bool:
    """Whether the run is stored; an unreadable store counts as no, and the text is generated again."""
    try:
        return bool(list_stored_units(store, spec.key))
    except StoreError:
        return False


def _keep(store: Store, spec: RunSpec, pair: StoredPair) -> str:
    """Store the pair; a store that cannot take it only adds a warning."""
    try:
        begin_run(store, spec, versions())
        put_unit(store, spec.key, 0, name="pair", payload=pair.to_document(), seconds=pair.seconds)
    except StoreError as error:
        return f"the text is shown but not stored: {error}"
    return ""


def _read_stored(
    loaded: LoadedModel, store: Store, request: GenerationRequest, spec: RunSpec, ids: Sequence[int]
) -> Generation:
    pair = read_pair(read_unit(store, spec.key, 0).payload)
    return _make_generation(loaded, request, spec.key, ids, pair)


def _make_generation(
    loaded: LoadedModel, request: GenerationRequest, run: str, ids: Sequence[int], pair: StoredPair
) -> Generation:
    texts = loaded.vocabulary.texts
    base, changed = (decode_answer(loaded, row) for row in (pair.base, pair.changed))
    base_tokens, changed_tokens = (
        tuple(decode_tokens(loaded, list_shown(loaded, row))) for row in (pair.base, pair.changed)
    )
    opened = opens_reasoning(loaded, ids)
    reach, words = Reach(**pair.reach), pair.per_position
    return Generation(
        run=run,
        request=request,
        prompt_ids=tuple(ids),
        base_ids=pair.base,
        changed_ids=pair.changed,
        base_text=base,
        changed_text=changed,
        base_tokens=base_tokens,
        changed_tokens=changed_tokens,
        base_reasoning=split_reasoning(base, opened)[0],
        changed_reasoning=split_reasoning(changed, opened)[0],
        rendered=show_fed(loaded, ids),
        answer=tuple(TokenProbability(i, texts[i], b, c) for i, b, c in pair.answer),
        word=pair.word,
        per_position=None if words is None else (words.base, words.changed),
        chosen=None if pair.chosen is None else pair.chosen.in_both,
        place=pair.place,
        reach=reach,
        recipe=write_recipe_document(loaded, request.clamps, reach.used),
        done=True,
        stored=True,
        seconds=pair.seconds,
    )
