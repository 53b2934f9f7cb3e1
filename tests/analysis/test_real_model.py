"""SmolLM2-135M-Instruct, a real chat model, as GGUF and as safetensors, against transformers and float64."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

from analysis.intervening.clamps import parse_clamp
from analysis.neurons.decoding import decode_vectors, read_block_vectors
from analysis.opening.leases import lease_model
from analysis.opening.models import LoadedModel, ModelRef
from analysis.running.answers import encode_answers
from analysis.running.conversations import Conversation
from analysis.running.generation import Sampling, generate_steps
from analysis.running.prompts import encode_conversation, encode_prompt
from analysis.skills.items import SkillItem
from analysis.skills.tasks import measure_items

pytestmark = pytest.mark.real
QUESTION = "What is the capital of France?"
TOKENS = 8


@pytest.fixture(scope="module", params=["GGUF", "safetensors"])
def source(request: pytest.FixtureRequest, smollm2: Path, smollm2_gguf: Path) -> Path:
    return smollm2_gguf if request.param == "GGUF" else smollm2


@pytest.fixture(scope="module")
def theirs(source: Path) -> tuple[Any, Any]:
    """transformers' own model and tokenizer of the same files."""
    options: dict[str, Any] = {}
    folder = source
    if source.is_file():
        folder, options = source.parent, {"gguf_file": source.name}
    tokenizer = AutoTokenizer.from_pretrained(folder, **options)
    if options:
        options["quantization_config"] = GgufConfig(dequantize=True)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **options)
    return model.eval(), tokenizer


@pytest.fixture(scope="module")
def loaded(source: Path) -> Iterator[LoadedModel]:
    with lease_model(ModelRef(str(source))) as loaded:
        yield loaded


def in_chat(tokenizer: Any) -> torch.Tensor:
    chat = [{"role": "user", "content": QUESTION}]
    found: torch.Tensor = tokenizer.apply_chat_template(
        chat, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )["input_ids"]
    return found


def test_weights_logits_and_text_are_those_of_transformers(
    loaded: LoadedModel, theirs: tuple[Any, Any]
) -> None:
    model, tokenizer = theirs
    for name, parameter in model.named_parameters():
        assert torch.equal(loaded.parameters[name], parameter), name
    ids = in_chat(tokenizer)
    assert encode_prompt(loaded, QUESTION) == ids[0].tolist()
    with torch.no_grad():
        assert torch.equal(loaded.model(ids).logits, model(ids).logits)
        text = model.generate(ids, max_new_tokens=TOKENS, do_sample=False)[0, ids.shape[1] :].tolist()
    steps = list(generate_steps(loaded, ids[0].tolist(), [], Sampling(max_new_tokens=TOKENS)))
    assert [step.tokens[0] for step in steps] == text
    assert "Paris" in tokenizer.decode(text)


@pytest.mark.parametrize(("site", "layer"), [("down", 29), ("up", 0), ("gate", 14)])
def test_decoded_tokens_are_those_of_a_float64_product(loaded: LoadedModel, site: Any, layer: int) -> None:
    block = loaded.anatomy.blocks[layer]
    neurons = torch.arange(0, block.d_ff, 97)
    vectors = read_block_vectors(loaded.anatomy, block, loaded.parameters, site)[neurons]
    found = decode_vectors(vectors, loaded.head, top_k=5)
    weight = loaded.parameters[f"model.layers.{layer}.mlp.{site}_proj.weight"].double().numpy()
    rows = (weight.T if site == "down" else weight)[neurons.numpy()]
    z = rows @ loaded.parameters["lm_head.weight"].double().numpy().T
    best = np.argsort(-z, axis=1)[:, :5]
    chosen = np.take_along_axis(z, found.top_ids.numpy().astype(np.int64), 1)
    assert np.abs(chosen - np.take_along_axis(z, best, 1)).max() < 1e-4
    assert np.abs(found.top_logits.numpy() - chosen).max() < 1e-4
    log_z = np.log(np.exp(z - z.max(1, keepdims=True)).sum(1)) + z.max(1)
    assert np.abs(found.log_z.numpy() - log_z).max() < 1e-4


def test_a_held_neuron_changes_the_answer_as_a_hook_on_transformers_does(
    loaded: LoadedModel, theirs: tuple[Any, Any]
) -> None:
    model, tokenizer = theirs
    ids = in_chat(tokenizer)
    clamp = replace(parse_clamp("L20.N808:key:set:30@all"), raw=30.0)
    (step,) = generate_steps(loaded, ids[0].tolist(), [clamp], Sampling(max_new_tokens=1))

    def hold(module: Any, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        held = args[0].clone()
        held[..., 808] = 30.0
        return (held,)

    handle = model.model.layers[20].mlp.down_proj.register_forward_pre_hook(hold)
    with torch.no_grad():
        changed = torch.log_softmax(model(ids).logits[0, -1], -1)
    handle.remove()
    with torch.no_grad():
        base = torch.log_softmax(model(ids).logits[0, -1], -1)
    assert (step.log_probabilities[0] - base).abs().max() < 1e-3
    assert (step.log_probabilities[1] - changed).abs().max() < 1e-3
    assert (changed - base).abs().max() > 0.1


def test_a_conversation_and_its_choices_are_fed_as_transformers_renders_them(
    loaded: LoadedModel, theirs: tuple[Any, Any]
) -> None:
    model, tokenizer = theirs
    turns = (("user", "Hello"), ("assistant", "Hi!"))
    said = [("system", "Be brief."), *turns, ("user", QUESTION)]
    chat = [{"role": role, "content": text} for role, text in said]
    rendered = tokenizer.apply_chat_template(chat, add_generation_prompt=True)["input_ids"]
    assert encode_conversation(loaded, Conversation(QUESTION, system="Be brief.", turns=turns)) == rendered
    ids = in_chat(tokenizer)
    letters = [tokenizer.encode(letter, add_special_tokens=False) for letter in "ABCD"]
    before, answers = encode_answers(loaded, Conversation(QUESTION), "ABCD")
    assert (before, answers) == (ids[0].tolist(), letters)
    with torch.no_grad():
        log_p = model(ids).logits[0, -1].log_softmax(-1)
    best = max(range(4), key=lambda i: float(log_p[letters[i][0]]))
    items = [SkillItem(QUESTION, str(i), "choice", choices=tuple("ABCD")) for i in range(4)]
    assert [verdict.right for verdict in measure_items(loaded, items).verdicts] == [
        i == best for i in range(4)
    ]
