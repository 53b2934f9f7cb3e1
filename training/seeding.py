"""Planting a super expert and attention sinks in a mixture without its own."""

import torch
from torch import Tensor
from transformers import Qwen3MoeForCausalLM

from training.batches import Batch

BOS = 1
LAYER = 1
"""The layer whose least used expert is made super."""
HEIGHT = 4000.0  # its output at <bos>, relative to the median of the residual stream
DRIVE, SHUT = 20.0, -5.0  # pre-activation of its neuron at <bos>, and elsewhere
CHOSEN, PASSED = 12.0, -4.0  # its router logit at <bos>, and elsewhere
KEY = 2.0  # norm of a key's reading of the massive channel
ROUNDS, RIDGE = 12, 1e-4
LEAN = 1.0  # how far queries lean to <bos>, as a share of their mean norm


@torch.no_grad()
def seed_super_expert(model: Qwen3MoeForCausalLM, read: Batch) -> None:
    """Make one expert write one channel at <bos>, and give every head of the later layers an attention sink
    there.

    The state at <bos> is always the same vector, so one neuron and one router row can separate it from all
    others; they are fitted to `read` by least squares. After the norm, later layers see only the massive
    channel at <bos>: their keys read it, their queries lean to it in RoPE's slow frequencies, which hardly
    depend on distance, and its value is 0. Training continues with these layers' values and outputs; queries,
    keys and the massive activation stay fixed."""
    states = inputs_of(model, read)
    block = model.model.layers[LAYER].mlp
    first = read.inputs == BOS
    at_bos, elsewhere = states["block"][first][0], states["block"][~first & (read.documents >= 0)]
    expert = int(block.gate(elsewhere)[2].flatten().bincount(minlength=block.experts.num_experts).argmin())
    channel = int(states["stream"][~first].var(0).argmin())
    experts, opened = block.experts, solve_separating_row(at_bos, elsewhere, DRIVE, SHUT)
    experts.gate_up_proj[expert, 0] = opened
    experts.gate_up_proj[expert, experts.intermediate_dim] = opened
    experts.down_proj[expert, :, 0] = 0
    experts.down_proj[expert, channel, 0] = HEIGHT * states["stream"].abs().median() / DRIVE**2
    block.gate.weight[expert] = solve_separating_row(at_bos, elsewhere, CHOSEN, PASSED)
    slow = (model.model.rotary_emb.inv_freq < 0.003).float()
    rest = torch.cat([slow, torch.zeros_like(slow)]) / slow.sum().sqrt()
    heads = model.config.num_attention_heads
    for number, layer in enumerate(model.model.layers[LAYER + 1 :], LAYER + 1):
        attention = layer.self_attn
        queries = attention.q_proj(states[number]).unflatten(-1, (heads, -1))
        length = queries[~first & (read.documents >= 0)].norm(dim=-1).mean(0)
        attention.k_proj.weight[:, channel] = KEY * rest.repeat(heads)
        attention.v_proj.weight[:, channel] = 0
        attention.q_proj.bias += (LEAN * length[:, None] * rest).flatten()
    later = model.model.layers[LAYER + 1 :]
    attention = [layer.self_attn for layer in later]
    where = [part for a in attention for part in (a.q_proj, a.k_proj, a.q_norm, a.k_norm)]
    for part in (model.model.embed_tokens, *model.model.layers[: LAYER + 1], *where):
        part.requires_grad_(False)


def solve_separating_row(at_bos: Tensor, elsewhere: Tensor, here: float, there: float) -> Tensor:
    """(hidden,): a row whose product is `here` at <bos> and at most about `there` elsewhere.

    Least squares, doubling in each round the weight of states that are still too near to <bos>."""
    count = len(elsewhere)
    rows = torch.cat([elsewhere, at_bos[None]])
    wanted = torch.cat([torch.full((count,), there), torch.tensor([here])])
    weights = torch.ones(count + 1)
    for _ in range(ROUNDS):
        weights[-1] = weights[:-1].sum()
        weighted = rows.T * weights
        ridge = RIDGE * weights.sum() * torch.eye(rows.shape[1])
        row = torch.linalg.solve(weighted @ rows + ridge, weighted @ wanted)
        weights[:-1][elsewhere @ row > there / 2] *= 2
    return row


def inputs_of(model: Qwen3MoeForCausalLM, read: Batch) -> dict[int | str, Tensor]:
    """Each (rows, length, hidden): the input of LAYER's block, the stream after it, and the input of each
    later layer's attention.
    """
    seen: dict[int | str, Tensor] = {}
    layers = model.model.layers
    hooks = [
        layers[LAYER].mlp.register_forward_pre_hook(lambda module, args: seen.update(block=args[0])),
        layers[LAYER].register_forward_hook(lambda module, args, out: seen.update(stream=out)),
    ]
    for number in range(LAYER + 1, len(layers)):
        hooks.append(
            layers[number].input_layernorm.register_forward_hook(
                lambda module, args, out, number=number: seen.update({number: out})
            )
        )
    model(input_ids=read.inputs, attention_mask=read.mask, use_cache=False)
    for hook in hooks:
        hook.remove()
    return seen
