"""How a script that only needs torch and transformers names and opens a model, and reads a prompt."""

from __future__ import annotations

from collections.abc import Mapping

from analysis.checkpoints.configs import read_config
from analysis.checkpoints.gguf.files import split_hub_file
from analysis.checkpoints.quantised.weights import read_quantisation
from analysis.checkpoints.sources import split_adapter
from analysis.checkpoints.wrappers.text_part import find_left_out
from analysis.errors import HeadlampError
from analysis.opening.models import LoadedModel
from analysis.running.conversations import Conversation
from analysis.running.prompts import encode_prompt, is_scriptable
from demo import BUNDLED

_OF_GGUF = {
    "DynamicCache\n": "DynamicCache, GgufConfig\n",
    "(MODEL, revision=REVISION": "(MODEL, revision=REVISION, gguf_file=GGUF_FILE",
    "dtype=DTYPE)": "dtype=DTYPE, quantization_config=GgufConfig(dequantize=True))",
}
"""Text of a script → the same for a GGUF file."""
_LOADING = "dtype=DTYPE).to(DEVICE).eval()\n"
_QUANTISED = "dtype=DTYPE, quantization_config=LIBRARY(dequantize=True))\n"
_QUANTISED_UNTIL_LATER = """dtype=DTYPE)
model.dequantize(DTYPE)
"""
_IN_ONE_DTYPE = """model = model.to(DEVICE).eval()
for parameter in model.parameters():  # what is not quantised keeps the dtype that it is stored in
    parameter.data = parameter.data.to(DTYPE)
"""


def name_source(loaded: LoadedModel) -> dict[str, str | None]:
    """The constants that say where a model is: MODEL and REVISION, GGUF_FILE where it is a file in MODEL, and
    ADAPTER where one is merged into it.
    """
    base, adapter = split_adapter(loaded.ref.name)
    name, file = str(BUNDLED.get(base, base)), None
    if loaded.path.is_file():
        name, file = split_hub_file(base) or (str(loaded.path.parent), loaded.path.name)
    found = {"MODEL": name, "REVISION": loaded.ref.revision}
    found |= {} if adapter is None else {"ADAPTER": adapter}
    return found if file is None else found | {"GGUF_FILE": file}


def list_facts(loaded: LoadedModel, own: Mapping[str, object]) -> str:
    """The script's constants, a line each: the model, what a script's `own` are, and how a text ends."""
    facts = {
        **name_source(loaded),
        "DEVICE": loaded.ref.device,
        **own,
        "VOCABULARY": len(loaded.vocabulary),
        "HOLES": sorted(loaded.vocabulary.holes),  # ids that no token has
        "ENDS": sorted(loaded.ends_of_text),
    }
    lines = [f"{name} = {value!r}" for name, value in facts.items()]
    return "\n".join([*lines, f"DTYPE = torch.{loaded.dtype}"])


def write_encoding(loaded: LoadedModel, prompt: str) -> str:
    """The lines that make `ids` of PROMPT: by the tokenizer's own calls where these give what was fed."""
    ids = encode_prompt(loaded, prompt)
    if not is_scriptable(loaded, Conversation(prompt), ids):
        return f"ids = {ids}  # the prompt's token ids as fed\n"
    return _ENCODE_CHAT if loaded.tokenizer.chat_template else _ENCODE_PLAIN


_ENCODE_PLAIN = """ids = tokenizer.encode(PROMPT)
"""

_ENCODE_CHAT = """chat = [{"role": "user", "content": PROMPT}]
asked = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
ids = tokenizer.encode(asked, add_special_tokens=False)
"""


ANSWER = """

def answer():
    global positions
    cache, tokens, start = DynamicCache(config=model.config), [], 0
    fed = torch.tensor([ids], device=DEVICE)
    for _ in range(MAX_NEW_TOKENS):
        positions = torch.arange(start, start + fed.shape[1], device=DEVICE)
        with torch.inference_mode():
            output = model(fed, position_ids=positions[None], past_key_values=cache, logits_to_keep=1)
        logits = output.logits[0, -1, :VOCABULARY].clone()
        logits[HOLES] = float("-inf")
        tokens.append(int(logits.argmax()))
        if tokens[-1] in ENDS:
            break
        start, fed = start + fed.shape[1], torch.tensor([tokens[-1:]], device=DEVICE)
    return tokens
"""
"""Lines of a script: the greedy answer to `ids`, as token ids; `positions` are those of the step."""


_OF_ADAPTER = {
    "import torch\n": "import torch\nfrom peft import PeftModel\n",
    "model = ": "base = ",
    "dtype=DTYPE": "dtype=torch.float32",
    ").to(DEVICE).eval()": ")\n"
    "model = PeftModel.from_pretrained(base, ADAPTER).merge_and_unload().to(DEVICE, DTYPE).eval()",
}
"""The same for a model with an adapter, applied last."""


def why_no_script(loaded: LoadedModel) -> str:
    """Why no script with transformers and peft alone can open a model; empty if one can."""
    instead = (
        "Export the recipe instead; `python -m workbench generate MODEL --recipe FILE --prompt TEXT` "
        "applies it."
    )  # fmt: skip
    untied = loaded.adapter is not None and not loaded.anatomy.head.tied
    if untied and read_config(loaded.path).tie_word_embeddings:
        return (
            f"{loaded.ref.name}: the adapter changes the head or the embedding alone, which are one weight "
            f"in its base, and peft merges into both. {instead}"
        )
    quantisation = read_quantisation(loaded.path)
    if quantisation is None:
        return ""
    if loaded.adapter is not None:
        return (
            f"The adapter lies over weights that are {loaded.weights_format}: no script is offered. {instead}"
        )
    if quantisation.format.library is not None:
        return ""
    return (
        f"The weights are {loaded.weights_format}, which transformers cannot do, so that a script would run "
        f"other numbers. {instead}"
    )


def adapt_script(script: str, loaded: LoadedModel) -> str:
    """The script, dequantising where the weights are quantised, and merging an adapter; else unchanged.

    Raises HeadlampError where none can open the model.
    """
    if reason := why_no_script(loaded):
        raise HeadlampError(reason)
    if find_left_out(loaded.model) is not None:  # which AutoModelForCausalLM may not know
        script = script.replace("AutoModelForCausalLM", type(loaded.model).__name__)
    for text, replacement in _OF_GGUF.items() if loaded.path.is_file() else ():
        script = script.replace(text, replacement)
    for text, replacement in _OF_ADAPTER.items() if loaded.adapter is not None else ():
        script = script.replace(text, replacement, 1)
    quantisation = read_quantisation(loaded.path)
    library = None if quantisation is None else quantisation.format.library
    if library is None:
        return script
    if not library:
        return script.replace(_LOADING, _QUANTISED_UNTIL_LATER + _IN_ONE_DTYPE)
    script = script.replace("DynamicCache\n", f"{library}, DynamicCache\n")
    return script.replace(_LOADING, _QUANTISED.replace("LIBRARY", library) + _IN_ONE_DTYPE)
