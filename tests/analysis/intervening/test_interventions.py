"""The one door: every mode, site, scope and row against hand-written hooks and weight edits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from analysis.errors import AddressOutOfRange, ClampError
from analysis.intervening.clamps import Clamp, parse_clamp
from analysis.intervening.hooks import site_module
from analysis.intervening.interventions import Observe, intervene
from analysis.opening.models import LoadedModel
from tests.analysis.conftest import DENSE, loaded_from, lock_is_free, tiny_model

IDS = torch.tensor([[1, 5, 9, 4, 40, 11], [1, 5, 9, 4, 40, 11]])
POSITIONS = torch.arange(6).expand(2, -1)
TinyModel = Callable[[str], LoadedModel]


def clamp(text: str, raw: float | None = None) -> Clamp:
    read = parse_clamp(text)
    return replace(read, raw=raw) if raw is not None else read.resolve(largest=1.0, mean=0.5)


def logits_under(
    loaded: LoadedModel, clamps: list[Clamp], rows: list[list[int]] | None = None, prompt_length: int = 6
) -> Tensor:
    with intervene(loaded, clamps, positions=POSITIONS, rows=rows, prompt_length=prompt_length):
        return loaded.model(IDS).logits


@contextmanager
def hand_hook(module: nn.Module, change: Callable[[Tensor], Tensor], *, before: bool) -> Iterator[None]:
    """A hook as anybody would write it, to compare with."""
    if before:
        handle = module.register_forward_pre_hook(lambda m, args: (change(args[0].clone()),))
    else:
        handle = module.register_forward_hook(lambda m, args, output: change(output.clone()))
    try:
        yield
    finally:
        handle.remove()


def edits(mode: str, column_number: int = 7) -> Callable[[Tensor], Tensor]:
    def change(values: Tensor) -> Tensor:
        column = values[..., column_number]
        values[..., column_number] = {
            "set": torch.full_like(column, 3.25),
            "add": column + 3.25,
            "scale": column * 3.25,
            "ablate": torch.zeros_like(column),
            "mean": torch.full_like(column, 0.5),
        }[mode]
        return values

    return change


@pytest.mark.parametrize("mode", ["set", "add", "scale", "ablate", "mean"])
@pytest.mark.parametrize("site", ["key", "up", "gate"])
@pytest.mark.parametrize("family", DENSE)
def test_a_dense_clamp_equals_a_hand_written_hook_bit_for_bit(
    tiny: TinyModel, family: str, site: str, mode: str
) -> None:
    loaded = tiny(family)
    block = loaded.anatomy.blocks[1]
    if site == "gate" and not block.gated:
        pytest.skip("a plain block has no gate")
    value = ":3.25" if mode in ("set", "add", "scale") else ""
    ours = logits_under(loaded, [clamp(f"L1.N7:{site}:{mode}{value}")])
    module = loaded.model.get_submodule(site_module(block, site))  # type: ignore[arg-type]
    column = 63 if family == "phi3" and site == "up" else 7
    with hand_hook(module, edits(mode, column), before=site == "key"):
        by_hand = loaded.model(IDS).logits
    assert torch.equal(ours, by_hand)
    assert not torch.equal(ours, loaded.model(IDS).logits)


@pytest.mark.parametrize("family", ["mixtral", "qwen2_moe"])
def test_ablating_an_expert_neuron_equals_zeroing_its_column(tiny: TinyModel, family: str) -> None:
    loaded = tiny(family)
    ours = logits_under(loaded, [clamp(f"L1.E{e}.N7:ablate") for e in range(4)])
    edited = tiny(family)
    edited.model.get_submodule(edited.anatomy.blocks[-2].module).down_proj.data[:, :, 7] = 0
    torch.testing.assert_close(ours, edited.model(IDS).logits, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(ours, loaded.model(IDS).logits, atol=1e-3)


@pytest.mark.parametrize("site", ["key", "up", "gate"])
@pytest.mark.parametrize("mode", ["set", "add", "scale"])
def test_an_expert_clamp_equals_an_independent_recomputation(tiny: TinyModel, site: str, mode: str) -> None:
    loaded = tiny("mixtral")
    name = "model.layers.1.mlp.experts"
    ours = logits_under(loaded, [clamp(f"L1.E2.N7:{site}:{mode}:3.25")])
    experts = loaded.model.get_submodule(name)

    def by_hand(hidden: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
        total = torch.zeros_like(hidden)
        for expert in range(4):
            gate, up = (hidden @ experts.gate_up_proj[expert].T).chunk(2, -1)
            change = edits(mode) if expert == 2 else (lambda values: values)
            gate = change(gate.clone()) if site == "gate" else gate
            up = change(up.clone()) if site == "up" else up
            key = experts.act_fn(gate) * up
            key = change(key.clone()) if site == "key" else key
            share = (weights * (chosen == expert)).sum(-1, keepdim=True)
            total = total + share * (key @ experts.down_proj[expert].T)
        return total

    experts.forward = by_hand
    torch.testing.assert_close(ours, loaded.model(IDS).logits, rtol=1e-5, atol=1e-5)


def test_a_shared_expert_is_clamped_like_a_dense_block(tiny: TinyModel) -> None:
    loaded = tiny("qwen2_moe")
    ours = logits_under(loaded, [clamp("L1.S0.N7:ablate")])
    loaded.model.model.layers[1].mlp.shared_expert.down_proj.weight.data[:, 7] = 0
    torch.testing.assert_close(ours, loaded.model(IDS).logits, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("family", [*DENSE, "mixtral", "qwen2_moe"])
def test_the_other_row_is_untouched_by_a_clamp(tiny: TinyModel, family: str) -> None:
    loaded = tiny(family)
    loaded_address = str(loaded.anatomy.blocks[0].address)
    plain = logits_under(loaded, [])
    changed = logits_under(loaded, [clamp(f"{loaded_address}.N7:set:25")], rows=[[1]])
    if family in DENSE:
        assert torch.equal(changed[0], plain[0])
    else:  # grouped products change size with the other row's routing
        torch.testing.assert_close(changed[0], plain[0], rtol=1e-6, atol=1e-6)
    assert not torch.allclose(changed[1], plain[1], atol=1e-3)


@pytest.mark.parametrize("family", [*DENSE, "mixtral"])
@pytest.mark.parametrize(
    "idle", ["{}.N7:scale:1", "{}.N7:set:9@40-60", "{}.N7:up:scale:1", "{}.N7:set:9@generated"]
)
def test_a_change_that_changes_nothing_is_bit_identical(tiny: TinyModel, family: str, idle: str) -> None:
    loaded = tiny(family)
    address = loaded.anatomy.blocks[0].address
    assert torch.equal(logits_under(loaded, [clamp(idle.format(address))]), logits_under(loaded, []))


@pytest.mark.parametrize(
    ("scope", "hit"), [("prompt", 4), ("last", 1), ("generated", 2), ("1-2", 2), ("all", 6)]
)
@pytest.mark.parametrize("family", ["llama", "mixtral"])
def test_a_scope_reaches_its_positions_and_no_earlier_one(
    tiny: TinyModel, family: str, scope: str, hit: int
) -> None:
    loaded = tiny(family)
    names = [f"L0.E{e}.N7" for e in range(4)] if family == "mixtral" else ["L0.N7"]
    clamps = [clamp(f"{name}:set:25@{scope}") for name in names]
    with intervene(loaded, clamps, positions=POSITIONS, prompt_length=4) as reach:
        changed = loaded.model(IDS).logits
    first = {"prompt": 0, "last": 3, "generated": 4, "1-2": 1, "all": 0}[scope]
    plain = logits_under(loaded, [])
    torch.testing.assert_close(changed[:, :first], plain[:, :first], rtol=1e-6, atol=1e-6)
    assert not torch.allclose(changed[:, first], plain[:, first], atol=1e-3)
    assert reach.covered == [2 * hit] * len(names)
    # every token goes to two of the four experts, so over all four a scope acts twice on each position
    assert sum(reach.acted) == 2 * hit * (2 if family == "mixtral" else 1)


def test_padding_is_never_touched_whatever_the_scope(tiny: TinyModel) -> None:
    loaded = tiny("llama")
    positions = torch.tensor([[-1, -1, 0, 1, 2, 3]] * 2)
    with intervene(loaded, [clamp("L0.N7:set:25@all")], positions=positions) as reach:
        changed = loaded.model(IDS).logits
    assert reach.covered == [8]
    assert torch.equal(changed[:, :2], logits_under(loaded, [])[:, :2])


def test_clamps_on_one_neuron_compose_in_the_recipes_order(tiny: TinyModel) -> None:
    for family, address in (("llama", "L0.N7"), ("mixtral", "L0.E1.N7")):
        loaded = tiny(family)
        set_then_double = [clamp(f"{address}:set:3"), clamp(f"{address}:scale:2")]
        set_to_six = [clamp(f"{address}:set:6")]
        double_then_set = set_then_double[::-1]
        six = logits_under(loaded, set_to_six)
        torch.testing.assert_close(logits_under(loaded, set_then_double), six)
        assert not torch.allclose(logits_under(loaded, double_then_set), six, atol=1e-4)


def test_gate_and_key_clamps_on_one_expert_neuron_act_in_the_models_own_order(tiny: TinyModel) -> None:
    loaded = tiny("mixtral")
    both = [clamp("L0.E1.N7:scale:2"), clamp("L0.E1.N7:up:set:0")]
    up_alone = [clamp("L0.E1.N7:up:set:0")]
    torch.testing.assert_close(logits_under(loaded, both), logits_under(loaded, up_alone))


def hooks_of(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


@pytest.mark.parametrize("family", ["llama", "mixtral"])
def test_a_clamp_leaves_the_model_unchanged_after_an_error(tiny: TinyModel, family: str) -> None:
    loaded = tiny(family)
    address = str(loaded.anatomy.blocks[0].address)
    before, weights = logits_under(loaded, []), [p.clone() for p in loaded.model.parameters()]
    observe = Observe(loaded.anatomy.blocks, lambda *seen: None)
    clamps: list[Clamp | Observe] = [clamp(f"{address}.N7:set:25"), observe]
    with pytest.raises(IndexError), intervene(loaded, clamps, positions=POSITIONS):
        loaded.model(IDS + 10_000)
    assert hooks_of(loaded.model) == 0
    assert lock_is_free(loaded)
    assert torch.equal(logits_under(loaded, []), before)
    assert all(torch.equal(a, b) for a, b in zip(weights, loaded.model.parameters(), strict=True))


def test_nothing_is_attached_when_a_later_clamp_is_refused(tiny: TinyModel) -> None:
    loaded = tiny("llama")
    with (
        pytest.raises(AddressOutOfRange),
        intervene(loaded, [clamp("L0.N7:set:1"), clamp("L0.N999:set:1")], positions=POSITIONS),
    ):
        pass
    assert hooks_of(loaded.model) == 0


@pytest.mark.parametrize(
    ("family", "text", "said"),
    [
        ("llama", "L9.N0:ablate", "layers L0–L1"),
        ("llama", "L0.N56:ablate", "neurons N0–N55"),
        ("llama", "L0.E1.N0:ablate", "is dense; leave the expert out"),
        ("mixtral", "L0.N0:ablate", r"has the blocks L0\.E0 … L0\.E3"),
        ("mixtral", "L0.E4.N0:ablate", r"has the blocks L0\.E0 … L0\.E3"),
    ],
)
def test_an_address_out_of_range_says_what_there_is(
    tiny: TinyModel, family: str, text: str, said: str
) -> None:
    with pytest.raises(AddressOutOfRange, match=said):
        logits_under(tiny(family), [clamp(text)])


def test_a_gate_clamp_on_a_plain_block_is_refused(tiny: TinyModel) -> None:
    with pytest.raises(ClampError, match="plain and has no gate"):
        logits_under(tiny("gpt2"), [clamp("L0.N0:gate:ablate")])


def test_an_unresolved_clamp_is_refused(tiny: TinyModel) -> None:
    with pytest.raises(ClampError, match="not been resolved"):
        logits_under(tiny("llama"), [parse_clamp("L0.N0:set:8x")])


def test_an_observer_sees_what_plain_hooks_see_and_changes_nothing() -> None:
    for family in ("gpt2", "llama", "mixtral", "qwen2_moe"):
        loaded = loaded_from(tiny_model(family))
        seen: dict[tuple[str, str], Tensor] = {}

        def see(
            block: Any, site: str, values: Tensor, rows: Tensor, positions: Tensor, seen: Any = seen
        ) -> None:
            seen[str(block.address), site] = values

        plain = logits_under(loaded, [])
        with intervene(loaded, [Observe(loaded.anatomy.blocks, see)], positions=POSITIONS):
            observed = loaded.model(IDS).logits
        assert torch.equal(observed, plain)
        routed = sum(len(v) for (a, site), v in seen.items() if site == "key" and a.startswith("L1.E"))
        assert routed == (2 * POSITIONS.numel() if family in ("mixtral", "qwen2_moe") else 0)
        for block in (b for b in loaded.anatomy.blocks if not b.routed):
            inputs: list[Tensor] = []
            down = loaded.model.get_submodule(site_module(block, "key"))
            handle = down.register_forward_pre_hook(lambda m, args, inputs=inputs: inputs.append(args[0]))
            loaded.model(IDS)
            handle.remove()
            assert torch.equal(seen[str(block.address), "key"], inputs[0].reshape(-1, block.d_ff))
