"""Fitted skills by name: the command's fit is the page's, and fits of earlier versions are still read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from analysis.errors import SkillError
from analysis.opening.leases import lease_model
from analysis.opening.models import LoadedModel, ModelRef
from analysis.unlearning.guards.key_boxes import METHOD_VERSION, KeyBox
from demo import BUNDLED_SKILLS
from store import Store, list_jobs, open_store
from tests.workbench.conftest import Cli
from tests.workbench.skill_files_made import LETTERS, write_skill
from workbench.runs import UnitResult, compute_in_turn, run_missing_units, run_spec
from workbench.skills.fitted import check_query, find_fitted_skill
from workbench.skills.key_space import KeySpaceQuestion, find_key_space
from workbench.skills.library import list_others
from workbench.skills.sources import make_skill_source


@pytest.fixture
def loaded(tiny: Path) -> Iterator[LoadedModel]:
    with lease_model(ModelRef(str(tiny))) as model:
        yield model


def store_earlier_fit(loaded: LoadedModel, store: Store, name: str, layer: int) -> KeyBox:
    """A run as `skill fit` of version 0.1 stored it: one layer, one unit, the box's arrays."""
    width = loaded.anatomy.blocks[0].d_ff
    mean, sigma, own_k = (torch.full((width,), value) for value in (0.5, 2.0, 1.5))
    arrays = {"mean": mean.numpy(), "sigma": sigma.numpy(), "own_k": own_k.numpy()}
    spec = run_spec(
        loaded, "skill", METHOD_VERSION, {"name": name, "skill": "digest", "layer": layer}, units=1
    )
    run_missing_units(
        store, spec, compute_in_turn(lambda index: UnitResult(name, arrays, {"k": 1.5, "n": 40}))
    )
    return KeyBox(layer, mean, sigma, 1.5, 40, own_k)


def test_the_commands_fit_is_the_one_that_the_page_shows(
    cli: Cli, tiny: Path, tmp_path: Path, loaded: LoadedModel
) -> None:
    one, two = (write_skill(tmp_path / f"{name}.jsonl", tiny, letters) for name, letters in LETTERS.items())
    database = tmp_path / "own.db"
    fit = ("skill", "fit", tiny, "--skill", one, "--compared", two, "--db", database, "--json")
    told = cli(*fit).document
    store = open_store(database)
    question = KeySpaceQuestion(make_skill_source(one), (make_skill_source(two),))
    found = find_key_space(loaded, store, question)
    assert found is not None
    run, space = found
    assert (told["run"], told["layer"], told["n"]) == (run, max(space.layers), space.layers[1].box.n)
    assert [job.kind for job in list_jobs(store)] == ["keyspace"]
    first = cli(*fit, "--layer", "0").document
    assert (first["layer"], first["k"], first["cached"]) == (0, space.layers[0].box.k, True)
    absent = cli(*fit, "--layer", "7")
    assert absent.code == 2
    assert "layer 7 has no box of one; fitted: L0, L1" in absent.err


def test_a_fit_of_an_earlier_version_is_still_read(loaded: LoadedModel, tmp_path: Path) -> None:
    store = open_store(tmp_path / "earlier.db")
    box = store_earlier_fit(loaded, store, "old", 0)
    found = find_fitted_skill(loaded, store, "old")
    assert (found.box.layer, found.box.n, found.box.k) == (0, 40, 1.5)
    assert torch.equal(found.box.mean, box.mean)
    assert check_query(loaded, found.box, "abc") == check_query(loaded, box, "abc")
    with pytest.raises(SkillError, match="layer 1 has no box of old; fitted: L0"):
        find_fitted_skill(loaded, store, "old", 1)


def test_a_skill_is_compared_with_the_bundled_ones_but_itself(tmp_path: Path) -> None:
    copy = tmp_path / "mine.jsonl"
    copy.write_bytes(BUNDLED_SKILLS["facts"].read_bytes())
    others = [source.name for source in list_others(make_skill_source(copy))]
    assert others == sorted(set(BUNDLED_SKILLS) - {"facts"})
    same_name = tmp_path / "stories.jsonl"
    same_name.write_text('{"prompt": "a", "answer": "b"}\n')
    others = [source.name for source in list_others(make_skill_source(same_name))]
    assert others == sorted(set(BUNDLED_SKILLS) - {"stories"})


def test_too_few_examples_are_refused_before_the_model_reads(cli: Cli, tiny: Path, tmp_path: Path) -> None:
    one, two = (write_skill(tmp_path / f"{name}.jsonl", tiny, letters) for name, letters in LETTERS.items())
    found = cli("skill", "fit", tiny, "--skill", one, "--compared", two, "--limit", "20")
    assert found.code == 2
    assert (
        "20 examples of one make 2 probes, and a key box needs at least 30; use 240 of its 294" in found.err
    )
    assert "This takes" not in found.err
