"""Changed models saved and opened again by plain transformers, in every layout."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from analysis.anatomy.addresses import BlockAddress, NeuronAddress
from analysis.errors import ExpertError, HeadlampError
from analysis.intervening.clamps import parse_clamp
from analysis.intervening.pruning import PruneExpert
from analysis.opening.models import LoadedModel
from analysis.saving.baking import bake_weights, why_not_baked
from analysis.saving.folders import save_folder
from analysis.saving.reopening import Reopened, compare_reopened
from analysis.unlearning.edits.reversals import Reversal, Tars
from analysis.unlearning.edits.selective_prune import draw_prune
from tests.analysis.unlearning.edits.neuron_methods_made import PROMPTS, adjusting, outputs
from tests.analysis.unlearning.edits.tars_made import edits
from tests.analysis.unlearning.guards.guards_made import guard_around

TinyOf = Callable[[str], LoadedModel]


def clamp(text: str) -> Any:
    return parse_clamp(text).resolve(largest=1.0, mean=0.0)


def save(loaded: LoadedModel, changes: list[Any], folder: Path) -> Reopened:
    baked = bake_weights(loaded, changes)
    save_folder(loaded, baked, folder)
    return compare_reopened(loaded, changes, folder, baked)


@pytest.mark.parametrize("family", ["llama", "gpt2", "phi3", "gemma2"])
def test_every_exact_change_of_a_dense_model_is_saved(tiny_of: TinyOf, family: str, tmp_path: Path) -> None:
    loaded = tiny_of(family)
    neurons = clamp("L0.N3:key:scale:-2"), clamp("L1.N4:ablate")
    for changes in ([*neurons, edits(loaded)], [draw_prune(loaded, 10.0, 0), PruneExpert(BlockAddress(0))]):
        check_saved(loaded, changes, tmp_path / f"saved{len(changes)}")


def check_saved(loaded: LoadedModel, changes: list[Any], folder: Path) -> None:
    """Saved, reopened by plain transformers, and compared by prompts of several lengths."""
    found = save(loaded, changes, folder)
    assert found.logits_error < 1e-5 < found.effect
    expected = outputs(loaded, changes)
    model = AutoModelForCausalLM.from_pretrained(folder)
    for index, ids in enumerate(PROMPTS):
        with torch.inference_mode():
            assert torch.allclose(expected[index], model(torch.tensor([ids])).logits[0, -1], atol=1e-3)


@pytest.mark.parametrize("family", ["mixtral", "qwen2_moe"])
def test_experts_are_pruned_in_the_weights(tiny_of: TinyOf, family: str, tmp_path: Path) -> None:
    loaded = tiny_of(family)
    gone = [BlockAddress(layer, False, expert) for layer, expert in ((0, 1), (1, 0), (1, 3))]
    if family == "qwen2_moe":
        gone.append(BlockAddress(1, True, 0))
    changes = [*map(PruneExpert, gone), clamp("L0.E2.N5:scale:3")]
    found = save(loaded, changes, tmp_path / "saved")
    assert found.logits_error < 1e-5 < found.effect
    assert all("down" in change.tensor for change in found.changed)


def test_a_replaced_vector_of_a_fused_expert_is_saved(tiny_of: TinyOf, tmp_path: Path) -> None:
    loaded = tiny_of("mixtral")
    place = NeuronAddress(BlockAddress(1, False, 2), 5)
    tars = Tars((Reversal(place, "down", 0.5, torch.randn(loaded.anatomy.d_model)),))
    found = save(loaded, [tars], tmp_path / "saved")
    assert found.logits_error < 1e-5 < found.effect
    assert [change.rows for change in found.changed] == [loaded.anatomy.d_model]


def test_the_order_of_changes_makes_no_difference(tiny_of: TinyOf) -> None:
    loaded = tiny_of("llama")
    tars = edits(loaded)
    place = next(edit.address for edit in tars.edits if edit.site == "down")
    halved = clamp(f"{place}:scale:0.5")
    for changes in ([tars, halved], [halved, tars]):
        wanted = outputs(loaded, changes)
        own = {name: loaded.parameters[name].clone() for name in bake_weights(loaded, changes)}
        for name, weight in bake_weights(loaded, changes).items():
            loaded.parameters[name].copy_(weight)
        assert torch.allclose(outputs(loaded, []), wanted, atol=1e-4)
        for name, weight in own.items():
            loaded.parameters[name].copy_(weight)


def test_a_tied_head_is_untied_and_the_embedding_stays(tiny_of: TinyOf, tmp_path: Path) -> None:
    loaded = tiny_of("llama")
    loaded.model.config.tie_word_embeddings = True
    loaded.model.tie_weights()
    baked = bake_weights(loaded, [edits(loaded)])
    assert save_folder(loaded, baked, tmp_path / "saved")
    found = compare_reopened(loaded, [edits(loaded)], tmp_path / "saved", baked)
    changed = {change.tensor: change.rows for change in found.changed}
    assert changed["lm_head.weight"] == 1
    assert not json.loads((tmp_path / "saved" / "config.json").read_text())["tie_word_embeddings"]
    assert "model.embed_tokens.weight" not in changed
    assert loaded.model.config.tie_word_embeddings
    assert not save_folder(loaded, {}, tmp_path / "same")


def damage(folder: Path, name: str) -> None:
    [path] = folder.glob("*.safetensors")
    tensors = load_file(path)
    tensors[name] = tensors[name].clone()
    tensors[name].view(-1)[7] += 1e-3
    save_file(tensors, path, {"format": "pt"})


@pytest.mark.parametrize("name", ["model.layers.0.mlp.up_proj.weight", "model.layers.1.mlp.down_proj.weight"])
def test_a_saved_model_that_is_not_what_it_should_be_is_refused(
    tiny_of: TinyOf, tmp_path: Path, name: str
) -> None:
    loaded, changes = tiny_of("llama"), [clamp("L1.N4:ablate")]
    baked = bake_weights(loaded, changes)
    save_folder(loaded, baked, tmp_path / "saved")
    damage(tmp_path / "saved", name)
    with pytest.raises(HeadlampError, match="is not what it should be"):
        compare_reopened(loaded, changes, tmp_path / "saved", baked)


def test_weights_that_do_not_do_what_the_changes_do_are_refused(tiny_of: TinyOf, tmp_path: Path) -> None:
    loaded = tiny_of("llama")
    baked = bake_weights(loaded, [clamp("L1.N4:ablate")])
    save_folder(loaded, baked, tmp_path / "saved")
    with pytest.raises(HeadlampError, match="logits differ"):
        compare_reopened(loaded, [clamp("L1.N5:ablate")], tmp_path / "saved", baked)


def test_a_saved_model_without_one_of_its_weights_is_refused(tiny_of: TinyOf, tmp_path: Path) -> None:
    loaded, changes = tiny_of("llama"), [clamp("L1.N4:ablate")]
    baked = bake_weights(loaded, changes)
    save_folder(loaded, baked, tmp_path / "saved")
    [path] = (tmp_path / "saved").glob("*.safetensors")
    tensors = load_file(path)
    del tensors["model.norm.weight"]
    save_file(tensors, path, {"format": "pt"})
    with pytest.raises(HeadlampError, match=r"lacks model\.norm\.weight"):
        compare_reopened(loaded, changes, tmp_path / "saved", baked)


def test_what_depends_on_what_it_reads_is_refused_by_name(tiny_of: TinyOf) -> None:
    loaded = tiny_of("llama")
    held = parse_clamp("L0.N3:key:set:2").resolve(largest=1.0, mean=0.0)
    last = parse_clamp("L0.N3:ablate@last").resolve(largest=1.0, mean=0.0)
    up = parse_clamp("L0.N3:up:ablate").resolve(largest=1.0, mean=0.0)
    for item, name in (
        *((held, str(held)), (last, str(last)), (up, str(up))),
        *((adjusting(loaded), "NeuronAdjust"), (guard_around(loaded, [0]), "KeyGuard")),
    ):
        assert why_not_baked([item]).startswith(name)
        with pytest.raises(HeadlampError, match="no weight equals it"):
            bake_weights(loaded, [item])


def test_all_experts_of_a_layer_cannot_be_pruned_away(tiny_of: TinyOf) -> None:
    loaded = tiny_of("mixtral")
    with pytest.raises(ExpertError, match="leaving none"):
        bake_weights(loaded, [PruneExpert(BlockAddress(1, False, n)) for n in range(4)])


def test_saving_names_the_dtype_it_was_opened_in(tiny_of: TinyOf, tmp_path: Path) -> None:
    save(tiny_of("llama"), [clamp("L1.N4:ablate")], tmp_path / "saved")
    assert json.loads((tmp_path / "saved" / "config.json").read_text())["dtype"] == "float32"


def test_one_vector_replaced_twice_is_refused_by_name() -> None:
    place = NeuronAddress(BlockAddress(0), 2)
    one, other = (Tars((Reversal(place, "down", 0.5, torch.full((32,), value)),)) for value in (1.0, 2.0))
    assert "L0.N2:down is replaced 2 times" in why_not_baked([one, other])
    up = Tars((Reversal(place, "up", 0.5, torch.ones(32)),))
    assert why_not_baked([one, up]) == ""
