"""A tokenizer that knows fewer or more tokens than the head has rows: padding is no label, nothing breaks."""

from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from analysis.opening.models import ModelRef, load_model
from store import open_store, read_arrays
from tests.standin_hub import StandinHub
from tests.workbench.conftest import CONTEXT, Cli, saved, tiny_tokenizer
from tests.workbench.refusals import refused
from workbench.neurons.decoding import decode_model

TOKENS = len(tiny_tokenizer())
SIZES = {"fewer rows than tokens": TOKENS - 5, "as many": TOKENS, "padded rows": TOKENS + 19}


def model_with(rows: int, folder: Path, *, tied: bool = False) -> Path:
    """A tiny Llama whose rows beyond the tokenizer, if any, are larger than all others."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=rows,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=tied,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        model.lm_head.weight[TOKENS:] = 100.0 * torch.randn(max(rows - TOKENS, 0), 16)
    return saved(folder, model)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("rows", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("where", ["in memory", "from disk", "from the Hub"])
def test_only_tokens_of_both_are_labels(
    hub: StandinHub, tmp_path: Path, rows: int, where: str, tied: bool
) -> None:
    folder = hub.models["some/model"] = model_with(rows, tmp_path / "model", tied=tied)
    ref = {
        "in memory": ModelRef(str(folder)),
        "from disk": ModelRef(str(folder), streamed=True),
        "from the Hub": ModelRef("some/model", streamed=True, shards="delete"),
    }[where]
    loaded, store = load_model(ref), open_store(tmp_path / "decoded.db")
    known = min(rows, TOKENS)
    for site in loaded.anatomy.sites:
        run = decode_model(loaded, store, site=site).run.key
        for name in ("top_ids", "bottom_ids"):
            labels = [ids for unit in read_arrays(store, run, name) for ids in unit.flatten().tolist()]
            assert 0 <= min(labels) <= max(labels) < known
    assert (len(loaded.vocabulary), loaded.vocabulary.padding_rows) == (known, rows - known)
    assert max(loaded.special_ids) < known or rows < TOKENS


@pytest.mark.slow
@pytest.mark.parametrize("rows", SIZES.values(), ids=SIZES)
def test_from_disk_is_the_same_answer(cli: Cli, tmp_path: Path, rows: int) -> None:
    folder = model_with(rows, tmp_path / "model")
    one = cli("decode", folder, "--from-disk", "--db", tmp_path / "one.db", "--out", tmp_path / "one.jsonl")
    other = cli("decode", folder, "--db", tmp_path / "other.db", "--out", tmp_path / "other.jsonl")
    assert (one.code, other.code) == (0, 0)
    assert (tmp_path / "one.jsonl").read_bytes() == (tmp_path / "other.jsonl").read_bytes()


def test_a_token_that_the_model_has_no_row_for_is_refused_in_a_sentence(cli: Cli, tmp_path: Path) -> None:
    folder = model_with(TOKENS - 5, tmp_path / "model")
    said = f"the model has {TOKENS - 5} tokens; use the tokenizer that belongs to the model"
    refused(cli, "generate", folder, "--prompt", "the <script>", says=said)
    refused(cli, "neuron", folder, "L0.N0", "--text", "the <script>", says=said)
    refused(cli, "find", folder, "<script>", says="is not a single token of this model")


def test_a_reference_text_that_the_model_cannot_read_is_refused_in_a_sentence(
    cli: Cli, tmp_path: Path
) -> None:
    folder = model_with(10, tmp_path / "model")
    said = "the model has 10 tokens; use the tokenizer that belongs to the model"
    refused(cli, "neuron", folder, "L0.N0", "--profile", says=said)
    refused(cli, "generate", folder, "--prompt", "a", "--clamp", "L0.N0:set:8x", says=said)
    assert cli("decode", folder).code == 0
