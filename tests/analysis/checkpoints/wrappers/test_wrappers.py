"""Multimodal models opened as their text model, held against the whole model by transformers itself."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoProcessor, AutoTokenizer, CLIPImageProcessor, LlavaProcessor

from analysis.checkpoints.fingerprint import fingerprint
from analysis.checkpoints.headers import read_stored_tensors
from analysis.checkpoints.stored import StoredTensor
from analysis.errors import ModelError, NotAModel, NoTokenizer
from analysis.opening.memory import estimate_folder
from analysis.opening.models import ModelRef, load_model
from analysis.running.generation import Sampling, generate_steps
from tests.analysis.checkpoints.wrappers.wrappers_made import (
    IDS,
    WRAPPERS,
    logits,
    made_wrapper,
    whole_model,
)

POSITIONS = torch.arange(IDS.shape[1])[None]


@pytest.mark.parametrize("family", WRAPPERS)
@pytest.mark.parametrize("named_as_now", [False, True])
def test_a_wrapper_gives_the_logits_of_a_text_that_the_whole_model_gives(
    family: str, named_as_now: bool, tmp_path: Path
) -> None:
    folder = made_wrapper(family, tmp_path, named_as_now=named_as_now)
    loaded, whole = load_model(ModelRef(str(folder))), whole_model(family)
    wanted = logits(whole)
    assert torch.equal(logits(loaded.model), wanted)
    assert torch.equal(logits(loaded.model, position_ids=POSITIONS), wanted)
    text = {name for name, _ in whole.named_parameters() if name in loaded.parameters}
    rest = {name for name, _ in whole.named_parameters()} - text
    assert rest
    assert not any("language_model" in name or "text_model" in name or "lm_head" in name for name in rest)
    assert len(loaded.anatomy.blocks) >= 2
    streamed = load_model(ModelRef(str(folder), streamed=True))
    assert all(torch.equal(streamed.parameters[name], loaded.parameters[name]) for name in text)
    assert "left out, and not read" in loaded.notes[0] == streamed.notes[0]


def test_what_is_left_out_is_never_read_and_not_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = made_wrapper("gemma3", tmp_path)
    seen: set[str] = set()
    read = StoredTensor.read_into

    def noted(self: StoredTensor, out: torch.Tensor) -> None:
        seen.add(self.key)
        read(self, out)

    monkeypatch.setattr(StoredTensor, "read_into", noted)
    loaded = load_model(ModelRef(str(folder)))
    stored = read_stored_tensors(folder)
    assert seen == {key for key in stored if key.startswith("language_model.")} != stored.keys()
    needs = estimate_folder(folder, "float32")
    assert needs.parameters == sum(p.numel() for p in loaded.model.parameters())
    assert needs.stored == sum(stored[key].stored_bytes for key in seen)


def test_greedy_text_is_that_of_the_whole_model(tmp_path: Path) -> None:
    for family in ("qwen2_vl", "gemma3"):
        loaded = load_model(ModelRef(str(made_wrapper(family, tmp_path / family))))
        prompt = IDS[0].tolist()
        wanted = whole_model(family).generate(IDS, max_new_tokens=8, do_sample=False, eos_token_id=None)
        found = [step.tokens[0] for step in generate_steps(loaded, prompt, (), Sampling(8))]
        assert found
        assert found == wanted[0, len(prompt) :].tolist()[: len(found)]


def test_a_tensor_that_is_neither_text_nor_left_out_is_refused(tmp_path: Path) -> None:
    folder = made_wrapper("llava", tmp_path)
    tensors = load_file(folder / "model.safetensors")
    save_file(tensors | {"vision_tower.extra": torch.ones(1)}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=r"1 tensors of its weights have no place .* vision_tower\.extra"):
        load_model(ModelRef(str(folder)))
    del tensors["language_model.model.layers.0.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match="is incomplete: 1 weights are missing"):
        load_model(ModelRef(str(folder)))


def test_every_file_is_part_of_the_fingerprint(tmp_path: Path) -> None:
    folder = made_wrapper("llava", tmp_path)
    first = fingerprint(folder)
    (folder / "processor_config.json").write_text('{"image_seq_length": 4}')
    assert fingerprint(folder) == first
    (folder / "processor_config.json").write_text('{"chat_template": "{{ messages }}"}')
    second = fingerprint(folder)
    tensors = load_file(folder / "model.safetensors")
    tensors["multi_modal_projector.linear_1.bias"] += 1
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    assert len({first, second, fingerprint(folder)}) == 3


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"chat_template.jinja": "raw"}, "raw"),
        ({"chat_template.jinja": "raw", "chat_template.json": {"chat_template": "legacy"}}, "legacy"),
        ({"chat_template.json": {"chat_template": "legacy"}}, "legacy"),
        (
            {"chat_template.json": {"chat_template": "legacy"}}
            | {"processor_config.json": {"chat_template": "own"}},
            "own",
        ),
        ({"chat_template.jinja": "raw", "processor_config.json": {"image_seq_length": 4}}, "raw"),
    ],
)
def test_the_chat_template_is_the_one_that_the_processor_takes(
    files: dict[str, Any], expected: str, tmp_path: Path
) -> None:
    folder = made_wrapper("llava", tmp_path)
    processor = LlavaProcessor(CLIPImageProcessor(), AutoTokenizer.from_pretrained(folder), patch_size=8)
    processor.save_pretrained(folder)
    stored = json.loads((folder / "processor_config.json").read_text())
    for name, content in files.items():
        whole = content if isinstance(content, str) else json.dumps(stored | content)
        (folder / name).write_text(whole)
    assert AutoProcessor.from_pretrained(folder).chat_template == expected
    assert load_model(ModelRef(str(folder))).tokenizer.chat_template == expected


def test_a_damaged_processor_file_is_named(tmp_path: Path) -> None:
    folder = made_wrapper("llava", tmp_path)
    (folder / "chat_template.json").write_text("{")
    with pytest.raises(NoTokenizer, match=r"chat_template\.json cannot be read"):
        load_model(ModelRef(str(folder)))


def test_an_adapter_trained_on_the_whole_model_is_merged_into_its_text(tmp_path: Path) -> None:
    folder, adapter = made_wrapper("llava", tmp_path / "base"), tmp_path / "adapter"
    torch.manual_seed(1)
    tuned = get_peft_model(whole_model("llava"), LoraConfig(r=4, target_modules=["q_proj", "down_proj"]))
    for name, parameter in tuned.named_parameters():
        if "lora_" in name:
            parameter.data += torch.randn_like(parameter) * 0.2
    tuned.save_pretrained(str(adapter))
    assert any("vision_tower" in key for key in load_file(adapter / "adapter_model.safetensors"))
    merged = PeftModel.from_pretrained(whole_model("llava"), str(adapter)).merge_and_unload()
    loaded = load_model(ModelRef(f"{folder}+{adapter}"))
    torch.testing.assert_close(logits(loaded.model), logits(merged.eval()), rtol=1e-4, atol=1e-4)
    assert len(loaded.notes) == 2
    tensors = load_file(adapter / "adapter_model.safetensors")
    own = {key.replace("vision_tower", "vision_towel"): value for key, value in tensors.items()}
    save_file(own, adapter / "adapter_model.safetensors", {"format": "pt"})
    with pytest.raises(NotAModel, match="vision_towel"):
        load_model(ModelRef(f"{folder}+{adapter}"))
