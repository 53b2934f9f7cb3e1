"""A guard as a Python script that needs torch, transformers, safetensors and the recipe's two files."""

from __future__ import annotations

from pathlib import Path

from analysis.intervening.hooks import site_module
from analysis.opening.models import LoadedModel
from analysis.unlearning.guards.key_boxes import SLACK, dense_block
from analysis.unlearning.guards.key_places import find_surroundings, list_places
from analysis.unlearning.guards.linear_guards import Guard, LinearGuard
from workbench.scripts import adapt_script, list_facts, write_encoding


def write_guard_snippet(loaded: LoadedModel, guard: Guard, recipe: Path, prompt: str) -> str:
    """The script that answers a prompt under a guard with its recipe at `recipe`.

    Raises SkillError for a guard of another model.
    """
    guard.check(loaded)
    layers = guard.layers if isinstance(guard, LinearGuard) else [box.layer for box in guard.boxes]
    before, behind = find_surroundings(loaded)
    own: dict[str, object] = {
        "TENSORS": str(recipe.with_suffix(".safetensors")),
        "RECIPE": str(recipe),
        "PROMPT": prompt,
        "MODULES": [site_module(dense_block(loaded, layer), "key") for layer in layers],
        "PLACES": list(list_places(guard.key)),
        "BEFORE": before,  # tokens of the template before what is typed, and behind it
        "BEHIND": behind,
    }
    if isinstance(guard, LinearGuard):
        decide = _LINEAR
    else:
        own["SLACK"], decide = SLACK, _DEPTHS[guard.measure] + _NEAREST
    facts, encode = list_facts(loaded, own), write_encoding(loaded, prompt)
    return adapt_script(_HEAD + facts + _READ + decide + encode + _LOOP, loaded)


_HEAD = '''"""One prompt answered under a key-space guard: it abstains where its keys lie in the boxes."""

import json

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache

'''

_READ = """

tokenizer = AutoTokenizer.from_pretrained(MODEL, revision=REVISION)
model = AutoModelForCausalLM.from_pretrained(MODEL, revision=REVISION, dtype=DTYPE).to(DEVICE).eval()
with open(RECIPE, encoding="utf-8") as file:
    kinds = ("key_space_guard", "linear_guard")
    guards = [entry for entry in json.load(file)["interventions"] if entry["kind"] in kinds]
guard, tensors, keys = guards[0], load_file(TENSORS, device=DEVICE), {}


def look(number):
    def hook(module, args):  # the key at each place of what was fed
        states = args[0].reshape(-1, args[0].shape[-1]).float()
        if len(states) == len(ids):
            end = max(len(ids) - BEHIND, 1)
            typed = states[min(BEFORE, end - 1) : end]
            found = {"last": states[-1], "user_last": typed[-1], "user_mean": typed.mean(0)}
            keys[number] = [found[place] for place in PLACES]
        else:
            keys[number] = [states[-1]]

    return hook


for number, name in enumerate(MODULES):
    model.get_submodule(name).register_forward_pre_hook(look(number))


"""

_LINEAR = """def abstains():
    weights = tensors[guard["tensors"]["weights"]].double()  # place, layer, neuron
    score = guard["bias"]
    for number in range(len(MODULES)):
        for place, key in enumerate(keys[number]):
            score += float(key.double() @ weights[place, number])
    return score >= guard["threshold"]


"""

_STORED = """def stored(box, prefix, number):
    names = [f"{prefix}{name}" + (f".{number}" if number else "") for name in ("mean", "sigma")]
    return [tensors[guard["tensors"][name]].float() for name in names]


"""

_DEPTHS = {
    "box": _STORED
    + """def depths(boxes, prefix):  # in each layer, the smallest alpha whose box holds the key
    found = []
    for number, box in enumerate(boxes):
        mean, sigma = stored(box, prefix, number)
        found.append(((keys[number][0] - mean).abs() / sigma).amax() / box["k"])
    return torch.stack([depth.cpu() for depth in found])


""",
    "gauss": _STORED
    + """def depths(sets, prefix):  # in each layer, by density; 1 is an average probe of the guard's own
    found = []
    for number, one in enumerate(sets):
        mean, sigma = stored(one, prefix, number)
        level = 1 + 2 * stored(one, "", number)[1].double().log().mean()
        square = ((keys[number][0] - mean) / sigma).square().mean()
        half = (square + 2 * sigma.double().log().mean() - level) / 2
        found.append(half.clamp(-60, 60).exp())
    return torch.stack([depth.cpu() for depth in found])


""",
}

_NEAREST = """def abstains():
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
    if (step == 0 or guard.get("check") == "each_step") and abstains():
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
