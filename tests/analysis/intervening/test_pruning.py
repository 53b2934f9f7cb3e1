"""A pruned expert contributes 0, exactly, for one forward step and in the rows asked for."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import Tensor

from analysis.anatomy.addresses import BlockAddress, NeuronAddress, parse_part
from analysis.errors import AddressOutOfRange, BadAddress, ClampError, ExpertError, RecipeError
from analysis.intervening.clamps import Scope, parse_clamp
from analysis.intervening.interventions import Change, intervene
from analysis.intervening.pruning import PruneColumn, PruneExpert
from analysis.opening.models import LoadedModel
from analysis.recipes.recipes import read_recipe, use_recorded_raw, write_recipe_document
from analysis.super_experts.controls import make_pruning, parse_parts
from tests.analysis.conftest import loaded_from, lock_is_free, tiny_model
from tests.analysis.moe import FAMILIES, moe, windows
from tests.contract.builder import build
from tests.contract.edits import edited

IDS = torch.tensor(windows(2, 12))
POSITIONS = torch.arange(12).expand(2, -1)


def logits(loaded: LoadedModel, parts: list[str], rows: list[int] | None = None, ids: Tensor = IDS) -> Tensor:
    changes = make_pruning([parse_part(part) for part in parts])
    where = None if rows is None else [rows] * len(changes)
    with torch.no_grad(), intervene(loaded, changes, positions=POSITIONS[: len(ids)], rows=where):
        return loaded.model(input_ids=ids, use_cache=False).logits  # type: ignore[no-any-return]


def without_block(loaded: LoadedModel, part: str) -> Tensor:
    """The logits of a copy whose expert's down projection, with its bias, is 0."""
    block = loaded.anatomy.blocks[loaded.anatomy.index(parse_part(part))]  # type: ignore[arg-type]

    def empty(parameters: dict[str, Tensor]) -> None:
        block.down.vectors(parameters).zero_()
        bias = block.down.biases(parameters)
        if bias is not None:
            bias.zero_()

    with torch.no_grad():
        return edited(loaded.model, empty)(input_ids=IDS, use_cache=False).logits  # type: ignore[no-any-return]


LAYOUTS = {
    **dict.fromkeys(FAMILIES, "L1.E2"),
    "llama4": "L1.E1",
    "dbrx": "L0.E3",
    "aria_text": "L1.E0",
    "nemotron_h": "L1.E1",
    "qwen2_moe": "L1.S0",
    "inkling_text": "L2.S0",
    "gemma2": "L1",
    "gpt2": "L2",
    "opt": "L0",
}


@pytest.mark.parametrize("entry", LAYOUTS)
def test_pruning_is_to_the_bit_the_model_with_an_empty_down_projection(entry: str) -> None:
    loaded = loaded_from(build(entry))
    blocks = [b.address for b in loaded.anatomy.blocks]
    part = LAYOUTS[entry]
    if parse_part(part) not in blocks:
        part = next(str(address) for address in blocks if address.shared == (".S" in part))
    pruned = logits(loaded, [part])
    assert torch.equal(pruned, without_block(loaded, part))
    assert not torch.equal(pruned, logits(loaded, []))


@pytest.mark.parametrize("entry", ["mixtral", "llama4", "qwen2_moe", "gpt2"])
def test_only_the_rows_asked_for_are_pruned(entry: str) -> None:
    loaded = loaded_from(build(entry))
    part = str(loaded.anatomy.blocks[-1].address)
    plain, everywhere, second = (logits(loaded, *a) for a in (([],), ([part],), ([part], [1])))
    assert torch.equal(second[0], plain[0])
    assert torch.equal(second[1], everywhere[1])
    assert not torch.equal(second[1], plain[1])


def test_several_experts_of_one_layer_are_pruned_together() -> None:
    loaded = moe("olmoe")
    once = logits(loaded, ["L1.E0", "L1.E3"])
    loaded.model.get_submodule(loaded.anatomy.blocks[4].module).down_proj.data[[0, 3]] = 0.0
    assert torch.equal(once, logits(loaded, []))


def test_nothing_is_left_behind_also_after_an_error() -> None:
    loaded = moe("mixtral")
    plain = logits(loaded, [])
    with (
        pytest.raises(IndexError),
        intervene(loaded, make_pruning([BlockAddress(1, False, 2)]), positions=POSITIONS),
    ):
        loaded.model(input_ids=IDS + 10_000)
    assert torch.equal(logits(loaded, []), plain)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in loaded.model.modules())
    assert lock_is_free(loaded)


@pytest.mark.parametrize("order", [1, -1])
def test_a_pruned_expert_writes_nothing_whatever_is_held_in_it(order: int) -> None:
    loaded = moe("qwen3_moe")
    held = parse_clamp("L1.E2.N3:set:50").resolve(largest=1.0, mean=0.0)
    changes: list[Change] = [held, PruneExpert(BlockAddress(1, False, 2))]
    changes = changes[::order]
    with torch.no_grad(), intervene(loaded, changes, positions=POSITIONS):
        both = loaded.model(input_ids=IDS, use_cache=False).logits
    assert torch.equal(both, logits(loaded, ["L1.E2"]))


def test_the_share_of_tokens_that_were_routed_to_it_is_reported() -> None:
    loaded = moe("mixtral")
    changes = make_pruning([BlockAddress(0, False, e) for e in range(3)])
    with torch.no_grad(), intervene(loaded, changes, positions=POSITIONS, rows=[[0]] * 3) as reach:
        loaded.model(input_ids=IDS, use_cache=False)
    assert reach.covered == [12] * 3
    assert all(0 < acted < 12 for acted in reach.acted)
    dense = loaded_from(tiny_model("llama"))
    with intervene(dense, make_pruning([BlockAddress(1)]), positions=POSITIONS) as reach:
        assert (reach.covered, reach.acted) == ([24], [24])


def test_a_dense_column_is_pruned_by_its_neuron() -> None:
    loaded = loaded_from(tiny_model("llama"))
    pruned = logits(loaded, ["L1.N7"])
    clamp = parse_clamp("L1.N7:ablate").resolve(largest=1.0, mean=0.0)
    with torch.no_grad(), intervene(loaded, [clamp], positions=POSITIONS):
        assert torch.equal(pruned, loaded.model(input_ids=IDS, use_cache=False).logits)
    loaded.parameters["model.layers.1.mlp.down_proj.weight"][:, 7] = 0.0
    assert torch.equal(pruned, logits(loaded, []))


def test_a_pruned_column_does_nothing_else() -> None:
    where = NeuronAddress(BlockAddress(1), 7)
    for odd in ({"mode": "set", "value": 1.0}, {"scope": Scope("last")}, {"site": "up"}, {"raw": 2.0}):
        with pytest.raises(ClampError, match="writes 0 everywhere"):
            PruneColumn(where, **odd)  # type: ignore[arg-type]
    with pytest.raises(AddressOutOfRange):
        logits(loaded_from(tiny_model("llama")), ["L1.N9999"])


class TestRefusals:
    """Prunings that mean nothing."""

    def test_all_experts_of_a_layer_are_refused(self) -> None:
        loaded = moe("deepseek_v2")
        with pytest.raises(
            ExpertError, match=r"all 4 experts of layer 2 would be pruned.*leave at least one of L2"
        ):
            logits(loaded, [f"L2.E{expert}" for expert in range(4)])
        logits(loaded, [f"L2.E{expert}" for expert in range(3)] + ["L2.S0"])

    def test_an_expert_that_is_not_there_is_refused(self) -> None:
        with pytest.raises(AddressOutOfRange, match=r"L1\.E9: layer 1 .* has the blocks L1\.E0 … L1\.E3"):
            logits(moe("mixtral"), ["L1.E9"])

    def test_quantised_experts_are_refused(self) -> None:
        loaded = moe("mixtral")
        loaded.model.is_quantized = True
        with pytest.raises(ExpertError, match="quantised"):
            logits(loaded, ["L1.E2"])
        logits(loaded, [])

    @pytest.mark.parametrize("text", ["", "E68", "L1.68", "L1.E68.N", "all"])
    def test_what_is_no_part_of_a_model_is_refused(self, text: str) -> None:
        for parse in (parse_part, parse_parts):
            with pytest.raises(BadAddress, match=r"write L1\.E68 for a routed expert"):
                parse(text)

    def test_parts_are_named_with_commas_and_taken_once_each(self) -> None:
        found = parse_parts("L1.E2, L0.N7,l1.e2 ,, L8.S0,")
        assert [str(part) for part in found] == ["L1.E2", "L0.N7", "L8.S0"]


class TestRecipes:
    """Prunings as JSON."""

    def test_prunings_and_clamps_travel_in_their_order(self) -> None:
        loaded = moe("qwen2_moe")
        clamp = parse_clamp("L0.E1.N2:set:3").resolve(largest=1.0, mean=0.0)
        changes: list[Change] = [
            PruneExpert(BlockAddress(1, True, 0)),
            clamp,
            PruneExpert(BlockAddress(0, False, 3)),
        ]
        document: Any = json.loads(json.dumps(write_recipe_document(loaded, changes)))
        assert document["interventions"][0] == {
            "kind": "prune_expert",
            "layer": 1,
            "expert": 0,
            "shared": True,
        }
        assert list(use_recorded_raw(document)) == changes
        assert [str(change) for change in read_recipe(document)] == [str(change) for change in changes]

    @pytest.mark.parametrize(("entry", "part"), [("llama", "L1.N7"), ("qwen2_moe", "L1.E2.N3")])
    def test_a_weight_column_is_an_entry_of_its_own(self, entry: str, part: str) -> None:
        changes = make_pruning([parse_part(part)])
        document = write_recipe_document(loaded_from(build(entry)), changes)
        (written,) = document["interventions"]
        assert (written["kind"], set(written)) == (
            "prune_column", {"kind", "layer", "expert", "shared", "neuron"},
        )  # fmt: skip
        assert list(use_recorded_raw(document)) == changes
        assert isinstance(changes[0], PruneColumn)

    def test_a_recipe_of_an_earlier_version_still_holds_the_neuron(self) -> None:
        """Columns were written as clamps."""
        entry = {
            "kind": "clamp", "layer": 1, "expert": None, "shared": False, "neuron": 7, "site": "key",
            "mode": "ablate", "value": None, "unit": "raw", "raw": 0.0, "scope": "all",
        }  # fmt: skip
        (held,) = use_recorded_raw({"headlamp_recipe": 1, "interventions": [entry]})
        assert str(held) == str(make_pruning([parse_part("L1.N7")])[0])

    def test_a_whole_dense_block_travels_too(self) -> None:
        changes = [PruneExpert(BlockAddress(1))]
        document = write_recipe_document(loaded_from(tiny_model("llama")), changes)
        assert document["interventions"] == [
            {"kind": "prune_expert", "layer": 1, "shared": False, "expert": None}
        ]
        assert list(read_recipe(document)) == changes

    @pytest.mark.parametrize(
        ("entry", "message"),
        [
            ({"kind": "prune_layer", "layer": 1}, "this version supports: clamp, prune_expert"),
            ({"kind": "prune_expert"}, "cannot be read: KeyError"),
            ({"kind": "prune_column", "layer": 1}, "cannot be read: KeyError"),
            ({"kind": "prune_column", "layer": 1, "neuron": "3"}, "not a whole number"),
            ({"kind": "prune_expert", "layer": -1, "expert": 0}, "intervention 0"),
            ({"kind": "prune_expert", "layer": 1, "expert": True}, "not a whole number"),
            (
                {"kind": "prune_expert", "layer": 1, "expert": None, "shared": True},
                "a shared expert has a number",
            ),
        ],
    )
    def test_what_cannot_be_read_is_refused(self, entry: dict[str, Any], message: str) -> None:
        with pytest.raises(RecipeError, match=message):
            read_recipe({"headlamp_recipe": 1, "interventions": [entry]})
