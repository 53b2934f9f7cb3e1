"""The untrained model, with induction heads planted in its first two attention layers."""

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from training.mixture import new_mixture
from training.recipes import Recipe


def new_model(recipe: Recipe, vocabulary: int) -> PreTrainedModel:
    """The initial model, including what is planted."""
    torch.manual_seed(recipe.seed)
    model = new_mixture(recipe, vocabulary) if recipe.experts else new_llama(recipe, vocabulary)
    if recipe.layers > 1:
        plant_lookup(model)
    return model


def new_llama(recipe: Recipe, vocabulary: int) -> LlamaForCausalLM:
    """A Llama with tied embeddings."""
    return LlamaForCausalLM(LlamaConfig(**recipe.config(vocabulary), max_position_embeddings=512))


@torch.no_grad()
def plant_lookup(model: PreTrainedModel, sharpness: float = 10.0, match: float = 1.2) -> None:
    """Initialise attention with induction heads (Olsson et al. 2022), which a training run this short does
    not find by itself.

    Head h of the first layer attends h + 1 tokens back and writes that token to its own part of the residual
    stream. Each head of the second layer attends to where such notes match the current token's notes, or the
    token itself, and copies what it finds. All of it is then trained."""
    config = model.config
    heads, width = config.num_attention_heads, config.hidden_size // config.num_attention_heads
    first, second = (layer.self_attn for layer in model.model.layers[:2])
    seen, noted, copied = (orthogonal(config.hidden_size) for _ in range(3))
    blocks = [slice(head * width, (head + 1) * width) for head in range(heads)]
    read = [
        seen[:width],
        *(noted[:, block].T for block in blocks),
    ]  # the token itself, the 1st before it, the 2nd, …
    angles = model.model.rotary_emb.inv_freq
    near = (angles > 0.1).float()  # RoPE's frequencies that distinguish adjacent positions
    size = near * (sharpness * width**0.5 / near.sum()) ** 0.5
    for head, block in enumerate(blocks):
        turn = (head + 1) * angles
        first.q_proj.bias[block] = torch.cat([size, torch.zeros_like(size)])
        first.k_proj.bias[block] = torch.cat([size * turn.cos(), size * turn.sin()])
        first.v_proj.weight[block] = seen[:width]
        first.o_proj.weight[:, block] = NOTE * noted[:, block]
        mine, there = MATCHES[head % len(MATCHES)]
        second.q_proj.weight[block] = match * read[min(mine, heads)]
        second.k_proj.weight[block] = match * read[min(there, heads)]
    for attention, peak in ((first, sharpness), (second, NORMED_MATCH)):
        if hasattr(attention, "q_norm"):  # queries and keys are normed, so these weights set their size
            for norm in (attention.q_norm, attention.k_norm):
                norm.weight.fill_((peak / width**0.5) ** 0.5)
    second.v_proj.weight.copy_(copied)
    second.o_proj.weight.copy_(COPY * copied.T)


NORMED_MATCH = 12.0  # the score of a perfect match, where queries and keys are normed
NOTE, COPY = 0.04, 0.1  # size of notes and copies, compared with embeddings of norm 0.3
MATCHES = ((1, 2), (0, 1), (0, 2), (1, 3))
"""Per head of the second layer: which note of its own token (0: the token itself) it compares with which."""


def orthogonal(size: int) -> Tensor:
    """A random rotation, (size, size)."""
    return torch.linalg.qr(torch.randn(size, size))[0]
