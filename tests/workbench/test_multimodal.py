"""A multimodal model in use: commands say what of it is open, scripts repeat it, saving keeps all of it."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from analysis.intervening.clamps import parse_clamp
from analysis.opening.models import ModelRef, load_model
from analysis.running.generation import Sampling
from store import open_store
from tests.analysis.checkpoints.wrappers.wrappers_made import made_wrapper
from tests.workbench.conftest import Cli
from workbench.generating.clamping import generate_pair
from workbench.generating.requests import GenerationRequest
from workbench.generating.snippets import write_snippet

LEFT = "its text model alone; left out, and not read: model.vision_tower, model.multi_modal_projector"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny LLaVA with a chat template of its processor's."""
    made = made_wrapper("llava", tmp_path_factory.mktemp("llava") / "tiny")
    template = "{% for m in messages %} my {{ m.content }}{% endfor %}"
    (made / "chat_template.json").write_text(json.dumps({"chat_template": template}))
    return made


def test_inspect_says_what_is_left_out_and_counts_the_text_alone(folder: Path, cli: Cli) -> None:
    found = cli("inspect", folder, "--json").document
    assert found["notes"] == [LEFT]
    loaded = load_model(ModelRef(str(folder)))
    assert found["bytes"] == found["fit"]["weights"] == sum(p.numel() * 4 for p in loaded.model.parameters())
    assert LEFT in cli("inspect", folder).out


def test_a_map_from_disk_is_that_of_the_model_in_memory(folder: Path, cli: Cli, tmp_path: Path) -> None:
    here, there = tmp_path / "here.jsonl", tmp_path / "there.jsonl"
    assert cli("decode", folder, "--out", here, "--db", tmp_path / "a.db").code == 0
    assert cli("decode", folder, "--from-disk", "--out", there, "--db", tmp_path / "b.db").code == 0
    assert here.read_text() == there.read_text() != ""


def test_the_script_gives_the_same_text(folder: Path, tmp_path: Path) -> None:
    loaded = load_model(ModelRef(str(folder)))
    request = GenerationRequest("the dog", (parse_clamp("L1.N3:key:set:400"),), sampling=Sampling(6))
    result = generate_pair(loaded, open_store(tmp_path / "headlamp.db"), request)
    assert loaded.tokenizer.decode(result.prompt_ids).startswith(" my")
    script = tmp_path / "script.py"
    script.write_text(write_snippet(loaded, result), encoding="utf-8")
    assert runpy.run_path(str(script))["texts"] == (list(result.base_ids), list(result.changed_ids))


def test_a_saved_model_is_the_whole_multimodal_one(folder: Path, cli: Cli, tmp_path: Path) -> None:
    recipe, saved = tmp_path / "recipe.json", tmp_path / "saved"
    told = ("--prompt", "the", "--clamp", "L1.N3:key:ablate", "--max-new-tokens", "1", "--recipe-out", recipe)
    assert cli("generate", folder, *told).code == 0
    assert cli("save", folder, "--recipe", recipe, "--out", saved).code == 0
    before, after = (load_file(place / "model.safetensors") for place in (folder, saved))
    assert before.keys() == after.keys()
    differ = [key for key in before if not torch.equal(before[key], after[key])]
    assert differ == ["language_model.model.layers.1.mlp.down_proj.weight"]
