"""A recipe's changes as a Python script that only needs torch, transformers, safetensors and the recipe."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from analysis.anatomy.addresses import BlockAddress
from analysis.anatomy.anatomy import Block, WeightView
from analysis.errors import HeadlampError
from analysis.intervening.clamps import Clamp
from analysis.intervening.interventions import Change
from analysis.intervening.pruning import PruneExpert
from analysis.opening.models import LoadedModel
from analysis.saving.baking import why_not_baked
from analysis.unlearning.edits.reversals import HeadRow, Tars
from analysis.unlearning.edits.selective_prune import SelectivePrune
from workbench.saving.saving import read_changes
from workbench.scripts import ANSWER, adapt_script, list_facts, write_encoding


def write_edit_script(loaded: LoadedModel, changes: Sequence[Change], recipe: Path, prompt: str) -> str:
    """The script that answers a prompt as the model does, and as it does with the recipe at `recipe` in its
    weights.

    Raises HeadlampError for changes that no weights hold.
    """
    if reason := why_not_baked(changes):
        raise HeadlampError(reason)
    blocks = dict.fromkeys(_list_blocks(changes))
    anatomy = loaded.anatomy
    places = [f"    {_name(block)!r}: {_places(anatomy.blocks[anatomy.index(block)])!r}," for block in blocks]
    facts = list_facts(loaded, {"RECIPE": str(recipe), "PROMPT": prompt, "MAX_NEW_TOKENS": 40})
    table = "\n".join([_PLACES_COMMENT, "PLACES = {", *places, "}"])
    return adapt_script(
        f"{_HEAD}{facts}\n{table}{_EDITS}{write_encoding(loaded, prompt)}{ANSWER}{_LOOP}", loaded
    )


def write_recipe_script(loaded: LoadedModel, files: Mapping[str, bytes], name: str, prompt: str) -> str:
    """The same for a recipe given as its files, which will be called `name`, beside the script."""
    return write_edit_script(loaded, read_changes(files), Path(name), prompt)


def _list_blocks(changes: Sequence[Change]) -> Iterator[BlockAddress]:
    for item in changes:
        if isinstance(item, Clamp):
            yield item.address.block
        elif isinstance(item, PruneExpert):
            yield item.address
        elif isinstance(item, SelectivePrune):
            yield from (address for address, _ in item.blocks)
        elif isinstance(item, Tars):
            yield from (e.address.block for e in item.edits if not isinstance(e.address, HeadRow))


def _name(block: BlockAddress) -> tuple[int, int, int]:
    return block.layer, -1 if block.expert is None else block.expert, int(block.shared)


def _places(block: Block) -> dict[str, tuple[object, ...]]:
    views: dict[str, WeightView | None] = {"up": block.up, "gate": block.gate, "down": block.down}
    return {
        site: (view.parameter, view.expert, view.neuron_axis, view.start, view.step, view.count, view.bias)
        for site, view in views.items()
        if view is not None
    }


_HEAD = '''"""A prompt answered by a model, and by the same model with a recipe's changes in its weights."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache

'''

_PLACES_COMMENT = """# layer, expert (-1: none), shared: where the vectors of each site lie:
# parameter, expert within it, axis, first, step and number of neurons, bias"""

_EDITS = '''

tokenizer = AutoTokenizer.from_pretrained(MODEL, revision=REVISION)
model = AutoModelForCausalLM.from_pretrained(MODEL, revision=REVISION, dtype=DTYPE).to(DEVICE).eval()
recipe = json.loads(Path(RECIPE).read_text(encoding="utf-8"))
beside = recipe.get("tensors")
tensors = load_file(Path(RECIPE).with_name(beside["file"])) if beside else {}


def block_of(entry):
    expert = entry["expert"] if entry.get("expert") is not None else -1
    return entry["layer"], expert, int(entry.get("shared", False))


def vector(block, site, neuron):
    """A neuron's vector, a view of its parameter."""
    name, expert, axis, first, step, _, _ = PLACES[block][site]
    weight = model.get_parameter(name)
    return (weight if expert is None else weight[expert]).select(axis, first + step * neuron)


def replace_vectors(own):
    for (layer, expert, shared, number, site), value in zip(own["place"].tolist(), own["value"]):
        if site == 3:  # a row of the head; one that is the embedding becomes a parameter of its own
            head = model.get_output_embeddings()
            if head.weight is model.get_input_embeddings().weight:
                head.weight = torch.nn.Parameter(head.weight.detach().clone())
            head.weight[number] = value.to(DTYPE)
        else:
            vector((layer, expert, shared), ("up", "gate", "down")[site], number).copy_(value)


def silence_block(block):
    """What a block adds is 0 once the vectors and the bias through which it writes are."""
    name, expert, axis, first, step, count, bias = PLACES[block]["down"]
    for neuron in range(count):
        vector(block, "down", neuron).zero_()
    if bias is not None:
        (model.get_parameter(bias) if expert is None else model.get_parameter(bias)[expert]).zero_()


def edit_weights():
    entries = recipe["interventions"]
    owned = [{n: tensors[t] for n, t in entry.get("tensors", {}).items()} for entry in entries]
    for entry, own in zip(entries, owned):
        if entry["kind"] == "tars":
            replace_vectors(own)
    for entry, own in zip(entries, owned):
        if entry["kind"] == "clamp":
            factor = 0.0 if entry["mode"] == "ablate" else entry["raw"]
            written = vector(block_of(entry), "down", entry["neuron"])
            written.copy_(written * factor if factor else torch.zeros_like(written))
        elif entry["kind"] == "prune_column":
            vector(block_of(entry), "down", entry["neuron"]).zero_()
        elif entry["kind"] == "selective_prune":
            for place in zip(*(own[n].tolist() for n in ("layer", "expert", "shared", "neuron"))):
                vector(place[:3], "down", place[3]).zero_()
        elif entry["kind"] == "prune_expert":
            silence_block(block_of(entry))


'''

_LOOP = """

texts = [answer()]
with torch.no_grad():
    edit_weights()
texts.append(answer())
for title, tokens in zip(("base:   ", "changed:"), texts):
    print(title, repr(tokenizer.decode(tokens, skip_special_tokens=True)))
"""
