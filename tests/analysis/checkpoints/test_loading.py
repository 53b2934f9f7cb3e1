"""Reading weights into place: the model that transformers loads, in hardly more memory than its weights."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, MixtralConfig

from analysis.checkpoints import loading
from analysis.checkpoints.headers import read_stored_tensors
from analysis.checkpoints.loading import empty_model, read_weights
from analysis.errors import NotAModel
from analysis.opening.alive import Alive
from tests.analysis.conftest import FAMILIES, VOCAB, tiny_model
from tests.analysis.pretend_devices import Placed, pretended
from tests.contract.loading import expect_same_tensors

DTYPES = (torch.float32, torch.bfloat16)
LARGEST = 1.1
"""How much of the weights may be held while loading."""


LARGE: dict[str, dict[str, Any]] = {
    "llama": {"num_hidden_layers": 1, "intermediate_size": 400},
    "gpt2": {"n_layer": 1},
    "mixtral": {"num_hidden_layers": 1, "num_local_experts": 16},
    "qwen2_moe": {"num_hidden_layers": 1, "num_experts": 64},
}
"""Family → what makes its largest parameter most of the model."""


class Held(Alive):
    """Counts what lies in memory; tensors on the meta device do not."""

    def _add(self, storage: torch.UntypedStorage) -> None:
        if storage.device.type != "meta":
            super()._add(storage)


def saved(folder: Path, family: str, dtype: torch.dtype, shard: str = "5GB", **changed: Any) -> Path:
    model: Any = tiny_model(family, **changed)
    model.to(dtype).save_pretrained(folder, max_shard_size=shard)
    return folder


def read(folder: Path, dtype: torch.dtype, device: str = "cpu") -> Any:
    return read_weights("tiny", folder, AutoConfig.from_pretrained(folder), device, dtype)


@pytest.mark.parametrize("wanted", DTYPES)
@pytest.mark.parametrize(("stored", "shard"), [(torch.float32, "20KB"), (torch.bfloat16, "5GB")])
@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_read_is_what_transformers_loads(
    tmp_path: Path, family: str, stored: torch.dtype, shard: str, wanted: torch.dtype
) -> None:
    folder = saved(tmp_path, family, stored, shard)
    expect_same_tensors(read(folder, wanted), AutoModelForCausalLM.from_pretrained(folder, dtype=wanted))


def test_mixed_dtypes_become_the_one_asked_for(tmp_path: Path) -> None:
    model = tiny_model("mixtral")
    for number, parameter in enumerate(model.parameters()):
        parameter.data = parameter.data.to((torch.float32, torch.bfloat16, torch.float16)[number % 3])
    model.save_pretrained(tmp_path)
    stored = {tensor.dtype for tensor in read_stored_tensors(tmp_path).values()}
    assert len(stored) == 3
    ours = read(tmp_path, torch.float32)
    assert {p.dtype for p in ours.parameters()} == {torch.float32}
    expect_same_tensors(ours, AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32))


@pytest.mark.parametrize("wanted", DTYPES)
@pytest.mark.parametrize("stored", DTYPES)
@pytest.mark.parametrize("family", LARGE)
def test_hardly_more_than_the_weights_is_held_while_they_are_read(
    tmp_path: Path, family: str, stored: torch.dtype, wanted: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("analysis.checkpoints.stored.BUFFER", 512)
    folder = saved(tmp_path, family, stored, **LARGE[family])
    held = Held()
    with held:
        model = read(folder, wanted)
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    assert weights <= held.most <= LARGEST * weights


def test_weights_go_straight_to_their_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "place_modules", lambda device, empty: {"": torch.device(device)})
    folder = saved(tmp_path, "mixtral", torch.bfloat16)
    with pretended():
        model = read(folder, torch.bfloat16, "ipu:0")
    weights = dict(model.named_parameters())
    assert {str(p.device) for p in weights.values()} == {"ipu:0"}
    here = read(folder, torch.bfloat16)
    for name, parameter in here.named_parameters():
        there = weights[name].data
        assert isinstance(there, Placed)
        assert torch.equal(there.numbers, parameter)


def test_tensors_that_cannot_be_joined_are_told(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = saved(tmp_path, "mixtral", torch.float32)
    path = folder / "model.safetensors"
    weights = load_file(path)
    name = next(key for key in weights if key.endswith("experts.1.w1.weight"))
    save_file(weights | {name: torch.zeros(3, 4)}, path, metadata={"format": "pt"})
    with pytest.raises(NotAModel, match=r"experts\.1\.w1\.weight is \(3, 4\), but both must be equal"):
        read(folder, torch.float32)


def test_a_config_of_which_no_model_can_be_made_is_told(tmp_path: Path) -> None:
    folder = saved(tmp_path, "llama", torch.float32)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"hidden_act": "no-such-function"}))
    with pytest.raises(NotAModel, match=r"no model can be built from .*config\.json"):
        read(folder, torch.float32)


@pytest.mark.parametrize("config", [LlamaConfig, MixtralConfig])
def test_an_empty_model_has_no_weights_and_real_buffers(config: Any) -> None:
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    model = empty_model(config(vocab_size=VOCAB, tie_word_embeddings=True, **sizes), torch.bfloat16)
    assert all(p.is_meta for p in model.parameters())
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    buffers = list(model.buffers())
    assert buffers
    assert all(isinstance(b, Tensor) and not b.is_meta for b in buffers)
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


def test_another_threads_weights_stay_while_a_model_without_any_is_built(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun, go_on = threading.Event(), threading.Event()
    original = AutoModelForCausalLM.from_config

    def slow(*args: Any, **rest: Any) -> Any:
        begun.set()
        assert go_on.wait(20)
        return original(*args, **rest)

    monkeypatch.setattr(AutoModelForCausalLM, "from_config", slow)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 4}
    built: list[Any] = []
    thread = threading.Thread(
        target=lambda: built.append(empty_model(LlamaConfig(vocab_size=VOCAB, **sizes), torch.float32))
    )
    thread.start()
    assert begun.wait(20)
    here = nn.Linear(3, 4)
    go_on.set()
    thread.join()
    assert not here.weight.is_meta
    assert all(p.is_meta for p in built[0].parameters())


def test_models_built_at_once_leave_the_default_dtype_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 4}
    second_begun, first_done = threading.Event(), threading.Event()
    original = LlamaForCausalLM.__init__

    def meet(model: Any, config: Any) -> None:
        if torch.get_default_dtype() == torch.bfloat16 and not second_begun.is_set():
            second_begun.wait(0.5)  # in vain where one builds at a time
        else:
            second_begun.set()
            first_done.wait(0.5)
        original(model, config)

    def build(dtype: torch.dtype) -> None:
        empty_model(LlamaConfig(vocab_size=VOCAB, **sizes), dtype)
        if dtype == torch.bfloat16:
            first_done.set()

    monkeypatch.setattr(LlamaForCausalLM, "__init__", meet)
    first = threading.Thread(target=build, args=(torch.bfloat16,))
    second = threading.Thread(target=build, args=(torch.float32,))
    before = torch.get_default_dtype()
    try:
        first.start()
        while torch.get_default_dtype() != torch.bfloat16 and first.is_alive():
            time.sleep(0.001)
        second.start()
        first.join()
        second.join()
        assert torch.get_default_dtype() == before
    finally:
        torch.set_default_dtype(before)
