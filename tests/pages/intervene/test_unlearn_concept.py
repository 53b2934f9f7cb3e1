"""The Unlearn page takes a concept out."""

from __future__ import annotations

from pathlib import Path

import pytest

from store import default_path, list_jobs, list_runs, open_store, read_unit
from tests.pages.explore.experts_made import moe_folder  # noqa: F401 - a fixture
from tests.pages.reading import labels, press, shown
from tests.pages.unlearning_made import RunApp
from tests.workbench.conftest import Cli, cli  # noqa: F401 - a fixture

CONCEPT = {
    "remove": "a concept",
    "concept": "dog",
    "leads": "the cat the\nthe",
    "held_out": "a cat the",
    "max_kl": "5",
}


def test_a_concept_is_removed_and_what_was_turned_is_told(run_app: RunApp) -> None:
    app = press(run_app("/unlearn", **CONCEPT), "Remove it")
    assert not app.exception
    assert all(box.value.startswith("Failed to remove dog") for box in app.error)
    costs, prompts, table = (frame.value for frame in app.dataframe)
    assert list(costs["change"]) == ["reversed vectors", "head row zeroed"]
    assert list(prompts["which"]) == ["aimed with", "aimed with", "held out"]
    assert 1 <= len(table) <= 8
    assert table["cosine"].abs().is_monotonic_decreasing
    heads = table[table["vector"] == "head"]
    assert set(heads["token"]) <= {"␣dog", "␣Dog", "dog"}
    for address, vector, link in zip(table["address"], table["vector"], table["open"], strict=True):
        assert vector == "head" or f"neuron={address}" in link
    before, after = (app.metric[i].value for i in range(2))
    assert float(after.split()[0]) < float(before.split()[0])
    assert "P(dog)" in shown(app)
    assert "Zeroing the head row of dog alone" in shown(app)
    assert {"Recipe (zip)", "Edited model (zip)", "Vectors as CSV"} <= {*labels(app, "download_button")}
    again = run_app("/unlearn", **CONCEPT)
    assert len(again.dataframe) == 3
    assert len(list_jobs(open_store(default_path()))) == 1
    asked = press(again, "Ask")
    assert "Greedy, done in" in shown(asked)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"concept": "dog cat"}, "is not a single token of this model"),
        ({"leads": "cat " * 90}, "context"),
        ({"leads": "the dog"}, "contains 'dog' itself"),
        ({"leads": "dog"}, "contains 'dog' itself"),
        ({"concept": "ran", "leads": "the"}, "does not say 'ran'"),
        ({"held_out": "the"}, "both to aim with and to report on"),
        ({"cosine": "1.0", "head_rows": "false"}, "lower the threshold"),
    ],
)
def test_a_concept_that_cannot_be_removed_is_said_in_a_sentence(
    run_app: RunApp, changed: dict[str, str], message: str
) -> None:
    app = press(run_app("/unlearn", **CONCEPT | changed), "Remove it")
    assert not app.exception
    assert message in shown(app)
    assert list_jobs(open_store(default_path())) == []


def test_without_a_concept_the_page_says_what_to_type(run_app: RunApp) -> None:
    app = run_app("/unlearn", remove="a concept")
    assert "Type a concept, one word such as" in shown(app)
    assert not app.exception


def test_the_time_of_a_removal_is_said_before_it_starts(run_app: RunApp) -> None:
    app = run_app("/unlearn", **CONCEPT)
    assert "**Remove it** removes dog. ≈ " in shown(app)
    assert "on this machine, by a short measurement." in shown(app)


def test_the_page_opens_what_the_command_line_removed_and_the_other_way_round(
    run_app: RunApp,
    cli: Cli,  # noqa: F811 - the fixture
    tiny_model_folder: Path,
) -> None:
    def remove(seed: int) -> str:
        lines = [*("--prompt", "the cat the", "--prompt", "the", "--held-out", "a cat the")]
        how = ("--max-kl", "5", "--seed", str(seed), "--json")
        return str(cli("tars", tiny_model_folder, "--concept", "dog", *lines, *how).document["verdict"])

    said = remove(1)
    app = run_app("/unlearn", **CONCEPT, seed="1")
    assert said in shown(app)
    store = open_store(default_path())
    assert len(list_jobs(store)) == 1
    app = press(run_app("/unlearn", **CONCEPT, seed="2"), "Remove it")
    (run,) = [one for one in list_runs(store) if one.seed == 2]
    assert read_unit(store, run.key, 0).payload["verdict"] == remove(2)
    assert len(list_jobs(store)) == 2
