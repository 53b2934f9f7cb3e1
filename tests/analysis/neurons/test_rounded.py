"""Decoding in bfloat16 against float64: the same tokens and z, near-ties and all."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from analysis.anatomy.head_matrix import HeadMatrix
from analysis.errors import HeadlampError
from analysis.neurons import decoding, rounded
from analysis.neurons.decoding import decode_vectors
from analysis.neurons.rounded import UNIT, measure_bound, scan_rounded
from analysis.neurons.vocabulary_scan import PRODUCTS, Product
from tests.analysis.neurons.heads_made import head_of


def random(rows: int, width: int, seed: int, *, exact: bool) -> Tensor:
    found = torch.randn(rows, width, generator=torch.Generator().manual_seed(seed))
    return found.bfloat16().float() if exact else found


def check(vectors: Tensor, head: HeadMatrix, k: int) -> None:
    """Tokens and sums against float64; distinct ids."""
    found = decode_vectors(vectors, head, k, product="bfloat16")
    z = vectors.double() @ head.rows.double().T
    for ids, logits, largest in (
        (found.top_ids, found.top_logits, True),
        (found.bottom_ids, found.bottom_logits, False),
    ):
        best = z.topk(min(k, head.vocab), largest=largest).values
        torch.testing.assert_close(z.gather(1, ids.long()), best, rtol=1e-6, atol=1e-5)
        torch.testing.assert_close(logits.double(), best, rtol=1e-6, atol=1e-5)
        assert all(len(set(row)) == len(row) for row in ids.tolist())
    log_p = z.log_softmax(-1)
    torch.testing.assert_close(found.log_z.double(), z.logsumexp(-1), rtol=0, atol=2e-3)
    torch.testing.assert_close(found.entropy.double(), -(log_p.exp() * log_p).sum(-1), rtol=0, atol=1e-2)


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize(("neurons", "vocab", "k"), [(30, 3000, 10), (5, 70, 10), (3, 7, 12), (9, 1217, 3)])
def test_bfloat16_reports_what_float64_does(neurons: int, vocab: int, k: int, exact: bool) -> None:
    rows = random(vocab, 32, 0, exact=exact)
    check(random(neurons, 32, 1, exact=exact) / 8, head_of(rows), k)


def near_ties() -> tuple[Tensor, HeadMatrix]:
    """Forty tokens of the largest logits that bfloat16 cannot tell apart, in the wrong order of ids."""
    rows = random(2000, 64, 2, exact=True) / 64
    vector = torch.ones(1, 64)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(3))
    rows[100:140] = 1.0
    rows[100:140, 0] = 1.0 + order / 128
    return vector, head_of(rows)


def test_tokens_that_bfloat16_cannot_tell_apart_come_out_in_float32_s_order() -> None:
    vector, head = near_ties()
    z = vector @ head.rows.T
    assert len(set((vector.bfloat16() @ head.rows.bfloat16().T)[0, 100:140].tolist())) <= 2
    found = decode_vectors(vector, head, 10, product="bfloat16")
    assert found.top_ids[0].tolist() == z[0].argsort(descending=True)[:10].tolist()


def test_a_neuron_is_decoded_in_float32_where_too_many_tokens_are_near(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    vector, head = near_ties()
    monkeypatch.setattr(rounded, "LOG_Z_ERROR", torch.inf)  # the tokens alone decide
    _, holds = scan_rounded(vector, head, 10, lambda done, total: None)
    assert holds.tolist() == [False]
    _, holds = scan_rounded(random(4, 64, 5, exact=True) / 8, head, 10, lambda done, total: None)
    assert holds.all()
    monkeypatch.setattr(decoding, "scan_rounded", lambda *asked: (scan_rounded(*asked)[0], torch.ones(1) > 0))
    wrong = decode_vectors(vector, head, 10, product="bfloat16").top_ids
    assert wrong[0].tolist() != (vector @ head.rows.T)[0].argsort(descending=True)[:10].tolist()


@pytest.mark.parametrize(("exact_vectors", "exact_rows"), [(True, True), (False, True), (False, False)])
def test_the_bound_holds_and_is_not_idle(exact_vectors: bool, exact_rows: bool) -> None:
    vectors, rows = random(200, 96, 6, exact=exact_vectors), random(3000, 96, 7, exact=exact_rows)
    near = (vectors.bfloat16() @ rows.bfloat16().T).double()
    off = (near - vectors.double() @ rows.double().T).abs()
    units = (0.0 if exact else UNIT for exact in (exact_vectors, exact_rows))
    bound = measure_bound(near, vectors.norm(dim=-1, keepdim=True), rows.norm(dim=-1), 96, *units)
    assert (off <= bound).all()
    assert (off / bound).max() > (0.5 if exact_vectors and exact_rows else 0.05)


@pytest.mark.parametrize("product", ["float32", "bfloat16"])
def test_of_equal_tokens_the_first_come_first_in_any_tiles(
    product: Product, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = random(40, 16, 8, exact=True).repeat(50, 1)
    vectors = torch.cat([random(6, 16, 9, exact=True), torch.zeros(1, 16)])
    z = (vectors @ rows[:40].T).repeat(1, 50)
    best = z.sort(dim=-1, descending=True, stable=True).indices[:, :7].int()
    least = z.sort(dim=-1, stable=True).indices[:, :7].int()
    for neurons, tokens in ((512, 8192), (4, 130), (2, 64)):
        monkeypatch.setattr("analysis.neurons.vocabulary_scan.NEURON_TILE", neurons)
        monkeypatch.setattr("analysis.neurons.vocabulary_scan.VOCAB_TILE", tokens)
        found = decode_vectors(vectors, head_of(rows), 7, product=product)
        assert found.top_ids.equal(best)
        assert found.bottom_ids.equal(least)


@pytest.mark.parametrize("product", ["float32", "bfloat16"])
def test_holes_are_never_reported(product: Product) -> None:
    rows = random(900, 16, 10, exact=True)
    holes = tuple(range(3, 900, 7))
    left = [i for i in range(900) if i not in holes]
    rows[list(holes)] = 100.0
    whole = head_of(rows[left])
    vectors = random(5, 16, 11, exact=True)
    found = decode_vectors(vectors, HeadMatrix(rows, whole.mean, whole.covariance, holes), 9, product=product)
    without = decode_vectors(vectors, whole, 9, product=product)
    assert torch.tensor(left)[without.top_ids.long()].equal(found.top_ids.long())
    assert torch.tensor(left)[without.bottom_ids.long()].equal(found.bottom_ids.long())
    torch.testing.assert_close(found.log_z, without.log_z)


def test_large_logits_neither_overflow_nor_lose_log_z(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("analysis.neurons.vocabulary_scan.VOCAB_TILE", 200)
    vectors, rows = (
        torch.cat([random(12, 32, 12, exact=True) * c for c in (4, 30)]),
        random(1500, 32, 13, exact=True),
    )
    z = vectors.double() @ rows.double().T
    for product in PRODUCTS:
        found = decode_vectors(vectors, head_of(rows), 5, product=product)
        torch.testing.assert_close(found.log_z.double(), z.logsumexp(-1), rtol=1e-6, atol=1e-3)


@pytest.mark.parametrize("product", ["float32", "bfloat16"])
def test_kurtosis_equals_its_formula(product: Product, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("analysis.neurons.vocabulary_scan.VOCAB_TILE", 300)
    rows = random(2000, 24, 14, exact=True)
    rows[5] *= 40
    rows += 2.0
    rows = rows.bfloat16().float()
    vectors = torch.cat([random(20, 24, 15, exact=True), torch.zeros(1, 24)])
    z = vectors.double() @ rows.double().T
    off = z - z.mean(-1, keepdim=True)
    want = off.pow(4).mean(-1) / off.pow(2).mean(-1).square() - 3
    found = decode_vectors(vectors, head_of(rows), 5, product=product).kurtosis
    torch.testing.assert_close(
        found[:-1].double(), want[:-1], rtol=1e-3 if product == "bfloat16" else 1e-4, atol=1e-3
    )
    assert want[:-1].max() > 100
    assert found[-1].isnan()


def test_the_same_bytes_come_twice_and_an_unknown_product_is_refused() -> None:
    vectors, head = random(40, 32, 16, exact=False), head_of(random(3000, 32, 17, exact=False))
    for product in PRODUCTS:
        one, other = (decode_vectors(vectors, head, 6, product=product) for _ in range(2))
        assert all(getattr(one, name).equal(getattr(other, name)) for name in vars(one))
    with pytest.raises(HeadlampError, match="product 'half' is unknown; choose float32, bfloat16"):
        decode_vectors(vectors, head, 6, product="half")  # type: ignore[arg-type]


def test_neurons_whose_log_z_would_suffer_are_decoded_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, head = random(8, 32, 18, exact=True) * 4, head_of(random(3000, 32, 19, exact=True))
    exactly = decode_vectors(vectors, head, 4)
    monkeypatch.setattr(rounded, "LOG_Z_ERROR", 0.0)
    found = decode_vectors(vectors, head, 4, product="bfloat16")
    assert found.log_z.equal(exactly.log_z)
