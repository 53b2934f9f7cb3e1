"""The training recipe, on a model small enough to train here."""

from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaForCausalLM

from demo.corpus import stream
from demo.tokenizer import train_tokenizer
from demo.train import Recipe, new_model, save, train

TINY = Recipe(
    hidden=32,
    layers=1,
    heads=2,
    ffn=48,
    rows=2,
    length=128,
    steps=6,
    rate_line=((0, 0.5), (2, 1.0), (6, 0.0)),
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
