"""Tiny random models with a small tokenizer, and the command line as a function."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from typer.testing import CliRunner

WORDS = ["dog", "cat", "the"]
CONTEXT = 64
ROWS = 72
"""Rows of the tiny models' heads: more than the tokenizer has tokens."""


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE of about 60 tokens: letters, " dog", part of a character, and hostile ones."""
    letters = [*"abcdefghijklmnopqrstuvwxyz", "Ġ", "<", ">", ".", "=", "â", "Ģ", "Ļ"]
    merges = []
    for word in WORDS:
        whole = f"Ġ{word}"
        merges += [(whole[:end], whole[end]) for end in range(1, len(whole))]
    pieces = ["<unk>", "<s>", "</s>", *letters, *dict.fromkeys(a + b for a, b in merges)]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    tokenizer = Tokenizer(BPE(vocabulary, merges, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_tokens(["<script>", '=HYPERLINK("x")', '\u2028\x1b[31m"\\'])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )


def saved(folder: Path, model: PreTrainedModel) -> Path:
    """The folder of a model with the tiny tokenizer beside it."""
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dense, gated Llama of 2 layers, d 16, 24 neurons each."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=ROWS,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=CONTEXT,
        initializer_range=0.4,
        tie_word_embeddings=False,
    )
    return saved(tmp_path_factory.mktemp("tiny"), LlamaForCausalLM(config))


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dense, plain GPT-2 of 1 layer."""
    torch.manual_seed(1)
    config = GPT2Config(
        vocab_size=ROWS, n_embd=16, n_layer=1, n_head=2, n_positions=CONTEXT, initializer_range=0.4
    )
    return saved(tmp_path_factory.mktemp("plain"), GPT2LMHeadModel(config))


@pytest.fixture(scope="session")
def experts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Mixtral of 1 layer with 4 experts, the last of which no token is routed to."""
    torch.manual_seed(2)
    config = MixtralConfig(
        vocab_size=ROWS,
        hidden_size=16,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        num_local_experts=4,
        num_experts_per_tok=1,
        max_position_embeddings=CONTEXT,
        initializer_range=0.4,
    )
    model = MixtralForCausalLM(config)
    router = model.model.layers[0].mlp.gate.weight
    with torch.no_grad():
        router[2], router[3] = -router[1], 0.0  # one of ±x is positive, so 0 never wins
    return saved(tmp_path_factory.mktemp("experts"), model)


@dataclass(frozen=True)
class Answer:
    """What a command did: its exit code, and what it wrote where."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The one JSON document on stdout; raises where there is more, less, or NaN in it."""

        def refuse(constant: str) -> None:
            raise AssertionError(f"{constant} is not JSON")

        assert self.code in (0, 1), self.err
        return json.loads(self.out, parse_constant=refuse)


Cli = Callable[..., Answer]


@pytest.fixture
def cli() -> Cli:
    """Runs a command in this process; anything but a clean exit is raised."""
    from workbench.cli.app import app

    def run(*arguments: object) -> Answer:
        result = CliRunner().invoke(app, [str(a) for a in arguments], prog_name="python -m workbench")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Answer(result.exit_code, result.stdout, result.stderr)

    return run
