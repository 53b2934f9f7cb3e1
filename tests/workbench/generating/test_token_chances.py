"""The probability of every generated token: that of the plain model, stored, and absent in old runs."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from analysis.intervening.clamps import parse_clamp
from analysis.opening.models import LoadedModel, ModelRef, load_model
from analysis.running.generation import Sampling
from store import Store, open_store, put_unit
from workbench.generating.clamping import find_pair, generate_pair
from workbench.generating.requests import GenerationRequest
from workbench.generating.token_facts import list_facts, write_facts_csv

ASKED = GenerationRequest(
    "My favourite animal is the", (parse_clamp("L1.N3:set:3r@last"),), "", Sampling(6), "dog"
)


@pytest.fixture(scope="module")
def base(repo_root: Path) -> LoadedModel:
    return load_model(ModelRef(str(repo_root / "demo" / "base")))


@pytest.fixture
def database(tmp_path: Path) -> Store:
    return open_store(tmp_path / "s.db")


def test_each_token_has_the_probability_that_a_plain_pass_gives_it(
    base: LoadedModel, database: Store
) -> None:
    found = generate_pair(base, database, ASKED)
    assert found.chosen is not None
    ids = torch.tensor([[*found.prompt_ids, *found.base_ids]])
    with torch.inference_mode():
        plain = base.model(ids).logits[0].double().softmax(-1)
    own = [float(plain[len(found.prompt_ids) - 1 + at, token]) for at, token in enumerate(found.base_ids)]
    assert [one.own for one in found.chosen[0]] == pytest.approx(own, rel=1e-3)


def test_the_other_text_is_asked_up_to_the_first_difference(base: LoadedModel, database: Store) -> None:
    found = generate_pair(base, database, ASKED)
    assert found.chosen is not None
    pairs = zip(found.base_ids, found.changed_ids, strict=False)
    split = next(at for at, (one, other) in enumerate(pairs) if one != other)
    for row in found.chosen:
        assert [one.other is not None for one in row] == [at <= split for at in range(len(row))]
    first = {row.token_id: row for row in found.answer}
    told = first[found.base_ids[0]]
    assert (found.chosen[0][0].own, found.chosen[0][0].other) == pytest.approx(
        (told.base, told.changed), rel=1e-5
    )


def test_they_are_stored_and_a_pair_of_an_earlier_version_opens_without_them(
    base: LoadedModel, database: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = generate_pair(base, database, ASKED)
    again = find_pair(base, database, ASKED)
    assert again is not None
    assert again.chosen == found.chosen

    def put_earlier(store: Store, key: str, at: int, *, payload: dict[str, Any], **others: Any) -> None:
        put_unit(
            store, key, at, payload={name: payload[name] for name in payload if name != "chosen"}, **others
        )

    monkeypatch.setattr("workbench.generating.clamping.put_unit", put_earlier)
    earlier = open_store(tmp_path / "earlier.db")
    generate_pair(base, earlier, ASKED)
    old = find_pair(base, earlier, ASKED)
    assert old is not None
    assert (old.chosen, old.changed_text) == (None, found.changed_text)
    assert list_facts(base, old) is None


def test_the_facts_follow_the_shown_tokens_with_the_word_before_each(
    base: LoadedModel, database: Store
) -> None:
    found = generate_pair(base, database, ASKED)
    facts = list_facts(base, found)
    assert facts is not None
    assert found.per_position is not None
    assert [one.token for one in facts[0]] == list(found.base_tokens)
    assert [one.token for one in facts[1]] == list(found.changed_tokens)
    assert [one.word for one in facts[1]] == list(found.per_position[1][: len(facts[1])])
    rows = list(csv.DictReader(io.StringIO(write_facts_csv(facts).decode("utf-8-sig"))))
    assert [float(row["probability"]) for row in rows] == [one.own for row in facts for one in row]
    assert not math.isnan(float(rows[0]["P(word) before"]))
