"""Pruned experts taken out of a model altogether: their weights and the router's rows for them.

Not what pruning does: the router now chooses among the rest, where a pruned expert is chosen and adds 0.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from transformers import PreTrainedModel

from analysis.anatomy.addresses import BlockAddress
from analysis.anatomy.anatomy import Block
from analysis.checkpoints.wrappers.text_part import find_left_out
from analysis.errors import ExpertError
from analysis.opening.models import LoadedModel

_COPIES = ("float", "to", "type")
"""Methods by which some routers read their weight in another dtype."""
_MAKE_SCORES = ("linear", "add", "__add__", "__radd__")
_BIAS = "correction_bias"
"""How buffers end that are added to the routing scores to choose experts, and only to choose them."""
_COUNTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
_CHOSEN = ("num_experts_per_tok", "top_k", "moe_topk", "num_experts_per_token")


@dataclass(frozen=True)
class DropPlan:
    """Experts to take out. kept: parameter or buffer → the expert rows that stay; gone: router weight, or
    what is added to its scores → the rows that go; count: how many experts a layer has afterwards.
    """

    kept: Mapping[str, Tensor]
    gone: Mapping[str, Tensor]
    setting: str
    count: int


def plan_drop(loaded: LoadedModel, dropped: Collection[BlockAddress]) -> DropPlan:
    """What taking these experts out means for every tensor.

    Raises ExpertError for what transformers cannot hold: layers with different numbers of experts, shared or
    dense blocks, experts that are modules of their own, fewer experts than each token is given.
    """
    if find_left_out(loaded.model) is not None:
        raise ExpertError(
            f"{loaded.ref.name} is a multimodal model of which the text model alone is open, so none of its "
            "experts can be taken out; save with their weights at 0"
        )
    dropped = set(dropped)
    routed: dict[int, list[Block]] = {}
    for block in loaded.anatomy.blocks:
        if block.routed:
            routed.setdefault(block.address.layer, []).append(block)
    _check_dropped(loaded, dropped, routed)
    total = len(next(iter(routed.values())))
    left = total - len(dropped) // len(routed)
    setting = _find_setting(loaded, total, left)
    state = loaded.model.state_dict()
    kept: dict[str, Tensor] = {}
    gone: dict[str, Tensor] = {}
    for blocks in routed.values():
        stay = torch.tensor([i for i, block in enumerate(blocks) if block.address not in dropped])
        out = torch.tensor([i for i, block in enumerate(blocks) if block.address in dropped])
        experts = f"{blocks[0].module}."
        parent = blocks[0].module.rpartition(".")[0] + "."
        for name, tensor in state.items():
            if name.startswith(parent) and tensor.dim() and tensor.shape[0] == total:
                if name.startswith(experts) or not _is_shared(name, loaded):
                    kept[name] = stay
                scores = tensor.shape[1:] == (loaded.anatomy.d_model,) or name.endswith(_BIAS)
                if not name.startswith(experts) and scores:
                    gone[name] = out
    return DropPlan(kept, gone, setting, left)


def drop_experts(loaded: LoadedModel, plan: DropPlan, changed: Mapping[str, Tensor]) -> PreTrainedModel:
    """A model of the same kind without these experts. changed: parameters in place of the model's own.

    Raises ExpertError for a changed row of a head that is the embedding, which would change with it, and for
    tensors that hold experts in another way than by rows.
    """
    head = loaded.anatomy.head.parameter
    if head in changed and loaded.model.config.tie_word_embeddings:
        raise ExpertError("a row of the tied head changes too; save the two changes one after the other")
    config = copy.deepcopy(loaded.model.config)
    setattr(config, plan.setting, plan.count)
    state = {**loaded.model.state_dict(), **changed}
    state = {n: t[plan.kept[n].to(t.device)] if n in plan.kept else t for n, t in state.items()}
    model = type(loaded.model)(config).eval()
    _check_shapes(state, model.state_dict())
    model.load_state_dict(state, assign=True)  # in the dtype of each: some are kept in float32
    model.tie_weights()
    model.generation_config = copy.deepcopy(loaded.model.generation_config)
    return model


@contextmanager
def without_choice(loaded: LoadedModel, plan: DropPlan) -> Iterator[None]:
    """The model in memory, whose routers give these experts a logit of −∞."""
    held = dict(loaded.model.named_buffers()) | dict(loaded.parameters)
    with loaded.lock, _Masking([(held[name], rows) for name, rows in plan.gone.items()]):
        yield


class _Masking(TorchFunctionMode):
    """Sets scores made with these tensors, or with copies of them in another dtype, to −∞."""

    def __init__(self, made_with: Sequence[tuple[Tensor, Tensor]]) -> None:
        super().__init__()
        self.made_with = {id(tensor): (tensor, rows) for tensor, rows in made_with}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found, name = func(*args, **(kwargs or {})), getattr(func, "__name__", "")
        for given in args[:2] if name in _MAKE_SCORES else args[:1] if name in _COPIES else ():
            tensor, rows = self.made_with.get(id(given), (None, None))
            if tensor is None or rows is None:
                continue
            if name in _COPIES:
                self.made_with[id(found)] = (found, rows)
            else:
                found = found.index_fill(-1, rows.to(found.device), -torch.inf)
        return found


def _check_shapes(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> None:
    """Raise ExpertError where what is left of a tensor does not fit a model with fewer experts."""
    for name, tensor in state.items():
        if name not in own or own[name].shape != tensor.shape:
            raise ExpertError(
                f"{name} does not hold its experts by rows, so none can be taken out of it; save with their "
                "weights at 0"
            )


def _check_dropped(
    loaded: LoadedModel, dropped: Collection[BlockAddress], routed: Mapping[int, Sequence[Block]]
) -> None:
    for address in dropped:
        block = loaded.anatomy.blocks[loaded.anatomy.index(address)]
        if not block.routed:
            raise ExpertError(
                f"{address} is no routed expert, so no router leaves it out; save without dropping"
            )
        if not block.fused:
            raise ExpertError(
                f"{address} is a module of its own, which cannot be taken out; save without dropping"
            )
    counts = {layer: sum(b.address in dropped for b in blocks) for layer, blocks in routed.items()}
    sizes = {len(blocks) for blocks in routed.values()}
    if len(set(counts.values())) != 1 or len(sizes) != 1:
        said = ", ".join(f"L{layer}: {count}" for layer, count in counts.items())
        raise ExpertError(
            "transformers gives every layer the same number of experts, and these are taken out of the "
            f"layers unevenly ({said[:200]}); take as many out of each, or save with their weights at 0"
        )


def _find_setting(loaded: LoadedModel, total: int, left: int) -> str:
    config = loaded.model.config
    stored = config.to_dict()  # without the other names that some configurations have for the same number
    named = [name for name in _COUNTS if stored.get(name) == total]
    if getattr(config, "n_group", None) not in (None, 1):
        raise ExpertError(
            f"{loaded.ref.name} chooses among groups of experts of one size, so none can be taken out; save "
            "with their weights at 0"
        )
    if len(named) != 1:
        raise ExpertError(
            f"the configuration of {loaded.ref.name} does not say in one place how many experts a layer "
            "has, so none can be taken out; save with their weights at 0"
        )
    chosen = [getattr(config, name) for name in _CHOSEN if isinstance(getattr(config, name, None), int)]
    if not chosen or left < max(chosen):
        raise ExpertError(
            f"{left} experts would be left in a layer, and each token is given {max(chosen, default=0)}; "
            "take fewer out, or save with their weights at 0"
        )
    return named[0]


def _is_shared(name: str, loaded: LoadedModel) -> bool:
    return any(name.startswith(f"{block.module}.") for block in loaded.anatomy.blocks if block.address.shared)
