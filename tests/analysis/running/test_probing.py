"""One streaming pass against the same numbers from stored keys."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

from analysis.errors import TooFewExamples
from analysis.intervening.clamps import ClampSite
from analysis.intervening.hooks import site_columns, site_module
from analysis.opening.models import LoadedModel
from analysis.running.probing import CHUNK, Tally, Where, last_keys, probe

PROMPTS = [[1, *range(10, 10 + n)] for n in (3, 9, 5, 3, 14, 7, 2)]


def stored(loaded: LoadedModel, site: ClampSite, layer: int) -> list[Tensor]:
    """The site of one layer for every prompt, one at a time by a hook of our own: (T, m) each."""
    block = loaded.anatomy.blocks[layer]
    module = loaded.model.get_submodule(site_module(block, site))
    found: list[Tensor] = []
    if site == "key":
        handle = module.register_forward_pre_hook(
            lambda m, args: found.append(args[0].reshape(-1, args[0].shape[-1]))
        )
    else:
        handle = module.register_forward_hook(
            lambda m, args, out: found.append(out.reshape(-1, out.shape[-1]))
        )
    with torch.inference_mode():
        for ids in PROMPTS:
            loaded.model(torch.tensor([ids]))
    handle.remove()
    return [values[:, site_columns(block, site)].double() for values in found]


CUT: dict[Where, Callable[[Tensor], Tensor]] = {
    "all": lambda values: values,
    "all but first": lambda values: values[1:],
    "last": lambda values: values[-1:],
}


@pytest.mark.parametrize("where", CUT)
@pytest.mark.parametrize("family", ["llama", "gpt2", "phi3"])
def test_streaming_equals_stored_keys(
    tiny_of: Callable[[str], LoadedModel], family: str, where: Where
) -> None:
    loaded = tiny_of(family)
    sites: tuple[ClampSite, ...] = ("key", "up") if family == "gpt2" else ("key", "up", "gate")
    for size in (1, 3, 32):
        found = probe(
            loaded, PROMPTS, dict.fromkeys(sites, loaded.anatomy.blocks), where=where, batch_size=size
        )
        for site in sites:
            for layer, block in enumerate(loaded.anatomy.blocks):
                values = torch.cat([CUT[where](one) for one in stored(loaded, site, layer)])
                moments = found[block.address, site]
                assert moments.count == len(values)
                close = partial(torch.allclose, rtol=1e-4, atol=1e-5)
                assert close(moments.mean, values.mean(0))
                assert close(moments.deviation, values.std(0))
                assert close(moments.magnitude, values.abs().mean(0))
                assert close(moments.low, values.amin(0))
                assert close(moments.high, values.amax(0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_tally_is_exact_where_squares_would_cancel(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    values = (10_000 + torch.randn(1000, 4)).to(dtype)
    kept = values.clone()
    tally = Tally(4)
    for part in values.split((1, 399, 0, 600)):
        tally.add(part)
    exact = values.double()
    assert torch.equal(values, kept)
    assert torch.allclose(tally.moments().deviation, exact.std(0), rtol=1e-9)
    assert torch.allclose(tally.moments().mean, exact.mean(0), rtol=1e-12)


@pytest.mark.parametrize("parts", [(200,), (1, 199), (70, 130), (64, 64, 72)])
def test_neurons_that_never_vary_have_no_deviation(parts: tuple[int, ...]) -> None:
    values = torch.linspace(-3, 3, 500).repeat(200, 1)
    tally = Tally(500)
    for part in values.split(parts):
        tally.add(part)
    found = tally.moments()
    assert found.count == 200
    assert bool((found.deviation < 1e-12).all())
    assert torch.equal(found.low, values[0].double())
    assert torch.equal(found.high, values[0].double())
    assert torch.allclose(found.magnitude, values[0].abs().double(), rtol=1e-12)


@pytest.mark.parametrize("rows", [CHUNK - 1, CHUNK, CHUNK + 1, 5 * CHUNK + 7])
def test_every_row_is_summed_however_many_come(rows: int) -> None:
    values = torch.randn(rows, 3, generator=torch.Generator().manual_seed(rows)) + torch.tensor(
        [0.0, 50.0, -9.0]
    )
    values[-1, 1] = 99.0
    tally = Tally(3)
    tally.add(values)
    found, exact = tally.moments(), values.double()
    assert torch.allclose(found.mean, exact.mean(0), rtol=1e-12)
    assert torch.allclose(found.deviation, exact.std(0), rtol=1e-10)
    assert torch.allclose(found.magnitude, exact.abs().mean(0), rtol=1e-12)
    assert torch.equal(found.low, exact.amin(0))
    assert torch.equal(found.high, exact.amax(0))


def test_only_the_sites_that_were_asked_for_are_told(llama: LoadedModel) -> None:
    block = llama.anatomy.blocks[1]
    assert list(probe(llama, PROMPTS, {"gate": [block]})) == [(block.address, "gate")]


def test_experts_are_probed_on_the_tokens_they_saw(tiny_of: Callable[[str], LoadedModel]) -> None:
    loaded = tiny_of("mixtral")
    found = probe(loaded, PROMPTS, {"key": loaded.anatomy.blocks}, where="all")
    tokens = sum(len(ids) for ids in PROMPTS)
    for layer in (0, 1):
        counts = [m.count for (address, _), m in found.items() if address.layer == layer]
        assert sum(counts) == 2 * tokens


def test_last_keys_come_in_the_prompts_order(llama: LoadedModel) -> None:
    keys = last_keys(llama, PROMPTS, llama.anatomy.blocks, batch_size=3)
    for layer, block in enumerate(llama.anatomy.blocks):
        expected = torch.stack([values[-1] for values in stored(llama, "key", layer)])
        assert torch.allclose(keys[block.address].double(), expected, atol=1e-5)


def test_nothing_to_probe_is_refused(llama: LoadedModel) -> None:
    with pytest.raises(TooFewExamples, match="nothing to probe"):
        probe(llama, [], {"key": llama.anatomy.blocks})
