"""`decode` and `find`: all neurons of a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from analysis.anatomy.anatomy import Site
from analysis.errors import HeadlampError
from analysis.neurons.decoding import NeuronNorm
from analysis.neurons.word_search import By, Sign, check_ranking
from analysis.opening.models import Shards
from store.evidence import make_token_visible
from workbench.cli.commands.jobs import answer_decoding
from workbench.cli.shared.options import AsJson, Db, Device, Dtype, ModelName, check_readable_text
from workbench.cli.shared.output import format_number, format_table, say
from workbench.cli.shared.session import open_session, show_bar
from workbench.jobs.engines import ENGINES
from workbench.neurons.decoding import (
    TOP_K,
    blocks_with,
    order_decoding,
    read_decoded,
)
from workbench.neurons.exports import check_target, write_decoding
from workbench.neurons.searching import SearchHit, WordSearch, find_word, needs_map

WORKERS = 2
SiteOption = Annotated[Site, typer.Option("--site", help="Which of a neuron's vectors to decode.")]
NormOption = Annotated[
    NeuronNorm, typer.Option("--norm", help="Normalisation of a vector before the LM head.")
]


def decode(
    model: ModelName,
    *,
    site: SiteOption = "down",
    norm: NormOption = "none",
    top_k: Annotated[int, typer.Option("--top-k", min=1, help="Tokens kept at either end.")] = TOP_K,
    engine: Annotated[
        Literal["local", "processes"],
        typer.Option("--engine", help="Where to compute: in this process, or in several."),
    ] = "local",
    workers: Annotated[
        int, typer.Option("--workers", min=1, help="Number of processes, with --engine processes.")
    ] = WORKERS,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE",
            help="Also write one row per neuron: FILE.jsonl, FILE.csv or FILE.parquet.",
        ),
    ] = None,
    from_disk: Annotated[
        bool,
        typer.Option(
            "--from-disk",
            help="Read weights layer by layer: for a model larger than memory. Of a Hub model, only "
            "needed shards are fetched.",
        ),
    ] = False,
    delete_shards: Annotated[
        bool,
        typer.Option(
            "--delete-shards",
            help="With --from-disk: delete each shard fetched from the Hub once it is no longer needed.",
        ),
    ] = False,
    device: Device = "auto",
    dtype: Dtype = "auto",
    db: Db = None,
    as_json: AsJson = False,
) -> None:
    """Decode every neuron through the LM head.

    A stored decoding is reused; an interrupted one resumes. It is a job: if the app is already computing it,
    this command waits for that.
    """
    if out is not None:
        check_target(out)
    shards = _shards(from_disk, delete_shards, engine)
    with (
        open_session(db, as_json) as here,
        here.model(model, device, dtype, streamed=from_disk, shards=shards) as loaded,
    ):
        order = order_decoding(loaded, here.store, site=site, norm=norm, top_k=top_k)
        run = answer_decoding(loaded, here.store, order, ENGINES[engine](workers))
        neurons = sum(block.d_ff for block in blocks_with(loaded, site))
        if out is not None:
            with show_bar(f"writing {out.name}") as progress:
                write_decoding(out, loaded, read_decoded(loaded, here.store, run.run.key, site), progress)
        found = {"run": run.run.key, "neurons": neurons, "cached": run.cached, "seconds": run.seconds}
        source = "read from the store" if run.cached else f"decoded in {run.seconds:.2f} s"
        written = "" if out is None else f", written to {out}"
        here.show(found, f"{neurons} neurons {source}{written}; run {run.run.key}")


def _shards(from_disk: bool, delete_shards: bool, engine: str) -> Shards:
    """How a Hub model's shards are handled. HeadlampError for contradictory options."""
    if delete_shards and not from_disk:
        raise HeadlampError(
            "--delete-shards needs --from-disk: otherwise the whole model is fetched and kept"
        )
    if delete_shards and engine != "local":
        raise HeadlampError(
            f"--delete-shards needs --engine local: with {engine}, one process would delete what another "
            "reads; keep the shards, or leave --engine out"
        )
    return "delete" if delete_shards else "keep" if from_disk else "local"


def find(
    model: ModelName,
    word: Annotated[
        str, typer.Argument(metavar="WORD", callback=check_readable_text, help="One token, such as day.")
    ],
    *,
    site: SiteOption = "down",
    norm: NormOption = "none",
    by: Annotated[
        By,
        typer.Option(
            "--by",
            help="Ranking of the neurons; probability decodes all of them first, once.",
        ),
    ] = "z",
    sign: Annotated[
        Sign | None,
        typer.Option(
            "--sign",
            help="Neurons that promote the word, suppress it, or both; for z and cosine.",
            show_default="both",
        ),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Number of neurons to list.")] = 20,
    device: Device = "auto",
    dtype: Dtype = "auto",
    db: Db = None,
    as_json: AsJson = False,
) -> None:
    """Find the neurons that decode to a word.

    Exact over all neurons, and nothing is decoded first. A word is one token; its forms (" day", "Day") are
    merged. The probability is given where the model was decoded at this site and norm.
    """
    check_ranking(by, sign)
    with open_session(db, as_json) as here, here.model(model, device, dtype) as loaded:
        if needs_map(loaded, here.store, site, norm, by):
            say(f"a ranking by probability needs every neuron decoded at {site}: done now, once, and stored")
        with show_bar(f"searching {site}") as progress:
            found = find_word(
                loaded,
                here.store,
                word,
                site=site,
                norm=norm,
                by=by,
                sign=sign,
                limit=limit,
                progress=progress,
            )
        here.show(write_search(found), _search_table(found))


def write_search(found: WordSearch) -> dict[str, Any]:
    """As `find --json` prints it."""
    return {
        "word": found.word,
        "token_ids": list(found.token_ids),
        "neurons": [_hit_document(neuron) for neuron in found.neurons],
    }


def _hit_document(neuron: SearchHit) -> dict[str, Any]:
    block = neuron.address.block
    scores = ("sign", "token", "probability", "z_score", "cosine")
    return {
        "address": str(neuron.address),
        "layer": block.layer,
        "expert": block.expert,
        "shared": block.shared,
        "neuron": neuron.address.neuron,
    } | {name: getattr(neuron, name) for name in scores}


def _search_table(found: WordSearch) -> str:
    rows = [
        (
            *(str(n.address), n.sign, make_token_visible(n.token)),
            "–" if n.probability is None else format_number(n.probability),
            *(format_number(score) for score in (n.z_score, n.cosine)),
        )
        for n in found.neurons
    ]
    forms = ", ".join(make_token_visible(token) for token in found.tokens)
    head = f"{found.word}: tokens {forms}; site {found.site}"
    table = format_table(("address", "sign", "token", "probability", "z", "cosine"), rows)
    unknown = found.scores.log_z is None
    note = "\n\n–: known once the model is decoded at this site and norm (decode)" if unknown else ""
    return f"{head}\n\n{table}{note}"
