"""What the Hub does not give, and a cache that cannot be written: a sentence each, and nothing half-done."""

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub.file_download
import pytest

from analysis.checkpoints.sources import resolve
from analysis.errors import FetchFailed, ModelError, ModelNotFound, NotAModel, UnsafeWeights
from analysis.opening.models import ModelRef, load_model
from store import Store, list_stored_units
from tests.standin_hub import StandinHub
from tests.workbench.neurons.hub_models import NAME, THIRD, in_cache, remote, shards_of
from tests.workbench.neurons.hub_models import in_four as in_four
from tests.workbench.neurons.hub_models import store as store
from workbench.neurons.decoding import decode_model, decode_spec
from workbench.runs import Progress


def sentence(error: BaseException) -> str:
    """What a person is told: one line, with a way out after the reason."""
    said = str(error)
    assert "\n" not in said
    assert "; " in said
    return said


def after_one_block(spoil: Callable[[], object]) -> Progress:
    def progress(done: int, total: int) -> None:
        if done == 1:
            spoil()

    return progress


@pytest.mark.parametrize("shards", ["keep", "delete"])
@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda hub: hub.cut.add(THIRD), "it was truncated; try again"),
        (lambda hub: hub.wrong.add(THIRD), "differs from the Hub's digest, so it was deleted; try again"),
        (lambda hub: hub.refuse.update({THIRD: 404}), "the Hub does not have it (404); "),
        (lambda hub: hub.refuse.update({THIRD: 403}), "the Hub denies access (403); log in"),
        (lambda hub: hub.refuse.update({THIRD: 500}), "the Hub answered 500; try again later"),
        (lambda hub: hub.gated.add(NAME), "is gated: access requires accepting its authors' terms; "),
        (lambda hub: hub.models.clear(), "the Hub has no model some/model, or it is private"),
    ],
)
def test_a_shard_that_does_not_come_is_told_and_the_rest_goes_on_once_it_does(
    hub: StandinHub, in_four: Path, store: Store, shards: Any, spoil: Callable[..., object], says: str
) -> None:
    loaded = remote(shards)
    with pytest.raises(ModelError) as caught:
        decode_model(loaded, store, progress=after_one_block(lambda: spoil(hub)))
    assert says in sentence(caught.value)
    assert THIRD not in in_cache(hub)
    assert 1 <= len(list_stored_units(store, decode_spec(loaded, "down", "none", 10).key)) < 5
    for spoilt in (hub.cut, hub.wrong, hub.refuse, hub.gated):
        spoilt.clear()
    hub.models[NAME] = in_four
    assert decode_model(loaded, store).run.finished


def test_a_hub_that_goes_away_in_between(hub: StandinHub, in_four: Path, store: Store) -> None:
    with pytest.raises(FetchFailed) as caught:
        decode_model(remote(), store, progress=after_one_block(hub.stop))
    said = sentence(caught.value)
    assert "of some/model could not be fetched from the Hub: http://127.0.0.1:" in said
    assert "cannot be reached; try again once the network is back: what is stored is kept" in said


@pytest.mark.parametrize(
    ("spoil", "kind", "says"),
    [
        (lambda hub: hub.stop(), FetchFailed, "cannot be reached; try again once the network is back"),
        (lambda hub: hub.models.clear(), ModelNotFound, "the Hub has no model some/model"),
        (lambda hub: hub.gated.add(NAME), ModelNotFound, "some/model is gated"),
        (lambda hub: hub.refuse.update({"config.json": 503}), FetchFailed, "the Hub answered 503"),
    ],
)
@pytest.mark.parametrize("ref", [ModelRef(NAME, streamed=True, shards="delete"), ModelRef(NAME)])
def test_a_model_that_the_hub_does_not_give(
    hub: StandinHub, in_four: Path, ref: ModelRef, spoil: Callable[..., object], kind: Any, says: str
) -> None:
    spoil(hub)
    with pytest.raises(kind) as caught:
        load_model(ref, fetch=True)
    assert says in sentence(caught.value)


def test_the_network_switched_off_by_the_environment(
    hub: StandinHub, in_four: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(FetchFailed, match="HF_HUB_OFFLINE disables network access; unset it"):
        remote()
    assert hub.log == []


def test_a_revision_that_is_not_there(hub: StandinHub, in_four: Path) -> None:
    ref = ModelRef(NAME, revision="v9", streamed=True, shards="keep")
    with pytest.raises(ModelNotFound, match="has no such revision at the Hub; check its spelling"):
        load_model(ref)


def test_an_index_that_names_a_shard_the_hub_does_not_have(hub: StandinHub, in_four: Path) -> None:
    (in_four / THIRD).unlink()
    with pytest.raises(
        NotAModel, match=f"its index names {THIRD}, which is not among its files at the Hub; "
    ):
        remote()


def test_weights_that_nothing_should_open_are_refused_before_any_is_fetched(
    hub: StandinHub, in_four: Path
) -> None:
    config = json.loads((in_four / "config.json").read_text())
    evil = {"auto_map": {"AutoModel": "evil.Model"}, "model_type": "evil"}
    (in_four / "config.json").write_text(json.dumps(config | evil))
    with pytest.raises(UnsafeWeights):
        remote()
    (in_four / "config.json").write_text(json.dumps(config))
    for shard in shards_of(in_four):
        (in_four / shard).rename(in_four / shard.replace("safetensors", "bin"))
    (in_four / "model.safetensors.index.json").unlink()
    with pytest.raises(UnsafeWeights, match="has pickled weights only"):
        remote()
    assert hub.fetched() == []


def read_only(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """As on a disk that is mounted read-only, which not even root can write: nothing is made in a folder."""

    def refusing(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Any, *args: Any, **options: Any) -> Any:
            if Path(os.fspath(path)).is_relative_to(folder) and not os.path.isdir(path):
                raise OSError(errno.EROFS, os.strerror(errno.EROFS), os.fspath(path))
            return real(path, *args, **options)

        return call

    monkeypatch.setattr(os, "mkdir", refusing(os.mkdir))
    monkeypatch.setattr(os, "makedirs", refusing(os.makedirs))


@pytest.mark.parametrize("shards", ["keep", "delete"])
def test_a_cache_that_cannot_be_written(
    hub: StandinHub, in_four: Path, monkeypatch: pytest.MonkeyPatch, shards: Any
) -> None:
    assert hub.watched is not None
    read_only(monkeypatch, hub.watched)
    with pytest.raises(FetchFailed) as caught:
        remote(shards)
    assert "cannot be written (Read-only file system); set HF_HOME to a writable folder" in sentence(
        caught.value
    )
    with pytest.raises(FetchFailed, match=r"neither a bundled model .* cannot be written"):
        load_model(ModelRef(NAME), fetch=True)


def test_a_cache_that_cannot_be_written_any_more(
    hub: StandinHub, in_four: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert hub.watched is not None
    loaded = remote("delete")
    read_only(monkeypatch, hub.watched)
    with pytest.raises(FetchFailed) as caught:
        decode_model(loaded, store)
    assert "cannot be written" in sentence(caught.value)


@pytest.mark.slow
def test_a_cache_that_can_only_be_read_serves_what_it_holds(
    hub: StandinHub, in_four: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = load_model(ModelRef(NAME), fetch=True)
    hub.stop()
    assert hub.watched is not None
    read_only(monkeypatch, hub.watched)
    for ref in (ModelRef(NAME), ModelRef(NAME, streamed=True), ModelRef(NAME, streamed=True, shards="keep")):
        assert load_model(ref).fingerprint == whole.fingerprint


def test_a_full_disk(hub: StandinHub, in_four: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    loaded = remote("keep")
    monkeypatch.setattr(huggingface_hub.file_download, "http_get", full)
    with pytest.raises(
        FetchFailed, match="the disk is full; free some space, or have each shard deleted after use"
    ):
        decode_model(loaded, store)


def test_a_name_that_nobody_fetched_is_not_looked_up(hub: StandinHub, in_four: Path) -> None:
    with pytest.raises(ModelNotFound):
        resolve(NAME)
    assert hub.log == []
