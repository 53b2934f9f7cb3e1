"""Random neurons in place of the clamps of several prompts."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis.intervening.clamps import parse_clamp
from analysis.opening.models import ModelRef
from analysis.running.generation import Sampling
from store import open_store
from workbench.generating.clamping import generate_pair
from workbench.generating.requests import GenerationRequest
from workbench.levers import random_clamps
from workbench.levers.random_clamps import measure_random_clamps
from workbench.models import open_model

PROMPTS = ("a dog is a", "the cat is", "is a")


@pytest.mark.parametrize("value", ["2r@last", "1.5@all"])
def test_a_random_neuron_gives_what_generate_gives_with_it(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    store = open_store(tmp_path / "s.db")
    with open_model(ModelRef(str(tiny)), store) as loaded:
        clamp = parse_clamp(f"L0.N3:set:{value}")

        def ask(clamps: object) -> list[GenerationRequest]:
            requests = [
                GenerationRequest(one, tuple(clamps), "", Sampling(1), "dog")  # type: ignore[arg-type]
                for one in PROMPTS
            ]
            return [generate_pair(loaded, store, one).request for one in requests]

        drawn = random_clamps._draw_rows(loaded, ask([clamp])[0].clamps, 4, 0)  # type: ignore[arg-type]
        assert len({row[0].address for row in drawn}) == 4
        assert clamp.address not in {row[0].address for row in drawn}
        norms = loaded.anatomy.block(clamp.address).down.vectors(loaded.parameters).float().norm(dim=-1)
        for (one,) in drawn:
            if clamp.unit == "residual":
                assert (one.value, one.unit) == (clamp.value, "residual")
            else:
                assert one.raw == pytest.approx(
                    1.5 * float(norms[clamp.address.neuron] / norms[one.address.neuron])
                )
        found = measure_random_clamps(loaded, ask([clamp]), seed=0, count=4)
        means = []
        for row in drawn:
            pairs = [generate_pair(loaded, store, one) for one in ask(row)]
            means.append(sum(pair.word[1] for pair in pairs if pair.word) / len(pairs))
    assert found is not None
    assert found.means == pytest.approx(sorted(means, reverse=True), rel=1e-4)
    assert found.to_document() == {"n": 4, "mean": sum(found.means) / 4, "largest": found.means[0]}


def test_no_controls_without_a_word_or_with_changes_that_set_no_value(tiny: Path, tmp_path: Path) -> None:
    store = open_store(tmp_path / "s.db")
    with open_model(ModelRef(str(tiny)), store) as loaded:
        for clamp, word in (("L0.N3:set:2r", ""), ("L0.N3:ablate", "dog")):
            asked = GenerationRequest("a dog", (parse_clamp(clamp),), word=word)
            assert measure_random_clamps(loaded, [asked], 0) is None
