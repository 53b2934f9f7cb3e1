"""Weights read from disk when they are needed: the same model, a layer at a time."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    CohereConfig,
    GPT2Config,
    GptOssConfig,
    GraniteConfig,
    LlamaConfig,
    MixtralConfig,
    PretrainedConfig,
)

from analysis.anatomy.structure import find_anatomy
from analysis.checkpoints import streaming
from analysis.checkpoints.loading import empty_model
from analysis.checkpoints.reading import LocalCheckpoint
from analysis.checkpoints.rehearsal import make_placeholder
from analysis.errors import HeadlampError, ModelError
from analysis.opening.models import LoadedModel, ModelRef, load_model
from analysis.running.generation import Sampling, generate_steps
from tests.analysis.checkpoints.streamed_made import on_disk
from tests.analysis.conftest import FAMILIES, VOCAB, tiny_model

SIZES = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
CONFIGS: dict[str, PretrainedConfig] = {
    "own head": LlamaConfig(**SIZES, tie_word_embeddings=False),
    "tied head": LlamaConfig(**SIZES, tie_word_embeddings=True),
    "transposed": GPT2Config(vocab_size=VOCAB, n_embd=32, n_layer=3, n_head=4),
    "experts one by one on disk": MixtralConfig(**SIZES, num_local_experts=4),
    "experts fused on disk": GptOssConfig(**SIZES, num_local_experts=4, head_dim=8),
}


@pytest.fixture
def nothing_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also parameters as small as those of these models are let go."""
    monkeypatch.setattr(streaming, "SMALL", 33)  # norms stay, as in models of any use


@pytest.mark.usefixtures("nothing_stays")
@pytest.mark.parametrize("shard", ["5GB", "20KB"])
@pytest.mark.parametrize("kind", CONFIGS)
def test_a_streamed_model_has_the_anatomy_and_the_weights_of_one_in_memory(
    tmp_path: Path, kind: str, shard: str
) -> None:
    folder = on_disk(tmp_path, CONFIGS[kind], shard)
    whole, streamed = (load_model(ModelRef(str(folder), streamed=s)) for s in (False, True))
    assert streamed.anatomy == whole.anatomy
    assert set(streamed.parameters) == set(whole.parameters)
    assert all(torch.equal(streamed.parameters[name], p) for name, p in whole.parameters.items())
    assert torch.equal(streamed.head.rows, whole.head.rows)


def resident(loaded: LoadedModel) -> set[str]:
    """The layers whose weights are in memory."""
    names = (name for name, p in loaded.model.named_parameters() if p.dim() > 1 and not p.is_meta)
    return {name.split(".")[2] for name in names if ".layers." in name}


@pytest.mark.usefixtures("nothing_stays")
def test_one_layer_is_in_memory_at_a_time(tmp_path: Path) -> None:
    loaded = load_model(ModelRef(str(on_disk(tmp_path, CONFIGS["own head"])), streamed=True))
    assert resident(loaded) <= {"2"}
    for layer in (0, 2, 1):
        up = loaded.parameters[f"model.layers.{layer}.mlp.up_proj.weight"]
        assert resident(loaded) == {str(layer)}
    assert up.shape == (48, 32), "what was handed out stays whole"


def test_a_streamed_model_is_not_run(tmp_path: Path) -> None:
    loaded = load_model(ModelRef(str(on_disk(tmp_path, CONFIGS["own head"])), streamed=True))
    with pytest.raises(HeadlampError):
        next(generate_steps(loaded, [1, 2], [], Sampling()))


@pytest.mark.slow
@pytest.mark.usefixtures("nothing_stays")
def test_several_threads_get_whole_weights_though_each_lets_go_of_the_others(tmp_path: Path) -> None:
    folder = on_disk(tmp_path, CONFIGS["own head"])
    whole, streamed = (load_model(ModelRef(str(folder), streamed=s)).parameters for s in (False, True))
    names = [f"model.layers.{i % 3}.mlp.{part}_proj.weight" for i in range(200) for part in ("up", "down")]
    with ThreadPoolExecutor(8) as threads:
        read = list(threads.map(lambda name: streamed[name], names))
    assert all(torch.equal(one, whole[name]) for name, one in zip(names, read, strict=True))
    assert not any(one.requires_grad for one in read)


def test_tokens_that_end_a_text_are_the_same_from_disk(tmp_path: Path) -> None:
    folder = on_disk(tmp_path, CONFIGS["own head"])
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 41]}))
    whole, streamed = (load_model(ModelRef(str(folder), streamed=s)) for s in (False, True))
    assert 41 in whole.ends_of_text
    assert streamed.vocabulary == whole.vocabulary


def test_a_generation_config_that_is_damaged_is_told(tmp_path: Path) -> None:
    folder = on_disk(tmp_path, CONFIGS["own head"])
    (folder / "generation_config.json").write_text("[")
    with pytest.raises(ModelError, match=r"generation_config\.json.*; fetch the model again"):
        load_model(ModelRef(str(folder), streamed=True))


class Unread(LocalCheckpoint):
    """A checkpoint of which nobody may read anything but its list of tensors."""

    def reading(self, *_: object) -> Any:
        raise AssertionError("a weight was read")


@pytest.mark.usefixtures("nothing_stays")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", FAMILIES)
def test_made_up_weights_prove_the_anatomy_that_the_model_s_own_do(
    tmp_path: Path, family: str, dtype: torch.dtype
) -> None:
    model = tiny_model(family).to(dtype)
    model.save_pretrained(tmp_path)
    empty = empty_model(model.config, dtype)
    weights = streaming.StreamedParameters(empty, Unread(tmp_path, empty))
    with weights.rehearsal():
        assert find_anatomy(empty, weights, weights.running) == find_anatomy(model)
    assert all(parameter.is_meta for parameter in empty.parameters()), "nothing made up stays"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("config", "scale"),
    [
        (GraniteConfig(**SIZES, logits_scaling=6.0), 1 / 6),
        (CohereConfig(**SIZES, logit_scale=0.8333), 0.8333),
    ],
)
def test_a_scale_is_the_one_the_config_states_whatever_weights_it_is_measured_with(
    tmp_path: Path, config: PretrainedConfig, scale: float, dtype: torch.dtype
) -> None:
    folder = on_disk(tmp_path, config)
    empty = empty_model(config, dtype)
    weights = streaming.StreamedParameters(empty, LocalCheckpoint(folder, empty))
    with weights.rehearsal():
        rehearsed = find_anatomy(empty, weights, weights.running)
    assert rehearsed.head.scale == scale
    assert find_anatomy(empty, weights, weights.running).head.scale == scale


@pytest.mark.usefixtures("nothing_stays")
def test_a_checkpoint_that_changes_while_it_is_read_is_refused(tmp_path: Path) -> None:
    folder = on_disk(tmp_path, CONFIGS["own head"])
    loaded = load_model(ModelRef(str(folder), streamed=True))
    with (folder / "model.safetensors").open("ab") as file:
        file.write(b" ")
    with pytest.raises(ModelError, match="was changed while it was read"):
        loaded.parameters["model.layers.0.mlp.up_proj.weight"]


def test_a_checkpoint_without_one_of_its_weights_is_refused(tmp_path: Path) -> None:
    folder = on_disk(tmp_path, CONFIGS["own head"], "20KB")
    index = folder / "model.safetensors.index.json"
    listed = json.loads(index.read_text())
    shard = folder / listed["weight_map"].pop("model.layers.1.mlp.up_proj.weight")
    weights = load_file(shard)
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, shard, metadata={"format": "pt"})
    index.write_text(json.dumps(listed))
    with pytest.raises(ModelError, match=r"layers.1.mlp.up_proj.weight is not in the checkpoint"):
        load_model(ModelRef(str(folder), streamed=True))


def test_a_tied_head_that_is_stored_under_no_name_is_refused(tmp_path: Path) -> None:
    folder = on_disk(tmp_path, CONFIGS["tied head"])
    weights = load_file(folder / "model.safetensors")
    del weights["model.embed_tokens.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"weight is not in the checkpoint: .*download or convert"):
        load_model(ModelRef(str(folder), streamed=True))


@pytest.mark.usefixtures("nothing_stays")
@pytest.mark.parametrize("kept", [("lm_head.weight", "model.embed_tokens.weight"), ("lm_head.weight",)])
def test_a_tied_head_is_read_under_whichever_name_it_is_stored(tmp_path: Path, kept: tuple[str, ...]) -> None:
    folder = on_disk(tmp_path, CONFIGS["tied head"])
    weights = load_file(folder / "model.safetensors")
    table = weights.pop("model.embed_tokens.weight")
    copies = {name: table.clone() for name in kept}
    save_file(weights | copies, folder / "model.safetensors", metadata={"format": "pt"})
    loaded = load_model(ModelRef(str(folder), streamed=True))
    for name in ("lm_head.weight", "model.embed_tokens.weight"):
        assert torch.equal(loaded.parameters[name], table.float())


def test_made_up_weights_are_always_the_same_and_no_two_rows_alike() -> None:
    like = torch.empty(3000, 1000, dtype=torch.bfloat16)
    weight = make_placeholder("a.weight", like)
    assert (weight.shape, weight.dtype) == (like.shape, like.dtype)
    assert torch.equal(weight, make_placeholder("a.weight", like))
    assert not torch.equal(weight, make_placeholder("b.weight", like))
    assert len({row.numpy().tobytes() for row in weight.view(torch.int16)}) == 3000
    assert 0.9 < float((weight.float() @ torch.randn(1000)).std()) < 1.1
    norm, bias = (
        make_placeholder("norm.weight", torch.empty(500)),
        make_placeholder("norm.bias", torch.empty(500)),
    )
    assert 0.05 < float(norm.std()) < 0.2
    assert 0.05 < float(bias.std()) < 0.2
    assert (round(float(norm.mean())), round(float(bias.mean()))) == (1, 0)
