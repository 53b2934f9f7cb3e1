"""Each command's document, key by key, and its numbers against an independent computation."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.workbench.conftest import CONTEXT, ROWS, Cli
from workbench.neurons.rows import SHAPE

TOKEN = {"token_id", "token", "logit", "probability"}
PROMPT = ("--prompt", "the dog", "--max-new-tokens", "8")


def test_inspect_tells_what_the_model_is(cli: Cli, tiny: Path) -> None:
    found = cli("inspect", tiny, "--json").document
    assert list(found) == [
        *("model", "architecture", "layers", "d_model", "vocab", "tied", "neurons", "bytes"),
        *("generation_config", "blocks", "weights", "notes", "fit"),
    ]
    assert found["fit"]["verdict"] == "load"
    assert found["fit"]["weights"] == found["bytes"]
    assert set(found["model"]) == {"name", "revision", "fingerprint", "path"}
    assert found["model"]["path"] == str(tiny)
    assert len(found["model"]["fingerprint"]) == 64
    assert (found["layers"], found["d_model"], found["tied"], found["neurons"]) == (2, 16, False, 48)
    assert found["vocab"] == len(AutoTokenizer.from_pretrained(tiny)) < ROWS
    model = AutoModelForCausalLM.from_pretrained(tiny)
    assert found["bytes"] == 4 * sum(p.numel() for p in model.parameters())
    block: dict[str, Any] = {"expert": None, "shared": False, "d_ff": 24, "gated": True}
    assert found["blocks"] == [{"layer": layer} | block for layer in (0, 1)]


def test_inspect_in_half_precision_needs_half_the_memory(cli: Cli, tiny: Path) -> None:
    whole, half = (cli("inspect", tiny, "--dtype", d, "--json").document for d in ("float32", "bfloat16"))
    assert whole["bytes"] == 2 * half["bytes"]


def test_inspect_counts_experts_as_blocks(cli: Cli, experts: Path) -> None:
    blocks = cli("inspect", experts, "--json").document["blocks"]
    assert [(b["expert"], b["shared"], b["d_ff"]) for b in blocks] == [(e, False, 8) for e in range(4)]


def test_a_folder_named_with_a_dot_is_a_folder(cli: Cli, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tiny.parent)
    assert cli("inspect", f"./{tiny.name}", "--json").document["model"]["path"] == str(tiny)


def test_models_lists_what_was_opened(cli: Cli, tiny: Path) -> None:
    before = cli("models", "--json").document
    assert set(before) == {"models", "unreadable"}
    assert str(tiny) not in [m["path"] for m in before["models"]]
    cli("inspect", tiny)
    (known,) = [m for m in cli("models", "--json").document["models"] if m["path"] == str(tiny)]
    assert set(known) == {"name", "source", "path", "fingerprint", "facts"}
    assert known["source"] == "known"
    assert "LlamaForCausalLM" in cli("models").out


def test_a_second_decoding_comes_from_the_store(cli: Cli, tiny: Path) -> None:
    first, second = (cli("decode", tiny, "--json").document for _ in range(2))
    assert list(first) == ["run", "neurons", "cached", "seconds"]
    assert (first["cached"], second["cached"]) == (False, True)
    assert (first["run"], first["neurons"]) == (second["run"], 48)


@pytest.mark.parametrize(
    "option",
    [
        ("--site", "up"),
        ("--norm", "unit"),
        ("--norm", "through"),
        ("--top-k", "3"),
        ("--dtype", "bfloat16"),
    ],
)
def test_another_question_is_another_run(cli: Cli, tiny: Path, option: tuple[str, str]) -> None:
    first, other = (cli("decode", tiny, *given, "--json").document for given in ((), option))
    assert not other["cached"]
    assert other["run"] != first["run"]


def test_a_decoding_at_the_gate_leaves_out_plain_blocks(cli: Cli, tiny: Path, plain: Path) -> None:
    assert cli("decode", tiny, "--site", "gate", "--json").document["neurons"] == 48
    assert cli("decode", plain, "--site", "up", "--json").document["neurons"] == 64


def test_find_scores_every_neuron_exactly(cli: Cli, tiny: Path) -> None:
    cli("decode", tiny, "--site", "up")
    options = ("--site", "up", "--by", "cosine", "--limit", "1000", "--json")
    found = cli("find", tiny, "dog", *options).document
    assert list(found) == ["word", "token_ids", "neurons"]
    model = AutoModelForCausalLM.from_pretrained(tiny).double()
    vocabulary = len(AutoTokenizer.from_pretrained(tiny))
    head = model.lm_head.weight[:vocabulary].detach()
    (token,) = found["token_ids"]
    assert len(found["neurons"]) == 48
    for n in found["neurons"]:
        keys = ("address", "layer", "expert", "shared", "neuron", "sign", "token", "probability", "z_score")
        assert tuple(n) == (*keys, "cosine")
        assert n["address"] == f"L{n['layer']}.N{n['neuron']}"
        w = model.model.layers[n["layer"]].mlp.up_proj.weight[n["neuron"]].detach()
        z = head @ w
        assert n["probability"] == pytest.approx(float(z.softmax(0)[token]), rel=1e-4)
        assert n["cosine"] == pytest.approx(float(z[token] / w.norm() / head[token].norm()), abs=1e-5)
        z_score = (z[token] - z.mean()) / z.std(correction=0)
        assert n["z_score"] == pytest.approx(float(z_score), abs=1e-3)
        assert (n["token"], n["sign"]) == (" dog", "+" if z[token] >= 0 else "-")  # ranked by cosine
    cosines = [abs(n["cosine"]) for n in found["neurons"]]
    assert cosines == sorted(cosines, reverse=True)


def test_find_obeys_site_ranking_sign_and_limit(cli: Cli, tiny: Path) -> None:
    def neurons(*options: str) -> list[Any]:
        return list(cli("find", tiny, "dog", *options, "--json").document["neurons"])

    assert len(neurons("--limit", "3")) == 3
    assert len(neurons()) == 20
    by_z = neurons("--by", "z", "--sign", "negative")
    assert all(n["sign"] == "-" for n in by_z)
    assert [n["z_score"] for n in by_z] == sorted(n["z_score"] for n in by_z)
    assert all(n["sign"] == "+" for n in neurons("--by", "z", "--sign", "positive"))
    assert neurons("--site", "down", "--by", "z") == neurons()
    assert neurons("--site", "up")[0] != neurons()[0]
    stored, unit = (neurons("--by", "probability", *norm)[0] for norm in ((), ("--norm", "unit")))
    assert stored["probability"] != unit["probability"]


def test_find_needs_no_decoding_and_gives_a_probability_where_there_is_one(cli: Cli, tiny: Path) -> None:
    before = cli("find", tiny, "dog", "--json").document["neurons"]
    assert all(n["probability"] is None for n in before)
    assert "  –  " in cli("find", tiny, "dog").out
    asked = cli("find", tiny, "dog", "--by", "probability", "--json")
    assert "needs every neuron decoded at down" in asked.err
    assert [n["probability"] for n in asked.document["neurons"]] == sorted(
        (n["probability"] for n in asked.document["neurons"]), reverse=True
    )
    again = cli("find", tiny, "dog", "--by", "probability", "--json")
    assert "decoded" not in again.err
    after = cli("find", tiny, "dog", "--json").document["neurons"]
    assert all(0 < n["probability"] < 1 for n in after)
    assert [n | {"probability": None} for n in after] == before


def test_neuron_shows_tokens_profile_and_text(cli: Cli, tiny: Path) -> None:
    found = cli("neuron", tiny, "L1.N5", "--text", "the dog", "--profile", "--json").document
    assert list(found) == ["address", "sites", "text", "profile"]
    assert list(found["sites"]) == ["up", "gate", "down"]
    for site in found["sites"].values():
        assert set(site) == {"top", "bottom", "log_z", "weight_norm", *SHAPE}
        assert all(isinstance(site[name], float) for name in SHAPE)
        assert all(set(token) == TOKEN for token in (*site["top"], *site["bottom"]))
    assert list(found["text"]) == ["tokens", "key", "up", "gate"]
    assert found["text"]["tokens"] == ["t", "h", "e", " dog"]
    assert set(found["profile"]) == {"key", "up", "gate", "count", "positions"}
    assert set(found["profile"]["key"]) == {"largest", "first_largest", "mean", "deviation"}
    assert found["profile"]["count"] == found["profile"]["positions"] > 1000
    assert cli("neuron", tiny, "L1.N5", "--json").document["text"] is None


def test_neuron_fires_where_the_model_says(cli: Cli, tiny: Path) -> None:
    found = cli("neuron", tiny, "L1.N5", "--text", "the dog", "--json").document["text"]
    model, ids = opened(tiny, "the dog")
    seen: dict[str, torch.Tensor] = {}
    mlp = model.model.layers[1].mlp
    mlp.up_proj.register_forward_hook(lambda m, a, out: seen.update(up=out[0, :, 5]))
    mlp.gate_proj.register_forward_hook(lambda m, a, out: seen.update(gate=out[0, :, 5]))
    mlp.down_proj.register_forward_pre_hook(lambda m, args: seen.update(key=args[0][0, :, 5]))
    with torch.no_grad():
        model(ids)
    for site, values in seen.items():
        assert found[site] == pytest.approx(values.tolist(), abs=1e-5)


def test_a_plain_neuron_has_no_gate(cli: Cli, plain: Path) -> None:
    found = cli("neuron", plain, "L0.N5", "--text", "the dog", "--profile", "--json").document
    assert list(found["sites"]) == ["up", "down"]
    assert found["text"]["gate"] is None
    assert found["profile"]["gate"] is None
    assert None not in found["text"]["up"]


def test_an_expert_that_saw_nothing_has_no_profile_and_null_values(cli: Cli, experts: Path) -> None:
    never = cli("neuron", experts, "L0.E3.N1", "--text", "the dog", "--profile", "--json").document
    assert never["profile"] is None
    assert never["text"]["key"] == [None] * 4
    often = cli("neuron", experts, "L0.E2.N1", "--text", "the dog", "--json").document["profile"]
    assert 0 < often["count"] < often["positions"]
    assert "never routed" in cli("neuron", experts, "L0.E3.N1").out


def opened(folder: Path, prompt: str) -> tuple[Any, torch.Tensor]:
    """The model as transformers opens it, and a prompt's ids (1, T)."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    return model, torch.tensor([AutoTokenizer.from_pretrained(folder).encode(prompt)])


@contextmanager
def held(module: Any, neuron: int, value: float) -> Iterator[None]:
    """Hold one input of a down projection at a value."""

    def hook(module: Any, args: Any) -> Any:
        key = args[0].clone()
        key[..., neuron] = value
        return (key,)

    handle = module.register_forward_pre_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def greedy(model: Any, ids: torch.Tensor, vocabulary: int, count: int) -> tuple[list[int], torch.Tensor]:
    """(new ids, probabilities (V,) of the first of them), without a cache."""
    new: list[int] = []
    first = torch.empty(0)
    for _ in range(count):
        with torch.no_grad():
            logits = model(ids).logits[0, -1, :vocabulary]
        first = logits.softmax(-1) if not new else first
        new.append(int(logits.argmax()))
        ids = torch.cat([ids, torch.tensor([[new[-1]]])], 1)
    return new, first


def ends(folder: Path, model: Any, ids: torch.Tensor, word: int) -> float:
    """The probability that a word behind ids goes on with no letter or part of one."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    names = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    with torch.no_grad():
        logits = model(torch.cat([ids, torch.tensor([[word]])], 1)).logits[0, -1, : len(names)]
    p = logits.softmax(-1)
    return 1 - sum(float(p[i]) for i, name in enumerate(names) if name[0].isalpha() and name[0] != "Ġ")


def test_generate_under_a_clamp_equals_a_hook_written_by_hand(cli: Cli, tiny: Path) -> None:
    found = cli("generate", tiny, *PROMPT, "--clamp", "L1.N5:key:set:9", "--word", "dog", "--json").document
    assert list(found) == ["prompt", "seed", "base", "changed", "answer", "word"]
    model, ids = opened(tiny, "the dog")
    vocabulary = len(AutoTokenizer.from_pretrained(tiny))
    (dog,) = AutoTokenizer.from_pretrained(tiny).encode(" dog")
    base, base_p = greedy(model, ids, vocabulary, 8)
    word = {"base": float(base_p[dog]) * ends(tiny, model, ids, dog)}
    with held(model.model.layers[1].mlp.down_proj, 5, 9.0):
        changed, changed_p = greedy(model, ids, vocabulary, 8)
        word["changed"] = float(changed_p[dog]) * ends(tiny, model, ids, dog)
    assert base != changed
    assert found["base"]["token_ids"] == base[: len(found["base"]["token_ids"])]
    assert found["changed"]["token_ids"] == changed[: len(found["changed"]["token_ids"])]
    for row, p in (("base", base_p), ("changed", changed_p)):
        assert set(found[row]) == {"text", "token_ids"}
        for token in found["answer"][row]:
            assert set(token) == {"token_id", "token", "probability"}
            assert token["probability"] == pytest.approx(float(p[token["token_id"]]), abs=1e-5)
        assert found["word"][row] == pytest.approx(word[row], abs=1e-5)
    listed = [[t["token_id"] for t in found["answer"][row]] for row in ("base", "changed")]
    assert listed[0] == listed[1]
    best = {int(i) for p in (base_p, changed_p) for i in p.topk(20).indices}
    assert set(listed[0]) == best


def test_generate_without_a_clamp_changes_nothing(cli: Cli, tiny: Path) -> None:
    found = cli("generate", tiny, *PROMPT, "--json").document
    assert found["base"] == found["changed"]
    assert found["answer"]["base"] == found["answer"]["changed"]
    assert (found["word"], found["seed"], found["prompt"]) == (None, 0, "the dog")


def test_generate_draws_by_its_seed(cli: Cli, tiny: Path) -> None:
    def text(seed: int, temperature: float) -> Any:
        options = ("--seed", seed, "--temperature", temperature, "--json")
        return cli("generate", tiny, *PROMPT, *options).document["base"]["token_ids"]

    assert text(1, 5) != text(2, 5)
    assert text(1, 0) == text(2, 0)


def test_an_answer_prefix_is_read_before_the_answer(cli: Cli, tiny: Path) -> None:
    whole = cli("generate", tiny, "--prompt", "the dog cat", "--json").document
    parts = cli("generate", tiny, "--prompt", "the dog", "--answer-prefix", " cat", "--json").document
    assert parts["answer"] == whole["answer"]


def test_a_recipe_s_clamps_come_before_those_given_beside_it(cli: Cli, tiny: Path, tmp_path: Path) -> None:
    recipe, both = tmp_path / "recipe.json", tmp_path / "both.json"
    cli("generate", tiny, *PROMPT, "--clamp", "L0.N1:set:4x@last", "--recipe-out", recipe)
    beside = ("--recipe", recipe, "--clamp", "L1.N5:ablate")
    found = cli("generate", tiny, *PROMPT, *beside, "--recipe-out", both, "--json").document
    entries = json.loads(both.read_text())["interventions"]
    assert [(e["layer"], e["mode"], e["unit"]) for e in entries] == [(0, "set", "max"), (1, "ablate", "raw")]
    given = ("--clamp", "L0.N1:set:4x@last", "--clamp", "L1.N5:ablate")
    assert found == cli("generate", tiny, *PROMPT, *given, "--json").document


def test_a_recipe_for_this_model_keeps_the_size_it_recorded(cli: Cli, tiny: Path, tmp_path: Path) -> None:
    recipe, after = tmp_path / "recipe.json", tmp_path / "after.json"
    cli("generate", tiny, *PROMPT, "--clamp", "L0.N1:set:4x", "--recipe-out", recipe)
    document = json.loads(recipe.read_text())
    document["interventions"][0]["raw"] = 1.25
    recipe.write_text(json.dumps(document))
    cli("generate", tiny, *PROMPT, "--recipe", recipe, "--recipe-out", after)
    assert json.loads(after.read_text())["interventions"][0]["raw"] == 1.25
    del document["model"]["fingerprint"]
    recipe.write_text(json.dumps(document))
    cli("generate", tiny, *PROMPT, "--recipe", recipe, "--recipe-out", after)
    assert json.loads(after.read_text())["interventions"][0]["raw"] != 1.25


def test_generate_says_where_a_clamp_did_not_act(cli: Cli, experts: Path) -> None:
    answer = cli("generate", experts, *PROMPT, "--clamp", "L0.E3.N1:set:9", "--json")
    assert "acted on 0 of the" in answer.err
    assert answer.document["base"] == answer.document["changed"]


def test_a_generation_ends_with_the_context(cli: Cli, tiny: Path) -> None:
    prompt = " dog" * (CONTEXT - 2)
    found = cli("generate", tiny, "--prompt", prompt, "--max-new-tokens", "40", "--json").document
    assert len(found["base"]["token_ids"]) == 2


def test_a_first_real_model_is_listed_until_it_was_opened(cli: Cli) -> None:
    (offered,) = [m for m in cli("models", "--json").document["models"] if m["source"] == "hub"]
    assert offered["name"] == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert offered["path"] is None
    assert offered["name"] in cli("models").out
