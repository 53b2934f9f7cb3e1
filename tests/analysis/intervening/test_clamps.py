"""What people write, and what it is refused for."""

from __future__ import annotations

import contextlib
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.anatomy.addresses import BlockAddress, NeuronAddress, parse_address
from analysis.errors import BadAddress, ClampError, HeadlampError
from analysis.intervening.clamps import (
    CLAMP_SITES,
    MODES,
    Clamp,
    ClampSite,
    Mode,
    Scope,
    Unit,
    parse_clamp,
    parse_scope,
)


@pytest.mark.parametrize("text", ["L12.N3405", "L1.E68.N12", "L8.S0.N7"])
def test_addresses_read_and_write_the_same(text: str) -> None:
    assert str(parse_address(text)) == text
    assert parse_address(f"  {text.lower()} ") == parse_address(text)


@pytest.mark.parametrize(
    "text", ["", "12.3405", "L1", "L1.N", "L-1.N2", "L1.X2.N3", "L1.E2", "L1.N2.E3", "L१.N2x"]
)
def test_a_bad_address_shows_the_three_good_forms(text: str) -> None:
    with pytest.raises(BadAddress, match=r"L12\.N3405.*L1\.E68\.N12.*L8\.S0\.N7"):
        parse_address(text)


def test_the_interface_example_is_understood() -> None:
    clamp = parse_clamp("L2.N47:key:set:-8x@all")
    address = NeuronAddress(BlockAddress(2), 47)
    assert clamp == Clamp(address, "key", "set", -8.0, "max", Scope("all"))


def test_site_value_and_scope_have_defaults() -> None:
    assert str(parse_clamp("L2.N47:ablate")) == "L2.N47:key:ablate@all"
    assert str(parse_clamp("L2.N47:gate:add:2.5@3-7")) == "L2.N47:gate:add:2.5@3-7"


values = st.floats(-1e6, 1e6)
scopes = st.sampled_from(["all", "prompt", "generated", "last", "0-0", "3-7"])


@given(st.sampled_from(CLAMP_SITES), st.sampled_from(MODES), values, st.booleans(), scopes)
def test_every_clamp_survives_being_written_and_read(
    site: ClampSite, mode: Mode, value: float, times_max: bool, scope: str
) -> None:
    unit: Unit = "max" if times_max and mode in ("set", "add") else "raw"
    given_value = value if mode in ("set", "add", "scale") else None
    clamp = Clamp(
        parse_address("L1.E2.N3"),
        site,
        mode,
        given_value,
        unit if given_value is not None else "raw",
        parse_scope(scope),
    )
    assert parse_clamp(str(clamp)) == clamp


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("L2.N47:set:nan", "not finite"),
        ("L2.N47:set:inf", "not finite"),
        ("L2.N47:set:-infx", "not finite"),
        ("L2.N47:set:1e30", "at most 1e"),
        ("L2.N47:set:1e400", "not finite"),
        ("L2.N47:set", "needs a VALUE"),
        ("L2.N47:ablate:3", "takes no VALUE"),
        ("L2.N47:scale:2x", "plain number"),
        ("L2.N47:set:two", "not a number"),
        ("L2.N47:set:8x@sometimes", "SCOPE"),
        ("L2.N47:set:8x@7-3", "FIRST ≤ LAST"),
        ("L2.N47:sideways:set:1", "SITE one of"),
        ("L2.N47", "the form is"),
        ("L2.N47:key:set:1:2", "the form is"),
    ],
)
def test_a_bad_clamp_says_what_is_wrong_with_it(text: str, said: str) -> None:
    with pytest.raises(ClampError, match=said):
        parse_clamp(text)


@given(st.text(max_size=60))
def test_no_text_breaks_the_parser(text: str) -> None:
    with contextlib.suppress(HeadlampError):
        assert parse_clamp(text).mode in MODES


def test_units_of_max_become_raw_values() -> None:
    assert parse_clamp("L0.N0:set:-8x").resolve(largest=2.5, mean=9).raw == -20.0
    assert parse_clamp("L0.N0:add:3").resolve(largest=2.5, mean=9).raw == 3.0
    assert parse_clamp("L0.N0:mean").resolve(largest=2.5, mean=0.75).raw == 0.75


def test_a_neuron_that_never_fired_has_no_maximum_to_multiply() -> None:
    with pytest.raises(ClampError, match="never active"):
        parse_clamp("L0.N0:set:8x").resolve(largest=0.0, mean=0.0)
    with pytest.raises(ClampError, match="its expert received no token of the reference text"):
        parse_clamp("L0.N0:mean").resolve(largest=0.0, mean=math.nan)


def test_scopes_count_from_zero_over_the_fed_sequence() -> None:
    assert parse_scope("all").interval(5) == (0, math.inf)
    assert parse_scope("prompt").interval(5) == (0, 4)
    assert parse_scope("last").interval(5) == (4, 4)
    assert parse_scope("generated").interval(5) == (5, math.inf)
    assert parse_scope("3-7").interval(5) == (3, 7)
