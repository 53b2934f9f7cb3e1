"""`compare`: which neurons of a tuned model still say what they said."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from analysis.neurons.decoding import NeuronNorm
from store.evidence import visible_token
from workbench.cli.commands.neurons import SiteOption
from workbench.cli.shared.options import AsJson, Db, Device, Dtype, ModelName
from workbench.cli.shared.output import number, table
from workbench.cli.shared.session import bar, session
from workbench.neurons.comparing import ChangedNeuron, Comparison, changed_neurons, compare, strongest_changes
from workbench.neurons.decoding import TokenScore

LISTED = 20


def compare_(
    base: ModelName,
    tuned: Annotated[str, typer.Argument(metavar="TUNED", help="A model tuned from MODEL.")],
    *,
    site: SiteOption = "up",
    norm: Annotated[
        NeuronNorm, typer.Option("--norm", help="What a vector passes through before the LM head.")
    ] = "none",
    limit: Annotated[
        int, typer.Option("--limit", min=0, help="How many changed neurons are listed.")
    ] = LISTED,
    device: Device = "auto",
    dtype: Dtype = "auto",
    db: Db = None,
    as_json: AsJson = False,
) -> None:
    """Compare a tuned model with its base.

    The share of neurons with the same label, whole and by layer, and the neurons whose label changed.
    """
    with (
        session(db, as_json) as here,
        here.model(base, device, dtype) as one,
        here.model(tuned, device, dtype) as other,
    ):
        with bar(f"decoding {site}") as progress:
            found = compare(one, other, here.store, site=site, norm=norm, progress=progress)
        changed = changed_neurons(one, other, found, strongest_changes(found)[:limit])
        here.show(_document(found, changed), _text(found, changed))


def _document(found: Comparison, changed: list[ChangedNeuron]) -> dict[str, Any]:
    return {
        "agreement": found.agreement.share,
        "neurons": len(found.base),
        "by_layer": [
            {"layer": row.layer, "agreement": row.share, "same": row.same, "neurons": row.neurons}
            for row in found.agreement.layers
        ],
        "changed_count": len(found.agreement.changed),
        "changed": [
            {
                "address": str(pair.base.address),
                "base": _label(pair.base.top[0]),
                "tuned": _label(pair.tuned.top[0]),
            }
            for pair in changed
        ],
        "runs": [found.base.run, found.tuned.run],
    }


def _label(score: TokenScore) -> dict[str, Any]:
    return {"token_id": score.token_id, "token": score.token, "probability": score.probability}


def _text(found: Comparison, changed: list[ChangedNeuron]) -> str:
    layers = [(f"L{row.layer}", f"{row.share:.1%}", str(row.neurons)) for row in found.agreement.layers]
    labels = [
        (
            str(pair.base.address),
            *(visible_token(pair.base.top[0].token), number(pair.base.top[0].probability)),
            *(visible_token(pair.tuned.top[0].token), number(pair.tuned.top[0].probability)),
        )
        for pair in changed
    ]
    head = f"{found.agreement.share:.1%} of {len(found.base)} neurons have the same label at {found.site}"
    parts = [head, table(("layer", "same", "neurons"), layers)]
    if labels:
        parts.append(table(("changed", "base", "p", "tuned", "p"), labels))
    return "\n\n".join(parts)
