"""Perplexity, its effect and interval, windows of a text, repeated n-grams."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from analysis.anatomy.addresses import BlockAddress
from analysis.errors import EmptyPrompt, HeadlampError, TextError
from analysis.opening.leases import lease_model
from analysis.opening.models import LoadedModel, ModelRef
from analysis.running import calibration
from analysis.running.calibration import (
    cut_windows,
    evaluation_text,
    read_prefix_tokens,
    reference_text,
    split_windows,
    window_batches,
)
from analysis.running.perplexity import (
    estimate_effect,
    estimate_perplexity,
    measure_repetition,
    measure_window_nll,
)
from analysis.super_experts.controls import make_pruning
from tests.analysis.conftest import loaded_from, tiny_model
from tests.analysis.moe import moe, windows

TinyModel = Callable[[str], LoadedModel]


def loss(loaded: LoadedModel, ids: list[int]) -> float:
    """The mean loss that transformers itself computes."""
    fed = torch.tensor([ids])
    with torch.no_grad():
        return float(loaded.model(input_ids=fed, labels=fed).loss)


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_nll_is_the_loss_of_the_model_itself(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded, ids = loaded_from(tiny_model(family)), windows(3, 21)
    expected = [20 * loss(loaded, one) for one in ids]
    assert measure_window_nll(loaded, ids) == pytest.approx(expected, rel=1e-5)
    monkeypatch.setattr("analysis.running.perplexity._CHUNK", 7)
    assert measure_window_nll(loaded, ids) == pytest.approx(expected, rel=1e-5)


def test_rows_of_the_head_beyond_the_tokenizer_are_left_out() -> None:
    loaded, ids = moe("mixtral"), windows(1, 12)  # 128 rows, 97 tokens
    with torch.no_grad():
        logits = loaded.model(input_ids=torch.tensor(ids)).logits[0, :-1, :97].double()
    expected = -logits.log_softmax(-1)[range(11), ids[0][1:]].sum()
    assert measure_window_nll(loaded, ids) == pytest.approx([float(expected)], rel=1e-5)


def test_pruning_is_in_force_while_nll_is_measured() -> None:
    loaded, ids = moe("mixtral"), windows(2, 12)
    pruned = measure_window_nll(loaded, ids, make_pruning([BlockAddress(1, False, 2)]))
    assert pruned != pytest.approx(measure_window_nll(loaded, ids), rel=1e-4)
    module: Any = loaded.model.get_submodule("model.layers.1.mlp.experts")
    module.down_proj[2] = 0.0
    assert measure_window_nll(loaded, ids) == pytest.approx(pruned, rel=1e-6)


def test_nan_has_no_perplexity() -> None:
    loaded = loaded_from(tiny_model("llama"))
    measure_window_nll(loaded, windows(1, 8))
    loaded.parameters["model.norm.weight"].fill_(torch.nan)
    with pytest.raises(HeadlampError, match="NaN or infinity on this text in float32"):
        measure_window_nll(loaded, windows(1, 8))


class TestEstimates:
    """Means over tokens, intervals over windows."""

    NLL, TARGETS = np.array([20.0, 60.0, 5.0]), np.array([10, 20, 5])

    def test_perplexity_weighs_windows_by_their_targets(self) -> None:
        assert estimate_perplexity(self.NLL, self.TARGETS).value == pytest.approx(math.exp(85 / 35))

    def test_the_effect_is_the_difference_of_mean_nll(self) -> None:
        changed = self.NLL + np.array([10.0, 0.0, 5.0])
        found = estimate_effect(changed, self.NLL, self.TARGETS)
        assert found.value == pytest.approx(15 / 35)
        assert found.interval is not None
        assert 0.0 <= found.interval[0] < found.value < found.interval[1] <= 1.0

    def test_windows_are_resampled_in_pairs(self) -> None:
        """Windows differ a lot, the effect does not: its interval is narrow."""
        base = np.array([10.0, 200.0, 30.0, 500.0])
        found = estimate_effect(base + 10.0, base, np.full(4, 10))
        assert found.interval == pytest.approx((1.0, 1.0))

    def test_the_interval_covers_what_it_should(self) -> None:
        drawn = np.random.default_rng(3)
        inside = 0
        for _ in range(100):
            nll = drawn.normal(20.0, 4.0, 40)
            low, high = estimate_effect(nll, np.zeros(40), np.full(40, 10)).interval or (0.0, 0.0)
            inside += low <= 2.0 <= high
        assert 88 <= inside <= 99

    def test_one_window_has_no_interval_and_the_same_text_always_the_same_one(self) -> None:
        assert estimate_perplexity(self.NLL[:1], self.TARGETS[:1]).interval is None
        assert estimate_perplexity(self.NLL, self.TARGETS) == estimate_perplexity(self.NLL, self.TARGETS)

    def test_the_share_of_repeated_ngrams(self) -> None:
        assert measure_repetition([1, 2, 3, 4, 5, 6]) == 0.0
        assert measure_repetition([7] * 23) == pytest.approx(1 - 1 / 20)
        assert measure_repetition([1, 2, 1, 2, 1, 2], n=2) == pytest.approx(1 - 2 / 5)
        assert measure_repetition([1, 2, 3]) is None


class TestWindows:
    """A text as sequences of token ids."""

    def test_they_cover_the_text_without_overlap_each_behind_the_tokens_that_begin_a_text(self) -> None:
        with lease_model(ModelRef("demo/base")) as loaded:
            whole = loaded.tokenizer.encode(evaluation_text(), add_special_tokens=False)
            prefix = read_prefix_tokens(loaded)
            found = cut_windows(loaded, evaluation_text(), 100)
        assert prefix == [loaded.tokenizer.bos_token_id]
        assert all(list(window[:1]) == prefix for window in found)
        assert [i for window in found for i in window[1:]] == whole
        assert {len(window) for window in found[:-1]} == {100}

    def test_a_tokenizer_that_begins_with_nothing_gives_windows_of_text_alone(self, tiny: TinyModel) -> None:
        loaded = tiny("llama")
        assert read_prefix_tokens(loaded) == []
        assert cut_windows(loaded, " dog cat" * 40, 1000)[0][:2] == tuple(loaded.tokenizer.encode(" dog cat"))
        assert {len(w) for w in cut_windows(loaded, " dog" * 128, 1000)} == {64}  # the context

    @pytest.mark.parametrize(
        ("text", "error", "told"),
        [
            ("  \n ", EmptyPrompt, "the text is empty; give one of"),
            (" dog", TextError, "the text is 1 token long, so there is no next token to predict"),
        ],
    )
    def test_too_little_text_is_refused(
        self, tiny: TinyModel, text: str, error: type[HeadlampError], told: str
    ) -> None:
        with pytest.raises(error, match=told):
            cut_windows(tiny("llama"), text)

    def test_every_fourth_window_is_held_out(self) -> None:
        nine = [(i,) for i in range(9)]
        assert split_windows(nine) == (((0,), (1,), (2,), (4,), (5,), (6,), (8,)), ((3,), (7,)))
        assert split_windows(nine[:2]) == (((0,),), ((1,),))
        assert split_windows(nine[:1]) == (((0,),), ())

    def test_windows_of_one_length_are_batched_up_to_so_many_tokens(self) -> None:
        made = [(0,) * 10] * 5 + [(0,) * 4]
        assert [[len(w) for w in batch] for batch in window_batches(made, 20)] == [
            [10, 10],
            [10, 10],
            [10],
            [4],
        ]
        assert [len(batch) for batch in window_batches(made[:2], 5)] == [1, 1]

    def test_the_two_texts_that_ship_share_no_sentence(self) -> None:
        sentences = [
            set(text.replace("\n", " ").split(". ")) for text in (reference_text(), evaluation_text())
        ]
        assert not sentences[0] & sentences[1]
        assert len(evaluation_text().split()) > 1000
        assert Path(calibration.EVALUATION).is_file()


@pytest.mark.real
def test_a_trained_model_is_less_surprised_by_a_story_than_by_one_with_its_words_shuffled(
    stories: Path,
) -> None:
    story = (
        "Once upon a time, there was a little girl named Lily. She loved to play outside in the park. " * 3
    )
    words = story.split()
    shuffled = " ".join(np.random.default_rng(0).permutation(words))
    with lease_model(ModelRef(str(stories))) as loaded:
        means = []
        for text in (story, shuffled):
            (window,) = cut_windows(loaded, text)
            means.append(measure_window_nll(loaded, [window])[0] / (len(window) - 1))
    assert means[0] < 1.5 < 2.5 < means[1]
