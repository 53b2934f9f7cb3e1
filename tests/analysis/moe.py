"""Tiny random mixtures of experts with experts made super, and what they write, computed expert by expert."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from analysis.anatomy.addresses import BlockAddress
from analysis.opening.models import LoadedModel
from tests.analysis.conftest import VOCAB, loaded_from
from tests.contract.builder import build

FAMILIES = ("mixtral", "qwen3_moe", "olmoe", "deepseek_v2", "gpt_oss")
SUPER_WEIGHT = 3e4
"""An entry of a down projection so large that whatever passes it is massive."""
Peak = tuple[float, int, int, int, int]
"""max |down output|, where in the flattened batch, row, column, and how many tokens the expert saw."""


def moe(family: str, seed: int = 0) -> LoadedModel:
    """A random mixture of experts of some layers with 4 experts each."""
    return loaded_from(build(family, seed))


def windows(count: int = 3, length: int = 24, seed: int = 1) -> list[list[int]]:
    """Random token ids, each window with the same first token."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(4, VOCAB, (count, length), generator=generator)
    ids[:, 0] = 1
    return ids.tolist()  # type: ignore[no-any-return]


def plant(loaded: LoadedModel, address: BlockAddress, row: int, column: int) -> None:
    """Make an expert super: one entry of its down projection becomes very large."""
    block = loaded.anatomy.blocks[loaded.anatomy.index(address)]
    block.down.vectors(loaded.parameters)[column, row] = SUPER_WEIGHT


def eager_peaks(loaded: LoadedModel, ids: Sequence[Sequence[int]]) -> dict[str, Peak]:
    """By address: every routed expert's peak, token by token from the raw parameters of its module."""
    given: dict[str, tuple[Any, ...]] = {}

    def note(name: str) -> Callable[..., None]:
        return lambda module, args, kwargs: given.update({name: (module, *args, *kwargs.values())})

    names = {block.module: block.address.layer for block in loaded.anatomy.blocks if block.routed}
    handles = [
        loaded.model.get_submodule(name).register_forward_pre_hook(note(name), with_kwargs=True)
        for name in names
    ]
    with torch.no_grad():
        loaded.model(input_ids=torch.tensor(ids), use_cache=False)
    for handle in handles:
        handle.remove()
    found: dict[str, Peak] = {}
    for name, layer in names.items():
        module, hidden, chosen, _ = given[name]
        for expert in range(chosen.max() + 1):
            peak = _peak(module, expert, hidden.reshape(-1, hidden.shape[-1]), chosen)
            if peak is not None:
                found[f"L{layer}.E{expert}"] = peak
    return found


def released_maxima(loaded: LoadedModel, ids: Sequence[Sequence[int]]) -> dict[str, float]:
    """By address: every routed expert's maximum as the authors' code has it, one window at a time.

    In transformers 4 a layer loops over its experts, `index, token = torch.where(mask[expert])` with a mask
    (experts, k, tokens); a hook keeps the first row of what each down projection returns.
    """
    given: dict[str, tuple[Any, ...]] = {}

    def note(name: str) -> Callable[..., None]:
        return lambda module, args, kwargs: given.update({name: (module, *args, *kwargs.values())})

    names = {block.module: block.address.layer for block in loaded.anatomy.blocks if block.routed}
    found = {str(block.address): 0.0 for block in loaded.anatomy.blocks if block.routed}
    for window in ids:
        handles = [
            loaded.model.get_submodule(name).register_forward_pre_hook(note(name), with_kwargs=True)
            for name in names
        ]
        with torch.no_grad():
            loaded.model(input_ids=torch.tensor([window]), use_cache=False)
        for handle in handles:
            handle.remove()
        for name, layer in names.items():
            module, hidden, chosen, _ = given[name]
            hidden, chosen = hidden.reshape(-1, hidden.shape[-1]), chosen.reshape(-1, chosen.shape[-1])
            mask = functional.one_hot(chosen, len(module.down_proj)).permute(2, 1, 0)
            for expert in range(len(mask)):
                _, token = torch.where(mask[expert])
                if len(token):
                    rows = []
                    for x in hidden[token]:
                        key, down, bias = _key_and_down(module, expert, x)
                        rows.append(down @ key + bias)
                    place = f"L{layer}.E{expert}"
                    found[place] = max(found[place], float(rows[0].abs().max()))
    return found


def linear_peaks(loaded: LoadedModel, ids: Sequence[Sequence[int]]) -> dict[str, Peak]:
    """By address: the peaks of shared experts and dense blocks, token by token from their projections."""
    given: dict[str, Tensor] = {}

    def note(name: str) -> Callable[..., None]:
        return lambda module, args: given.update({name: args[0].reshape(-1, args[0].shape[-1])})

    modules = {name: m for name, m in loaded.model.named_modules() if hasattr(m, "down_proj")}
    modules = {name: m for name, m in modules.items() if isinstance(m.down_proj, torch.nn.Linear)}
    handles = [module.register_forward_pre_hook(note(name)) for name, module in modules.items()]
    with torch.no_grad():
        loaded.model(input_ids=torch.tensor(ids), use_cache=False)
    for handle in handles:
        handle.remove()
    found: dict[str, Peak] = {}
    for name, hidden in given.items():
        layer = name.split("layers.")[1].split(".")[0]
        gate, up, down = (getattr(modules[name], f"{part}_proj").weight for part in ("gate", "up", "down"))
        keys = [functional.silu(gate @ x) * (up @ x) for x in hidden]
        sizes = [float((down @ key).abs().max()) for key in keys]
        token = max(range(len(hidden)), key=lambda at: sizes[at])
        output = down @ keys[token]
        row = int(output.abs().argmax())
        column = int((keys[token] * down[row] * output[row].sign()).argmax())
        found[f"L{layer}.S0" if "shared" in name else f"L{layer}"] = (
            *(sizes[token], token),
            *(row, column, len(hidden)),
        )
    return found


def _peak(module: Any, expert: int, hidden: Tensor, chosen: Tensor) -> Peak | None:
    best: Peak | None = None
    tokens = [token for token in range(len(hidden)) if expert in chosen[token].tolist()]
    for token in tokens:
        key, down, bias = _key_and_down(module, expert, hidden[token])
        output = down @ key + bias
        row = int(output.abs().argmax())
        size = float(output[row].abs())
        if best is None or size > best[0]:
            parts = key * down[row] * output[row].sign()
            best = (size, token, row, int(parts.argmax()), len(tokens))
    return best


def _key_and_down(module: Any, expert: int, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(m,) key, (d, m) down projection, (d,) its bias: from how each family's paper and code state it."""
    if type(module).__name__ == "GptOssExperts":
        both = x @ module.gate_up_proj[expert] + module.gate_up_proj_bias[expert]
        gate, up = both[0::2].clamp(max=7.0), both[1::2].clamp(-7.0, 7.0)
        key = (up + 1) * gate * torch.sigmoid(1.702 * gate)
        return key, module.down_proj[expert].T, module.down_proj_bias[expert]
    gate, up = (module.gate_up_proj[expert] @ x).chunk(2)
    return functional.silu(gate) * up, module.down_proj[expert], torch.zeros(len(x))
