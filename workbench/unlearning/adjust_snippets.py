"""Neuron Adjust as a Python script that needs torch, transformers, safetensors and the recipe's two files."""

from __future__ import annotations

from pathlib import Path

from analysis.anatomy.anatomy import Block
from analysis.intervening.hooks import site_columns, site_module
from analysis.opening.models import LoadedModel
from analysis.running.batches import example_number
from analysis.running.prompts import encode_prompt
from analysis.unlearning.edits.neuron_adjust import NeuronAdjust, gate_site, number_block
from workbench.scripts import ANSWER, adapt_script, list_facts, write_encoding


def why_no_adjust_script(loaded: LoadedModel, change: NeuronAdjust) -> str:
    """Why no plain hook reaches the neurons; empty if one does."""
    blocks = loaded.anatomy.blocks
    for adjusted in change.blocks:
        if blocks[loaded.anatomy.index(adjusted.address)].fused:
            return (
                f"{adjusted.address} is an expert, and all experts of a layer are one weight, so no hook "
                "reaches its neurons; apply the recipe"
            )
    return ""


def write_adjust_snippet(loaded: LoadedModel, change: NeuronAdjust, recipe: Path, prompt: str) -> str:
    """The script that answers a prompt as the model does, and with its recipe at `recipe` applied."""
    blocks = loaded.anatomy.blocks
    hooked = [_place(blocks[loaded.anatomy.index(adjusted.address)]) for adjusted in change.blocks]
    example = example_number(encode_prompt(loaded, prompt))  # keys the draws
    own = {"RECIPE": str(recipe), "PROMPT": prompt, "MAX_NEW_TOKENS": 40, "EXAMPLE": example}
    facts = list_facts(loaded, own)
    table = "\n".join([_TABLE, "ADJUSTED = [", *(f"    {place!r}," for place in hooked), "]"])
    encode = write_encoding(loaded, prompt)
    return adapt_script(f"{_HEAD}{facts}\n{table}{_ADJUST}{encode}{ANSWER}{_LOOP}", loaded)


def _place(block: Block) -> tuple[object, ...]:
    address, site = block.address, gate_site(block)
    columns = site_columns(block, site)
    expert = -1 if address.expert is None else address.expert
    owner = (address.layer, expert, int(address.shared))
    return site_module(block, site), columns.start or 0, columns.step or 1, number_block(address), owner


_HEAD = '''"""A prompt answered by a model, and with neurons mirrored into their retain distribution."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache

'''

_TABLE = """# module, first column and step of its neurons in the output, number that keys a block's draws,
# and layer, expert (-1: none), shared"""

_ADJUST = '''

tokenizer = AutoTokenizer.from_pretrained(MODEL, revision=REVISION)
model = AutoModelForCausalLM.from_pretrained(MODEL, revision=REVISION, dtype=DTYPE).to(DEVICE).eval()
recipe = json.loads(Path(RECIPE).read_text(encoding="utf-8"))
[entry] = [e for e in recipe["interventions"] if e["kind"] == "neuron_adjust"]
stored = load_file(Path(RECIPE).with_name(recipe["tensors"]["file"]), device=DEVICE)
own = {name: stored[tensor] for name, tensor in entry["tensors"].items()}
active, positions = False, None  # of the tokens fed in the current step


def signed(value):
    return value - 2**64 if value >= 2**63 else value


def shifted(z, bits):
    return (z >> bits) & (2 ** (64 - bits) - 1)


def uniform(*counters):
    """In [0, 1): the seed, example, position, and block or layer, hashed (SplitMix64)."""
    z = torch.zeros((), dtype=torch.int64, device=DEVICE)
    for counter in counters:
        z = (z ^ torch.as_tensor(counter, dtype=torch.int64, device=DEVICE)) + signed(0x9E3779B97F4A7C15)
        z = (z ^ shifted(z, 30)) * signed(0xBF58476D1CE4E5B9)
        z = (z ^ shifted(z, 27)) * signed(0x94D049BB133111EB)
        z = z ^ shifted(z, 31)
    return shifted(z, 11).double() / 2.0**53


def adjust(first, step, number, owner):
    places = zip(*(own[name].tolist() for name in ("layer", "expert", "shared")))
    mine = [i for i, place in enumerate(places) if place == owner]
    neurons = own["neuron"][mine]
    names = ("forget_mean", "forget_sigma", "retain_mean", "retain_sigma")
    f_mean, f_sigma, r_mean, r_sigma = (own[name][mine].float() for name in names)

    def hook(module, args, output):
        if not active:
            return output
        changed = output.clone()
        states = changed.view(len(positions), -1)
        columns = first + step * neurons
        x = states[:, columns].float()
        z = (x - f_mean) / f_sigma
        ratio = ((x - r_mean) / r_sigma).square() / 2 + r_sigma.log() - z.square() / 2 - f_sigma.log()
        last = int(positions.max())
        keys = (last, owner[0]) if entry["as_released"] else (positions[:, None], number, neurons)
        draw = uniform(entry["seed"], EXAMPLE, *keys)
        chosen = (ratio >= 0) & (draw < torch.sigmoid(ratio.double()))
        states[:, columns] = torch.where(chosen, r_mean - r_sigma * z, x).to(states.dtype)
        return changed

    return hook


for name, *place in ADJUSTED:
    model.get_submodule(name).register_forward_hook(adjust(*place))

'''

_LOOP = """

texts = [answer()]
active = True
texts.append(answer())
for title, tokens in zip(("base:   ", "changed:"), texts):
    print(title, repr(tokenizer.decode(tokens, skip_special_tokens=True)))
"""
