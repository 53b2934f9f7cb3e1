"""P(word) under rows of clamps against whole passes of one clamp, piece by piece."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from analysis.errors import PromptTooLong
from analysis.intervening.clamps import Clamp, parse_scope
from analysis.levers import readings
from analysis.levers.bench import WordBench, WordPrompt
from analysis.levers.passes import SharedTexts, can_share
from analysis.levers.readings import WordReader, check_room, log_total, measure_kl, to_log_odds
from analysis.opening.models import LoadedModel
from analysis.running.generation import Sampling, generate_steps
from analysis.running.words import goes_on
from tests.analysis.levers.rows_made import IDS, OTHER, clamp, fresh, made, run_alone

PROMPT = IDS[:12]
DOG, CAT, THE = 5, 8, 9
SEVERAL = ((DOG,), (6, THE), (CAT, THE, 10))
"""Spellings of one, two and three pieces."""


def multiply(
    loaded: LoadedModel, spellings: Sequence[Sequence[int]], clamps: Sequence[Clamp], exact: bool
) -> float:
    """P(word) the long way: a whole pass for each spelling, the product of its pieces, and what goes on."""
    texts, special = loaded.vocabulary.texts, loaded.vocabulary.special
    going = {i for i, text in enumerate(texts) if i not in special and goes_on(text)}
    total = 0.0
    for pieces in spellings:
        logits, _ = run_alone(loaded, [*PROMPT, *pieces], clamps, len(PROMPT))
        p = logits.double().softmax(-1)
        product = math.prod(float(p[len(PROMPT) - 1 + at, piece]) for at, piece in enumerate(pieces))
        further = {
            other[len(pieces)]
            for other in spellings
            if len(other) > len(pieces) and tuple(other[: len(pieces)]) == tuple(pieces)
        }
        left_out = sorted(going | further) if exact else []
        total += product * (1 - float(p[-1, left_out].sum()))
    return total


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("spellings", [((DOG,),), ((6, THE), (CAT, THE)), SEVERAL])
def test_a_word_is_the_sum_over_spellings_of_the_product_of_their_pieces(
    spellings: tuple[tuple[int, ...], ...], exact: bool
) -> None:
    loaded = made("llama")
    rows = [(), (clamp("L1.N7:set:4@last"),), (clamp("L2.N3:set:2r@last"), clamp("L0.N3:add:-9@last"))]
    reader = WordReader(loaded, PROMPT, spellings, parse_scope("last"), exact)
    expected = [multiply(loaded, spellings, clamps, exact) for clamps in rows]
    reading = reader.read(rows)
    assert reading.probability.tolist() == pytest.approx(expected, rel=1e-5)
    assert reader.base.probability.tolist() == pytest.approx(expected[:1], rel=1e-5)
    odds = [math.log(p) - math.log1p(-p) for p in expected]
    assert reading.log_odds.tolist() == pytest.approx(odds, abs=1e-5)
    assert reading.acted.tolist() == [0, 1, 2]


def test_what_spellings_share_is_fed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    fed: list[SharedTexts] = []
    feed = SharedTexts._feed_beginning

    def note(texts: SharedTexts) -> object:
        fed.append(texts)
        return feed(texts)

    monkeypatch.setattr(SharedTexts, "_feed_beginning", note)
    loaded = made("llama")
    assert can_share(loaded)  # which is tried once, with texts of its own
    fed.clear()
    WordReader(loaded, PROMPT, SEVERAL, parse_scope("last"))
    assert len(fed) == 1


def test_a_spelling_that_begins_another_counts_what_follows_once() -> None:
    loaded = made("llama")
    spellings = ((DOG,), (DOG, THE))
    exact = WordReader(loaded, PROMPT, spellings, parse_scope("last"), exact=True)
    assert float(exact.base.probability[0]) == pytest.approx(multiply(loaded, spellings, (), True), rel=1e-5)
    loose = WordReader(loaded, PROMPT, spellings, parse_scope("last"))
    assert float(loose.base.probability[0]) == pytest.approx(multiply(loaded, spellings, (), False), rel=1e-5)


@pytest.mark.parametrize("family", ["llama", "gemma2", "mixtral"])
@pytest.mark.parametrize("scope", ["last", "all", "prompt", "3-5"])
def test_a_word_is_as_probable_as_where_a_text_is_generated(family: str, scope: str) -> None:
    """In × residual the first position takes the median of the prompt's, with or without a word behind it."""
    loaded = made(family)
    spellings = ((DOG,), (6, THE))
    layer = loaded.anatomy.blocks[0].address
    rows = [(clamp(f"{layer}.N7:set:2r@{scope}"),), (clamp(f"{layer}.N7:add:1r@{scope}"),)]
    reading = WordReader(loaded, PROMPT, spellings, parse_scope(scope), exact=True).read(rows)
    for row, log_odds in zip(rows, reading.log_odds.tolist(), strict=True):
        (step,) = generate_steps(loaded, PROMPT, row, Sampling(1), spellings)
        assert step.word is not None
        assert log_odds == pytest.approx(math.log(step.word[1]) - math.log1p(-step.word[1]), abs=1e-5)


def test_the_likeliest_token_counts_if_it_begins_a_spelling() -> None:
    loaded = made("llama")
    logits, _ = run_alone(loaded, PROMPT, (), len(PROMPT))
    best = int(logits[-1].argmax())
    other = (best + 1) % 97
    for spellings, top in ((((best, 9),), True), (((other,), (best,)), True), (((other,),), False)):
        reader = WordReader(loaded, PROMPT, spellings, parse_scope("last"), exact=True)
        assert reader.base.top.tolist() == [top]
        assert reader.read([()]).top.tolist() == [top]


def test_a_word_that_certainly_goes_on_has_a_number_and_is_not_taken_for_nan(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loaded = made("llama")
    every = torch.ones(len(loaded.vocabulary), dtype=torch.bool)
    monkeypatch.setattr(readings, "list_excluded", lambda loaded, spellings: (every,) * len(spellings))
    monkeypatch.setattr(readings, "log_total", lambda logits: log_total(logits) - 1e-7)  # as rounding may
    bench = WordBench(loaded, [WordPrompt(PROMPT, ((DOG,),))], parse_scope("last"), exact=True)
    found = bench.read([(clamp("L1.N7:set:1r@last"),)])
    assert math.isfinite(float(found.log_odds[0]))
    assert float(found.mean[0]) == pytest.approx(0.0, abs=1e-6)


def test_a_row_that_is_driven_to_nan_is_known_by_that_and_leaves_the_others_alone() -> None:
    loaded = fresh("llama")
    clean = [(clamp("L1.N7:set:1r@last"),), ()]
    broken = (clamp("L2.N7:set:1000000@last"), *([clamp("L2.N7:scale:1000000@last")] * 7))
    prompt = WordPrompt(PROMPT, ((DOG,),))
    reader = WordReader(loaded, PROMPT, ((DOG,), (6, THE)), parse_scope("last"), exact=True)
    alone = reader.read(clean)
    reading = reader.read([clean[0], broken, clean[1]])
    assert torch.isnan(reading.log_p[1])
    assert torch.isnan(reading.kl[1])
    assert not torch.isnan(reading.log_p[[0, 2]]).any()
    torch.testing.assert_close(reading.log_p[[0, 2]], alone.log_p, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(reading.kl[[0, 2]], alone.kl, rtol=1e-5, atol=1e-7)
    found = WordBench(loaded, [prompt, prompt], parse_scope("last")).read([clean[0], broken])
    assert found.log_odds[1] == -torch.inf
    assert found.probability[:, 1].tolist() == [0.0, 0.0]
    assert found.mean[1] == 0.0
    assert math.isfinite(float(found.log_odds[0]))


def naive_kl(base: Tensor, changed: Tensor) -> float:
    p, q = base.double().softmax(-1), changed.double().softmax(-1)
    return sum(float(a) * math.log(float(a) / float(b)) for a, b in zip(p, q, strict=True) if a > 0)


def test_the_change_at_the_answer_position_is_a_divergence_in_nats() -> None:
    loaded = made("gpt2")
    rows = [(clamp("L0.N7:set:2r@last"),), (clamp("L2.N7:set:-1r@last"),), ()]
    reading = WordReader(loaded, PROMPT, SEVERAL, parse_scope("last"), exact=True).read(rows)
    base, _ = run_alone(loaded, PROMPT, (), len(PROMPT))
    expected = [naive_kl(base[-1], run_alone(loaded, PROMPT, row, len(PROMPT))[0][-1]) for row in rows]
    assert reading.kl.tolist() == pytest.approx(expected, rel=1e-4, abs=1e-6)
    assert expected[0] > 1e-3


def test_a_divergence_leaves_holes_out_and_is_never_below_0() -> None:
    torch.manual_seed(0)
    base, changed = torch.randn(2, 3, 40), torch.randn(2, 3, 40) * 3
    expected = [
        [naive_kl(*pair) for pair in zip(*rows, strict=True)] for rows in zip(base, changed, strict=True)
    ]
    torch.testing.assert_close(
        measure_kl(base, changed), torch.tensor(expected).double(), rtol=1e-5, atol=1e-6
    )
    holes = torch.cat([base, torch.full((2, 3, 4), -torch.inf)], -1)
    also = torch.cat([changed, torch.full((2, 3, 4), -torch.inf)], -1)
    torch.testing.assert_close(measure_kl(holes, also), measure_kl(base, changed))
    assert (measure_kl(base, base) >= 0).all()
    assert measure_kl(base, base).max() < 1e-6
    assert torch.isnan(measure_kl(base, changed * torch.nan)).all()


def test_log_odds_stay_finite_up_to_a_certain_word() -> None:
    given = torch.tensor([math.log(0.25), 0.0, -80.0, -torch.inf, torch.nan], dtype=torch.float64)
    found = to_log_odds(given).tolist()
    assert found[0] == pytest.approx(math.log(0.25 / 0.75))
    assert found[1] == pytest.approx(-math.log(1e-15))
    assert found[2] == pytest.approx(-80.0)
    assert found[3] == -math.inf
    assert math.isnan(found[4])


def test_a_prompt_without_room_for_the_word_is_refused() -> None:
    loaded = made("gpt2")
    check_room(loaded, [4] * 63, [(5,)])
    for spellings in ([(5,), (5, 8)], [(5, 8)]):
        with pytest.raises(PromptTooLong, match="the prompt has 63 tokens, the word up to 2"):
            check_room(loaded, [4] * 63, spellings)
        with pytest.raises(PromptTooLong, match="shorten the prompt"):
            WordReader(loaded, [4] * 63, spellings, parse_scope("last"))
    assert WordReader(loaded, [4] * 63, [(5,)], parse_scope("last"), exact=True).base.log_p.isfinite().all()


def test_a_bench_reads_means_over_its_prompts() -> None:
    loaded = made("llama")
    prompts = [WordPrompt(PROMPT, ((DOG,),)), WordPrompt(OTHER, ((6, THE), (DOG,)))]
    rows = [(clamp("L1.N7:set:2r@15-19"),), ()]
    calls: list[tuple[int, int]] = []
    bench = WordBench(loaded, prompts, parse_scope("15-19"), pulse=lambda *done: calls.append(done))
    found = bench.read(rows)
    each = [WordReader(loaded, one.ids, one.spellings, bench.scope) for one in prompts]
    readings = [reader.read(rows) for reader in each]
    torch.testing.assert_close(found.log_odds, (readings[0].log_odds + readings[1].log_odds) / 2)
    torch.testing.assert_close(found.mean, (readings[0].probability + readings[1].probability) / 2)
    torch.testing.assert_close(found.kl, (readings[0].kl + readings[1].kl) / 2)
    assert found.probability.shape == (2, 2)
    assert found.reached.tolist() == [0.5, 0.0]
    assert float(bench.base.mean[0]) == pytest.approx(float(found.mean[1]), rel=1e-5)
    assert calls == [(0, 0)] * 4
