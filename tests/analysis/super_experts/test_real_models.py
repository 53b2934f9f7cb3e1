"""What forms massive activations in trained models: SmolLM2's one weight, and nothing in stories260K."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from analysis.opening.leases import lease_model
from analysis.opening.models import LoadedModel, ModelRef
from analysis.super_experts.controls import list_super_parts
from analysis.super_experts.merging import merge_batches
from analysis.super_experts.profiling import profile_batch
from analysis.super_experts.verdict import explain_none, find_super_experts

pytestmark = pytest.mark.real
TEXT = "Once upon a time there was a small fox who lived near the river, and every morning he ran."
ROW, NEURON, LAYER = 507, 1229, 11


@pytest.fixture(scope="module")
def real(smollm2: Path) -> Iterator[LoadedModel]:
    with lease_model(ModelRef(str(smollm2), dtype="float32")) as loaded:
        yield loaded


def test_one_weight_of_smollm2_forms_what_its_first_token_holds(real: LoadedModel) -> None:
    ids = real.tokenizer.encode(TEXT)
    profile = merge_batches(real, [profile_batch(real, [ids])])
    verdict = find_super_experts(profile)
    assert verdict.threshold.rule == "forms"
    assert [str(part) for part in list_super_parts(verdict.supers)] == [f"L{LAYER}.N{NEURON}"]
    (row,) = verdict.supers
    assert row.formation is not None
    assert row.formation.place is not None
    assert (row.formation.place.position, row.formation.dimension) == (0, ROW)
    assert (row.row, row.column) == (ROW, NEURON)
    mlp = real.model.get_submodule(f"model.layers.{LAYER}.mlp")
    written: list[torch.Tensor] = []
    handle = mlp.register_forward_hook(lambda module, args, output: written.append(output[0, 0, ROW]))
    with torch.no_grad():
        real.model(input_ids=torch.tensor([ids]), use_cache=False)
    handle.remove()
    assert row.formation.added == pytest.approx(float(written[0]), rel=1e-4)
    assert row.formation.added > 20_000


def test_stories260k_forms_nothing_and_it_is_said(stories: Path) -> None:
    with lease_model(ModelRef(str(stories), dtype="float32")) as loaded:
        profile = merge_batches(loaded, [profile_batch(loaded, [loaded.tokenizer.encode(TEXT)])])
    verdict = find_super_experts(profile)
    assert verdict.supers == ()
    assert "No layer forms massive activations" in explain_none(verdict)
    assert any("No layer forms massive activations: the largest |h|" in r for r in verdict.remarks)
