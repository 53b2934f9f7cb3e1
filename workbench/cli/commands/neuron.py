"""`neuron`: one neuron's tokens, its activations on a text, and their range."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from analysis.anatomy.addresses import NeuronAddress, parse_address
from analysis.intervening.clamps import CLAMP_SITES
from analysis.opening.models import LoadedModel
from analysis.running.prompts import reference_windows
from store import Store
from store.evidence import make_token_visible
from workbench.cli.shared.options import AsJson, Db, Device, Dtype, ModelName, check_readable_text
from workbench.cli.shared.output import format_number, format_table, format_tokens
from workbench.cli.shared.session import open_session, show_bar
from workbench.findings.findings import neuron_document
from workbench.neurons.firing import FiringText, try_text
from workbench.neurons.profiles import (
    decode_neuron,
    find_neuron_profile,
    is_profiled,
    profile_model,
    read_profile,
)

_UNREAD = "on the reference text: not read by this model yet; --profile reads it"


def neuron(
    model: ModelName,
    address: Annotated[
        str,
        typer.Argument(metavar="ADDRESS", help="L12.N3405, L1.E68.N12 (expert) or L8.S0.N7 (shared expert)."),
    ],
    *,
    text: Annotated[
        str | None,
        typer.Option(
            "--text",
            metavar="TEXT",
            callback=check_readable_text,
            help="Also show its activations along this text.",
        ),
    ] = None,
    profile: Annotated[
        bool,
        typer.Option(
            "--profile",
            help="Read the whole reference text first if this model has not read it, which takes a while; "
            "else its activations there are shown where they are stored.",
        ),
    ] = False,
    device: Device = "auto",
    dtype: Dtype = "auto",
    db: Db = None,
    as_json: AsJson = False,
) -> None:
    """Show one neuron.

    Its tokens at each site, its activations on the reference text where it was read, and those along a text.
    """
    where = parse_address(address)
    with open_session(db, as_json) as here, here.model(model, device, dtype) as loaded:
        read = profile or is_profiled(loaded, here.store)
        found = read_neuron(loaded, here.store, where, text=text, profile=read)
        here.show(found, _format_neuron(found, read))


def read_neuron(
    loaded: LoadedModel, store: Store, where: NeuronAddress, *, text: str | None, profile: bool
) -> dict[str, Any]:
    """As `neuron --json` prints it. profile: whether to read the reference text, if it is not stored."""
    fired = None if text is None else try_text(loaded, where, text)
    decoded = decode_neuron(loaded, store, where)
    return {
        "address": str(where),
        "sites": {site: neuron_document(one) for site, one in decoded.items()},
        "text": None if fired is None else _text_document(fired),
        "profile": _profile_document(loaded, store, where) if profile else None,
    }


def _text_document(fired: FiringText) -> dict[str, Any]:
    """Tokens, and the values of every clamp site; null if the neuron has no gate, or did not process the
    token.
    """
    values = {
        site: None if site not in fired.values else [float(v) for v in fired.values[site]]
        for site in CLAMP_SITES
    }
    return {"tokens": list(fired.tokens)} | values


def _profile_document(loaded: LoadedModel, store: Store, address: NeuronAddress) -> dict[str, Any] | None:
    """Statistics per clamp site, and how many positions of the reference text the neuron processed, of how
    many.
    """
    with show_bar("reading the reference text") as progress:
        run = profile_model(loaded, store, progress)
    profile = find_neuron_profile(loaded, store, address)
    if profile is None:
        return None
    found: dict[str, Any] = {site: asdict(profile[site]) if site in profile else None for site in CLAMP_SITES}
    found["count"] = read_profile(store, run, loaded.anatomy.index(address.block)).count
    found["positions"] = sum(len(window) - 1 for window in reference_windows(loaded))
    return found


def _format_neuron(found: dict[str, Any], read: bool) -> str:
    """read: whether the model has read the reference text."""
    parts = [found["address"]]
    for site, decoded in found["sites"].items():
        ends = [f"  {end:<7}{format_tokens(decoded[end])}" for end in ("top", "bottom")]
        parts.append("\n".join([f"{site}: {_format_shape(decoded)}", *ends]))
    parts.append(_format_cosines(found["sites"]))
    parts.append(_profile_table(found["profile"]) if read else _UNREAD)
    if found["text"] is not None:
        parts.append(_text_table(found["text"]))
    return "\n\n".join(parts)


def _format_shape(decoded: dict[str, Any]) -> str:
    kurtosis = "–" if decoded["kurtosis"] is None else format_number(decoded["kurtosis"])
    return f"‖w‖ {format_number(decoded['weight_norm'])}, kurtosis {kurtosis}"


def _format_cosines(sites: dict[str, Any]) -> str:
    """The cosines of its own vectors: the same at every site, but in a map of an earlier version."""
    shown = []
    for name, title in (("up_gate", "up·gate"), ("up_down", "up·down"), ("gate_down", "gate·down")):
        known = [site[name] for site in sites.values() if site[name] is not None]
        shown.append(f"{title} {format_number(known[0]) if known else '–'}")
    return f"cosines: {', '.join(shown)}"


def _profile_table(profile: dict[str, Any] | None) -> str:
    if profile is None:
        return "on the reference text: its expert was never routed there"
    names = ("largest", "first_largest", "mean", "deviation")
    rows = [
        (site, *(format_number(profile[site][name]) for name in names))
        for site in CLAMP_SITES
        if profile[site]
    ]
    seen = f"on the reference text, {profile['count']} of {profile['positions']} positions:"
    return f"{seen}\n{format_table(('site', 'largest', 'at position 0', 'mean', 'deviation'), rows)}"


def _text_table(text: dict[str, Any]) -> str:
    sites = [site for site in CLAMP_SITES if text[site] is not None]
    rows = [
        (str(place), make_token_visible(token), *(format_number(text[site][place]) for site in sites))
        for place, token in enumerate(text["tokens"])
    ]
    return format_table(("position", "token", *sites), rows)
