"""`compare_models`: which neurons of a tuned model keep their label."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from analysis.neurons.decoding import NeuronNorm
from store.evidence import make_token_visible
from workbench.cli.commands.neurons import SiteOption
from workbench.cli.shared.options import AsJson, Db, Device, Dtype, ModelName
from workbench.cli.shared.output import format_number, format_table
from workbench.cli.shared.session import open_session, show_bar
from workbench.neurons.comparing import (
    ChangedNeuron,
    Comparison,
    compare_models,
    rank_changes,
    read_changed_neurons,
)
from workbench.neurons.rows import TokenScore

LISTED = 20


def compare_(
    base: ModelName,
    tuned: Annotated[str, typer.Argument(metavar="TUNED", help="A model tuned from MODEL.")],
    *,
    site: SiteOption = "up",
    norm: Annotated[
        NeuronNorm, typer.Option("--norm", help="Normalisation of a vector before the LM head.")
    ] = "none",
    limit: Annotated[int, typer.Option("--limit", min=0, help="Number of changed neurons to list.")] = LISTED,
    device: Device = "auto",
    dtype: Dtype = "auto",
    db: Db = None,
    as_json: AsJson = False,
) -> None:
    """Compare a tuned model with its base.

    Prints label agreement, overall and by layer, and the neurons whose label changed.
    """
    with (
        open_session(db, as_json) as here,
        here.model(base, device, dtype) as one,
        here.model(tuned, device, dtype) as other,
    ):
        with show_bar(f"decoding {site}") as progress:
            found = compare_models(one, other, here.store, site=site, norm=norm, progress=progress)
        changed = read_changed_neurons(one, other, found, rank_changes(found)[:limit])
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
            *(make_token_visible(pair.base.top[0].token), format_number(pair.base.top[0].probability)),
            *(make_token_visible(pair.tuned.top[0].token), format_number(pair.tuned.top[0].probability)),
        )
        for pair in changed
    ]
    head = f"{found.agreement.share:.1%} of {len(found.base)} neurons have the same label at {found.site}"
    parts = [head, format_table(("layer", "same", "neurons"), layers)]
    if labels:
        parts.append(format_table(("changed", "base", "p", "tuned", "p"), labels))
    return "\n\n".join(parts)
