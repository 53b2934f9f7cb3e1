"""What clamps and observers do, each against an edit of the weights and the model's own forward."""

from __future__ import annotations

import torch
from torch import Tensor

from analysis.anatomy.anatomy import Block
from analysis.intervening.clamps import Scope
from analysis.intervening.interventions import Observe, intervene
from analysis.opening.models import LoadedModel
from tests.contract.edits import (
    IDS,
    LENGTH,
    POSITIONS,
    edited,
    held_for,
    logits_of,
    reader,
    scaled_column,
    seen_at,
    writer,
)
from tests.contract.expectations import expect, expect_near, held, off, sample, under
from tests.contract.routes import read_by, routed_tokens, written_for

NEURON = 7
VALUE = 1.75


def check_idle(loaded: LoadedModel) -> None:
    """scale 1, a scope that is not reached and the other row change no bit."""
    plain, _ = under(loaded, [])
    for block in sample(loaded):
        for site in ("key", "up", "gate") if block.gated else ("key", "up"):
            logits, _ = under(loaded, [held(block, NEURON, site, "scale", 1.0)])
            expect(torch.equal(logits, plain), f"{block.address} {site}: scale 1 changes the logits")
        clamp = held(block, NEURON, "key", "set", 25.0)
        late = type(clamp)(clamp.address, "key", "set", 25.0, scope=Scope("range", 40, 60), raw=25.0)
        logits, _ = under(loaded, [late])
        expect(torch.equal(logits, plain), f"{block.address}: a scope that is not reached changes the logits")


def check_sites(loaded: LoadedModel) -> None:
    """set, add, scale and ablate at up and gate give what the block gives with that neuron's row edited."""
    for block in sample(loaded):
        plain = seen_at(loaded.model, writer(block))
        x_of = seen_at(loaded.model, reader(block))
        first, *_, last = [*routed_tokens(block, plain)] * 2
        for site, view in (("up", block.up), ("gate", block.gate)):
            for mode in ("set", "add", "scale", "ablate") if view is not None else ():
                value = None if mode == "ablate" else VALUE
                _, seen = under(loaded, [held(block, NEURON, site, mode, value)], block)
                for token in (first, last):
                    assert view is not None
                    edit = held_for(read_by(block, x_of, token), view, NEURON, mode, VALUE)
                    theirs = seen_at(edited(loaded.model, edit), writer(block))
                    where = f"{block.address} {site} {mode}"
                    expect_near(written_for(block, seen[0], token), written_for(block, theirs, token), where)


def check_up_is_linear(loaded: LoadedModel) -> None:
    """What a gated block writes is a straight line in an up value, and bends in a gate value."""
    for block in (b for b in sample(loaded) if b.gated):
        token = next(iter(routed_tokens(block, seen_at(loaded.model, writer(block)))))
        bent = {}
        for site in ("up", "gate"):
            at = [
                written_for(block, under(loaded, [held(block, NEURON, site, "set", v)], block)[1][0], token)
                for v in (0.0, 1.5, 3.0)
            ]
            size = (at[2] - at[0]).abs().max().clamp(min=1e-9)
            bent[site] = float((at[0] - 2 * at[1] + at[2]).abs().max() / size)
        told = 5 * bent["up"] < bent["gate"]  # a cap on up values bends them too, a little
        expect(told, f"{block.address}: gate and up are mistaken, {bent}")


def check_keys(loaded: LoadedModel) -> None:
    """set, add, scale and ablate at key: a column times the value, weighted as its token is routed."""
    for block in sample(loaded):
        plain = seen_at(loaded.model, writer(block))
        without, scaled = (
            seen_at(edited(loaded.model, scaled_column(block, NEURON, factor)), writer(block))
            for factor in (0.0, VALUE)
        )
        theirs = {"set": without, "add": plain, "scale": scaled, "ablate": without}
        for mode, base in theirs.items():
            value = None if mode == "ablate" else VALUE
            _, seen = under(loaded, [held(block, NEURON, "key", mode, value)], block)
            for token, weight in routed_tokens(block, plain).items():
                more = weight * VALUE if mode in ("set", "add") else 0.0
                column = block.down.vectors(loaded.parameters)[NEURON]
                expected = written_for(block, base, token) + more * column
                expect_near(written_for(block, seen[0], token), expected, f"{block.address} key {mode}")


def check_ablation(loaded: LoadedModel) -> None:
    """Ablating a neuron gives the logits of the model without its column; ablating all, those of its bias."""
    for block in sample(loaded):
        ours, _ = under(loaded, [held(block, NEURON, "key", "ablate")])
        theirs = logits_of(edited(loaded.model, scaled_column(block, NEURON, 0.0)))
        expect_near(ours, theirs, f"{block.address}: one neuron ablated")

        def emptied(parameters: dict[str, Tensor], block: Block = block) -> None:
            block.down.vectors(parameters).zero_()

        every = [held(block, neuron, "key", "ablate") for neuron in range(block.d_ff)]
        ours, seen = under(loaded, every, block)
        expect_near(ours, logits_of(edited(loaded.model, emptied)), f"{block.address}: all neurons ablated")
        expect(off(ours, logits_of(loaded.model)) > 1e-6, f"{block.address}: ablating it all changes nothing")
        if not block.fused:
            bias = block.down.biases(loaded.parameters)
            left = torch.zeros_like(seen[0].gave) if bias is None else bias.expand_as(seen[0].gave)
            expect(torch.equal(seen[0].gave, left), f"{block.address}: more than its bias is left")


def check_rows(loaded: LoadedModel) -> None:
    """A clamp on row 1 leaves row 0 as it is, and does change row 1."""
    routed = any(block.fused for block in loaded.anatomy.blocks)
    before = loaded.model.get_experts_implementation() if routed else None
    exact = not routed
    if routed and loaded.model._can_set_experts_implementation():
        loaded.model.set_experts_implementation("batched_mm")
        exact = True
    try:
        plain, _ = under(loaded, [])
        for block in sample(loaded):
            changed, _ = under(loaded, [held(block, NEURON, "key", "set", 25.0)], row=1)
            same = torch.equal(changed[0], plain[0]) if exact else off(changed[0], plain[0]) <= 1e-6
            expect(
                same, f"{block.address}: a clamp on row 1 changes row 0 by {off(changed[0], plain[0]):.0e}"
            )
            expect(
                not torch.equal(changed[1], plain[1]), f"{block.address}: a clamp on row 1 changes nothing"
            )
    finally:
        if before is not None:
            loaded.model.set_experts_implementation(before)


def check_observers(loaded: LoadedModel) -> None:
    """An observer changes no bit, and the key values it sees are what the block writes with."""
    blocks = sample(loaded)
    seen: dict[tuple[str, str], dict[int, Tensor]] = {}

    def see(block: Block, site: str, values: Tensor, rows: Tensor, positions: Tensor) -> None:
        tokens = (rows * LENGTH + positions).tolist()
        seen.setdefault((str(block.address), site), dict(zip(tokens, values, strict=True)))

    plain, _ = under(loaded, [])
    with torch.no_grad(), intervene(loaded, [Observe(blocks, see)], positions=POSITIONS):
        observed = loaded.model(input_ids=IDS, use_cache=False).logits
    expect(torch.equal(observed, plain), "an observer changes the logits")
    for block in blocks:
        _expect_seen(
            loaded, block, {site: v for (address, site), v in seen.items() if address == str(block.address)}
        )


def _expect_seen(loaded: LoadedModel, block: Block, seen: dict[str, dict[int, Tensor]]) -> None:
    plain = seen_at(loaded.model, writer(block))
    x_of = seen_at(loaded.model, reader(block))
    without = seen_at(edited(loaded.model, scaled_column(block, NEURON, 0.0)), writer(block))
    weights = routed_tokens(block, plain)
    expect(
        set(seen["key"]) == set(weights), f"{block.address}: an observer sees other tokens than are routed"
    )
    column = block.down.vectors(loaded.parameters)[NEURON]
    for token, weight in weights.items():
        theirs = written_for(block, plain, token) - written_for(block, without, token)
        size = written_for(block, plain, token).abs().max()
        wrong = (weight * seen["key"][token][NEURON] * column - theirs).abs().max() / size
        expect(
            float(wrong) < 1e-4, f"{block.address}: an observed key is not what is written, off {wrong:.0e}"
        )
        row = block.up.vectors(loaded.parameters)[NEURON]
        biases = block.up.unit_biases(loaded.parameters)
        up = read_by(block, x_of, token) @ row + (0.0 if biases is None else biases[NEURON])
        expect_near(seen["up"][token][NEURON], up, f"{block.address}: an observed up value", 1e-3)


CLAMPING = (
    check_idle,
    check_sites,
    check_up_is_linear,
    check_keys,
    check_ablation,
    check_rows,
    check_observers,
)
