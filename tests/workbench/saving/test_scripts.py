"""Scripts of recipes, run by themselves, say what the app says."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest
import torch

from analysis.anatomy.addresses import BlockAddress, NeuronAddress
from analysis.errors import HeadlampError
from analysis.intervening.clamps import parse_clamp
from analysis.intervening.pruning import PruneColumn, PruneExpert
from analysis.opening.models import LoadedModel, ModelRef, load_model
from analysis.recipes.files import write_recipe_files
from analysis.skills.answering import answer_prompts
from analysis.unlearning.edits.reversals import HeadRow, Reversal, Tars
from analysis.unlearning.edits.selective_prune import draw_prune
from tests.analysis.unlearning.edits.neuron_methods_made import adjusting
from workbench.saving.scripts import write_edit_script
from workbench.unlearning.adjust_snippets import why_no_adjust_script, write_adjust_snippet

PROMPT = "the dog"


def replaced(loaded: LoadedModel, *places: tuple[BlockAddress, str]) -> Tars:
    torch.manual_seed(3)
    width = loaded.anatomy.d_model
    found: list[Any] = [
        Reversal(NeuronAddress(block, 5), site, 0.5, torch.randn(width))  # type: ignore[arg-type]
        for block, site in places
    ]
    return Tars((*found, Reversal(HeadRow(12), "head", 0.9, 20 * torch.randn(width))))


def changes_of(loaded: LoadedModel, kind: str) -> list[Any]:
    first = loaded.anatomy.blocks[0].address
    clamps = [
        parse_clamp(f"{first}.N{n}:key:{how}").resolve(largest=1, mean=0)
        for n, how in ((2, "ablate"), (7, "scale:-9"))
    ]
    kinds: dict[str, Any] = {
        "clamps": lambda: clamps,
        "pruned neurons": lambda: [draw_prune(loaded, 40.0, 0)],
        "pruned experts": lambda: [PruneExpert(first)],
        "pruned columns": lambda: [PruneColumn(NeuronAddress(first, number)) for number in range(9)],
        "vectors": lambda: [replaced(loaded, (first, "up"), (first, "gate"), (first, "down"))],
        "head": lambda: [replaced(loaded)],
    }
    if kind != "all":
        return list(kinds[kind]())
    return [one for name in ("clamps", "pruned neurons", "head") for one in kinds[name]()]


def say(loaded: LoadedModel, changes: list[Any], script: str, folder: Path) -> tuple[list[int], list[int]]:
    """What the app says of the prompt with the changes, and what the script says."""
    for name, data in write_recipe_files(loaded, changes, "mine").items():
        (folder / name).write_bytes(data)
    (folder / "mine.py").write_text(script, encoding="utf-8")
    ids = [loaded.tokenizer.encode(PROMPT)]
    texts = runpy.run_path(str(folder / "mine.py"))["texts"]
    for own, more in zip(texts, ([], changes), strict=True):
        [told] = answer_prompts(loaded, ids, more, stops=[()], max_new_tokens=40)
        ended = [[t for t in ids if t not in loaded.ends_of_text] for ids in (own, told.token_ids)]
        assert ended[0] == ended[1]
    return texts


@pytest.mark.parametrize("kind", ["clamps", "pruned neurons", "pruned columns", "vectors", "head", "all"])
def test_a_script_edits_a_dense_model_as_the_recipe_does(tiny: Path, tmp_path: Path, kind: str) -> None:
    loaded = load_model(ModelRef(str(tiny)))
    changes = changes_of(loaded, kind)
    script = write_edit_script(loaded, changes, tmp_path / "mine.json", PROMPT)
    base, changed = say(loaded, changes, script, tmp_path)
    assert base != changed


@pytest.mark.parametrize("kind", ["clamps", "pruned neurons", "pruned experts"])
def test_a_script_edits_experts_as_the_recipe_does(experts: Path, tmp_path: Path, kind: str) -> None:
    loaded = load_model(ModelRef(str(experts)))
    changes = changes_of(loaded, kind)
    script = write_edit_script(loaded, changes, tmp_path / "mine.json", PROMPT)
    say(loaded, changes, script, tmp_path)


@pytest.mark.parametrize(("as_released", "seed"), [(False, 5), (True, 0), (True, 1), (True, 2)])
def test_a_script_adjusts_neurons_as_the_recipe_does(
    tiny: Path, tmp_path: Path, as_released: bool, seed: int
) -> None:
    loaded = load_model(ModelRef(str(tiny)))
    change = adjusting(loaded, seed=seed, as_released=as_released)
    script = write_adjust_snippet(loaded, change, tmp_path / "mine.json", PROMPT)
    base, changed = say(loaded, [change], script, tmp_path)
    assert base != changed


def test_what_no_script_can_do_is_refused(experts: Path, tiny: Path, tmp_path: Path) -> None:
    dense = load_model(ModelRef(str(tiny)))
    assert why_no_adjust_script(dense, adjusting(dense)) == ""
    with pytest.raises(HeadlampError, match="no weight equals it"):
        write_edit_script(dense, [adjusting(dense)], tmp_path / "r.json", PROMPT)
