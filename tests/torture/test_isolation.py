"""Many texts at once from one model: each as if it were alone; one that is abandoned leaves nothing."""

import gc
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from analysis.errors import HeadlampError
from analysis.intervening.clamps import parse_clamp
from analysis.opening.models import LoadedModel, ModelRef
from analysis.running.generation import Sampling
from store import Store, open_store
from tests.analysis.conftest import lock_is_free
from tests.torture.counts import count
from workbench.generating.clamping import Generation, regenerate_pair, stream_pair
from workbench.generating.requests import GenerationRequest
from workbench.models import open_model

PEOPLE = 8
TEXTS_EACH = count(quick=3, full=25)
TOKENS = 24
SWITCH_SECONDS = 1e-5
"""How often threads take turns: far more often than they would by themselves."""
PROMPTS = [" the dog", " my cat", " the cat is", " my dog is", " a dog", " the", " my", " is the cat"]


@pytest.fixture
def store() -> Store:
    return open_store()


@pytest.fixture
def loaded(llama: Callable[..., Path], store: Store) -> Iterator[LoadedModel]:
    folder = llama("model", seed=1, max_position_embeddings=128)
    with open_model(ModelRef(str(folder)), store) as model:
        yield model


@pytest.fixture
def often() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_SECONDS)
    yield
    sys.setswitchinterval(before)


def request_of(person: int) -> GenerationRequest:
    """What a person asks for; every second one clamps."""
    clamps = (parse_clamp(f"L{person % 4 // 2}.N{person}:key:set:8@all"),) if person % 2 else ()
    return GenerationRequest(PROMPTS[person], clamps, sampling=Sampling(TOKENS))


def hooks(loaded: LoadedModel) -> int:
    """How many hooks of any sort hang on any of the model's modules."""
    return sum(
        len(value)
        for module in loaded.model.modules()
        for name, value in vars(module).items()
        if "hooks" in name and value
    )


def alone(loaded: LoadedModel, store: Store) -> list[Generation]:
    """Every person's text with nobody else at work, checked to be worth comparing with."""
    texts = [regenerate_pair(loaded, store, request_of(person)) for person in range(PEOPLE)]
    for person, text in enumerate(texts):
        plain = regenerate_pair(loaded, store, replace(request_of(person), clamps=()))
        assert text.base_ids == plain.base_ids == plain.changed_ids
        assert (text.changed_ids != text.base_ids) == bool(person % 2)
        assert len(text.base_ids) == TOKENS
    return texts


def ids(text: Generation) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return text.base_ids, text.changed_ids


def test_texts_generated_at_once_are_those_of_each_alone(
    loaded: LoadedModel, store: Store, often: None
) -> None:
    expected, begin = alone(loaded, store), threading.Barrier(PEOPLE)

    def write(person: int) -> list[Generation]:
        begin.wait()
        return [regenerate_pair(loaded, store, request_of(person)) for _ in range(TEXTS_EACH)]

    with ThreadPoolExecutor(PEOPLE) as people:
        written = list(people.map(write, range(PEOPLE)))
    wrong = dict.fromkeys(("base", "changed"), 0)
    for mine, texts in zip(expected, written, strict=True):
        wrong["base"] += sum(text.base_ids != mine.base_ids for text in texts)
        wrong["changed"] += sum(text.changed_ids != mine.changed_ids for text in texts)
    runs = {text.run for texts in written for text in texts}
    print(f"\n{len(runs)} generations by {PEOPLE} threads, half of them clamping; wrong: {wrong}")
    assert len(runs) == PEOPLE * TEXTS_EACH
    assert wrong == {"base": 0, "changed": 0}
    assert (hooks(loaded), lock_is_free(loaded)) == (0, True)


Snapshots = Iterator[Generation]


def begun(loaded: LoadedModel, store: Store) -> Snapshots:
    """A clamped text of which three tokens are there."""
    texts = stream_pair(loaded, store, request_of(1), rerun="abandoned")
    for _ in range(3):
        next(texts)
    return texts


def closed(loaded: LoadedModel, store: Store) -> None:
    begun(loaded, store).close()  # type: ignore[attr-defined]


def collected(loaded: LoadedModel, store: Store) -> None:
    texts = begun(loaded, store)
    circle: list[object] = [texts]
    circle.append(circle)
    del texts, circle
    gc.collect()


def interrupted(loaded: LoadedModel, store: Store) -> None:
    with pytest.raises(KeyboardInterrupt):
        begun(loaded, store).throw(KeyboardInterrupt)  # type: ignore[attr-defined]


def kept_by_a_thread_that_ended(loaded: LoadedModel, store: Store) -> None:
    kept: list[Snapshots] = []
    thread = threading.Thread(target=lambda: kept.append(begun(loaded, store)))
    thread.start()
    thread.join()
    assert (hooks(loaded), lock_is_free(loaded)) == (0, True)
    del kept[:]


def left_by_a_thread_that_failed(loaded: LoadedModel, store: Store) -> None:
    def fail() -> None:
        for _ in begun(loaded, store):
            raise RuntimeError("the reader went away")

    with ThreadPoolExecutor(1) as other, pytest.raises(RuntimeError):
        other.submit(fail).result()


def driven_to_infinity(loaded: LoadedModel, store: Store) -> None:
    clamps = tuple(replace(parse_clamp(f"L1.N{n}:key:set:4@generated"), raw=3e38) for n in range(56))
    with pytest.raises(HeadlampError, match="NaN or infinity"):
        regenerate_pair(loaded, store, replace(request_of(1), clamps=clamps))


@pytest.mark.parametrize(
    "abandon",
    [
        closed,
        collected,
        interrupted,
        kept_by_a_thread_that_ended,
        left_by_a_thread_that_failed,
        driven_to_infinity,
    ],
)
def test_a_text_that_is_abandoned_leaves_no_hook_a_free_lock_and_the_next_text_as_it_was(
    loaded: LoadedModel, store: Store, abandon: Callable[[LoadedModel, Store], None]
) -> None:
    plain = replace(request_of(1), clamps=())
    expected, unclamped = (ids(regenerate_pair(loaded, store, request)) for request in (request_of(1), plain))
    assert hooks(loaded) == 0
    abandon(loaded, store)
    assert (hooks(loaded), lock_is_free(loaded)) == (0, True)
    with ThreadPoolExecutor(1) as other:
        assert ids(other.submit(regenerate_pair, loaded, store, plain).result()) == unclamped
    assert ids(regenerate_pair(loaded, store, request_of(1))) == expected


def test_a_text_that_waits_for_its_reader_holds_nothing(loaded: LoadedModel, store: Store) -> None:
    texts = begun(loaded, store)
    assert (hooks(loaded), lock_is_free(loaded)) == (0, True)
    expected = ids(regenerate_pair(loaded, store, request_of(1)))
    *_, last = texts
    assert ids(last) == expected
