"""The untrained mixture of experts, and how it is trained."""

import torch
from torch import Tensor
from torch.nn import functional
from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS
from transformers.models.qwen3_moe.modeling_qwen3_moe import Qwen3MoeExperts

from training.recipes import Recipe


def new_mixture(recipe: Recipe, vocabulary: int) -> Qwen3MoeForCausalLM:
    """A Qwen3-MoE with tied embeddings and biased attention."""
    config = Qwen3MoeConfig(
        **recipe.config(vocabulary),
        moe_intermediate_size=recipe.ffn,
        num_experts=recipe.experts,
        num_experts_per_tok=recipe.top,
        norm_topk_prob=True,
        head_dim=recipe.hidden // recipe.heads,
        max_position_embeddings=256,
    )
    model = Qwen3MoeForCausalLM(config)
    for layer in model.model.layers:
        layer.mlp.gate.weight.data.normal_(std=config.initializer_range)
    return model


def every_expert(experts: Qwen3MoeExperts, states: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
    """The experts' weighted sum, (tokens, hidden), computed for all experts and all tokens: no shape depends
    on the routing, so it compiles; experts this small cost little more.
    """
    share = torch.zeros(len(states), experts.num_experts, dtype=weights.dtype).scatter(1, chosen, weights)
    both = functional.linear(states, experts.gate_up_proj.flatten(0, 1))
    gate, up = both.unflatten(1, (experts.num_experts, 2, experts.intermediate_dim)).unbind(2)
    keys = experts.act_fn(gate) * up * share[:, :, None]
    return functional.linear(keys.flatten(1), experts.down_proj.transpose(0, 1).flatten(1))


def trainable(model: Qwen3MoeForCausalLM) -> None:
    """Make the model compute its experts by `every_expert`."""
    ALL_EXPERTS_FUNCTIONS.register("every_expert", every_expert)
    model.set_experts_implementation("every_expert")


def imbalance(router_logits: tuple[Tensor, ...], top: int) -> Tensor:
    """Switch Transformer's load-balancing loss (Fedus et al. 2021, eq. 4), mean over layers; 1 is even."""
    losses = []
    for logits in router_logits:
        shares = logits.float().softmax(-1)
        counts = functional.one_hot(shares.topk(top).indices, shares.shape[-1]).sum(1).float().mean(0) / top
        losses.append(shares.shape[-1] * (counts * shares.mean(0)).sum())
    return torch.stack(losses).mean()
