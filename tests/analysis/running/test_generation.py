"""Paired generation against plain generation and hand-written hooks."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tokenizers import AddedToken
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    Phi3Config,
    Phi3ForCausalLM,
    RobertaConfig,
    RobertaForCausalLM,
)

from analysis.errors import EmptyPrompt, HeadlampError, PromptTooLong, TextError
from analysis.intervening.clamps import Clamp, parse_clamp
from analysis.neurons.activations import profile_blocks
from analysis.opening.models import LoadedModel, ModelRef, load_model
from analysis.running.generation import (
    GenerationStep,
    Sampling,
    generate_steps,
    read_best_tokens,
)
from analysis.running.prompts import decode_answer, encode_prompt
from tests.analysis.conftest import FAMILIES, VOCAB, loaded_from, lock_is_free, tiny_model, tiny_tokenizer

TinyModel = Callable[[str], LoadedModel]
PROMPT = [1, 5, 9, 4, 40]


def held(text: str) -> Clamp:
    return parse_clamp(text).resolve(largest=1.0, mean=0.0)


def row(steps: list[GenerationStep], number: int) -> list[int]:
    return [token for step in steps if (token := step.tokens[number]) is not None]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_base_row_is_the_models_own_greedy_text(tiny: TinyModel, family: str) -> None:
    loaded = tiny(family)
    steps = list(generate_steps(loaded, PROMPT, [], Sampling(12)))
    plain = loaded.model.generate(
        torch.tensor([PROMPT]), max_new_tokens=12, do_sample=False, pad_token_id=0, eos_token_id=2
    )
    assert row(steps, 0) == plain[0, len(PROMPT) :].tolist()
    assert row(steps, 1) == row(steps, 0)


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_the_base_row_is_the_same_with_and_without_a_clamp(tiny: TinyModel, temperature: float) -> None:
    loaded = tiny("llama")
    sampling = Sampling(12, temperature, seed=7)
    plain = list(generate_steps(loaded, PROMPT, [], sampling))
    changed = list(generate_steps(loaded, PROMPT, [held("L0.N7:set:25")], sampling))
    assert row(changed, 0) == row(plain, 0)
    assert all(
        torch.equal(a.log_probabilities[0], b.log_probabilities[0])
        for a, b in zip(plain, changed, strict=False)
    )
    assert row(changed, 1) != row(plain, 1)


def test_a_seed_gives_the_same_sample_and_another_seed_another(tiny: TinyModel) -> None:
    loaded = tiny("llama")

    def sample(seed: int) -> list[int]:
        return row(list(generate_steps(loaded, PROMPT, [], Sampling(16, 1.5, seed))), 0)

    assert sample(3) == sample(3)
    assert len({tuple(sample(seed)) for seed in range(4)}) == 4


def test_sampling_follows_the_models_distribution(tiny: TinyModel) -> None:
    loaded = tiny("llama")
    expected = next(iter(generate_steps(loaded, PROMPT, [], Sampling(1)))).log_probabilities[0].exp()
    draws = torch.zeros_like(expected)
    for seed in range(400):
        step = next(iter(generate_steps(loaded, PROMPT, [], Sampling(1, 1.0, seed))))
        draws[step.tokens[0]] += 1
    best = expected.topk(3).indices
    spread = 4 * (expected[best] * (1 - expected[best]) / 400).sqrt()
    assert ((draws / 400 - expected)[best].abs() <= spread).all()


def test_generated_scope_cannot_change_the_first_new_token(tiny: TinyModel) -> None:
    loaded = tiny("llama")
    plain = list(generate_steps(loaded, PROMPT, [], Sampling(8)))
    late = list(generate_steps(loaded, PROMPT, [held("L0.N7:set:25@generated")], Sampling(8)))
    assert torch.equal(late[0].log_probabilities, plain[0].log_probabilities)
    assert not torch.equal(late[1].log_probabilities[1], plain[1].log_probabilities[1])
    assert [step.reach.covered for step in late[:2]] == [[0], [1]]


def test_generation_stops_when_both_rows_have_ended(tiny: TinyModel) -> None:
    loaded = tiny("llama")
    first = row(list(generate_steps(loaded, PROMPT, [], Sampling(4))), 0)
    loaded.model.generation_config.eos_token_id = [first[2], 2]
    steps = list(generate_steps(loaded, PROMPT, [], Sampling(30)))
    assert row(steps, 0) == first[:3]
    assert len(steps) == 3


def test_generation_stops_at_the_end_of_the_context(tiny: TinyModel) -> None:
    loaded = tiny("gpt2")
    loaded.model.generation_config.eos_token_id = None
    loaded.tokenizer.eos_token = None
    steps = list(generate_steps(loaded, PROMPT, [], Sampling(200)))
    assert len(steps) == loaded.anatomy.context - len(PROMPT)


def test_an_abandoned_generation_leaves_no_hook_and_no_lock(tiny: TinyModel) -> None:
    loaded = tiny("llama")
    steps = generate_steps(loaded, PROMPT, [held("L0.N7:set:25")], Sampling(8))
    next(steps)
    assert lock_is_free(loaded)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in loaded.model.modules())


def test_a_clamp_that_breaks_the_model_is_named(tiny: TinyModel) -> None:
    loaded = tiny("llama")
    broken = replace(held("L0.N7:set:1"), raw=float("inf"))
    with pytest.raises(HeadlampError, match="NaN or infinity"):
        list(generate_steps(loaded, PROMPT, [broken], Sampling(2)))


def test_the_answer_position_lists_the_best_of_either_row_with_both_probabilities(tiny: TinyModel) -> None:
    loaded = tiny("llama")
    step = next(iter(generate_steps(loaded, PROMPT, [held("L1.N7:set:25")], Sampling(1))))
    answer = read_best_tokens(step, best=5)
    p = step.log_probabilities.exp()
    assert set(p[0].topk(5).indices.tolist()) | set(p[1].topk(5).indices.tolist()) == set(answer.token_ids)
    assert answer.changed == pytest.approx(p[1, list(answer.token_ids)].tolist(), rel=1e-5)


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"max_new_tokens": 0}, "choose 1"), ({"temperature": -1}, "choose 0"), ({"seed": -1}, "from 0")],
)
def test_sampling_outside_its_ranges_is_refused(settings: dict[str, float], said: str) -> None:
    with pytest.raises(HeadlampError, match=said):
        Sampling(**settings)  # type: ignore[arg-type]


def test_an_empty_prompt_and_one_beyond_the_context_are_refused(tiny: TinyModel) -> None:
    loaded = tiny("llama")
    with pytest.raises(EmptyPrompt):
        encode_prompt(loaded, "  \n ")
    with pytest.raises(PromptTooLong, match="context is 64"):
        encode_prompt(loaded, "a " * 100)


def test_a_chat_template_is_used_where_the_tokenizer_has_one() -> None:
    tokenizer = tiny_tokenizer()
    loaded = loaded_from(tiny_model("llama"), tokenizer)
    plain = encode_prompt(loaded, " my dog")
    tokenizer.chat_template = "<s>{{ messages[0]['content'] }}{% if add_generation_prompt %} the{% endif %}"
    assert encode_prompt(loaded, " my dog", " is") == [1, 11, 5, 9, 10]
    assert plain == [11, 5]


def test_on_a_trained_model_a_clamp_equals_a_hand_written_hook_token_for_token(stories: Path) -> None:
    loaded = load_model(ModelRef(str(stories)))
    ids = encode_prompt(loaded, "Once upon a time, there was a little")
    steps = list(generate_steps(loaded, ids, [held("L3.N58:set:6.5")], Sampling(40)))
    model = AutoModelForCausalLM.from_pretrained(stories, dtype=torch.float32)
    plain = model.generate(torch.tensor([ids]), max_new_tokens=40, do_sample=False, pad_token_id=0)

    def hold(module: torch.nn.Module, args: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        args[0][..., 58] = 6.5
        return args

    model.model.layers[3].mlp.down_proj.register_forward_pre_hook(hold)
    by_hand = model.generate(torch.tensor([ids]), max_new_tokens=40, do_sample=False, pad_token_id=0)
    assert row(steps, 0) == plain[0, len(ids) :].tolist()
    assert row(steps, 1) == by_hand[0, len(ids) :].tolist()
    assert row(steps, 0) != row(steps, 1)
    tokenizer = AutoTokenizer.from_pretrained(stories)
    assert tokenizer.decode(plain[0], skip_special_tokens=True).endswith(decode_answer(loaded, row(steps, 0)))


def test_threads_on_one_model_write_what_each_would_write_alone(tiny: TinyModel) -> None:
    loaded = tiny("mixtral")
    recipes = [[], [held("L0.E1.N7:set:25")], [held("L1.E2.N3:set:-25")], []]
    alone = [row(list(generate_steps(loaded, PROMPT, recipe, Sampling(10))), 1) for recipe in recipes]

    def write(recipe: list[Clamp]) -> list[int]:
        return row(list(generate_steps(loaded, PROMPT, recipe, Sampling(10))), 1)

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(write, recipes * 3)) == alone * 3
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in loaded.model.modules())


def test_a_window_shorter_than_the_text_changes_nothing_about_pairing() -> None:
    loaded = loaded_from(tiny_model("mistral", sliding_window=4))
    steps = list(generate_steps(loaded, PROMPT, [], Sampling(12)))
    ids = list(PROMPT)
    for step in steps:
        best = int(loaded.model(torch.tensor([ids]), use_cache=False).logits[0, -1].argmax())
        assert step.tokens[0] == best
        ids.append(best)


@pytest.mark.parametrize("family", ["llama", "gemma", "mixtral"])
def test_a_model_in_bfloat16_is_profiled_clamped_and_read_on(family: str) -> None:
    model = tiny_model(family).to(torch.bfloat16)
    loaded = loaded_from(model)
    block = loaded.anatomy.blocks[0]
    largest = profile_blocks(loaded, [[1, 5, 9, 4]])[0].largest[0]
    neuron = int(largest.argmax())
    clamp = parse_clamp(f"{block.address}.N{neuron}:set:16x").resolve(
        largest=float(largest[neuron]), mean=0.0
    )
    steps = list(generate_steps(loaded, PROMPT, [clamp], Sampling(6)))
    plain = list(generate_steps(loaded, PROMPT, [], Sampling(6)))
    assert not torch.equal(steps[0].log_probabilities[0], steps[0].log_probabilities[1])
    assert row(steps, 0) == row(plain, 0)


def test_special_tokens_the_tokenizer_only_added_are_no_text() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens([AddedToken("<|eot|>", special=True, normalized=False)])
    model = tiny_model("llama", vocab_size=128)
    model.generation_config.eos_token_id = [2, VOCAB]
    loaded = loaded_from(model, tokenizer)
    assert decode_answer(loaded, [5, VOCAB]) == " dog"
    assert loaded.vocabulary.kind(VOCAB) == "special"


def test_a_chat_template_that_fails_is_named() -> None:
    tokenizer = tiny_tokenizer()
    loaded = loaded_from(tiny_model("llama"), tokenizer)
    for broken in ("{{ raise_exception('roles must alternate') }}", "{% if %}"):
        tokenizer.chat_template = broken
        with pytest.raises(TextError, match="chat template of tiny"):
            encode_prompt(loaded, " my dog")


def test_a_token_the_model_has_no_row_for_is_refused() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["zebra"])
    with pytest.raises(TextError, match=r"'zebra' as token 97, but the model has 97"):
        encode_prompt(loaded_from(tiny_model("llama"), tokenizer), "a zebra")


def test_a_model_that_counts_positions_its_own_way_is_not_continued() -> None:
    torch.manual_seed(0)
    config = RobertaConfig(
        vocab_size=VOCAB,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        is_decoder=True,
        initializer_range=0.3,
    )
    loaded = loaded_from(RobertaForCausalLM(config).eval())
    with pytest.raises(HeadlampError, match="with a KV cache"):
        next(generate_steps(loaded, PROMPT, [], Sampling()))
    with pytest.raises(HeadlampError, match="with a KV cache"):
        profile_blocks(loaded, [PROMPT])


def test_a_text_ends_where_the_scale_of_its_positions_would_change() -> None:
    torch.manual_seed(0)
    rope = {
        "rope_type": "longrope",
        "rope_theta": 1e4,
        "short_factor": [1.0] * 8,
        "long_factor": [4.0] * 8,
        "original_max_position_embeddings": 32,
    }
    config = Phi3Config(
        vocab_size=VOCAB, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=256, original_max_position_embeddings=32,
        pad_token_id=0, bos_token_id=1, eos_token_id=2, rope_parameters=rope,
    )  # fmt: skip
    loaded = loaded_from(Phi3ForCausalLM(config).eval())
    ids = list(range(5, 29))
    whole = loaded.model.generate(torch.tensor([ids]), max_new_tokens=20, do_sample=False)[0, 24:].tolist()
    found = [step.tokens[0] for step in generate_steps(loaded, ids, [], Sampling(20))]
    assert found == whole[:9]
    beyond = list(range(5, 45))
    whole = loaded.model.generate(torch.tensor([beyond]), max_new_tokens=20, do_sample=False)[0, 40:].tolist()
    assert [step.tokens[0] for step in generate_steps(loaded, beyond, [], Sampling(20))] == whole
