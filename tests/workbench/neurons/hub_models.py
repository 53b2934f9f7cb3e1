"""Tiny models at the stand-in of the Hub, and what decoding them shard by shard leaves."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file
from transformers import GptOssConfig, LlamaConfig, MixtralConfig, PretrainedConfig

from analysis.opening.models import LoadedModel, ModelRef, Shards, load_model
from store import Store, open_store, read_arrays
from tests.analysis.checkpoints.streamed_made import on_disk
from tests.standin_hub import StandinHub
from workbench.neurons.decoding import decode_model
from workbench.runs import Progress

NAME = "some/model"
THIRD = "model-00003-of-00004.safetensors"
LAYERS = 5
SIZES = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
CONFIGS: dict[str, PretrainedConfig] = {
    "own head": LlamaConfig(**SIZES, tie_word_embeddings=False),
    "tied head": LlamaConfig(**SIZES, tie_word_embeddings=True),
    "experts one by one on disk": MixtralConfig(**SIZES, num_local_experts=4),
    "experts fused on disk": GptOssConfig(**SIZES, num_local_experts=4, head_dim=8),
}
FIELDS = ("top_ids", "top_logits", "bottom_ids", "log_z", "mean", "deviation", "entropy", "weight_norm")


class Interrupted(Exception):
    """Somebody pulls the plug."""


@pytest.fixture
def folder(hub: StandinHub, tmp_path: Path) -> Path:
    """A Llama at the stand-in, in shards that its layers straddle."""
    return at_hub(hub, tmp_path / "files", "own head", "25KB")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "hub.db")


def at_hub(hub: StandinHub, folder: Path, kind: str, shard: str) -> Path:
    hub.models[NAME] = on_disk(folder, CONFIGS[kind], shard)
    return folder


def remote(shards: Shards = "delete") -> LoadedModel:
    return load_model(ModelRef(NAME, streamed=True, shards=shards))


def shards_of(folder: Path) -> dict[str, set[str]]:
    """Shard → the keys in it, by the model's index."""
    found: dict[str, set[str]] = {}
    for key, shard in json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"].items():
        found.setdefault(shard, set()).add(key)
    return found


def with_any(folder: Path, *parts: str) -> set[str]:
    """The shards with a key that has any of these in its name."""
    return {
        shard
        for shard, keys in shards_of(folder).items()
        if any(part in key for part in parts for key in keys)
    }


def in_cache(hub: StandinHub) -> set[str]:
    assert hub.watched is not None
    return {path.name for path in hub.watched.rglob("*.safetensors")}


def decoded(loaded: LoadedModel, store: Store, **asked: str) -> dict[str, list[bytes]]:
    """The bytes of a whole decoding, block by block."""
    run = decode_model(loaded, store, **asked).run.key  # type: ignore[arg-type]
    return {name: [np.asarray(a).tobytes() for a in read_arrays(store, run, name)] for name in FIELDS}


def stop_after(blocks: int) -> Progress:
    def progress(done: int, total: int) -> None:
        if done == blocks:
            raise Interrupted

    return progress


def resharded(folder: Path) -> Path:
    """One shard for each layer, the LM head, the final norm and the embedding."""
    index: dict[str, str] = {}
    tensors = {key: t for shard in shards_of(folder) for key, t in load_file(folder / shard).items()}
    for shard in shards_of(folder):
        (folder / shard).unlink()
    for key in tensors:
        layer = next((part for part in key.split(".") if part.isdigit()), key.split(".")[-2])
        index[key] = f"model-{layer}.safetensors"
    for shard in set(index.values()):
        save_file({key: tensors[key] for key in index if index[key] == shard}, folder / shard)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    return folder


@pytest.fixture
def in_four(hub: StandinHub, tmp_path: Path) -> Path:
    """A Llama at the stand-in, in four shards."""
    folder = at_hub(hub, tmp_path / "files", "own head", "30KB")
    assert len(shards_of(folder)) == 4
    return folder
