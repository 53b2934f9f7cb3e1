"""`compare_models`: which neurons of a tuned model keep their label."""

from __future__ import annotations

from typing import Annotated

import typer

from analysis.neurons.decoding import NeuronNorm
from store.evidence import make_token_visible
from workbench.cli.commands.jobs import answer_decoding
from workbench.cli.commands.neurons import SiteOption
from workbench.cli.shared.options import AsJson, Db, Device, Dtype, ModelName
from workbench.cli.shared.output import format_number, format_table
from workbench.cli.shared.session import open_session
from workbench.jobs.engines import InThread
from workbench.neurons.comparing import (
    ChangedNeuron,
    Comparison,
    compare_models,
    not_decoded,
    rank_changes,
    read_changed_neurons,
)
from workbench.neurons.comparison_evidence import comparison_document, format_share
from workbench.neurons.decoding import order_decoding

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
        for loaded in not_decoded(one, other, here.store, site, norm):
            answer_decoding(
                loaded, here.store, order_decoding(loaded, here.store, site=site, norm=norm), InThread()
            )
        found = compare_models(one, other, here.store, site=site, norm=norm)
        changed = read_changed_neurons(one, other, found, rank_changes(found)[:limit])
        document = comparison_document(found, changed) | {"runs": [found.base.run, found.tuned.run]}
        here.show(document, _text(found, changed))


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
    head = f"{format_share(found)} of {len(found.base)} neurons have the same label at {found.site}"
    parts = [head, format_table(("layer", "same", "neurons"), layers)]
    if labels:
        parts.append(format_table(("changed", "base", "p", "tuned", "p"), labels))
    return "\n\n".join(parts)
