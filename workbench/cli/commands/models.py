"""`models` and `inspect`."""

from __future__ import annotations

from typing import Annotated

import typer

from analysis.checkpoints.devices import check_device
from analysis.opening.memory import DEFAULT_CONTEXT
from analysis.opening.models import ModelRef, resolve_ref
from store import list_models
from workbench.cli.shared.options import AsJson, Db, Device, Dtype, ModelName
from workbench.cli.shared.output import format_bytes, format_facts, format_table, unreadable
from workbench.cli.shared.session import open_session
from workbench.inspecting import Inspection, inspect_model
from workbench.models import list_model_choices


def models(*, db: Db = None, as_json: AsJson = False) -> None:
    """List the available models.

    The bundled ones, those opened before whose folder or file still exists, and a first real one at the Hub.
    """
    with open_session(db, as_json) as here:
        choices = list_model_choices(here.store)
        found = [
            {
                "name": choice.name,
                "source": choice.source,
                "path": None if choice.path is None else str(choice.path),
                "fingerprint": choice.fingerprint,
                "facts": choice.facts,
            }
            for choice in choices
        ]
        rows = [
            (c.name, c.source, (c.fingerprint or "")[:12], c.architecture, str(c.path or "")) for c in choices
        ]
        shown = format_table(("name", "source", "fingerprint", "architecture", "folder"), rows)
        document = {"models": found, "unreadable": unreadable(list_models(here.store))}
        here.show(document, shown if rows else "No model yet; inspect one to list it here.")


def inspect(
    model: ModelName,
    *,
    context: Annotated[
        int | None,
        typer.Option(
            "--context",
            min=1,
            help="Context length of the memory estimate, in tokens.",
            show_default=str(DEFAULT_CONTEXT),
        ),
    ] = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    db: Db = None,
    as_json: AsJson = False,
) -> None:
    """Show what a model is.

    Anatomy, sizes, memory needs, and whether its anatomy is proven. Weights are read layer by layer, so
    that a model larger than memory can be inspected; of a Hub model no weights are fetched, but of a GGUF
    file at the Hub the whole file is.
    """
    wanted = resolve_ref(ModelRef(model, device=device, dtype=dtype))
    check_device(wanted.device)
    with (
        open_session(db, as_json) as here,
        here.model(model, "cpu", wanted.dtype, streamed=True, shards="keep") as loaded,
    ):
        found = inspect_model(loaded, context, wanted.device)
        here.show(found.document(), _format_inspection(found))


def _format_inspection(found: Inspection) -> str:
    needs = found.fit.needs
    memory = (
        f"{format_bytes(needs.peak)} on {found.device} in {needs.dtype}: weights "
        f"{format_bytes(needs.weights)} "
        f"(LM head {format_bytes(needs.head)}), decoding {format_bytes(needs.head_copy + needs.decoding)} "
        f"or activations {format_bytes(needs.activations)} at {needs.context} tokens"
    )
    known = {
        "model": found.name,
        "revision": found.revision,
        "folder": found.path,
        "weights": found.facts.weights,
        "note": "; ".join(found.facts.notes),
        "fingerprint": found.fingerprint,
        "architecture": found.facts.architecture,
        "layers": found.facts.layers,
        "d_model": found.facts.d_model,
        "vocabulary": _vocabulary(found),
        "context": f"{found.facts.context} tokens",
        "LM head": "tied to the embedding" if found.facts.tied else "its own matrix",
        "neurons": found.facts.neurons,
        "experts": found.facts.experts,
        "parameters": found.facts.parameters,
        "generation_config": _settings(found),
        "memory": memory,
        "fits": f"{found.fit.verdict}: {found.fit.reason}",
        "support": _support(found),
    }
    kinds: dict[tuple[object, ...], int] = {}
    for block in found.blocks:
        kind = "shared expert" if block.shared else "dense" if block.expert is None else "expert"
        key = (kind, block.d_ff, "gated" if block.gated else "plain")
        kinds[key] = kinds.get(key, 0) + 1
    rows = [(str(count), *(str(part) for part in key)) for key, count in kinds.items()]
    return f"{format_facts(known)}\n\n{format_table(('blocks', 'kind', 'neurons each', 'form'), rows)}"


def _settings(found: Inspection) -> str:
    """What generation_config asks for and is applied only on demand."""
    asked = ", ".join(f"{name} {value}" for name, value in found.settings.items())
    return f"{asked}: applied by generate --as-configured only" if asked else ""


def _vocabulary(found: Inspection) -> str:
    """Tokens, padding, and the ids between them that no token has."""
    shown = f"{found.facts.vocab} tokens, {found.facts.padding_rows} rows of padding"
    return shown + (f", {found.facts.holes} ids without a token" if found.facts.holes else "")


def _support(found: Inspection) -> str:
    if found.made_up:
        return (
            "proven on placeholder weights: the parts found reproduce the model; its weights are at the Hub"
        )
    return "proven: the parts found reproduce the model's own numbers"
