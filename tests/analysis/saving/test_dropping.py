"""Experts taken out of a model: compared with a model whose routers cannot choose them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from analysis.anatomy.addresses import BlockAddress
from analysis.anatomy.structure import find_anatomy
from analysis.errors import ExpertError, HeadlampError
from analysis.opening.models import LoadedModel
from analysis.saving.dropping import drop_experts, plan_drop
from analysis.saving.folders import save_smaller
from analysis.saving.reopening import compare_reopened
from tests.analysis.moe import moe

TinyOf = Callable[[str], LoadedModel]


def experts(*pairs: tuple[int, int]) -> list[BlockAddress]:
    return [BlockAddress(layer, False, expert) for layer, expert in pairs]


@pytest.mark.parametrize("family", ["mixtral", "qwen2_moe"])
def test_what_is_left_is_the_model_that_cannot_choose_them(
    tiny_of: TinyOf, family: str, tmp_path: Path
) -> None:
    loaded = tiny_of(family)
    plan = plan_drop(loaded, experts((0, 1), (1, 2)))
    save_smaller(loaded, drop_experts(loaded, plan, {}), tmp_path / "saved")
    found = compare_reopened(loaded, [], tmp_path / "saved", {}, plan)
    assert found.logits_error < 1e-5 < found.effect
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "saved")
    for layer, stay in ((0, [0, 2, 3]), (1, [0, 1, 3])):
        own, old = model.model.layers[layer].mlp, loaded.model.model.layers[layer].mlp
        assert torch.equal(own.gate.weight, old.gate.weight[stay])
        assert torch.equal(own.experts.down_proj, old.experts.down_proj[stay])
    changed = {change.tensor for change in found.changed}
    assert {name.rpartition("mlp.")[2] for name in changed} == {
        *("gate.weight", "experts.down_proj", "experts.gate_up_proj"),
    }


def test_another_expert_taken_out_than_was_asked_is_refused(tiny_of: TinyOf, tmp_path: Path) -> None:
    loaded = tiny_of("mixtral")
    one, other = (plan_drop(loaded, experts((0, n), (1, 2))) for n in (1, 3))
    save_smaller(loaded, drop_experts(loaded, one, {}), tmp_path / "saved")
    with pytest.raises(HeadlampError, match="is not what it should be"):
        compare_reopened(loaded, [], tmp_path / "saved", {}, other)


@pytest.mark.parametrize(
    ("gone", "why"),
    [
        (experts((0, 1)), "unevenly"),
        (experts((0, 1), (0, 2), (0, 3), (1, 0), (1, 1), (1, 2)), "1 experts would be left"),
        ([BlockAddress(0, True, 0)], "is no routed expert"),
    ],
)
def test_what_transformers_cannot_hold_is_refused(
    tiny_of: TinyOf, gone: list[BlockAddress], why: str
) -> None:
    with pytest.raises(ExpertError, match=why):
        plan_drop(tiny_of("qwen2_moe"), gone)


def test_an_expert_named_twice_is_taken_out_once(tiny_of: TinyOf) -> None:
    loaded, once = tiny_of("mixtral"), experts((0, 1), (1, 2))
    plan = plan_drop(loaded, [*once, *once])
    assert plan.count == 3
    assert drop_experts(loaded, plan, {}).config.num_local_experts == 3


def in_bfloat16(family: str, folder: Path) -> LoadedModel:
    """A tiny mixture in bfloat16, opened as transformers opens it, with scores that are corrected."""
    made = moe(family)
    for name, buffer in made.model.named_buffers():
        if name.endswith("correction_bias"):
            buffer.copy_(torch.linspace(2.0, -2.001, len(buffer)))
    made.model.save_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval().requires_grad_(False)
    ref = replace(made.ref, dtype="bfloat16")
    return replace(made, ref=ref, model=model, anatomy=find_anatomy(model))


@pytest.mark.parametrize("family", ["deepseek_v2", "deepseek_v3"])
def test_routers_that_score_in_float32_are_compared_too(family: str, tmp_path: Path) -> None:
    loaded = in_bfloat16(family, tmp_path / "original")
    plan = plan_drop(loaded, experts((1, 0), (2, 0)))
    save_smaller(loaded, drop_experts(loaded, plan, {}), tmp_path / "saved")
    found = compare_reopened(loaded, [], tmp_path / "saved", {}, plan)
    assert found.logits_error == 0 < found.effect
    written = load_file(tmp_path / "saved" / "model.safetensors")
    assert {t.dtype for n, t in written.items() if not n.endswith("correction_bias")} == {torch.bfloat16}
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "saved", dtype=torch.bfloat16)
    old, new = loaded.model.state_dict(), model.state_dict()
    for name in [name for name in old if name.endswith("correction_bias")]:
        assert new[name].dtype == torch.float32
        assert torch.equal(new[name], old[name][1:])


def test_a_buffer_that_is_not_what_it_should_be_is_refused(tmp_path: Path) -> None:
    loaded = in_bfloat16("deepseek_v3", tmp_path / "original")
    plan = plan_drop(loaded, experts((1, 0), (2, 0)))
    smaller = drop_experts(loaded, plan, {})
    smaller.state_dict()["model.layers.2.mlp.gate.e_score_correction_bias"][0] += 1e-3
    save_smaller(loaded, smaller, tmp_path / "saved")
    with pytest.raises(HeadlampError, match="correction_bias of the saved model is not what it should be"):
        compare_reopened(loaded, [], tmp_path / "saved", {}, plan)


def test_experts_that_lie_otherwise_than_by_rows_are_refused() -> None:
    loaded = moe("ernie4_5_moe")
    with pytest.raises(ExpertError, match="does not hold its experts by rows"):
        drop_experts(loaded, plan_drop(loaded, experts((1, 0), (2, 0))), {})


def test_experts_chosen_by_groups_are_refused() -> None:
    loaded = moe("deepseek_v3")
    loaded.model.config.n_group = 2
    with pytest.raises(ExpertError, match="chooses among groups of experts"):
        plan_drop(loaded, experts((1, 0), (2, 0)))
