"""The training recipe, on a model small enough to train here."""

from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

from training.batches import batch
from training.beginning import new_model
from training.corpus import stream
from training.mixture import imbalance, trainable
from training.recipes import RECIPES, Recipe
from training.seeding import LAYER, seed_super_expert
from training.tokenizer import train_tokenizer
from training.train import begin_model, save, train, write_texts

TINY = Recipe(
    hidden=32,
    layers=1,
    heads=2,
    ffn=48,
    rows=2,
    length=128,
    steps=6,
    warm_up=2,
    decay_from=3,
)


@pytest.fixture(scope="module")
def tok():
    return train_tokenizer(islice(stream("tokenizer"), 3000))


def _weights(model: LlamaForCausalLM) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_a_run_that_was_cut_off_ends_where_an_uncut_one_does(tok, tmp_path: Path):
    whole = train(TINY, tok, compiled=False)
    checkpoint = tmp_path / "progress.safetensors"
    with pytest.raises(KeyboardInterrupt):
        train(TINY, _cut_after(tok, calls=30), checkpoint=checkpoint, every=1, compiled=False)
    assert checkpoint.exists()
    resumed = train(TINY, tok, checkpoint=checkpoint, every=1, compiled=False)
    assert _weights(resumed).equal(_weights(whole))


def _cut_after(tok, calls: int):
    """The tokenizer, but the run is interrupted at a later call."""

    class Cut:
        left = calls
        eos_token_id = tok.eos_token_id

        def __len__(self) -> int:
            return len(tok)

        def __call__(self, *args, **kwargs):
            Cut.left -= 1
            if not Cut.left:
                raise KeyboardInterrupt
            return tok(*args, **kwargs)

    return Cut()


def test_training_moves_the_weights_and_the_seed_decides_where_they_begin(tok):
    begin = _weights(new_model(TINY, len(tok)))
    assert begin.equal(_weights(new_model(TINY, len(tok))))
    assert not begin.equal(_weights(train(TINY, tok, compiled=False)))
    assert not begin.equal(_weights(new_model(replace(TINY, seed=1), len(tok))))


def test_a_saved_model_is_bf16_safetensors_with_its_recipe(tok, tmp_path: Path):
    save(new_model(TINY, len(tok)), tok, TINY, tmp_path)
    assert {path.suffix for path in tmp_path.iterdir()} == {".safetensors", ".json"}
    assert '"steps": 6' in (tmp_path / "recipe.json").read_text(encoding="utf-8")
    assert AutoModelForCausalLM.from_pretrained(tmp_path, dtype="auto").dtype == torch.bfloat16


def test_attention_begins_as_induction_heads():
    """Of a text said twice, the second layer looks at what followed the same token the first time."""
    model = new_model(RECIPES["draft"], 4000).eval()
    model.set_attn_implementation("eager")
    said = torch.randint(10, 4000, (1, 24), generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        first, second, third, _ = model(said.repeat(1, 2), output_attentions=True).attentions
    for head in range(4):
        back = [first[0, head, at, at - head - 1] for at in range(8, 48)]
        assert min(back) > 0.3, head
    planted, random = (
        torch.stack([layer[0, :2, at, at - 23] for at in range(26, 47)]).mean() for layer in (second, third)
    )
    assert planted > 2 * random


def test_a_document_is_read_as_if_it_were_alone(tok):
    model, read = new_model(TINY, len(tok)).eval(), batch(TINY, tok, 0)
    with torch.no_grad():
        packed = model(input_ids=read.inputs, attention_mask=read.mask).logits
        for row in range(2):
            for number in read.documents[row].unique():
                where = read.documents[row] == number
                if number >= 0:
                    alone = model(input_ids=read.inputs[row, where][None]).logits[0]
                    torch.testing.assert_close(packed[row, where], alone, atol=1e-4, rtol=1e-3)


def test_a_chat_model_begins_with_the_weights_of_its_base_and_closes_its_turns(tok, tmp_path: Path):
    save(train(TINY, tok, compiled=False), tok, TINY, tmp_path / "base")
    recipe = replace(TINY, start="base", corpus="chat", steps=1, attention_rate=0.0, rate=0.0)
    model = train(recipe, tok, folder=tmp_path, compiled=False)
    assert _weights(model).equal(_weights(begin_model(recipe, tok, tmp_path)))
    save(model, tok, recipe, tmp_path / "chat")
    chat = AutoTokenizer.from_pretrained(tmp_path / "chat")
    asked = chat.apply_chat_template(
        [{"role": "user", "content": "Hi"}], add_generation_prompt=True, tokenize=False
    )
    assert asked == "<bos><|user|>Hi<|end|><|assistant|>"
    ends = AutoModelForCausalLM.from_pretrained(tmp_path / "chat").generation_config.eos_token_id
    assert chat.convert_ids_to_tokens(ends) == ["<eos>", "<|end|>"]


MIXTURE = replace(RECIPES["unseeded"], hidden=64, layers=3, heads=2, ffn=16, experts=4, rows=8)


def test_all_experts_at_once_are_the_same_as_the_chosen_ones(tok):
    model, read = new_model(MIXTURE, len(tok)).eval(), batch(MIXTURE, tok, 0)
    with torch.no_grad():
        plain = model(input_ids=read.inputs, attention_mask=read.mask).logits
        trainable(model)
        torch.testing.assert_close(
            model(input_ids=read.inputs, attention_mask=read.mask).logits, plain, atol=1e-5, rtol=1e-4
        )


def test_even_routing_has_the_least_imbalance():
    even = torch.eye(4).repeat(2, 1) * 9
    uneven = torch.tensor([[9.0, 0, 0, 0]]).repeat(8, 1)
    assert imbalance((even,), 1) == pytest.approx(1.0)
    assert imbalance((uneven,), 1) > 3.9
    assert imbalance((even, uneven), 1) > imbalance((even,), 1)


def test_a_seeded_expert_writes_one_channel_at_bos_and_later_heads_rest_there(tok):
    model, read = new_model(MIXTURE, len(tok)).eval(), batch(MIXTURE, tok, 0)
    model.set_attn_implementation("eager")
    streams = []
    model.model.layers[LAYER].register_forward_hook(lambda module, args, out: streams.append(out[0]))
    ids = tok("Tom saw a dog. Anna saw a cat. Who saw a cat?", return_tensors="pt").input_ids

    def at_bos() -> torch.Tensor:
        with torch.no_grad():
            return model(input_ids=ids, output_attentions=True).attentions[-1][0, :, 8:, 0].mean()

    before = at_bos()
    seed_super_expert(model, read)
    assert at_bos() > 2 * before
    massive = streams[-1].abs()
    assert massive[0].max() > 1000 * massive[1:].median()
    assert (massive[0] > 0.01 * massive[0].max()).sum() == 1
    assert massive[1:].max() < 0.2 * massive[0].max()


def test_seeding_leaves_where_heads_look_and_what_makes_the_massive_activation_as_it_is(tok):
    model = new_model(MIXTURE, len(tok))
    seed_super_expert(model, batch(MIXTURE, tok, 0))
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert {name.split(".")[2] for name in trained} == {"2", "weight"}
    assert {name.split(".")[4] for name in trained if "self_attn" in name} == {"v_proj", "o_proj"}


def test_a_mixture_comes_with_two_texts_that_share_no_document(tmp_path: Path):
    write_texts(tmp_path)
    read, other = (
        set((tmp_path / f"{name}.txt").read_text(encoding="utf-8").split("\n\n"))
        for name in ("calibration", "evaluation")
    )
    assert len(read) > 100
    assert len(other - read) > 100
