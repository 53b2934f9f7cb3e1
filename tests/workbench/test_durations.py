"""How long work takes: by earlier runs, else by a measurement that never meets a job on the same model."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis.opening.models import ModelRef
from store import open_store
from tests.workbench.held_model_made import HeldModel
from workbench.durations import find_seconds_per_unit, find_usual_seconds, measure_reading_rate
from workbench.models import open_model
from workbench.neurons.decoding import decode_model
from workbench.neurons.mapping import (
    find_seconds_per_neuron,
    measure_seconds_per_neuron,
    order_map,
    plan_map,
)


def test_a_model_at_work_is_not_measured_and_nothing_of_it_runs(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_model(ModelRef(str(tiny)), open_store(tmp_path / "s.db")) as loaded:
        ran: list[object] = []
        handle = loaded.model.register_forward_pre_hook(lambda *_: ran.append(None))
        with HeldModel(loaded):
            assert measure_reading_rate(loaded) is None
        assert ran == []
        rate = measure_reading_rate(loaded)
        handle.remove()
    assert rate is not None
    assert rate > 0
    assert ran


def test_the_usual_time_is_that_of_runs_on_this_device_and_dtype_alone(tiny: Path, tmp_path: Path) -> None:
    store = open_store(tmp_path / "s.db")
    with open_model(ModelRef(str(tiny)), store) as loaded:
        assert find_usual_seconds(loaded, store, "decode") is None
        done = decode_model(loaded, store, site="down")
        assert find_usual_seconds(loaded, store, "decode") == pytest.approx(done.run.seconds)
        assert find_usual_seconds(loaded, store, "decode", site="up") is None
        assert find_usual_seconds(loaded, store, "levers") is None
        each = done.run.seconds / done.run.units
        assert done.run.units > 1
        assert find_seconds_per_unit(loaded, store, "decode") == pytest.approx(each)
        assert find_seconds_per_unit(loaded, store, "decode", site="up") is None
    with open_model(ModelRef(str(tiny), dtype="bfloat16"), store) as loaded:
        assert find_usual_seconds(loaded, store, "decode") is None


def test_a_map_is_planned_and_timed_by_what_is_stored(tiny: Path, tmp_path: Path) -> None:
    store = open_store(tmp_path / "s.db")
    with open_model(ModelRef(str(tiny)), store) as loaded:
        plan = plan_map(loaded, store)
        assert plan.sites == loaded.anatomy.sites
        assert plan.neurons == loaded.anatomy.neurons * len(plan.sites)
        assert find_seconds_per_neuron(loaded, store) is None
        assert measure_seconds_per_neuron(loaded, store) > 0
        assert next(order.parameters["site"] for order in order_map(loaded, store, plan)) == "down"
        done = decode_model(loaded, store, site="down")
        left = plan_map(loaded, store)
        assert set(left.sites) == set(plan.sites) - {"down"}
        assert left.neurons == plan.neurons - loaded.anatomy.neurons
        assert find_seconds_per_neuron(loaded, store) == pytest.approx(
            done.run.seconds / loaded.anatomy.neurons
        )
