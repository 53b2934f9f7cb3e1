"""A changed text model of a multimodal one, saved with the rest of it."""

from pathlib import Path

import pytest
import torch

from analysis.anatomy.addresses import BlockAddress
from analysis.checkpoints.headers import read_stored_tensors
from analysis.errors import ExpertError
from analysis.intervening.clamps import parse_clamp
from analysis.opening.models import LoadedModel, ModelRef, load_model
from analysis.saving.baking import bake_weights
from analysis.saving.dropping import plan_drop
from analysis.saving.folders import save_folder
from analysis.saving.reopening import compare_reopened
from tests.analysis.checkpoints.wrappers.wrappers_made import made_wrapper, whole_model


def _opened(family: str, folder: Path, *, named_as_now: bool = False) -> LoadedModel:
    return load_model(ModelRef(str(made_wrapper(family, folder, named_as_now=named_as_now))))


@pytest.mark.parametrize("named_as_now", [False, True])
@pytest.mark.parametrize("family", ["gemma3", "qwen2_5_vl", "llava_next", "llama4"])
def test_a_saved_copy_holds_the_change_and_all_that_was_left_out(
    family: str, named_as_now: bool, tmp_path: Path
) -> None:
    loaded = _opened(family, tmp_path / "base", named_as_now=named_as_now)
    (tmp_path / "base" / "preprocessor_config.json").write_text("{}")
    block = loaded.anatomy.blocks[0].address
    ablated = parse_clamp(f"{block}.N3:key:ablate").resolve(largest=1.0, mean=0.0)
    baked = bake_weights(loaded, [ablated])
    assert not save_folder(loaded, baked, tmp_path / "saved")
    found = compare_reopened(loaded, [ablated], tmp_path / "saved", baked)
    assert [change.tensor for change in found.changed] == list(baked)
    whole = whole_model(family)
    again = type(whole).from_pretrained(tmp_path / "saved", dtype=torch.float32)
    differ = [n for n, p in again.state_dict().items() if not torch.equal(p, whole.state_dict()[n])]
    assert differ == list(baked)
    stored, again = (read_stored_tensors(tmp_path / place).keys() for place in ("base", "saved"))
    assert stored == again
    assert (tmp_path / "saved" / "preprocessor_config.json").is_file()
    assert load_model(ModelRef(str(tmp_path / "saved"))).notes == loaded.notes


def test_a_changed_row_of_a_tied_head_leaves_the_embedding(tmp_path: Path) -> None:
    loaded = _opened("gemma3", tmp_path / "base")
    assert loaded.anatomy.head.tied
    name = loaded.anatomy.head.parameter
    rows = loaded.parameters[name].clone()
    rows[5] += 1
    assert save_folder(loaded, {name: rows}, tmp_path / "saved")
    again = load_model(ModelRef(str(tmp_path / "saved")))
    assert not again.anatomy.head.tied
    assert torch.equal(again.parameters[again.anatomy.head.parameter], rows)
    assert torch.equal(again.model.get_input_embeddings().weight, loaded.parameters[name])
    assert loaded.model.config.tie_word_embeddings


def test_a_damaged_copy_of_what_was_left_out_is_noticed(tmp_path: Path) -> None:
    loaded = _opened("llava", tmp_path / "base")
    ablated = parse_clamp("L1.N3:key:ablate").resolve(largest=1.0, mean=0.0)
    baked = bake_weights(loaded, [ablated])
    save_folder(loaded, baked, tmp_path / "saved")
    stored = read_stored_tensors(tmp_path / "saved")["multi_modal_projector.linear_1.bias"]
    with stored.path.open("r+b") as file:
        file.seek(stored.start)
        file.write(b"\x00\x00\x80\x3f")
    with pytest.raises(Exception, match=r"model\.multi_modal_projector\.linear_1\.bias of the saved model"):
        compare_reopened(loaded, [ablated], tmp_path / "saved", baked)


def test_experts_are_not_taken_out_of_a_multimodal_model(tmp_path: Path) -> None:
    loaded = _opened("qwen3_vl_moe", tmp_path / "base")
    with pytest.raises(ExpertError, match="of which the text model alone is open"):
        plan_drop(loaded, [BlockAddress(0, False, 1)])
