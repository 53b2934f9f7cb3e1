"""Conversations, templates and generation_config from the command line, in keys, findings and scripts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from analysis.opening.models import LoadedModel, ModelRef, load_model
from analysis.running.generation import Sampling
from store import keep_finding, open_store
from tests.altered_models import copied, edit_json, moved_end, with_template
from tests.workbench.conftest import Cli
from tests.workbench.refusals import refused
from workbench.findings.findings import keep_generation, rerun_finding
from workbench.generating.clamping import find_pair, generate_pair
from workbench.generating.requests import GenerationRequest, generation_spec
from workbench.generating.snippets import why_no_snippet, write_snippet
from workbench.neurons.decoding import decode_spec

PROMPT = "What is your favourite animal?"
SHORT = ("--max-new-tokens", "6", "--json")
DATED = (
    "{{ bos_token }}<|user|>Now is {{ strftime_now('%H %M %S %f') }}. "
    "{% for message in messages %}{{ message['content'] }}<|end|>{% endfor %}<|assistant|>"
)


@pytest.fixture(scope="module")
def chat() -> LoadedModel:
    """demo/chat."""
    return load_model(ModelRef("demo/chat"))


def plain_text(messages: list[dict[str, str]], tokens: int) -> list[int]:
    """Greedy text of plain transformers."""
    tokenizer = AutoTokenizer.from_pretrained("demo/chat")
    model = AutoModelForCausalLM.from_pretrained("demo/chat", dtype=torch.float32)
    ids = torch.tensor([tokenizer.apply_chat_template(messages, add_generation_prompt=True)["input_ids"]])
    return [int(i) for i in model.generate(ids, max_new_tokens=tokens, do_sample=False)[0, ids.shape[1] :]]


def test_system_prompt_and_turns_are_fed_as_transformers_renders_them(cli: Cli) -> None:
    said = [("user", "Who are you?"), ("assistant", "I am a small model.")]
    messages = [{"role": role, "content": text} for role, text in [("system", "Be brief."), *said]]
    turns = [part for role, text in said for part in ("--turn", f"{role}:{text}")]
    found = cli("generate", "demo/chat", "--prompt", PROMPT, "--system", "Be brief.", *turns, *SHORT)
    expected = plain_text([*messages, {"role": "user", "content": PROMPT}], 6)
    assert found.document["base"]["token_ids"] == expected
    assert found.err == ""


def test_a_raw_prompt_is_continued_without_the_template(cli: Cli, chat: LoadedModel) -> None:
    found = cli("generate", "demo/chat", "--prompt", "My favourite animal is the", "--raw", *SHORT)
    with torch.inference_mode():
        ids = torch.tensor([chat.tokenizer.encode("My favourite animal is the")])
        first = int(chat.model(ids).logits[0, -1].argmax())
    assert found.document["base"]["token_ids"][0] == first
    assert found.document["base"] != cli("generate", "demo/chat", "--prompt", PROMPT, *SHORT).document["base"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("demo/base", "--system", "x"), "has no chat template, so it knows neither system prompt nor turns"),
        (("demo/base", "--turn", "user:x"), "has no chat template"),
        (("demo/base", "--raw"), "its prompts are always raw; leave out --raw"),
        (("demo/chat", "--raw", "--system", "x"), "need the chat template"),
        (("demo/chat", "--turn", "hello"), "write user:TEXT or assistant:TEXT"),
        (("demo/chat", "--turn", "system:hello"), "write user:TEXT or assistant:TEXT"),
        (("demo/chat", "--as-configured", "--temperature", "1"), "takes the temperature from"),
    ],
)
def test_what_makes_no_sense_is_refused(cli: Cli, options: tuple[str, ...], said: str) -> None:
    refused(cli, "generate", *options, "--prompt", PROMPT, says=said)


def test_all_that_is_fed_is_part_of_the_key(chat: LoadedModel) -> None:
    requests: list[tuple[dict[str, Any], list[int]]] = [
        ({}, [1]),
        ({}, [2]),
        ({"system": "x"}, [1]),
        ({"turns": (("user", "x"),)}, [1]),
        ({"turns": (("assistant", "x"),)}, [1]),
        ({"raw": True}, [1]),
        ({"sampling": Sampling(as_configured=True)}, [1]),
    ]
    keys = [generation_spec(chat, GenerationRequest("a", **rest), ids).key for rest, ids in requests]
    assert len(set(keys)) == len(keys)


def test_keys_say_what_is_odd_about_a_tokenizer_and_nothing_else(chat: LoadedModel, tmp_path: Path) -> None:
    moved = load_model(ModelRef(str(moved_end(tmp_path / "moved"))))
    keys = [decode_spec(loaded, "up", "none", 10).parameters for loaded in (chat, moved)]
    assert keys[0] == {"site": "up", "norm": "none", "top_k": 10, "vocab": 4000}
    assert keys[1] == {**keys[0], "vocab": 4020, "holes": 20}
    base = copied("base", tmp_path / "base")
    tokenizer = json.loads((base / "tokenizer.json").read_text())
    added = tokenizer["post_processor"]
    added["single"].append({"SpecialToken": {"id": "<eos>", "type_id": 0}})
    added["special_tokens"]["<eos>"] = {"id": "<eos>", "ids": [2], "tokens": ["<eos>"]}
    (base / "tokenizer.json").write_text(json.dumps(tokenizer))
    ending = load_model(ModelRef(str(base)))
    assert decode_spec(ending, "up", "none", 10).parameters["appended"] == [2]


def test_a_finding_keeps_what_was_fed_and_runs_again(cli: Cli) -> None:
    options = ("--system", "Be brief.", "--turn", "user:Who?", "--turn", "assistant:I.", "--keep", "kept")
    cli("generate", "demo/chat", "--prompt", PROMPT, *options, *SHORT)
    finding = cli("findings", "list", "--json").document["findings"][0]["id"]
    evidence = cli("findings", "show", finding, "--json").document["evidence"]
    assert (evidence["system"], evidence["turns"]) == ("Be brief.", [["user", "Who?"], ["assistant", "I."]])
    assert evidence["rendered_prompt"].startswith("<bos><|system|>Be brief.<|end|><|user|>Who?")
    assert len(evidence["prompt_ids"]) > 10
    shown = cli("findings", "show", finding).out
    assert "Be brief." in shown
    assert "assistant: I." in shown
    assert cli("findings", "rerun", finding, "--json").document["same"]


def test_a_dated_template_is_another_prompt_every_time(cli: Cli, tmp_path: Path) -> None:
    folder = with_template(tmp_path / "dated", DATED)
    keys = {cli("generate", folder, "--prompt", PROMPT, *SHORT, "--keep", "dated").err for _ in range(2)}
    runs = cli("runs", "list", "--json").document["runs"]
    assert (len(keys), len([run for run in runs if run["kind"] == "generate"])) == (2, 2)
    finding = cli("findings", "list", "--json").document["findings"][0]["id"]
    again = cli("findings", "rerun", finding, "--json")
    assert again.code == 1
    assert not again.document["same"]
    said = again.document["explanation"]
    assert said.startswith("the template renders another prompt: '<bos><|user|>Now is ")
    assert "' then, '" in said


def test_running_again_compares_the_prompt_that_a_finding_kept_if_it_kept_one(
    chat: LoadedModel, tmp_path: Path
) -> None:
    store = open_store(tmp_path / "old.db")
    result = generate_pair(chat, store, GenerationRequest(PROMPT, sampling=Sampling(4)))
    finding = keep_generation(chat, store, result, title="old")
    for name in ("prompt_ids", "rendered_prompt"):
        del finding.evidence[name]
    facts = {name: getattr(finding, name) for name in ("kind", "model_name", "model_fingerprint")}
    old = keep_finding(store, title="older", evidence=finding.evidence, **facts)
    assert rerun_finding(store, old.id).same
    other = {**finding.evidence, "prompt_ids": [1, 2], "rendered_prompt": "<bos>"}
    again = rerun_finding(store, keep_finding(store, title="other", evidence=other, **facts).id)
    assert (again.same, again.tokens_equal) == (False, True)


def test_a_stored_pair_is_found_again_with_its_surroundings(chat: LoadedModel, tmp_path: Path) -> None:
    store = open_store(tmp_path / "pairs.db")
    asked = GenerationRequest(PROMPT, sampling=Sampling(4), system="Be brief.", turns=(("user", "Who?"),))
    result = generate_pair(chat, store, asked)
    found = find_pair(chat, store, asked)
    assert found is not None
    assert found.run == result.run
    assert find_pair(chat, store, GenerationRequest(PROMPT, sampling=Sampling(4))) is None


def test_reasoning_is_told_apart_in_the_document(cli: Cli, tmp_path: Path) -> None:
    template = Path("demo/chat/chat_template.jinja").read_text()
    opening = template.replace("<|assistant|>{% endif", "<|assistant|><think>\n{% endif")
    folder = with_template(tmp_path / "think", opening)
    found = cli("generate", folder, "--prompt", PROMPT, *SHORT).document
    assert found["base"]["reasoning"] == found["base"]["text"] != ""
    assert "reasoning" not in cli("generate", "demo/chat", "--prompt", PROMPT, *SHORT).document["base"]


def test_what_is_configured_and_not_applied_is_said_once(cli: Cli, tmp_path: Path) -> None:
    folder = copied("chat", tmp_path / "chat")
    edit_json(folder / "generation_config.json", temperature=0.6, no_repeat_ngram_size=1)
    told = "asks for temperature 0.6, no_repeat_ngram_size 1: not applied; --as-configured does"
    free = cli("generate", folder, "--prompt", PROMPT, "--max-new-tokens", "30", "--json")
    assert free.err.count(told) == 1
    own = cli("generate", folder, "--prompt", PROMPT, "--max-new-tokens", "30", "--json", "--as-configured")
    assert "asks for" not in own.err
    ids = own.document["base"]["token_ids"]
    assert len(set(ids)) == len(ids)
    found = cli("inspect", folder, "--json").document["generation_config"]
    assert found == {"temperature": 0.6, "no_repeat_ngram_size": 1}
    assert "applied by generate --as-configured only" in cli("inspect", folder).out
    assert "generation_config" not in cli("inspect", "demo/chat").out
    assert cli("inspect", "demo/chat", "--json").document["generation_config"] == {}


def test_inspect_counts_ids_without_a_token(cli: Cli, tmp_path: Path) -> None:
    folder = moved_end(tmp_path / "moved")
    assert "4000 tokens, 12 rows of padding, 20 ids without a token" in cli("inspect", folder).out
    assert "ids without" not in cli("inspect", "demo/chat").out


@pytest.mark.parametrize("kind", ["holes", "dated", "raw", "plain"])
def test_the_script_writes_the_same_text_whatever_was_fed(tmp_path: Path, kind: str) -> None:
    folder = {
        "holes": lambda: moved_end(tmp_path / "m"),
        "dated": lambda: with_template(tmp_path / "m", DATED),
    }.get(kind, lambda: Path("demo/chat"))()
    loaded = load_model(ModelRef(str(folder)))
    asked = GenerationRequest(PROMPT, sampling=Sampling(12), raw=kind == "raw")
    result = generate_pair(loaded, open_store(tmp_path / "s.db"), asked)
    script = write_snippet(loaded, result)
    assert ("the prompt as it was fed" in script) is (kind in ("dated", "raw"))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert f"base:    {result.base_text!r}" in done.stdout


def test_configured_text_has_no_plain_script(chat: LoadedModel) -> None:
    assert "without --as-configured" in why_no_snippet(chat, [], Sampling(as_configured=True))
    assert why_no_snippet(chat, []) == ""
