"""Models at the Hub, decoded shard by shard: what is fetched, in which order, and what stays on the disk."""

import json
from pathlib import Path

import pytest
from huggingface_hub import hf_hub_download

from analysis.checkpoints.sources import resolve
from analysis.errors import NotFetched
from analysis.opening.models import ModelRef, Shards, load_model, resolve_ref
from store import Store, open_store
from tests.standin_hub import StandinHub
from tests.workbench.neurons.hub_models import (
    CONFIGS,
    LAYERS,
    NAME,
    at_hub,
    decoded,
    in_cache,
    remote,
    resharded,
    shards_of,
    with_any,
)
from tests.workbench.neurons.hub_models import folder as folder
from tests.workbench.neurons.hub_models import store as store
from workbench.neurons.decoding import decode_model, decode_spec


def test_opening_fetches_no_shard_and_knows_the_same_model(hub: StandinHub, folder: Path) -> None:
    loaded, local = remote(), load_model(ModelRef(str(folder)))
    assert hub.fetched() == []
    assert loaded.fingerprint == local.fingerprint
    assert loaded.anatomy == local.anatomy
    assert loaded.vocabulary == local.vocabulary


@pytest.mark.parametrize("shards", ["keep", "delete"])
@pytest.mark.parametrize("kind", CONFIGS)
def test_every_needed_shard_comes_once_and_in_order_and_the_result_is_the_same_to_the_byte(
    hub: StandinHub, tmp_path: Path, store: Store, kind: str, shards: Shards
) -> None:
    folder = at_hub(hub, tmp_path / "files", kind, "25KB")
    loaded, local = remote(shards), load_model(ModelRef(str(folder)))
    there = decoded(loaded, store, site="down")
    here = decoded(local, open_store(tmp_path / "local.db"), site="down")
    assert there == here
    assert decode_spec(loaded, "down", "none", 10).key == decode_spec(local, "down", "none", 10).key
    of, head = shards_of(folder), "lm_head.weight"
    head = head if any(head in keys for keys in of.values()) else "model.embed_tokens.weight"
    [first] = [shard for shard, keys in of.items() if head in keys]
    layers = sorted(shard for shard, keys in of.items() if any(".layers." in key for key in keys))
    assert len(layers) >= 4
    assert hub.fetched() == [first, *(shard for shard in layers if shard != first)]


def test_shards_that_nothing_reads_are_not_fetched(hub: StandinHub, folder: Path, store: Store) -> None:
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    index["weight_map"]["model.rotary_emb.inv_freq"] = "model-frequencies.safetensors"
    path.write_text(json.dumps(index))
    (folder / "model-frequencies.safetensors").write_bytes(b"frequencies")
    decode_model(remote(), store)
    assert set(hub.fetched()) == with_any(folder, ".layers.", "lm_head") < set(shards_of(folder))


@pytest.mark.parametrize("norm", ["none", "final"])
def test_two_shards_at_most_lie_on_the_disk_where_they_are_deleted(
    hub: StandinHub, folder: Path, store: Store, norm: str
) -> None:
    straddled = [
        layer for layer in range(LAYERS)
        if sum(any(f".layers.{layer}." in key for key in keys) for keys in shards_of(folder).values()) > 1
    ]  # fmt: skip
    assert straddled
    decode_model(remote("delete"), store, norm=norm)  # type: ignore[arg-type]
    assert len(hub.together) == len(set(hub.fetched())) == len(hub.fetched())
    assert max(hub.together) <= 2
    assert in_cache(hub) == set()


def test_shards_that_are_kept_lie_in_the_hub_s_own_cache(
    hub: StandinHub, tmp_path: Path, store: Store
) -> None:
    folder = at_hub(hub, tmp_path / "files", "own head", "7KB")
    decode_model(remote("keep"), store)
    assert in_cache(hub) == set(hub.fetched())
    hub.log.clear()
    decode_model(remote("keep"), store, site="down")
    assert hub.fetched() == []
    missing = set(shards_of(folder)) - in_cache(hub)
    assert missing, "that of the embedding, which decoding does not read"
    with pytest.raises(NotFetched):
        resolve(NAME)
    resolve(NAME, fetch=True)
    assert set(hub.fetched()) == missing


def test_once_all_of_it_is_here_it_is_the_same_model(hub: StandinHub, folder: Path, store: Store) -> None:
    loaded = remote("keep")
    run = decode_model(loaded, store).run.key
    whole = load_model(ModelRef(NAME), fetch=True)
    assert whole.fingerprint == loaded.fingerprint
    assert decode_model(whole, store).cached
    hub.log.clear()
    again = remote("delete")
    assert decode_model(again, store, site="gate").run.key != run
    assert hub.log == []
    assert in_cache(hub) == set(shards_of(folder)), "what was there before is not deleted"


def test_nothing_travels_unless_it_was_asked_for(hub: StandinHub, folder: Path) -> None:
    with pytest.raises(NotFetched):
        load_model(ModelRef(NAME, streamed=True))
    assert hub.log == []
    loaded = remote("keep")
    hub.log.clear()
    with pytest.raises(NotFetched, match="is not on this machine, and this needs the neurons' vectors"):
        _ = loaded.parameters["model.layers.0.mlp.up_proj.weight"]
    assert loaded.device.type == "cpu"
    assert hub.log == []


def test_a_single_file_without_an_index_is_fetched_once_when_it_is_needed(
    hub: StandinHub, tmp_path: Path, store: Store
) -> None:
    folder = at_hub(hub, tmp_path / "files", "tied head", "5GB")
    loaded = remote()
    assert hub.fetched() == []
    assert ("GET", "model.safetensors (part)") in hub.log
    assert decoded(loaded, store) == decoded(load_model(ModelRef(str(folder))), open_store(tmp_path / "l.db"))
    assert hub.fetched() == ["model.safetensors"]
    assert in_cache(hub) == set()


def test_what_every_block_reads_stays_until_the_last(hub: StandinHub, folder: Path, store: Store) -> None:
    resharded(folder)
    decode_model(remote(), store, norm="final")
    order = ["lm_head", "0", "norm", *(str(layer) for layer in range(1, LAYERS))]
    assert hub.fetched() == [f"model-{part}.safetensors" for part in order]
    assert hub.together == [1, 1, 1, *[2] * (LAYERS - 1)]
    assert in_cache(hub) == set()


def test_some_shards_alone_are_not_taken_for_the_model(hub: StandinHub, folder: Path) -> None:
    for path in folder.iterdir():
        if path.name != "model-00002-of-00004.safetensors":
            hf_hub_download(NAME, path.name)
    with pytest.raises(NotFetched):
        resolve(NAME)
    resolve(NAME, fetch=True)
    resolve(NAME)


def test_what_becomes_of_shards_is_asked_of_hub_models_alone(folder: Path) -> None:
    for ref in (ModelRef(str(folder), streamed=True, shards="delete"), ModelRef(NAME, shards="delete")):
        assert resolve_ref(ref).shards == "local"
    assert resolve_ref(ModelRef(NAME, streamed=True, shards="delete")).shards == "delete"
