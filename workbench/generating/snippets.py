"""A pair of texts as a Python script that only needs torch and transformers."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.checkpoints.devices import BALANCED
from analysis.errors import HeadlampError
from analysis.intervening.clamps import Clamp
from analysis.intervening.hooks import site_columns, site_module
from analysis.intervening.interventions import Change
from analysis.intervening.pruning import PruneExpert
from analysis.intervening.residual_units import find_residual
from analysis.opening.models import LoadedModel
from analysis.running.generation import Sampling
from analysis.running.prompts import is_scriptable
from workbench.generating.clamping import Generation
from workbench.scripts import adapt_script, name_source, why_no_script


def why_no_snippet(loaded: LoadedModel, changes: Sequence[Change], sampling: Sampling = Sampling()) -> str:
    """Why the text cannot be written by plain forward hooks; empty if it can."""
    if reason := why_no_script(loaded):
        return reason
    if sampling.as_configured:
        return "The script is plain greedy or sampled text; generate without --as-configured to get it."
    if loaded.ref.device == BALANCED:
        return "The model is spread over several devices; open it on one to get the script."
    for clamp in changes:
        if isinstance(clamp, PruneExpert):
            return (
                f"{clamp.address} is pruned, which only a recipe can express: `python -m workbench generate "
                "MODEL --recipe FILE --prompt TEXT` applies it."
            )
        if not isinstance(clamp, Clamp):
            return "This is not a clamp; export its recipe instead, which `generate --recipe FILE` applies."
        if loaded.anatomy.block(clamp.address).fused:
            return (
                f"{clamp.address} belongs to an expert. All experts of a layer are one fused weight, "
                "so no forward hook reaches a single neuron: export the recipe instead; `python -m "
                "workbench generate MODEL --recipe FILE --prompt TEXT` applies it."
            )
    return ""


def write_snippet(loaded: LoadedModel, result: Generation) -> str:
    """The script that generates `result` again, token for token. HeadlampError: a fused expert."""
    reason = why_no_snippet(loaded, result.request.clamps, result.request.sampling)
    if reason:
        raise HeadlampError(reason)
    request, sampling = result.request, result.request.sampling
    facts = {
        **name_source(loaded),
        "DEVICE": loaded.ref.device,
        "PROMPT": request.prompt,
        "ANSWER_PREFIX": request.answer_prefix,
        "MAX_NEW_TOKENS": sampling.max_new_tokens,
        "TEMPERATURE": sampling.temperature,
        "SEED": sampling.seed,
        "CONTEXT": loaded.anatomy.context,
        "VOCABULARY": len(loaded.vocabulary),
        "HOLES": sorted(loaded.vocabulary.holes),  # ids that no token has
        "ENDS": sorted(loaded.ends_of_text),
    }
    lines = [f"{name} = {value!r}" for name, value in facts.items()]
    lines.append(f"DTYPE = torch.{loaded.dtype}")
    held = [clamp for clamp in request.clamps if isinstance(clamp, Clamp)]
    clamps = [_clamp_line(loaded, clamp, len(result.prompt_ids)) for clamp in held]
    if is_scriptable(loaded, request.conversation, result.prompt_ids):
        encode = _ENCODE_CHAT if loaded.tokenizer.chat_template else _ENCODE_PLAIN
    else:
        encode = f"ids = {list(result.prompt_ids)}  # the prompt as it was fed\n"
    settings = "\n".join([*lines, _CLAMPS_COMMENT, "CLAMPS = [", *clamps, "]"])
    return adapt_script(_HEAD + settings + _setup(held) + encode + _LOOP, loaded)


def _clamp_line(loaded: LoadedModel, clamp: Clamp, prompt_length: int) -> str:
    block = loaded.anatomy.block(clamp.address)
    first, last = clamp.scope.interval(prompt_length)
    rule = clamp.mode if clamp.mode in ("add", "scale") else "set"
    last_text = 'float("inf")' if last == float("inf") else str(last)
    place = f"{site_module(block, clamp.site)!r}, {'input' if clamp.site == 'key' else 'output'!r}"
    columns = site_columns(block, clamp.site)
    column = (columns.start or 0) + (columns.step or 1) * clamp.address.neuron
    value = repr(clamp.raw)
    if clamp.unit == "residual":
        residual = find_residual(loaded, clamp, block)
        reader = None if residual.own_output else residual.module
        value = repr((clamp.value, reader, block.down.neuron_axis))
    held = f"{column}, {rule!r}, {value}, {max(first, 0)}, {last_text}"
    return f"    ({place}, {held}),  # {clamp}"


def _setup(clamps: Sequence[Clamp]) -> str:
    """The part of the script that attaches the hooks."""
    if all(clamp.unit != "residual" for clamp in clamps):
        return _SETUP.format(resolve="", attach="", value="value", set="torch.full_like(old, value)")
    return _SETUP.format(
        resolve=_RESIDUAL,
        attach=_ATTACH_READERS,
        value="value_at(module, values, column, value)",
        set="value.expand_as(old)",
    )


_HEAD = '''"""One text as the model writes it and one with neurons held: two rows of one batch."""

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache

'''

_CLAMPS_COMMENT = (
    "# module, hooked at its input or output, column, rule, raw value, first and last position acted on;\n"
    "# a value of three is times the residual: how many times, the module that reads it, the axis of a neuron"
)

_SETUP = """

tokenizer = AutoTokenizer.from_pretrained(MODEL, revision=REVISION)
model = AutoModelForCausalLM.from_pretrained(MODEL, revision=REVISION, dtype=DTYPE).to(DEVICE).eval()
positions = None  # of the tokens fed in the current step

{resolve}
def held(module, values, column, rule, value, first, last):
    changed = values.clone()
    old = changed.view(2, len(positions), -1)[1, :, column]
    value = {value}
    new = {{"set": {set}, "add": old + value, "scale": old * value}}[rule]
    old.copy_(torch.where((positions >= first) & (positions <= last), new, old))
    return changed


{attach}for name, side, *rest in CLAMPS:
    module = model.get_submodule(name)
    if side == "input":
        module.register_forward_pre_hook(lambda m, args, rest=rest: (held(m, args[0], *rest), *args[1:]))
    else:
        module.register_forward_hook(lambda m, args, output, rest=rest: held(m, output, *rest))

"""

_RESIDUAL = """residuals = {}  # what the modules that read the residual were given, by name


def note_residual(name):
    def hook(module, args, kwargs):
        residuals[name] = next(x for x in (*args, *kwargs.values()) if isinstance(x, torch.Tensor))

    return hook


def value_at(module, values, column, value):
    if not isinstance(value, tuple):
        return torch.tensor(value, dtype=values.dtype, device=values.device)
    times, reader, axis = value  # times the residual; the block's own output where a norm follows it
    states = module.forward(values) if reader is None else residuals[reader]
    sizes = states.view(2, len(positions), -1)[1].float().norm(dim=-1)
    if positions[0] == 0 and len(positions) > 1:  # the first position has massive activations
        sizes = torch.cat([sizes[1:].median()[None], sizes[1:]])
    return (times * sizes / module.weight.select(axis, column).float().norm()).to(values.dtype)


"""

_ATTACH_READERS = """values = [clamp[4] for clamp in CLAMPS]
for name in {value[1] for value in values if isinstance(value, tuple)} - {None}:
    model.get_submodule(name).register_forward_pre_hook(note_residual(name), with_kwargs=True)
"""

_ENCODE_PLAIN = """ids = tokenizer.encode(PROMPT + ANSWER_PREFIX)
"""

_ENCODE_CHAT = """chat = [{"role": "user", "content": PROMPT}]
asked = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
ids = tokenizer.encode(asked + ANSWER_PREFIX, add_special_tokens=False)
"""

_LOOP = """cache, fed, start = DynamicCache(config=model.config), torch.tensor([ids, ids], device=DEVICE), 0
texts, ended = ([], []), [False, False]
for step in range(min(MAX_NEW_TOKENS, CONTEXT - len(ids))):
    positions = torch.arange(start, start + fed.shape[1], device=DEVICE)
    with torch.inference_mode():
        output = model(fed, position_ids=positions.expand(2, -1), past_key_values=cache, logits_to_keep=1)
        logits = output.logits[:, -1, :VOCABULARY].float()
        logits[:, HOLES] = float("-inf")
    scores = torch.log_softmax(logits, -1).cpu()
    if TEMPERATURE:  # the same noise for both rows, so that only the clamps make a difference
        generator = torch.Generator().manual_seed((SEED * 1_000_003 + step) % 2**63)
        uniform = torch.rand(scores.shape[-1], generator=generator, dtype=torch.float64)
        scores = scores.double() / TEMPERATURE - torch.log(-torch.log(uniform.clamp(min=1e-300)))
    chosen = scores.argmax(-1).tolist()
    for row, token in enumerate(chosen):
        if not ended[row]:
            texts[row].append(token)
            ended[row] = token in ENDS
    if all(ended):
        break
    start, fed = start + fed.shape[1], torch.tensor(chosen, device=DEVICE)[:, None]

for title, tokens in zip(("base:   ", "changed:"), texts):
    print(title, repr(tokenizer.decode(tokens, skip_special_tokens=True)))
"""
