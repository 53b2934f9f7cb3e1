"""The Python script of a pair of texts prints the same tokens, with nothing of Headlamp imported."""

import re
import runpy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import Phi3Config, Phi3ForCausalLM

from analysis.anatomy.addresses import BlockAddress, parse_address
from analysis.checkpoints.devices import BALANCED
from analysis.intervening.clamps import Clamp, parse_clamp
from analysis.opening.models import LoadedModel, ModelRef, load_model
from analysis.running.generation import Sampling
from store import open_store
from tests.analysis.conftest import tiny_model
from tests.workbench.conftest import ROWS, saved
from workbench.generating.clamping import generate_pair
from workbench.generating.requests import GenerationRequest
from workbench.generating.snippets import why_no_snippet, write_snippet

PROMPT = "Once upon a time, there was a"
RECIPES = {
    "set, up and gate": ("L2.N47:key:set:40", "L1.N3:up:add:3@generated", "L0.N5:gate:scale:-2@2-6"),
    "in generated text alone": ("L2.N47:key:set:40@generated",),
    "times the residual": (
        "L2.N47:key:set:1.5r",
        "L3.N9:add:-2r@last",
        "L1.N3:up:add:3",
        "L0.N2:set:1r@3-9",
    ),
    "ablate and mean in ×max": ("L3.N9:key:ablate@prompt", "L2.N20:key:mean", "L4.N1:set:16x@last"),
}


@pytest.fixture(scope="module")
def loaded(real_folder: Path) -> LoadedModel:
    folder = real_folder / "models" / "stories260K"
    if not folder.is_dir():
        pytest.skip(f"no stories260K model at {folder}")
    return load_model(ModelRef(str(folder)))


@pytest.mark.real
@pytest.mark.parametrize("temperature", [0.0, 0.8])
@pytest.mark.parametrize("recipe", RECIPES)
def test_the_script_generates_the_same_tokens(
    loaded: LoadedModel, tmp_path: Path, recipe: str, temperature: float
) -> None:
    clamps = tuple(parse_clamp(text) for text in RECIPES[recipe])
    same_from_the_script(
        loaded, tmp_path, GenerationRequest(PROMPT, clamps, " \"'little", Sampling(24, temperature, seed=7))
    )


@pytest.mark.parametrize("site", ["gate", "up", "key"])
def test_the_script_finds_a_neuron_where_gate_and_up_are_one_projection(tmp_path: Path, site: str) -> None:
    torch.manual_seed(3)
    config = Phi3Config(
        vocab_size=ROWS,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=64,
        initializer_range=0.4,
        pad_token_id=0,
    )
    loaded = load_model(ModelRef(str(saved(tmp_path / "phi", Phi3ForCausalLM(config)))))
    same_from_the_script(
        loaded,
        tmp_path,
        GenerationRequest("a dog", (parse_clamp(f"L1.N5:{site}:set:30"),), sampling=Sampling(8)),
    )


@pytest.mark.parametrize("family", ["gpt2", "gemma2"])
@pytest.mark.parametrize("clamp", ["L1.N7:set:2r", "L0.N3:add:1r", "L1.N5:add:-1.5r"])
def test_the_script_measures_the_residual_in_every_layout(tmp_path: Path, family: str, clamp: str) -> None:
    model = tiny_model(family, seed=3, vocab_size=ROWS)  # whose texts these clamps change
    loaded = load_model(ModelRef(str(saved(tmp_path / family, model))))
    request = GenerationRequest("a dog is a dog", (parse_clamp(clamp),), sampling=Sampling(8))
    same_from_the_script(loaded, tmp_path, request)


def same_from_the_script(loaded: LoadedModel, folder: Path, request: GenerationRequest) -> None:
    result = generate_pair(loaded, open_store(folder / "headlamp.db"), request)
    assert result.base_ids != result.changed_ids, "a recipe without effect proves nothing"
    script = folder / "script.py"
    script.write_text(write_snippet(loaded, result), encoding="utf-8")
    imported = re.findall(r"^(?:import|from) (\w+)", script.read_text(encoding="utf-8"), re.M)
    assert imported == ["torch", "transformers"]
    names = runpy.run_path(str(script))
    assert names["texts"] == (list(result.base_ids), list(result.changed_ids))


@pytest.mark.real
def test_a_routed_expert_has_no_script_and_the_reason_names_the_recipe(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    dense = loaded.anatomy.blocks[0]
    routed = replace(dense, address=BlockAddress(0, False, 3), fused=True)
    monkeypatch.setattr(type(loaded.anatomy), "block", lambda self, address: routed)
    clamp = Clamp(parse_address("L0.E3.N1"), mode="ablate")
    assert "export the recipe" in why_no_snippet(loaded, [clamp])


def test_a_model_over_several_devices_has_no_script_and_the_reason_says_so(tiny: Path) -> None:
    one = load_model(ModelRef(str(tiny)))
    spread = replace(one, ref=replace(one.ref, device=BALANCED))
    clamp = parse_clamp("L0.N3:key:set:40")
    assert why_no_snippet(one, [clamp]) == ""
    assert "spread over several devices; open it on one" in why_no_snippet(spread, [clamp])


def test_a_dense_recipe_has_a_script(loaded: LoadedModel) -> None:
    assert why_no_snippet(loaded, [parse_clamp("L2.N47:key:set:40")]) == ""
