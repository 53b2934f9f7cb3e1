"""Every check of `make contract` on one family of each layout there is."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.contract.outcomes import Outcome, outcome_of
from tests.contract.table import table

LAYOUTS = {
    "gpt2": "plain, stored transposed",
    "opt": "plain, without a module of its own",
    "gpt_neox": "plain, beside attention",
    "glm4": "gate and up in one projection, norms after the block",
    "gemma2": "gated, capped logits, (1 + w) norms after the block",
    "falcon_h1": "a gate multiplied on its way, scaled logits",
    "gemma3n_text": "a gate that counts above a threshold over the token's gates",
    "xlnet": "states with time first",
    "qwen2_moe": "experts in 3-D parameters, and shared ones",
    "cohere2_moe": "the same beside attention, scaled logits",
    "gpt_oss": "experts transposed and interleaved, with biases and a gating of their own",
    "aria_text": "experts transposed",
    "nemotron_h": "experts without a gate",
    "llama4": "experts that are all given every token",
    "dbrx": "experts one after the other in 2-D parameters",
    "inkling_text": "shared experts in 3-D parameters, a head that reads scaled states",
}
MULTIMODAL = {
    "qwen2_5_vl": "positions have three parts",
    "llava_next": "a parameter lies beside the vision tower",
}
REFUSED = {
    "mamba": "found no FFN block",
    "jetmoe": "in an unknown layout",
    "zamba2": "has the shapes of an FFN block but does not compute as one",
    "cpmant": "the LM head does not read the output of a norm",
}


@pytest.mark.slow
@pytest.mark.parametrize("entry", LAYOUTS)
def test_a_family_of_each_layout_passes_every_check(entry: str) -> None:
    outcome = outcome_of(entry)
    assert outcome.status == "supported", outcome.reason
    assert (outcome.stuck == "") is (entry != "xlnet"), outcome.stuck


@pytest.mark.slow
@pytest.mark.parametrize("entry", MULTIMODAL)
def test_the_text_model_of_a_multimodal_one_passes_every_check(entry: str) -> None:
    outcome = outcome_of(entry)
    assert outcome.status == "supported", outcome.reason
    assert outcome.stuck == ""


@pytest.mark.parametrize("entry", REFUSED)
def test_what_cannot_be_supported_is_refused_with_its_reason(entry: str) -> None:
    outcome = outcome_of(entry)
    assert outcome.status == "refused"
    assert REFUSED[entry] in outcome.reason


def test_the_page_counts_and_lists_what_was_found() -> None:
    page = table(
        [
            Outcome("llama", "supported", "LlamaForCausalLM", "dense gated"),
            Outcome("xyz", "refused", "Xyz", reason="a | b"),
            Outcome("mamba", "refused", "Mamba", reason="no FFN"),
            Outcome("blt", "not built", reason="too large"),
        ]
    )
    assert "**1 of 3 that could be built are supported, 50.0% of those that have an FFN.**" in page
    assert "| llama | LlamaForCausalLM | dense gated |  |" in page
    assert "| xyz | Xyz | a \\| b |" in page
    assert "| blt |  | too large |" in page


def test_the_page_in_the_docs_lists_every_family_that_is_tested_here() -> None:
    page = (Path(__file__).parents[2] / "docs" / "models.md").read_text(encoding="utf-8")
    supported = page.split("## Supported")[1].split("## Not supported")[0]
    assert all(f"| {entry} |" in supported for entry in LAYOUTS)
