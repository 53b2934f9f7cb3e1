"""Opening models: identity, one copy per process, and everything that is refused."""

from __future__ import annotations

import json
import os
import shutil
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertConfig, BertForMaskedLM, T5Config, T5ForConditionalGeneration

from analysis.checkpoints.fingerprint import fingerprint, recall_fingerprint
from analysis.checkpoints.sources import resolve
from analysis.errors import (
    ModelError,
    ModelNotFound,
    NotAModel,
    NotCausal,
    NotFetched,
    NoTokenizer,
    UnsafeWeights,
)
from analysis.opening import leases
from analysis.opening.leases import lease_model
from analysis.opening.models import LoadedModel, ModelRef, load_model
from tests.analysis.conftest import tiny_model, tiny_tokenizer
from tests.standin_hub import StandinHub


def test_a_folder_opens_in_float32_with_its_tokenizer(llama_folder: Path) -> None:
    loaded = load_model(ModelRef(str(llama_folder)))
    assert (loaded.anatomy.neurons, loaded.dtype) == (112, "float32")
    assert loaded.model.dtype == torch.float32
    assert not loaded.model.training
    assert not any(p.requires_grad for p in loaded.model.parameters())


def test_no_such_model_names_what_there_is() -> None:
    with pytest.raises(ModelNotFound, match="neither a bundled model"):
        resolve("nobody/knows-this")
    with pytest.raises(ModelNotFound, match="there is no folder"):
        resolve("./not/here/at/all")
    with pytest.raises(ModelNotFound, match="no model named"):
        resolve("  ")
    for odd in ("~nobody-here/model", "x" * 5000, "nul\0byte", "../" * 3000):
        with pytest.raises(ModelNotFound):
            resolve(odd)


def test_a_file_is_not_a_model(llama_folder: Path) -> None:
    with pytest.raises(NotAModel, match="give the folder"):
        resolve(str(llama_folder / "config.json"))


def test_a_folder_without_config_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotAModel, match=r"no config\.json"):
        load_model(ModelRef(str(tmp_path)))


@pytest.mark.parametrize("config", ["{", "[1]", '"text"', '{"model_type": "no-such-type"}', "{}"])
def test_a_config_that_is_not_one_is_refused(llama_folder: Path, config: str) -> None:
    (llama_folder / "config.json").write_text(config)
    with pytest.raises(ModelError):
        load_model(ModelRef(str(llama_folder)))


def test_a_pickle_is_refused_with_the_way_out(llama_folder: Path) -> None:
    (llama_folder / "model.safetensors").rename(llama_folder / "pytorch_model.bin")
    with pytest.raises(UnsafeWeights, match=r"pickled weights only \(pytorch_model\.bin\).*save_pretrained"):
        load_model(ModelRef(str(llama_folder)))


def test_a_folder_without_weights_is_refused(llama_folder: Path) -> None:
    (llama_folder / "model.safetensors").unlink()
    with pytest.raises(NotAModel, match=r"no \*\.safetensors"):
        load_model(ModelRef(str(llama_folder)))


def test_code_of_the_models_own_is_never_run(llama_folder: Path) -> None:
    config = json.loads((llama_folder / "config.json").read_text())
    config |= {"auto_map": {"AutoModelForCausalLM": "modeling.Evil"}, "model_type": "evil"}
    (llama_folder / "config.json").write_text(json.dumps(config))
    (llama_folder / "modeling.py").write_text("raise SystemExit('ran')")
    with pytest.raises(UnsafeWeights, match="never runs"):
        load_model(ModelRef(str(llama_folder)))


def test_an_encoder_is_refused(tmp_path: Path) -> None:
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    BertForMaskedLM(BertConfig(vocab_size=97, **sizes)).save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(NotCausal, match="BertForMaskedLM, which predicts no next token"):
        load_model(ModelRef(str(tmp_path)))


def test_an_encoder_decoder_is_refused(tmp_path: Path) -> None:
    config = T5Config(vocab_size=97, d_model=16, d_ff=16, num_layers=1, num_heads=2, d_kv=8)
    T5ForConditionalGeneration(config).save_pretrained(tmp_path)
    with pytest.raises(NotCausal, match="encoder–decoder"):
        load_model(ModelRef(str(tmp_path)))


def test_a_model_without_tokenizer_is_refused(llama_folder: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        (llama_folder / name).unlink(missing_ok=True)
    with pytest.raises(NoTokenizer, match=r"copy tokenizer\.json"):
        load_model(ModelRef(str(llama_folder)))


def test_a_truncated_weight_file_is_refused(llama_folder: Path) -> None:
    weights = llama_folder / "model.safetensors"
    whole = weights.read_bytes()
    for kept in (2000, len(whole) - 1):
        weights.write_bytes(whole[:kept])
        with pytest.raises(ModelError, match=r"is truncated.*download or convert the model again"):
            load_model(ModelRef(str(llama_folder)))


def test_weights_that_are_missing_are_not_made_up(llama_folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    path = llama_folder / "model.safetensors"
    tensors = load_file(path)
    del tensors["model.layers.1.mlp.down_proj.weight"]
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"model\.layers\.1\.mlp\.down_proj\.weight"):
        load_model(ModelRef(str(llama_folder)))


@pytest.mark.parametrize(
    ("dtype", "device"), [("float7", "cpu"), ("float32", "abacus"), ("float32", "cuda:99")]
)
def test_an_unknown_dtype_or_device_is_refused(llama_folder: Path, dtype: str, device: str) -> None:
    with pytest.raises(ModelError):
        load_model(ModelRef(str(llama_folder), dtype=dtype, device=device))


def test_the_fingerprint_covers_every_byte_that_can_change_an_answer(llama_folder: Path) -> None:
    first = fingerprint(llama_folder, {})
    assert fingerprint(llama_folder, {}) == first
    copy = llama_folder.parent / "copy"
    shutil.copytree(llama_folder, copy)
    assert fingerprint(copy, {}) == first
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        kept = (copy / name).read_bytes()
        (copy / name).write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
        assert fingerprint(copy, {}) != first, name
        (copy / name).write_bytes(kept)
    (copy / "chat_template.jinja").write_text("{{ messages }}")
    assert fingerprint(copy, {}) != first


def test_a_remembered_hash_spares_reading_the_file_until_it_changes(llama_folder: Path) -> None:
    hashes: dict[tuple[str, int, int, int], str] = {}
    assert recall_fingerprint(llama_folder, hashes) is None
    first = fingerprint(llama_folder, hashes)
    assert recall_fingerprint(llama_folder, hashes) == first
    (llama_folder / "config.json").write_text((llama_folder / "config.json").read_text() + " ")
    assert recall_fingerprint(llama_folder, hashes) is None


def test_a_model_is_loaded_once_per_process(llama_folder: Path) -> None:
    seen: list[int] = []

    def use() -> None:
        with lease_model(ModelRef(str(llama_folder))) as loaded:
            seen.append(id(loaded))

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    use()
    assert len(seen) == 5
    assert len(set(seen)) == 1


@pytest.mark.slow
def test_a_leased_model_is_never_evicted_and_idle_ones_are(llama_folder: Path) -> None:
    copies = [llama_folder.parent / f"copy{i}" for i in range(leases.MOST_LOADED + 2)]
    for copy in copies:
        shutil.copytree(llama_folder, copy)
    with lease_model(ModelRef(str(copies[0]))) as first:
        for copy in copies[1:]:
            with lease_model(ModelRef(str(copy))):
                pass
        assert len(leases._entries) <= leases.MOST_LOADED + 1
        with lease_model(ModelRef(str(copies[0]))) as again:
            assert again is first


def test_a_model_whose_files_were_replaced_is_loaded_anew(llama_folder: Path) -> None:
    ref = ModelRef(str(llama_folder))
    with lease_model(ref) as old:
        first = old.fingerprint
        other = llama_folder.parent / "other"
        tiny_model("llama", seed=1).save_pretrained(other)
        os.replace(other / "model.safetensors", llama_folder / "model.safetensors")
        assert old.changed_on_disk
        with lease_model(ref) as new:
            assert new is not old
            assert new.fingerprint != first
            assert new.fingerprint == fingerprint(llama_folder, {})


def test_a_file_rewritten_in_place_does_not_change_a_model_in_use(llama_folder: Path) -> None:
    with lease_model(ModelRef(str(llama_folder))) as loaded:
        before = {name: p.clone() for name, p in loaded.parameters.items()}
        weights = llama_folder / "model.safetensors"
        with weights.open("r+b") as stream:
            stream.seek(-4000, os.SEEK_END)
            stream.write(b"\0" * 4000)
        assert all(torch.equal(before[name], p) for name, p in loaded.parameters.items())


def test_loading_one_model_keeps_nobody_from_using_another(
    llama_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = llama_folder.parent / "other"
    shutil.copytree(llama_folder, other)
    with lease_model(ModelRef(str(llama_folder))):
        pass
    begun, go_on = threading.Event(), threading.Event()
    original = load_model

    def slow(*args: Any, **rest: Any) -> LoadedModel:
        begun.set()
        assert go_on.wait(20)
        return original(*args, **rest)

    monkeypatch.setattr(leases, "load_model", slow)

    def open_other() -> None:
        with lease_model(ModelRef(str(other))):
            pass

    thread = threading.Thread(target=open_other)
    thread.start()
    assert begun.wait(20)
    with lease_model(ModelRef(str(llama_folder))) as ready:
        assert ready.fingerprint
    go_on.set()
    thread.join()


def test_a_load_that_failed_is_tried_again(llama_folder: Path) -> None:
    ref = ModelRef(str(llama_folder))
    (llama_folder / "config.json").rename(llama_folder / "kept.json")
    with pytest.raises(NotAModel), lease_model(ref):
        pass
    (llama_folder / "kept.json").rename(llama_folder / "config.json")
    with lease_model(ref) as loaded:
        assert loaded.anatomy.neurons == 112


def test_weights_of_more_layers_than_the_config_says_are_refused(llama_folder: Path) -> None:
    config = json.loads((llama_folder / "config.json").read_text())
    (llama_folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 1}))
    with pytest.raises(ModelError, match=r"has 1 layers, but its weights contain model\.layers\.1\."):
        load_model(ModelRef(str(llama_folder)))


@pytest.mark.parametrize(
    "changed",
    [
        {"quantization_config": {"quant_method": "gptq", "bits": 4}},
        {"hidden_size": "abc"},
        {"num_attention_heads": 0},
        {"architectures": 5, "num_key_value_heads": 3},
        {"eos_token_id": "x"},
        {"dtype": "nope"},
        {"_attn_implementation": "flash_attention_2"},
    ],
)
def test_a_config_transformers_cannot_take_is_our_error_or_none(
    llama_folder: Path, changed: dict[str, Any]
) -> None:
    config = json.loads((llama_folder / "config.json").read_text())
    (llama_folder / "config.json").write_text(json.dumps(config | changed))
    with suppress(ModelError):
        assert load_model(ModelRef(str(llama_folder))).anatomy.neurons == 112


def test_a_hub_model_is_fetched_only_on_request_and_no_file_beside_its_weights(
    hub: StandinHub, llama_folder: Path
) -> None:
    for name in ("consolidated.safetensors", "model-00001-of-00002.safetensors", "pytorch_model.bin"):
        (llama_folder / name).write_bytes(b"copies of the weights")
    hub.models["someone/model"] = llama_folder
    with pytest.raises(NotFetched, match="not among the Hub models"):
        resolve("someone/model", "main")
    assert hub.log == []
    folder = resolve("someone/model", "main", fetch=True)
    assert hub.fetched() == ["model.safetensors"]
    assert fingerprint(folder) == fingerprint(llama_folder)
    assert resolve("someone/model", "main") == folder


def test_the_same_folder_under_another_spelling_is_the_same_model(
    llama_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(llama_folder.parent)
    with (
        lease_model(ModelRef("./tiny-llama")) as one,
        lease_model(ModelRef(str(llama_folder), device="auto")) as other,
    ):
        if not torch.cuda.is_available() and not torch.backends.mps.is_available():
            assert one is other
        assert one.ref.name == str(llama_folder.resolve())
