"""Addresses of blocks and neurons, in the one notation of URLs, the CLI, recipes and exports.

neuron   L12.N3405    L1.E68.N12 (routed expert)    L8.S0.N7 (shared expert)
block    L12          L1.E68                        L8.S0
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from analysis.errors import BadAddress

_BLOCK = r"L(\d{1,6})(?:\.([ES])(\d{1,6}))?"
_NEURON = re.compile(rf"{_BLOCK}(?:\.N(\d{{1,9}}))?", re.IGNORECASE)


@dataclass(frozen=True, order=True)
class BlockAddress:
    """One FFN block: a dense MLP, one routed expert or one shared expert. All counts from 0."""

    layer: int
    shared: bool = False
    expert: int | None = None

    def __str__(self) -> str:
        if self.expert is None:
            return f"L{self.layer}"
        return f"L{self.layer}.{'S' if self.shared else 'E'}{self.expert}"


@dataclass(frozen=True, order=True)
class NeuronAddress:
    """One neuron: an intermediate unit of one block."""

    block: BlockAddress
    neuron: int

    def __str__(self) -> str:
        return f"{self.block}.N{self.neuron}"


def parse_address(text: str) -> NeuronAddress:
    """`L12.N3405` → NeuronAddress. Raises BadAddress and lists the three valid forms."""
    address = _parse_match(text)
    if not isinstance(address, NeuronAddress):
        raise BadAddress(
            f"{text.strip()[:80]!r} is not a neuron address; write L12.N3405, L1.E68.N12 for a routed "
            "expert or L8.S0.N7 for a shared one"
        )
    return address


def parse_part(text: str) -> BlockAddress | NeuronAddress:
    """`L1.E68`, `L8.S0` or `L2` → BlockAddress, `L2.N47` → NeuronAddress. Raises BadAddress."""
    address = _parse_match(text)
    if address is None:
        raise BadAddress(
            f"{text.strip()[:80]!r} is not an expert, block or neuron address; write L1.E68 for a routed "
            "expert, L8.S0 for a "
            "shared one, L2 for a dense block or L2.N47 for one of its neurons"
        )
    return address


def _parse_match(text: str) -> BlockAddress | NeuronAddress | None:
    match = _NEURON.fullmatch(text.strip())
    if match is None:
        return None
    layer, kind, expert, neuron = match.groups()
    shared = (kind or "").upper() == "S"
    block = BlockAddress(int(layer), shared, None if expert is None else int(expert))
    return block if neuron is None else NeuronAddress(block, int(neuron))
