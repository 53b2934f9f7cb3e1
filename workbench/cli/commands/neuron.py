"""`neuron`: one neuron's tokens, its activations on a text, and their range."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from analysis.anatomy.addresses import parse_address
from analysis.intervening.clamps import CLAMP_SITES
from store.evidence import make_token_visible
from workbench.cli.shared.options import AsJson, Db, Device, Dtype, ModelName, check_readable_text
from workbench.cli.shared.output import format_number, format_table, format_tokens
from workbench.cli.shared.session import open_session, show_bar
from workbench.neurons.answers import NeuronAnswer, ReferenceProfile, answer_neuron
from workbench.neurons.firing import FiringText
from workbench.neurons.rows import DecodedNeuron

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
        with show_bar("reading the reference text") as progress:
            found = answer_neuron(loaded, here.store, where, text, read=profile, progress=progress)
        here.show(found.to_document(), _format_neuron(found))


def _format_neuron(found: NeuronAnswer) -> str:
    parts = [str(found.address)]
    for site, decoded in found.sites.items():
        ends = [
            f"  {end:<7}{format_tokens(tokens)}"
            for end, tokens in (("top", decoded.top), ("bottom", decoded.bottom))
        ]
        parts.append("\n".join([f"{site}: {_format_shape(decoded)}", *ends]))
    parts.append(_format_cosines(list(found.sites.values())))
    parts.append(_format_profile(found.profile) if found.read else _UNREAD)
    if found.text is not None:
        parts.append(_format_text(found.text))
    return "\n\n".join(parts)


def _format_shape(decoded: DecodedNeuron) -> str:
    kurtosis = "–" if decoded.kurtosis is None else format_number(decoded.kurtosis)
    return f"‖w‖ {format_number(decoded.weight_norm)}, kurtosis {kurtosis}"


def _format_cosines(sites: Sequence[DecodedNeuron]) -> str:
    """The cosines of its own vectors: the same at every site, but in a map of an earlier version."""
    cosines = {
        "up·gate": [site.up_gate for site in sites],
        "up·down": [site.up_down for site in sites],
        "gate·down": [site.gate_down for site in sites],
    }
    known = {title: [one for one in values if one is not None] for title, values in cosines.items()}
    shown = [f"{title} {format_number(values[0]) if values else '–'}" for title, values in known.items()]
    return f"cosines: {', '.join(shown)}"


def _format_profile(profile: ReferenceProfile | None) -> str:
    if profile is None:
        return "on the reference text: its expert was never routed there"
    rows = [
        (site, *map(format_number, (one.largest, one.first_largest, one.mean, one.deviation)))
        for site, one in profile.sites.items()
    ]
    seen = f"on the reference text, {profile.count} of {profile.positions} positions:"
    return f"{seen}\n{format_table(('site', 'largest', 'at position 0', 'mean', 'deviation'), rows)}"


def _format_text(fired: FiringText) -> str:
    sites = [site for site in CLAMP_SITES if site in fired.values]
    rows = [
        (
            str(place),
            make_token_visible(token),
            *(format_number(float(fired.values[site][place])) for site in sites),
        )
        for place, token in enumerate(fired.tokens)
    ]
    return format_table(("position", "token", *sites), rows)
