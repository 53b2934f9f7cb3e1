"""A guard as a Python script that needs torch, transformers, safetensors and the recipe's two files."""

from __future__ import annotations

from pathlib import Path

from analysis.intervening.hooks import site_module
from analysis.opening.models import LoadedModel
from analysis.unlearning.guards.key_boxes import SLACK, dense_block
from analysis.unlearning.guards.key_guards import KeyGuard
from workbench.scripts import adapt_script, list_facts, write_encoding


def write_guard_snippet(loaded: LoadedModel, guard: KeyGuard, recipe: Path, prompt: str) -> str:
    """The script that answers a prompt under a guard with its recipe at `recipe`.

    Raises SkillError for a guard of another model.
    """
    guard.check(loaded)
    modules = [site_module(dense_block(loaded, box.layer), "key") for box in guard.boxes]
    own = {
        "TENSORS": str(recipe.with_suffix(".safetensors")),
        "RECIPE": str(recipe),
        "PROMPT": prompt,
        "MODULES": modules,
        "SLACK": SLACK,
    }
    facts, encode = list_facts(loaded, own), write_encoding(loaded, prompt)
    return adapt_script(_HEAD + facts + _GUARD + encode + _LOOP, loaded)


_HEAD = '''"""One prompt answered under a key-space guard: it abstains where its keys lie in the boxes."""

import json

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache

'''

_GUARD = """

tokenizer = AutoTokenizer.from_pretrained(MODEL, revision=REVISION)
model = AutoModelForCausalLM.from_pretrained(MODEL, revision=REVISION, dtype=DTYPE).to(DEVICE).eval()
with open(RECIPE, encoding="utf-8") as file:
    guards = [e for e in json.load(file)["interventions"] if e["kind"] == "key_space_guard"]
guard, tensors, keys = guards[0], load_file(TENSORS, device=DEVICE), {}


def look(number):
    def hook(module, args):  # the key of the last token that was fed
        keys[number] = args[0].reshape(-1, args[0].shape[-1])[-1].float()

    return hook


for number, name in enumerate(MODULES):
    model.get_submodule(name).register_forward_pre_hook(look(number))


def depths(boxes, prefix):  # in each layer, the smallest alpha whose box holds the key
    found = []
    for number, box in enumerate(boxes):
        names = [f"{prefix}{name}" + (f".{number}" if number else "") for name in ("mean", "sigma")]
        mean, sigma = (tensors[guard["tensors"][name]].float() for name in names)
        found.append(((keys[number] - mean).abs() / sigma).amax() / box["k"])
    return torch.stack([depth.cpu() for depth in found])


def abstains():
    own = depths([guard, *guard["also"]], "")
    if not guard["rivals"]:
        return bool(own.amax() <= guard["alpha"] * SLACK)
    own = own.log().mean().exp()
    each = [depths(rival["boxes"], f"rival{i}.") for i, rival in enumerate(guard["rivals"])]
    nearest = min(found.log().mean().exp() for found in each)
    return bool(own <= guard["alpha"] * SLACK) and bool(own <= guard["margin"] * SLACK * nearest)


"""

_LOOP = """cache, answer, start = DynamicCache(config=model.config), [], 0
fed = torch.tensor([ids], device=DEVICE)
for step in range(40):
    positions = torch.arange(start, start + fed.shape[1], device=DEVICE)[None]
    with torch.inference_mode():
        output = model(fed, position_ids=positions, past_key_values=cache, logits_to_keep=1)
    if (step == 0 or guard["check"] == "each_step") and abstains():
        answer = None
        break
    logits = output.logits[0, -1, :VOCABULARY].clone()
    logits[HOLES] = float("-inf")
    answer.append(int(logits.argmax()))
    if answer[-1] in ENDS:
        break
    start, fed = start + fed.shape[1], torch.tensor([answer[-1:]], device=DEVICE)

print(guard["refusal"] if answer is None else tokenizer.decode(answer, skip_special_tokens=True))
"""
