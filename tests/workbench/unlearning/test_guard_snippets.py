"""The exported script refuses and answers as the guard does."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from analysis.opening.leases import lease_model
from analysis.opening.models import LoadedModel, ModelRef
from analysis.recipes.files import write_recipe_files
from analysis.skills.answering import answer_prompts
from analysis.unlearning.guards.key_gaussians import KeyGaussian
from analysis.unlearning.guards.key_guards import KeyGuard, Rival
from analysis.unlearning.guards.linear_fits import score_queries
from analysis.unlearning.guards.linear_guards import LinearGuard, collect_linear_keys
from tests.analysis.unlearning.guards.guards_made import guard_around, with_rival
from workbench.unlearning.guard_snippets import write_guard_snippet

TEXTS = ["the dog", "the cat the cat", "a. dog the"]


@pytest.mark.slow
@pytest.mark.parametrize(("check", "rivals"), [("prefill", False), ("each_step", True)])
def test_the_script_does_what_the_guard_did(tiny: Path, tmp_path: Path, check: str, rivals: bool) -> None:
    with lease_model(ModelRef(str(tiny))) as loaded:
        ids = [loaded.tokenizer.encode(text) for text in TEXTS]
        held = [0, 1] if rivals else [1]  # a rival around prompt 0 takes it away again
        guard = guard_around(loaded, held, (0, 1), prompts=ids, check_at=check, refusal="Non, merci.")
        if rivals:
            guard = with_rival(guard, guard_around(loaded, [0], (0, 1), prompts=ids))
        for name, data in write_recipe_files(loaded, [guard], "guard").items():
            (tmp_path / name).write_bytes(data)
        found = answer_prompts(loaded, ids, [guard], stops=[()] * 3)
        scripts = [write_guard_snippet(loaded, guard, tmp_path / "guard.json", text) for text in TEXTS]
    assert [answer.abstained for answer in found] == [False, True, False]
    for script, answer in zip(scripts[:2], found, strict=False):
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        said = done.stdout.strip("\n")
        assert said.strip() == ("Non, merci." if answer.abstained else answer.text.strip())


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["linear", "gauss"])
def test_the_script_reads_its_keys_where_the_guard_does(tiny: Path, tmp_path: Path, kind: str) -> None:
    """A threshold, or a margin, between two prompts: one is refused, the other is answered."""
    with lease_model(ModelRef(str(tiny))) as loaded:
        ids = [loaded.tokenizer.encode(text) for text in TEXTS]
        guard = _linear(loaded, ids) if kind == "linear" else _gaussian(loaded, ids)
        for name, data in write_recipe_files(loaded, [guard], "guard").items():
            (tmp_path / name).write_bytes(data)
        found = answer_prompts(loaded, ids, [guard], stops=[()] * 3)
        scripts = [write_guard_snippet(loaded, guard, tmp_path / "guard.json", text) for text in TEXTS]
    assert {answer.abstained for answer in found[:2]} == {False, True}
    for script, answer in zip(scripts[:2], found, strict=False):
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        said = done.stdout.strip("\n")
        assert said.strip() == (guard.refusal if answer.abstained else answer.text.strip())


def _linear(loaded: LoadedModel, ids: list[list[int]]) -> LinearGuard:
    width = loaded.anatomy.blocks[0].d_ff
    weights = torch.randn(2, 2, width, generator=torch.Generator().manual_seed(2))
    guard = LinearGuard((0, 1), weights, 0.5, 0.0, 30)
    scores = score_queries(loaded, ids[:2], guard)
    return replace(guard, threshold=float(scores.mean()))


def _gaussian(loaded: LoadedModel, ids: list[list[int]]) -> KeyGuard:
    keys = collect_linear_keys(loaded, ids, (0, 1), "user_mean")[:, 0]
    sets = [
        tuple(
            KeyGaussian(layer, keys[row, layer], torch.full_like(keys[row, layer], 0.5), 30)
            for layer in (0, 1)
        )
        for row in (0, 1)
    ]
    return KeyGuard(sets[0], 5.0, rivals=(Rival("kept", sets[1]),), key="user_mean")
