"""What pages and the CLI stand on: decode once, find, profile, generate, keep, run again."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from analysis.anatomy.addresses import NeuronAddress, parse_address
from analysis.errors import ClampError, HeadlampError, RecipeError, UnknownWord
from analysis.intervening.clamps import Clamp, parse_clamp
from analysis.neurons import decoding
from analysis.neurons.decoding import NORMS, NeuronNorm
from analysis.opening.models import LoadedModel, ModelRef
from analysis.opening.vocabulary import find_word_tokens
from analysis.running.generation import Sampling
from store import Store, StoreFull, list_runs, list_stored_units, open_store, put_unit
from tests.analysis.conftest import tiny_model, tiny_tokenizer
from workbench.findings import findings
from workbench.generating import clamping
from workbench.generating.requests import GenerationRequest
from workbench.models import list_model_choices, open_model
from workbench.neurons import decoding as neurons
from workbench.neurons import profiles, rows, searching
from workbench.neurons.filtering import NeuronFilter, filter_neurons


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Store]:
    store = open_store(tmp_path / "use-cases.db")
    yield store
    store.close()


@pytest.fixture(params=["llama", "mixtral"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / request.param
    tiny_model(request.param).save_pretrained(path)
    tiny_tokenizer().save_pretrained(path)
    return path


@pytest.fixture
def loaded(folder: Path, database: Store) -> Iterator[LoadedModel]:
    with open_model(ModelRef(str(folder)), database) as model:
        yield model


def first(loaded: LoadedModel) -> str:
    return str(loaded.anatomy.blocks[0].address)


def test_a_model_is_decoded_once_and_then_opened_from_the_store(
    loaded: LoadedModel, database: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, int]] = []
    run = neurons.decode_model(loaded, database, progress=lambda done, total: seen.append((done, total)))
    blocks = len(loaded.anatomy.blocks)
    assert not run.cached
    assert seen == [(done, blocks) for done in range(blocks + 1)]
    monkeypatch.setattr(decoding, "decode_vectors", lambda *a: pytest.fail("decoded again"))
    again = neurons.decode_model(loaded, database)
    assert again.cached
    assert again.run.key == run.run.key


def test_a_killed_decode_goes_on_at_the_next_block(
    loaded: LoadedModel, database: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = open_store(database.path.with_name("whole.db"))
    expected = neurons.decode_model(loaded, whole).run.key
    spec = neurons.decode_spec(loaded, "down", "none", neurons.TOP_K)
    original = put_unit

    def dies(store: Store, key: str, idx: int, **rest: Any) -> bool:
        if idx == 1:
            raise KeyboardInterrupt
        return original(store, key, idx, **rest)

    monkeypatch.setattr("workbench.runs.put_unit", dies)
    with pytest.raises(KeyboardInterrupt):
        neurons.decode_model(loaded, database)
    assert list_stored_units(database, spec.key) == {0}
    monkeypatch.setattr("workbench.runs.put_unit", original)
    assert neurons.decode_model(loaded, database).run.key == spec.key == expected
    ours, theirs = (neurons.read_decoded(loaded, store, spec.key, "down") for store in (database, whole))
    assert all(
        np.array_equal(getattr(ours, f), getattr(theirs, f)) for f in ("top_ids", "top_logits", "log_z")
    )


@pytest.mark.parametrize("change", [{"site": "up"}, {"norm": "unit"}, {"top_k": 3}])
def test_another_question_is_another_run(
    loaded: LoadedModel, database: Store, change: dict[str, Any]
) -> None:
    one = neurons.decode_model(loaded, database)
    other = neurons.decode_model(loaded, database, **change)
    assert not other.cached
    assert other.run.key != one.run.key


def test_find_is_exact_over_all_neurons(loaded: LoadedModel, database: Store) -> None:
    found = searching.find_word(loaded, database, "dog", limit=5)
    assert {run.kind for run in list_runs(database)} == {"find"}
    head = loaded.parameters[loaded.anatomy.head.parameter].double()
    tokens = list(found.token_ids)
    assert {loaded.vocabulary.texts[t] for t in tokens} == {" dog", "dog", " Dog"}
    scores = []
    for block in loaded.anatomy.blocks:
        z = block.down.vectors(loaded.parameters).double() @ head.T
        standard = (z - z.mean(-1, keepdim=True)) / z.std(-1, unbiased=False, keepdim=True)
        p = z.softmax(-1)[:, tokens].sum(-1)
        pick = standard[:, tokens].abs().argmax(-1, keepdim=True)
        best = standard[:, tokens].gather(1, pick)[:, 0]
        scores += [
            (abs(float(s)), f"{block.address}.N{i}", float(s), float(q))
            for i, (s, q) in enumerate(zip(best, p, strict=True))
        ]
    scores.sort(reverse=True)
    assert [str(n.address) for n in found.neurons] == [name for _, name, _, _ in scores[:5]]
    assert all(neuron.probability is None for neuron in found.neurons)
    neurons.decode_model(loaded, database)
    again = searching.find_word(loaded, database, "dog", limit=5)
    for before, neuron, (_, _, z_score, chance) in zip(found.neurons, again.neurons, scores, strict=False):
        assert replace(neuron, probability=None) == before
        assert neuron.z_score == pytest.approx(z_score, rel=1e-4)
        assert neuron.probability == pytest.approx(chance, rel=1e-4)
        assert neuron.sign == ("+" if z_score > 0 else "-")


def test_a_ranking_by_probability_decodes_the_model_once(loaded: LoadedModel, database: Store) -> None:
    assert searching.needs_map(loaded, database, "up", "unit", "probability")
    found = searching.find_word(loaded, database, "dog", site="up", norm="unit", by="probability", limit=1000)
    chances = [neuron.probability for neuron in found.neurons]
    assert None not in chances
    assert chances == sorted(chances, reverse=True)  # type: ignore[type-var]
    assert sorted(run.kind for run in list_runs(database)) == ["decode", "find"]
    assert not searching.needs_map(loaded, database, "up", "unit", "probability")


def test_what_a_search_is_asked_wrongly_is_refused_before_anything_is_computed(
    loaded: LoadedModel, database: Store
) -> None:
    asked: list[dict[str, Any]] = [
        {"by": "probability", "sign": "negative"},
        {"by": "luck"},
        {"sign": "up"},
        {"site": "key"},
        {"limit": 0},
    ]
    for wrong in asked:
        with pytest.raises(HeadlampError, match=r"choose|has up|no negative side"):
            searching.find_word(loaded, database, "dog", **wrong)
    assert not list_runs(database)


@pytest.mark.parametrize("norm", NORMS)
def test_a_search_through_each_norm_is_a_run_of_its_own(
    loaded: LoadedModel, database: Store, norm: NeuronNorm
) -> None:
    tokens = find_word_tokens(loaded.vocabulary, loaded.tokenizer, "dog")
    other = searching.search_spec(loaded, tokens, "up", norm)
    assert other.key != searching.search_spec(loaded, tokens, "down", norm).key
    keys = {searching.search_spec(loaded, tokens, "up", one).key for one in NORMS}
    assert len(keys) == len(NORMS)
    assert not searching.is_searched(loaded, database, "dog", "up", norm)
    searching.find_word(loaded, database, "dog", site="up", norm=norm)
    assert searching.is_searched(loaded, database, "dog", "up", norm)
    assert [run.key for run in list_runs(database)] == [other.key]


def test_the_key_of_a_decoding_is_the_one_it_had_before_searches_had_their_own(loaded: LoadedModel) -> None:
    spec = neurons.decode_spec(loaded, "up", "none", neurons.TOP_K)
    assert (spec.kind, spec.method_version, spec.units) == ("decode", "1", len(loaded.anatomy.blocks))
    assert {"site": "up", "norm": "none", "top_k": 10, "vocab": len(loaded.vocabulary)}.items() <= (
        spec.parameters.items()
    )


def test_a_neuron_alone_has_the_tokens_that_the_map_gives_it(loaded: LoadedModel, database: Store) -> None:
    addresses = [NeuronAddress(block.address, 5) for block in loaded.anatomy.blocks]
    for site, norm in itertools.product(loaded.anatomy.sites, NORMS):
        alone = rows.decode_rows(loaded, database, addresses, site=site, norm=norm)
        run = neurons.decode_model(loaded, database, site=site, norm=norm).run.key
        decoded = neurons.read_decoded(loaded, database, run, site)
        assert rows.decode_rows(loaded, database, addresses, site=site, norm=norm) == list(
            rows.read_rows(loaded, decoded, [decoded.index(address) for address in addresses])
        )
        for one, address in zip(alone, addresses, strict=True):
            (stored,) = rows.read_rows(loaded, decoded, [decoded.index(address)])
            assert one.address == stored.address == address
            assert [t.token_id for t in one.top] == [t.token_id for t in stored.top]
            assert [t.logit for t in one.bottom] == pytest.approx([t.logit for t in stored.bottom], rel=1e-4)
            assert (one.log_z, one.entropy) == pytest.approx((stored.log_z, stored.entropy), rel=1e-4)
            assert one.weight_norm == pytest.approx(stored.weight_norm, rel=1e-6)


def test_a_neuron_alone_decodes_nothing_else(
    loaded: LoadedModel, database: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    original = decoding.decode_vectors

    def spy(vectors: torch.Tensor, *rest: Any, **named: Any) -> decoding.Decoding:
        seen.append(len(vectors))
        return original(vectors, *rest, **named)

    monkeypatch.setattr("workbench.neurons.rows.decode_vectors", spy)
    profiles.decode_neuron(loaded, database, NeuronAddress(loaded.anatomy.blocks[0].address, 3))
    assert seen == [1, 1, 1]
    assert not list_runs(database)


def test_a_search_can_be_kept_to_some_layers(loaded: LoadedModel, database: Store) -> None:
    found = searching.find_word(loaded, database, "dog", by="z", layers=(1, 1), limit=1000)
    assert {n.address.block.layer for n in found.neurons} == {1}
    assert len(found.neurons) == sum(b.d_ff for b in loaded.anatomy.blocks if b.address.layer == 1)


def test_an_unknown_word_costs_no_decoding(loaded: LoadedModel, database: Store) -> None:
    with pytest.raises(UnknownWord):
        searching.find_word(loaded, database, "xylophone dog")
    assert not list_runs(database)


def test_filters_leave_exactly_the_neurons_that_pass(loaded: LoadedModel, database: Store) -> None:
    run = neurons.decode_model(loaded, database).run.key
    decoded = neurons.read_decoded(loaded, database, run, "down")
    everything = filter_neurons(loaded, decoded, NeuronFilter(order="address"))
    assert everything.tolist() == list(range(loaded.anatomy.neurons))
    p = decoded.probability()[:, 0]
    few = filter_neurons(loaded, decoded, NeuronFilter(minimum=float(np.median(p)), layers=(1, 1)))
    assert all(p[i] >= np.median(p) and decoded.layer[i] == 1 for i in few)
    assert list(p[few]) == sorted(p[few], reverse=True)
    words = filter_neurons(loaded, decoded, NeuronFilter(kinds=frozenset({"word"})))
    labels = [loaded.vocabulary.kind(int(decoded.top_ids[i, 0])) for i in range(len(decoded))]
    assert sorted(words.tolist()) == [i for i, kind in enumerate(labels) if kind == "word"]
    bottom = filter_neurons(loaded, decoded, NeuronFilter(end="bottom"))
    low = decoded.probability(bottom=True)[:, 0]
    assert list(low[bottom]) == sorted(low, reverse=True)


def test_every_neuron_finds_its_way_to_its_address_and_back(loaded: LoadedModel, database: Store) -> None:
    run = neurons.decode_model(loaded, database).run.key
    decoded = neurons.read_decoded(loaded, database, run, "down")
    for index in range(len(decoded)):
        assert decoded.index(decoded.address(index)) == index


def test_a_neurons_page_has_everything_it_shows(loaded: LoadedModel, database: Store) -> None:
    address = parse_address(f"{first(loaded)}.N3")
    view = profiles.view_neuron(loaded, database, address)
    assert set(view.decoded) == {"up", "gate", "down"}
    assert view.profile is not None
    assert view.profile["key"].largest == pytest.approx(np.nanmax(np.abs(view.samples)), rel=1e-5)
    assert len(view.samples) == view.positions
    assert view.count == int((~np.isnan(view.samples)).sum())
    peaks = [np.nanmax(np.abs(text.values["key"][1:])) for text in view.texts]
    assert peaks == sorted(peaks, reverse=True)


def test_times_max_uses_the_neurons_own_maximum(loaded: LoadedModel, database: Store) -> None:
    address = parse_address(f"{first(loaded)}.N3")
    clamp = profiles.resolve_clamps(loaded, database, [parse_clamp(f"{address}:up:set:-4x")])[0]
    profile = profiles.find_neuron_profile(loaded, database, address)
    assert profile is not None
    assert isinstance(clamp, Clamp)
    assert clamp.raw == pytest.approx(-4 * profile["up"].largest)


def request(loaded: LoadedModel, value: str = "25", **rest: Any) -> GenerationRequest:
    clamp = parse_clamp(f"{first(loaded)}.N3:set:{value}")
    return GenerationRequest(" my dog is the", (clamp,), sampling=Sampling(8), word="dog", **rest)


def test_a_pair_streams_grows_and_is_remembered(loaded: LoadedModel, database: Store) -> None:
    asked = request(loaded)
    assert clamping.find_pair(loaded, database, asked) is None
    snapshots = list(clamping.stream_pair(loaded, database, asked))
    assert [s.done for s in snapshots] == [False] * (len(snapshots) - 1) + [True]
    assert all(b.base_text.startswith(a.base_text) for a, b in itertools.pairwise(snapshots))
    last = snapshots[-1]
    assert last.stored
    again = clamping.generate_pair(loaded, database, asked)
    stored = clamping.find_pair(loaded, database, asked)
    assert stored is not None
    for other in (again, stored):
        assert (other.run, other.base_ids, other.changed_ids) == (last.run, last.base_ids, last.changed_ids)
        assert (other.answer, other.word, other.reach) == (last.answer, last.word, last.reach)


def test_the_words_probability_is_that_of_the_plain_model(loaded: LoadedModel, database: Store) -> None:
    result = clamping.generate_pair(loaded, database, request(loaded))
    logits = loaded.model(torch.tensor([list(result.prompt_ids)])).logits[0, -1].double()
    tokens = [i for i, text in enumerate(loaded.vocabulary.texts) if text in ("dog", " dog")]
    assert len(tokens) == 2
    texts, special = loaded.vocabulary.texts, loaded.vocabulary.special
    longer = torch.tensor([i not in special and text[:1].isalnum() for i, text in enumerate(texts)])
    behind = loaded.model(torch.tensor([[*result.prompt_ids, i] for i in tokens])).logits[:, -1].double()
    ends = 1 - behind.softmax(-1)[:, longer].sum(-1)
    assert result.word is not None
    assert result.word[0] == pytest.approx(float(logits.softmax(-1)[tokens] @ ends), rel=1e-4)
    shown = {t.token_id: t.base for t in result.answer}
    p = logits.softmax(-1)
    assert all(shown[i] == pytest.approx(float(p[i]), rel=1e-4) for i in shown)


@pytest.mark.parametrize(
    "change", [{"prompt": " my cat"}, {"word": ""}, {"sampling": Sampling(8, 0.5)}, {"clamps": ()}]
)
def test_every_part_of_a_request_is_part_of_its_key(
    loaded: LoadedModel, database: Store, change: dict[str, Any]
) -> None:
    asked = request(loaded)
    one = clamping.generate_pair(loaded, database, asked).run
    other = clamping.generate_pair(loaded, database, GenerationRequest(**{**vars(asked), **change})).run
    assert one != other


def test_a_full_disk_costs_a_warning_not_the_text(
    loaded: LoadedModel, database: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any, **rest: Any) -> bool:
        raise StoreFull("the disk is full; free some space")

    monkeypatch.setattr(clamping, "put_unit", full)
    result = clamping.generate_pair(loaded, database, request(loaded))
    assert "not stored: the disk is full" in result.warning
    assert result.done
    assert not result.stored
    assert result.base_text


def test_a_finding_freezes_the_evidence_and_runs_again(loaded: LoadedModel, database: Store) -> None:
    result = clamping.generate_pair(loaded, database, request(loaded, "6x"))
    finding = findings.keep_generation(loaded, database, result, title="dog", tags=["animals"])
    evidence = finding.evidence
    assert evidence["prompt"] == " my dog is the"
    [clamp] = result.request.clamps
    assert isinstance(clamp, Clamp)
    assert evidence["recipe"]["interventions"][0]["raw"] == clamp.raw
    assert evidence["base"]["token_ids"] == list(result.base_ids)
    assert evidence["word"]["word"] == "dog"
    again = findings.rerun_finding(database, finding.id)
    assert again.same
    assert again.tokens_equal
    assert again.largest_difference <= 1e-6
    assert again.run != result.run
    assert len(list_runs(database, kind="generate")) == 2


def test_running_again_notices_what_does_not_hold(loaded: LoadedModel, database: Store) -> None:
    result = clamping.generate_pair(loaded, database, request(loaded))
    finding = findings.keep_generation(loaded, database, result, title="true")
    text = findings.export_findings([finding], "json")
    row = f'"probability": {result.answer[0].base!r}'
    assert row in text
    forged = text.replace(row, '"probability": 0.987654').replace(finding.id, "f" * 32)
    findings.import_findings(database, forged)
    again = findings.rerun_finding(database, "f" * 32)
    assert again.tokens_equal
    assert not again.same
    assert again.largest_difference > 0.01


def test_running_again_reads_every_probability_the_finding_lists(
    loaded: LoadedModel, database: Store
) -> None:
    result = clamping.generate_pair(loaded, database, request(loaded))
    finding = findings.keep_generation(loaded, database, result, title="true")
    document = json.loads(findings.export_findings([finding], "json"))
    entry = document["findings"][0]
    entry["id"] = "c" * 32
    listed = {token["token_id"] for token in entry["evidence"]["answer"]["base"]}
    other = next(i for i in range(len(loaded.vocabulary)) if i not in listed)
    for row in ("base", "changed"):
        entry["evidence"]["answer"][row][-1] = {"token_id": other, "token": "?", "probability": 0.0}
    findings.import_findings(database, json.dumps(document))
    again = findings.rerun_finding(database, "c" * 32)
    assert again.largest_difference < 0.2
    entry["id"], entry["evidence"]["word"]["changed"] = "d" * 32, 0.999
    findings.import_findings(database, json.dumps(document))
    assert findings.rerun_finding(database, "d" * 32).largest_difference > 0.2


@pytest.mark.parametrize(
    "forged",
    [{"base": None}, {"word": "dog"}, {"answer": None}, {"answer": {"base": [1], "changed": [1]}}]
    + [{"base": {"token_ids": 5}}, {"recipe": {}}, {"seed": 1e400}, {"temperature": "hot"}],
)
def test_forged_evidence_is_a_sentence_before_anything_is_generated(
    loaded: LoadedModel, database: Store, forged: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    result = clamping.generate_pair(loaded, database, request(loaded))
    finding = findings.keep_generation(loaded, database, result, title="true")
    broken = replace(finding, evidence={**finding.evidence, **forged})
    monkeypatch.setattr(findings, "get_finding", lambda store, finding_id: broken)
    monkeypatch.setattr(findings, "regenerate_pair", lambda *a, **k: pytest.fail("generated"))
    with pytest.raises(HeadlampError):
        findings.rerun_finding(database, finding.id)


def test_a_busy_database_keeps_no_model_from_opening(folder: Path, tmp_path: Path) -> None:
    store = open_store(tmp_path / "busy.db", busy_seconds=0.2)
    other = open_store(tmp_path / "busy.db")
    with other.transaction(), open_model(ModelRef(str(folder)), store) as model:
        assert model.anatomy.neurons


def test_a_gate_clamp_on_a_plain_block_is_refused_before_anything_is_measured(
    database: Store, tmp_path: Path
) -> None:
    tiny_model("gpt2").save_pretrained(tmp_path / "gpt2")
    tiny_tokenizer().save_pretrained(tmp_path / "gpt2")
    clamps = [parse_clamp("L0.N3:gate:set:8x")]
    with (
        open_model(ModelRef(str(tmp_path / "gpt2")), database) as plain,
        pytest.raises(ClampError, match="no gate"),
    ):
        profiles.resolve_clamps(plain, database, clamps)
    assert not list_runs(database)


def test_a_finding_of_a_model_that_changed_is_not_run(
    loaded: LoadedModel, database: Store, folder: Path
) -> None:
    result = clamping.generate_pair(loaded, database, request(loaded))
    finding = findings.keep_generation(loaded, database, result, title="x")
    other = folder.with_name("other")
    shutil.copytree(folder, other)
    (other / "tokenizer_config.json").write_text((other / "tokenizer_config.json").read_text() + "\n")
    text = findings.export_findings([finding], "json")
    moved = text.replace(f'"model_name": "{folder}"', f'"model_name": "{other}"').replace(
        finding.id, "a" * 32
    )
    findings.import_findings(database, moved)
    with pytest.raises(RecipeError, match="no longer the model"):
        findings.rerun_finding(database, "a" * 32)


def test_an_unfinished_pair_and_an_empty_title_are_not_kept(loaded: LoadedModel, database: Store) -> None:
    growing = next(clamping.stream_pair(loaded, database, request(loaded)))
    with pytest.raises(HeadlampError, match="still being generated"):
        findings.keep_generation(loaded, database, growing, title="x")
    result = clamping.generate_pair(loaded, database, request(loaded))
    with pytest.raises(HeadlampError, match="needs a title"):
        findings.keep_generation(loaded, database, result, title="  ")


def test_an_opened_model_is_offered_again(loaded: LoadedModel, database: Store, folder: Path) -> None:
    known = [choice for choice in list_model_choices(database) if choice.source == "known"]
    assert [(c.name, c.fingerprint) for c in known] == [(str(folder), loaded.fingerprint)]
    assert known[0].facts["neurons"] == loaded.anatomy.neurons


def test_a_unit_that_was_stored_meanwhile_is_not_stored_twice(loaded: LoadedModel, database: Store) -> None:
    run = neurons.decode_model(loaded, database).run
    assert put_unit(database, run.key, 0, name="again", seconds=0.0) is False


def test_what_is_stored_opens_and_a_word_is_found_when_the_disk_is_full(
    loaded: LoadedModel, database: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    neurons.decode_model(loaded, database)
    expected = searching.find_word(loaded, database, "cat").neurons

    def full(*args: Any, **rest: Any) -> Any:
        raise StoreFull("the disk is full")

    for name in ("begin_run", "put_unit"):
        monkeypatch.setattr(f"workbench.runs.{name}", full)
    assert neurons.decode_model(loaded, database).cached
    assert searching.find_word(loaded, database, "cat").neurons == expected
    assert searching.find_word(loaded, database, "my").neurons


def test_a_full_disk_ends_a_decode_with_what_is_stored_kept(
    loaded: LoadedModel, database: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_at_the_second(store: Store, key: str, idx: int, **rest: Any) -> bool:
        if idx == 1:
            raise StoreFull("the disk is full")
        return put_unit(store, key, idx, **rest)

    monkeypatch.setattr("workbench.runs.put_unit", full_at_the_second)
    with pytest.raises(StoreFull):
        neurons.decode_model(loaded, database)
    spec = neurons.decode_spec(loaded, "down", "none", neurons.TOP_K)
    assert list_stored_units(database, spec.key) == {0}
    monkeypatch.undo()
    assert neurons.decode_model(loaded, database).run.finished
