"""Sweeps as jobs: they go on where they stopped, in every unit, with the numbers of one sweep at once."""

# ruff: noqa: F811 - what tests ask for are the fixtures

from __future__ import annotations

from dataclasses import replace

import pytest

from analysis.anatomy.addresses import parse_address
from analysis.errors import AddressOutOfRange, ClampError, HeadlampError, TextError, UnknownWord
from analysis.intervening.clamps import Scope, parse_clamp
from analysis.levers.bench import WordBench
from analysis.opening.models import LoadedModel
from analysis.running.conversations import Conversation
from store import Store, list_stored_units
from tests.patience import SECONDS
from tests.workbench.jobs.job_engines import Gate, Watched, failing_once
from tests.workbench.levers.levers_asked import PROMPTS, ask_sweep_of, database, loaded, mixture  # noqa: F401
from workbench.jobs.jobs import Jobs
from workbench.kinds import make_order
from workbench.levers.prompts import place_prompts
from workbench.levers.questions import SweepQuestion
from workbench.levers.sweeps import SWEEP, answer_sweep, find_sweep, resolve_sweep, sweep_spec
from workbench.neurons.profiles import resolve_clamps

NEURONS = ("L0.N1", "L1.N2", "L1.N3")


def submit(jobs: Jobs, loaded: LoadedModel, asked: SweepQuestion) -> int:
    return jobs.submit(make_order(SWEEP, loaded.ref, **asked.document())).id


def test_a_sweep_that_was_killed_goes_on_at_the_next_neuron(loaded: LoadedModel, database: Store) -> None:
    asked = resolve_sweep(loaded, database, ask_sweep_of(*NEURONS, neutral=True))
    engine = Watched(failing_once(2, OSError("power cut")))
    jobs = Jobs(database, engine)
    job = jobs.wait(submit(jobs, loaded, asked), SECONDS)
    assert (job.state, job.done, job.title) == ("failed", 2, "Dose curves of 3 neurons for “dog”")
    assert list_stored_units(database, str(job.run_key)) == {0, 1}
    assert find_sweep(loaded, database, asked) is None
    job = jobs.wait(jobs.resume(job.id).id, SECONDS)
    assert job.state == "done"
    assert engine.asked == [0, 1, 2, 2, 3]
    found = find_sweep(loaded, database, asked)
    assert found is not None
    assert found[0] == job.run_key
    assert found[1] == answer_sweep(loaded, asked)
    assert found[1].verdict == answer_sweep(loaded, asked).verdict


def test_a_sweep_is_cancelled_between_neurons(loaded: LoadedModel, database: Store) -> None:
    gate = Gate(at=1)
    jobs = Jobs(database, Watched(gate))
    job_id = submit(jobs, loaded, ask_sweep_of(*NEURONS))
    gate.wait()
    jobs.cancel(job_id)
    ended = jobs.wait(job_id, SECONDS)
    assert (ended.state, ended.done, ended.total) == ("cancelled", 1, 4)


def test_an_answer_has_a_curve_for_each_neuron_and_a_band_of_random_ones(loaded: LoadedModel) -> None:
    asked = ask_sweep_of(*NEURONS)
    answer = answer_sweep(loaded, asked)
    assert [str(curve.address) for curve in answer.curves] == list(NEURONS)
    assert answer.values == (-1.0, 0.0, 2.0)
    assert all(tuple(p.value for p in curve.points) == answer.values for curve in answer.curves)
    placed = place_prompts(loaded, asked.prompts, "dog")
    bench = WordBench(loaded, [one.placed for one in placed], Scope("last"), exact=True)
    assert list(answer.base) == pytest.approx(bench.base.probability[:, 0].tolist())
    rows = [(parse_clamp(f"L1.N2:set:{value}r@last"),) for value in asked.values]
    expected = bench.read(rows).mean.tolist()
    assert [point.mean for point in answer.curves[1].points] == pytest.approx(expected)
    assert answer.controls is not None
    assert len(answer.controls.neurons) == 2
    assert not set(answer.controls.neurons) & set(NEURONS)
    assert len(answer.controls.band) == 3
    assert answer.controls.largest == max(high for _, high in answer.controls.band)
    low, high = answer.controls.band[2]
    each = [
        float(bench.read([(parse_clamp(f"{name}:set:2r@last"),)]).mean[0]) for name in answer.controls.neurons
    ]
    assert (low, high) == pytest.approx((min(each), max(each)), rel=1e-5)
    alone = answer_sweep(loaded, replace(asked, controls=0))
    assert alone.controls is None
    assert alone.curves == answer.curves
    assert sweep_spec(loaded, replace(asked, controls=0).document()).units == 3
    assert sweep_spec(loaded, asked.document()).units == 4


def test_raw_values_are_held_as_they_are(loaded: LoadedModel, database: Store) -> None:
    asked = resolve_sweep(
        loaded, database, ask_sweep_of("L0.N1", "L1.N2", unit="raw", site="up", scope="all")
    )
    assert asked.raws == ((-1.0, 0.0, 2.0),) * 2
    answer = answer_sweep(loaded, asked)
    assert [point.raw for point in answer.curves[1].points] == [-1.0, 0.0, 2.0]
    placed = place_prompts(loaded, asked.prompts, "dog")
    bench = WordBench(loaded, [one.placed for one in placed], Scope("all"), exact=True)
    change = parse_clamp("L1.N2:up:set:2@all").resolve(largest=1, mean=0)
    assert answer.curves[1].points[2].mean == pytest.approx(float(bench.read([(change,)]).mean[0]), rel=1e-5)
    assert (answer.unit, answer.site, answer.scope) == ("raw", "up", "all")


def test_values_in_times_max_are_resolved_for_every_neuron(loaded: LoadedModel, database: Store) -> None:
    asked = resolve_sweep(loaded, database, ask_sweep_of("L0.N1", "L1.N2", unit="max"))
    ones = [parse_clamp(f"{name}:set:1x@last") for name in ("L0.N1", "L1.N2")]
    sizes = [one.raw for one in resolve_clamps(loaded, database, ones)]  # type: ignore[union-attr]
    assert asked.raws == tuple(tuple(value * (size or 0.0) for value in asked.values) for size in sizes)
    assert sizes[0] != sizes[1]
    answer = answer_sweep(loaded, asked)
    assert [point.value for point in answer.curves[0].points] == [-1.0, 0.0, 2.0]
    assert [point.raw for point in answer.curves[0].points] == list(asked.raws[0])
    again = resolve_sweep(loaded, database, asked)
    assert again == asked
    assert resolve_sweep(loaded, database, ask_sweep_of("L0.N1")).raws is None


def test_a_neuron_whose_expert_is_never_routed_is_said_in_the_verdict(
    mixture: LoadedModel, database: Store
) -> None:
    asked = resolve_sweep(mixture, database, ask_sweep_of("L0.E3.N1", *(f"L0.E{e}.N1" for e in range(3))))
    answer = answer_sweep(mixture, asked)
    reached = {str(curve.address): curve.reached for curve in answer.curves}
    assert reached["L0.E3.N1"] == 0.0
    assert sum(reached.values()) == pytest.approx(1.0)  # one expert a token
    assert "L0.E3.N1" in answer.verdict
    assert "never acted: no position clamped is routed to its expert." in answer.verdict
    only = answer_sweep(mixture, replace(asked, neurons=("L0.E3.N1",)))
    assert only.verdict.startswith("Nothing can be said of “dog”: L0.E3.N1 never acted")


@pytest.mark.parametrize(
    ("changed", "error", "said"),
    [
        ({"neurons": ("L7.N1",)}, AddressOutOfRange, "layer 7"),
        ({"neurons": ("L0.N1", "L0.N999")}, AddressOutOfRange, "N999"),
        ({"site": "up"}, ClampError, "× residual is what a neuron writes, so it is for its key"),
        ({"values": (1.0, 1e7, 2.0)}, ClampError, "is not a number of at most 1e\\+06 in size"),
        ({"unit": "bananas"}, ClampError, "unit 'bananas' is unknown"),
        ({"scope": "5-3"}, ClampError, "FIRST ≤ LAST"),
        ({"word": "犬"}, UnknownWord, "tokens can write"),
        ({"prompts": (Conversation("my dog"),)}, TextError, "already ends in"),
        ({"prompts": (Conversation("the " * 200),)}, HeadlampError, "context|tokens"),
    ],
)
def test_what_cannot_be_swept_is_refused_before_anything_is_computed(
    loaded: LoadedModel,
    database: Store,
    monkeypatch: pytest.MonkeyPatch,
    changed: dict[str, object],
    error: type[HeadlampError],
    said: str,
) -> None:
    resolve_sweep(loaded, database, ask_sweep_of("L0.N1"))
    asked = replace(ask_sweep_of("L0.N1"), **changed)  # type: ignore[arg-type]
    monkeypatch.setattr(type(loaded.model), "forward", lambda *args, **kwargs: pytest.fail("the model ran"))
    with pytest.raises(error, match=said):
        resolve_sweep(loaded, database, asked)


def test_other_prompts_words_and_values_are_other_runs(loaded: LoadedModel) -> None:
    asked = ask_sweep_of("L0.N1")
    others = [
        replace(asked, prompts=PROMPTS[1:3]),
        replace(asked, word="cat", prompts=PROMPTS[1:3]),
        replace(asked, values=(1.0,)),
        replace(asked, scope="all"),
        replace(asked, seed=1),
        replace(asked, neutral=True),
        replace(asked, neurons=("L0.N2",)),
    ]
    keys = [sweep_spec(loaded, one.document()).key for one in (asked, *others)]
    assert len(set(keys)) == len(keys)
    assert parse_address(asked.neurons[0]).block.layer == 0
