"""Dose curves against the same clamps one by one, and the random neurons beside them."""

from __future__ import annotations

import math

import pytest
import torch

from analysis.anatomy.addresses import NeuronAddress, parse_address
from analysis.intervening.clamps import Scope
from analysis.levers.bench import WordBench, WordPrompt
from analysis.levers.collapse import collapses, continue_rows
from analysis.levers.neutral_effects import NeutralText
from analysis.levers.sweeping import Held, draw_controls, match_raws, sweep_neuron
from analysis.running.generation import Sampling, generate_steps
from tests.analysis.levers.bench_made import no_texts
from tests.analysis.levers.rows_made import IDS, OTHER, clamp, fresh, made

SPELLINGS = ((5,), (6, 9))
PROMPTS = [WordPrompt(ids[:12], SPELLINGS) for ids in (IDS, OTHER)]


def name(text: str) -> NeuronAddress:
    found = parse_address(text)
    assert isinstance(found, NeuronAddress)
    return found


@pytest.mark.parametrize("scope", ["last", "all"])
def test_every_point_equals_the_clamp_alone_on_every_prompt(scope: str) -> None:
    loaded = made("llama")
    held = Held((-1.0, 0.0, 2.0), scope=Scope(scope))  # type: ignore[arg-type]
    bench = WordBench(loaded, PROMPTS, held.scope, exact=True)
    curve = sweep_neuron(bench, name("L1.N7"), held)
    assert [point.value for point in curve.points] == [-1.0, 0.0, 2.0]
    assert curve.reached == 1.0
    for point in curve.points:
        expected = []
        for prompt in PROMPTS:
            change = clamp(f"L1.N7:set:{point.value}r@{scope}")
            (step,) = generate_steps(loaded, prompt.ids, [change], Sampling(1), SPELLINGS)
            assert step.word is not None
            expected.append(step.word[1])
        assert point.probability == pytest.approx(expected, rel=1e-4)
        assert point.mean == pytest.approx(sum(expected) / 2, rel=1e-4)
        odds = [math.log(p) - math.log1p(-p) for p in expected]
        assert point.log_odds == pytest.approx(sum(odds) / 2, abs=1e-4)
        assert point.raw is None
        assert (point.neutral_kl, point.perplexity, point.repetition, point.collapse) == (None,) * 4


def test_values_in_other_units_are_held_at_what_they_resolve_to() -> None:
    loaded = made("llama")
    held = Held((1.0, -2.0), unit="max", site="up")
    bench = WordBench(loaded, PROMPTS[:1], held.scope)
    curve = sweep_neuron(bench, name("L1.N7"), held, raws=(3.0, -6.0))
    assert [(point.value, point.raw) for point in curve.points] == [(1.0, 3.0), (-2.0, -6.0)]
    expected = bench.read([(clamp(f"L1.N7:up:set:{raw}@last"),) for raw in (3, -6)])
    assert [point.mean for point in curve.points] == pytest.approx(expected.mean.tolist())
    assert [point.kl for point in curve.points] == pytest.approx(expected.kl.tolist())


def test_neutral_text_and_collapse_are_measured_where_asked() -> None:
    loaded = made("llama")
    held, neutral = Held((-2.0, 4.0)), NeutralText(made("llama"), Scope("last"))
    curve = sweep_neuron(WordBench(loaded, PROMPTS, held.scope), name("L0.N7"), held, neutral=neutral)
    rows = [(clamp(f"L0.N7:set:{value}r@last"),) for value in held.values]
    effect = neutral.measure(rows)
    base, *texts = continue_rows(loaded, PROMPTS[0].ids, [(), *rows])
    for at, point in enumerate(curve.points):
        assert point.neutral_kl == pytest.approx(float(effect.kl[at]), rel=1e-4)
        assert point.perplexity == pytest.approx(float(effect.perplexity[at]), rel=1e-4)
        assert point.repetition == texts[at].repetition
        assert point.collapse == collapses(texts[at], base)


def test_each_value_is_judged_by_its_own_text(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded, held = made("llama"), Held((-2.0, 4.0, 1.0))
    texts = no_texts(range(20), range(20), (1, 2) * 10, (1, 2, 3))
    monkeypatch.setattr("analysis.levers.sweeping.continue_rows", texts)
    bench = WordBench(loaded, PROMPTS[:1], held.scope)
    curve = sweep_neuron(bench, name("L0.N7"), held, neutral=NeutralText(loaded, held.scope))
    assert [point.collapse for point in curve.points] == [False, True, None]


def test_a_value_that_drives_the_model_to_nan_has_no_numbers_and_the_others_have_theirs() -> None:
    loaded = fresh("llama")
    loaded.model.model.layers[1].mlp.down_proj.weight[:, 7] = 1e34
    held = Held((1.0, 1e6), unit="raw")
    neutral = NeutralText(loaded, held.scope)
    bench = WordBench(loaded, PROMPTS[:1], held.scope)
    fine, broken = sweep_neuron(bench, name("L1.N8"), held, raws=held.values, neutral=neutral).points
    assert None not in (fine.mean, broken.mean, broken.neutral_kl)
    curve = sweep_neuron(bench, name("L1.N7"), held, raws=(0.0, 1e6), neutral=neutral)
    fine, broken = curve.points
    assert (broken.mean, broken.log_odds, broken.kl, broken.neutral_kl, broken.perplexity) == (None,) * 5
    assert broken.probability == (0.0,)
    assert fine.mean is not None
    assert fine.log_odds is not None


def test_a_neuron_of_an_expert_that_is_not_routed_reaches_no_prompt() -> None:
    loaded = made("mixtral")
    bench = WordBench(loaded, PROMPTS[:1], Scope("last"))
    found = [sweep_neuron(bench, name(f"L1.E{expert}.N7"), Held((1.0,))) for expert in range(4)]
    assert sorted(curve.reached for curve in found) == [0.0, 0.0, 1.0, 1.0]  # two experts a token
    both = WordBench(loaded, PROMPTS, Scope("last"))
    shares = [sweep_neuron(both, name(f"L1.E{expert}.N7"), Held((1.0,))).reached for expert in range(4)]
    assert sum(shares) == 2.0
    assert 0.5 in shares
    idle = next(curve for curve in found if curve.reached == 0)
    assert idle.points[0].mean == pytest.approx(float(bench.base.mean[0]), rel=1e-5)


def test_a_control_writes_as_much_as_the_neuron_it_stands_beside() -> None:
    loaded = made("llama")
    neuron, control = name("L1.N7"), name("L1.N9")
    raws = match_raws(loaded, neuron, control, (2.0, -1.0))
    norms = loaded.model.model.layers[1].mlp.down_proj.weight.norm(dim=0)
    assert [raw * float(norms[9]) for raw in raws] == pytest.approx([2 * float(norms[7]), -float(norms[7])])
    assert match_raws(loaded, neuron, neuron, (2.0,)) == [2.0]


def test_controls_are_drawn_for_the_swept_neurons_in_turn() -> None:
    loaded = made("llama")
    swept = [name("L0.N1"), name("L1.N2"), name("L1.N3")]
    drawn = draw_controls(loaded, swept, 8, 4)
    assert [neuron for _, neuron in drawn] == (swept * 3)[:8]
    assert all(control.block == neuron.block for control, neuron in drawn)
    controls = [control for control, _ in drawn]
    assert len(set(controls)) == 8
    assert not set(controls) & set(swept)
    assert drawn == draw_controls(loaded, swept, 8, 4)
    assert drawn != draw_controls(loaded, swept, 8, 5)
    assert draw_controls(loaded, swept, 0, 4) == []


def test_a_block_without_enough_other_neurons_gives_fewer_controls() -> None:
    loaded = fresh("llama")
    loaded.model.model.layers[0].mlp.down_proj.weight[:, 4:] = 0
    drawn = draw_controls(loaded, [name("L0.N1"), name("L1.N2")], 20, 4)
    assert sum(neuron == name("L0.N1") for _, neuron in drawn) == 3
    assert sum(neuron == name("L1.N2") for _, neuron in drawn) == 10
    assert torch.tensor([control.neuron < 4 for control, n in drawn if n == name("L0.N1")]).all()
