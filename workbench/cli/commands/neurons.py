"""`decode` and `find`: all neurons of a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from analysis.anatomy.anatomy import Site
from analysis.errors import HeadlampError
from analysis.neurons.decoding import NeuronNorm
from analysis.neurons.word_search import By, Sign
from analysis.opening.models import Shards
from store.evidence import visible_token
from workbench.cli.commands.jobs import answered
from workbench.cli.shared.options import AsJson, Db, Device, Dtype, ModelName, readable
from workbench.cli.shared.output import number, table
from workbench.cli.shared.session import bar, session
from workbench.jobs.engines import ENGINES
from workbench.kinds import make_order
from workbench.neurons.decoding import (
    DECODE,
    TOP_K,
    FoundNeuron,
    Search,
    decode_spec,
    find_word,
    read_decoded,
)
from workbench.neurons.exports import check_target, write_decoding

WORKERS = 2
SiteOption = Annotated[Site, typer.Option("--site", help="Which of a neuron's vectors is decoded.")]


def decode(
    model: ModelName,
    *,
    site: SiteOption = "up",
    norm: Annotated[
        NeuronNorm, typer.Option("--norm", help="What a vector passes through before the LM head.")
    ] = "none",
    top_k: Annotated[int, typer.Option("--top-k", min=1, help="Tokens kept at either end.")] = TOP_K,
    engine: Annotated[
        Literal["local", "processes"], typer.Option("--engine", help="Where the work is done.")
    ] = "local",
    workers: Annotated[
        int, typer.Option("--workers", min=1, help="Processes, with --engine processes.")
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
            help="Read weights layer by layer: for a model larger than memory. Of a Hub model, only the "
            "shards that are needed are fetched.",
        ),
    ] = False,
    delete_shards: Annotated[
        bool,
        typer.Option(
            "--delete-shards",
            help="With --from-disk: delete each shard fetched from the Hub once nothing more needs it.",
        ),
    ] = False,
    device: Device = "auto",
    dtype: Dtype = "auto",
    db: Db = None,
    as_json: AsJson = False,
) -> None:
    """Decode every neuron through the LM head.

    What was decoded before is answered from the store; an interrupted decoding goes on where it stopped.
    It is a job: where the app decodes the same already, this command waits for that.
    """
    if out is not None:
        check_target(out)
    shards = _shards(from_disk, delete_shards, engine)
    with (
        session(db, as_json) as here,
        here.model(model, device, dtype, streamed=from_disk, shards=shards) as loaded,
    ):
        order = make_order(DECODE, loaded.ref, site=site, norm=norm, top_k=top_k)
        run = answered(here.store, ENGINES[engine](workers), order, decode_spec(loaded, site, norm, top_k))
        if out is not None:
            with bar(f"writing {out.name}") as progress:
                write_decoding(out, loaded, read_decoded(loaded, here.store, run.run.key, site), progress)
        neurons = sum(b.d_ff for b in loaded.anatomy.blocks if site != "gate" or b.gated)
        found = {"run": run.run.key, "neurons": neurons, "cached": run.cached, "seconds": run.seconds}
        source = "read from the store" if run.cached else f"decoded in {run.seconds:.2f} s"
        written = "" if out is None else f", written to {out}"
        here.show(found, f"{neurons} neurons {source}{written}; run {run.run.key}")


def _shards(from_disk: bool, delete_shards: bool, engine: str) -> Shards:
    """What becomes of a Hub model's shards. HeadlampError for options that contradict each other."""
    if delete_shards and not from_disk:
        raise HeadlampError("--delete-shards goes with --from-disk: else the whole model is fetched and kept")
    if delete_shards and engine != "local":
        raise HeadlampError(
            f"--delete-shards goes with --engine local: with {engine}, one process would delete what another "
            "reads; keep the shards, or leave --engine out"
        )
    return "delete" if delete_shards else "keep" if from_disk else "local"


def find(
    model: ModelName,
    word: Annotated[str, typer.Argument(metavar="WORD", callback=readable, help="One token, such as day.")],
    *,
    site: SiteOption = "up",
    by: Annotated[By, typer.Option("--by", help="What ranks the neurons.")] = "probability",
    sign: Annotated[
        Sign | None,
        typer.Option(
            "--sign",
            help="Neurons that push the word up, down, or both; for z and cosine.",
            show_default="both",
        ),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many neurons are listed.")] = 20,
    device: Device = "auto",
    dtype: Dtype = "auto",
    db: Db = None,
    as_json: AsJson = False,
) -> None:
    """Find the neurons that decode to a word.

    Exact over all neurons of the model. A word is one token; its forms (" day", "Day") count together.
    """
    with (
        session(db, as_json) as here,
        here.model(model, device, dtype) as loaded,
        bar(f"decoding {site}") as progress,
    ):
        found = find_word(
            loaded, here.store, word, site=site, by=by, sign=sign, limit=limit, progress=progress
        )
        progress.close()
        here.show(_search_document(found), _search_table(found))


def _search_document(found: Search) -> dict[str, Any]:
    return {
        "word": found.word,
        "token_ids": list(found.token_ids),
        "neurons": [_found_document(neuron) for neuron in found.neurons],
    }


def _found_document(neuron: FoundNeuron) -> dict[str, Any]:
    block = neuron.address.block
    scores = ("sign", "token", "probability", "z_score", "cosine")
    return {
        "address": str(neuron.address),
        "layer": block.layer,
        "expert": block.expert,
        "shared": block.shared,
        "neuron": neuron.address.neuron,
    } | {name: getattr(neuron, name) for name in scores}


def _search_table(found: Search) -> str:
    rows = [
        (
            *(str(n.address), n.sign, visible_token(n.token)),
            *(number(score) for score in (n.probability, n.z_score, n.cosine)),
        )
        for n in found.neurons
    ]
    forms = ", ".join(visible_token(token) for token in found.tokens)
    head = f"{found.word}: tokens {forms}; site {found.site}"
    return f"{head}\n\n{table(('address', 'sign', 'token', 'probability', 'z', 'cosine'), rows)}"
