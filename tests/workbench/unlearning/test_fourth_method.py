"""A fourth method, added in this file alone: fitted, judged, counted, stored, printed and shown by name."""

# ruff: noqa: F811 - what tests ask for are the fixtures

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from analysis.errors import TooFewExamples
from analysis.opening.models import LoadedModel
from analysis.pulse import Pulse
from analysis.unlearning.edits.selective_prune import prune_top_share
from analysis.unlearning.methods import METHODS
from analysis.unlearning.passes import ExamplePass
from analysis.unlearning.records import FittedMethod, UnlearningMethod
from analysis.unlearning.results import Baseline, FitSettings
from analysis.unlearning.scenes import Scene
from store import open_store
from tests.workbench.unlearning.unlearned_made import loaded, question  # noqa: F401 - fixtures
from workbench.cli.shared.unlearn_tables import format_unlearned
from workbench.unlearning.checks import check_scene
from workbench.unlearning.presets import plan_time
from workbench.unlearning.progress import count_examples
from workbench.unlearning.questions import UnlearningQuestion
from workbench.unlearning.unlearning import find_unlearning_answer, unlearn, unlearn_spec


def zero_first_layer(
    loaded: LoadedModel, scene: Scene, plan: FitSettings, base: Baseline, pulse: Pulse
) -> FittedMethod:
    """Zero every neuron of the first block."""
    width = loaded.anatomy.blocks[0].d_ff
    scores = torch.zeros(loaded.anatomy.neurons)
    scores[:width] = 1
    share = 100 * width / loaded.anatomy.neurons
    return FittedMethod(prune_top_share(loaded, scores, share), {"block": "L0"})


def list_fits(scene: Scene, plan: FitSettings) -> Iterator[ExamplePass]:
    yield ExamplePass(scene.forget.skill, 1000)


FOURTH = UnlearningMethod("first", "First block", "1", zero_first_layer, list_fits, "none", fewest_probes=5)


@pytest.fixture
def fourth(question: UnlearningQuestion, monkeypatch: pytest.MonkeyPatch) -> UnlearningQuestion:
    monkeypatch.setitem(METHODS, "first", FOURTH)
    return replace(question, methods=("first",), controls=False, robustness=False)


def test_a_record_is_all_that_a_method_needs(
    loaded: LoadedModel, fourth: UnlearningQuestion, tmp_path: Path
) -> None:
    store = open_store(tmp_path / "fourth.db")
    found = unlearn(loaded, store, fourth)
    [method] = found.to_document()["methods"]
    assert method["parameters"]["block"] == "L0"
    assert method["control"]["kind"] == "none"
    forget = method["skills"][0]
    assert forget["after"] < forget["before"] == 1.0
    assert method["verdict"]["sentence"].startswith("First block ")
    assert "First block" in format_unlearned(found)
    again = find_unlearning_answer(loaded, store, fourth)
    assert again is not None
    assert again.methods == found.methods


def test_what_it_needs_and_takes_is_read_from_its_record(
    loaded: LoadedModel, fourth: UnlearningQuestion
) -> None:
    with pytest.raises(TooFewExamples, match="and First block needs at least 5"):
        check_scene(loaded, replace(fourth, limit=20))
    assert check_scene(loaded, replace(fourth, retain=())).retain == ()
    scene, plan = fourth.scene(), fourth.plan
    first, pruning = (count_examples(loaded, scene, plan, [name]) for name in ("first", "sp"))
    assert first - pruning > 0
    assert plan_time(loaded, fourth) is not None


def test_a_methods_version_is_in_the_keys_of_its_own_runs_alone(
    loaded: LoadedModel, fourth: UnlearningQuestion, monkeypatch: pytest.MonkeyPatch
) -> None:
    pruned = replace(fourth, methods=("sp",))
    keys = [unlearn_spec(loaded, one).key for one in (fourth, pruned)]
    monkeypatch.setitem(METHODS, "first", replace(FOURTH, version="2"))
    now = [unlearn_spec(loaded, one).key for one in (fourth, pruned)]
    assert now[0] != keys[0]
    assert now[1] == keys[1]
