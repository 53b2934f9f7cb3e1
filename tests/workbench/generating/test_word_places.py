"""P(word) where a chat model's own answer says the word: against passes of the plain model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from analysis.intervening.clamps import parse_clamp
from analysis.intervening.interventions import intervene
from analysis.opening.models import LoadedModel, ModelRef, load_model
from analysis.running.generation import Sampling
from analysis.running.prompts import encode_conversation
from store import Store, open_store
from tests.workbench.conftest import Cli
from workbench.findings.findings import keep_generation, rerun_finding
from workbench.generating.clamping import find_pair, generate_pair
from workbench.generating.requests import GenerationRequest, generation_spec
from workbench.generating.word_places import spell_word

ASKED = "Which animal barks?"
BEFORE = " I like the"
"""Of the bundled chat model's answer to it, I like the dog best."""
LAST = parse_clamp("L1.N3:set:2r@last")


@pytest.fixture(scope="module")
def chat(repo_root: Path) -> LoadedModel:
    return load_model(ModelRef(str(repo_root / "demo" / "chat")))


@pytest.fixture
def database(tmp_path: Path) -> Store:
    return open_store(tmp_path / "headlamp.db")


def ask(word: str = "dog", **others: object) -> GenerationRequest:
    asked = GenerationRequest(ASKED, (LAST,), sampling=Sampling(8), word=word)
    return replace(asked, **others)  # type: ignore[arg-type]


def pass_probability(
    loaded: LoadedModel, ids: list[int], request: GenerationRequest, *, clamped: bool
) -> float:
    """P(word) behind ids, from whole passes: its single tokens, less what makes it a longer word."""
    total, changes = 0.0, [LAST] if clamped else []
    texts, special = loaded.vocabulary.texts, loaded.vocabulary.special
    longer = torch.tensor([i not in special and text[:1].isalnum() for i, text in enumerate(texts)])
    for (token,) in spell_word(loaded, request):
        fed, positions = torch.tensor([[*ids, token]]), torch.arange(len(ids) + 1)[None]
        with intervene(loaded, changes, positions=positions, prompt_length=len(ids)), torch.inference_mode():
            p = loaded.model(fed).logits[0, -2:, : len(texts)].double().softmax(-1)
        total += float(p[0, token] * (1 - p[1][longer].sum()))
    return total


def test_the_word_is_read_where_the_own_answer_says_it_and_last_is_there(
    chat: LoadedModel, database: Store
) -> None:
    result = generate_pair(chat, database, ask())
    assert result.place is not None
    assert (result.place.source, result.place.answer_prefix) == ("own answer", BEFORE)
    ids = [*result.prompt_ids, *result.base_ids[:3]]
    assert result.position == result.place.position == len(ids) - 1
    assert result.word is not None
    expected = [pass_probability(chat, ids, ask(), clamped=clamped) for clamped in (False, True)]
    assert result.word == pytest.approx(expected, rel=1e-4)
    assert expected[0] != pytest.approx(expected[1], rel=1e-2)
    assert result.per_position is not None
    assert result.per_position[0][3] == pytest.approx(result.word[0], rel=1e-4)
    assert result.per_position[0][0] != pytest.approx(result.word[0], rel=0.5)
    assert result.reach.covered == [1]


def test_texts_are_the_same_whether_a_word_is_read(chat: LoadedModel, database: Store) -> None:
    result, plain = (generate_pair(chat, database, ask(word)) for word in ("dog", ""))
    assert (result.base_ids, result.changed_ids) == (plain.base_ids, plain.changed_ids)
    assert result.prompt_ids == plain.prompt_ids == tuple(encode_conversation(chat, ask().conversation))
    assert (plain.word, plain.place) == (None, None)


@pytest.mark.parametrize("sampling", [Sampling(2), Sampling(8, temperature=3.0, seed=1)])
def test_the_place_does_not_depend_on_the_texts_asked_for(
    chat: LoadedModel, database: Store, sampling: Sampling
) -> None:
    whole, other = (generate_pair(chat, database, ask(sampling=s)) for s in (Sampling(8), sampling))
    assert whole.base_ids != other.base_ids
    assert (other.place, other.word) == (whole.place, whole.word)


def test_a_word_of_the_kind_a_prefix_and_neither(chat: LoadedModel, database: Store) -> None:
    kind = generate_pair(chat, database, ask("horse"))
    assert kind.place is not None
    assert (kind.place.source, kind.place.answer_prefix) == ("kind", BEFORE)
    given = generate_pair(chat, database, ask(answer_prefix=BEFORE))
    assert given.place is not None
    assert (given.place.source, given.position) == ("prefix", len(given.prompt_ids) - 1)
    assert given.word == pytest.approx(generate_pair(chat, database, ask()).word, rel=1e-4)
    nowhere = generate_pair(chat, database, ask("grass", clamps=()))
    assert nowhere.place is not None
    assert (nowhere.place.source, nowhere.position) == ("first", len(nowhere.prompt_ids) - 1)
    assert nowhere.per_position is not None
    assert nowhere.word == (nowhere.per_position[0][0], nowhere.per_position[1][0])


def test_every_case_counts_where_asked_for_and_only_then_is_in_the_key(
    chat: LoadedModel, database: Store
) -> None:
    typed, folded = (generate_pair(chat, database, ask("Dog", fold_case=fold)) for fold in (False, True))
    assert typed.word is not None
    assert folded.word is not None
    assert typed.word[0] < 1e-3 < 0.5 < folded.word[0]
    spelled = [len(spell_word(chat, ask("Dog", fold_case=fold))) for fold in (False, True)]
    assert spelled[0] < spelled[1]
    ids = typed.prompt_ids
    keys = [
        generation_spec(chat, replace(typed.request, word=word, fold_case=fold), ids).key
        for word, fold in (("Dog", False), ("Dog", True), ("", False), ("", True))
    ]
    assert keys[0] != keys[1]
    assert keys[2] == keys[3]


def test_a_stored_pair_and_a_finding_keep_the_place(chat: LoadedModel, database: Store) -> None:
    result = generate_pair(chat, database, ask("Dog", fold_case=True))
    found = find_pair(chat, database, ask("Dog", fold_case=True))
    assert found is not None
    assert (found.place, found.word) == (result.place, result.word)
    finding = keep_generation(chat, database, result, title="held")
    word = finding.evidence["word"]
    assert (word["answer_prefix"], word["source"], word["position"]) == (
        BEFORE,
        "own answer",
        result.position,
    )
    again = rerun_finding(database, finding.id)
    assert again.same
    assert "measured" not in again.explanation


def test_the_command_line_says_where_the_word_is_read(cli: Cli, repo_root: Path, tmp_path: Path) -> None:
    model = repo_root / "demo" / "chat"
    asked = ("generate", model, "--prompt", ASKED, "--max-new-tokens", 8)
    word = cli(*asked, "--word", "dog", "--json").document["word"]
    assert (word["answer_prefix"], word["source"]) == (BEFORE, "own answer")
    shown = cli(*asked, "--word", "dog").out
    assert "Its own answer, “I like the dog best.”, says dog, so the position before it is read." in shown
    assert "highest in the text" not in shown
    folded = cli(*asked, "--word", "DOG", "--fold-case", "--json").document["word"]
    assert folded["base"] >= word["base"]
    lines = tmp_path / "asked.jsonl"
    lines.write_text(json.dumps({"prompt": ASKED, "word": "dog"}) + "\n", encoding="utf-8")
    several = ("generate", model, "--prompts", lines, "--max-new-tokens", 8, "--fold-case")
    (line,) = cli(*several, "--json").document["prompts"]
    assert (line["word"]["source"], line["word"]["position"]) == ("own answer", word["position"])
    refused = cli(*asked, "--fold-case")
    assert refused.code == 2
    assert "--fold-case counts every case of a word, and none is given; add --word" in refused.err


def test_too_many_prompts_are_refused_in_one_sentence_before_anything_is_opened(
    cli: Cli, tmp_path: Path
) -> None:
    lines = tmp_path / "asked.jsonl"
    lines.write_text('{"prompt": "a dog"}\n' * 5000, encoding="utf-8")
    refused = cli("generate", tmp_path / "no-model", "--prompts", lines)
    assert refused.code == 2
    said = "asked.jsonl has 5000 prompts, more than 1000; split it into several files"
    assert refused.err.strip().removeprefix("error: ").removeprefix("Error: ") == said
