"""The exported script refuses and answers as the guard does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from analysis.opening.leases import lease_model
from analysis.opening.models import ModelRef
from analysis.recipes.files import write_recipe_files
from analysis.skills.answering import answer_prompts
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
