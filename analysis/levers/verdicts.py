"""What a search or a sweep showed, in a sentence."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.intervening.residual_units import OF_RESIDUAL
from analysis.levers.neutral_effects import BOUND
from analysis.levers.readings import Clamps
from analysis.levers.results import CONTROLS_WITHIN, HELD_OUT_ABOVE, Lever, LeverSearch
from analysis.levers.sweeping import DoseCurve, DosePoint


def judge_levers(word: str, found: LeverSearch, prompts: int, unit: str = OF_RESIDUAL) -> str:
    """Whether a word is steerable, by which clamps, and what speaks against it, most of it in one sentence.

    prompts: held-out ones. unit: of the clamps, as `name_unit` has it.
    """
    best, single = found.best, found.single
    if best is None:
        return _explain_nothing(word, found, unit)
    parts = [_say_effect(word, best, prompts, unit), *_list_doubts(best)]
    if best.specificity is not None and not best.anywhere:
        parts.append(f"Where a word of another kind is due, P is {percent(best.specificity)}.")
    parts.append(f"Neutral text changes by {best.neutral_kl:.2g} nats a token.")
    if single is not None and single != best:
        alone = describe_clamps(single.clamps, unit)
        parts.append(f"One neuron alone, {alone}, gives {percent(single.held_out)}.")
    if found.search_control is not None:
        parts.append(
            f"The same search over as many random neurons gives {percent(found.search_control.held_out)}."
        )
    return " ".join(parts)


def _say_effect(word: str, best: Lever, prompts: int, unit: str) -> str:
    """What the clamps do to the word, where another is due, and beside random neurons."""
    clamps = describe_clamps(best.clamps, unit)
    if best.held_out >= HELD_OUT_ABOVE:
        forced = ", but forces the token anywhere" if best.anywhere else ""
        said = f"Holding {clamps} makes the model say “{word}”{forced}"
    else:
        forced = " and forces the token anywhere" if best.anywhere else ""
        said = f"The best by the prompts it was chosen on, {clamps}, does not make the model say “{word}” "
        said += f"reliably{forced}"
    said += f": P {percent(best.base)} → {percent(best.held_out)} on {count(prompts, 'held-out prompt')}"
    if best.anywhere:
        said += f", and {percent(best.specificity or 0.0)} where a word of another kind is due"
    return said + _add_controls(best) + "."


def _list_doubts(best: Lever) -> list[str]:
    """What speaks against an effect, a sentence each."""
    parts = []
    if best.largest_control is not None and best.largest_control > best.base + CONTROLS_WITHIN:
        parts.append(
            f"Random neurons may raise it by {100 * CONTROLS_WITHIN:.0f} points at most, so it shows little "
            "about these."
        )
    elif best.held_out < HELD_OUT_ABOVE:
        parts.append(f"Steerable means at least {percent(HELD_OUT_ABOVE)}.")
    if best.base >= HELD_OUT_ABOVE:
        parts.append("The model says it without clamps already, so this shows nothing.")
    if best.reached < 1:
        parts.append(
            f"Its experts are used in {percent(best.reached)} of these prompts; elsewhere it does nothing."
        )
    return parts


def _explain_nothing(word: str, found: LeverSearch, unit: str) -> str:
    tried = len(found.shortlist)
    if not any(one.routed for one in found.shortlist):
        return (
            f"None of the {tried} neurons tried acts at these prompts' answer positions: their experts are "
            f"not used there. P(“{word}”) stays {percent(found.base)}; give other prompts."
        )
    if not found.refused:
        return (
            f"None of the {tried} neurons tried raises “{word}” on the prompts to choose on, at any "
            f"value tried. P on held-out prompts is {percent(found.base)} without clamps; a larger --top "
            "tries more neurons."
        )
    clamps, reason = found.refused[0]
    return (
        f"Nothing that raises “{word}” leaves other text alone: {len(found.refused)} were left out, the best "
        f"of them, {describe_clamps(clamps, unit)}, for {reason}."
    )


def _add_controls(lever: Lever) -> str:
    if lever.largest_control is None:
        return "; no random neurons were run beside it"
    sets = "neurons" if len(lever.clamps) == 1 else f"sets of {len(lever.clamps)}"
    return f"; the best of {len(lever.controls)} random {sets} gives {percent(lever.largest_control)}"


def judge_sweep(
    word: str,
    base: float,
    curves: Sequence[DoseCurve],
    controls: int,
    largest: float | None,
    unit: str = OF_RESIDUAL,
) -> str:
    """Which neuron and value raise a word most, beside the best random neuron. base: mean P(word). unit: of
    the values, "" for the neuron's own.
    """
    never = _name_idle(curves)
    found = [(curve, point) for curve in curves if curve.reached for point in curve.points]
    known = [(curve, point) for curve, point in found if point.mean is not None]
    if not known:
        broken = " every value drove the model to NaN; sweep smaller ones." if found else ""
        return f"Nothing can be said of “{word}”:{broken}{never}"
    curve, best = max(known, key=lambda pair: pair[1].mean or 0.0)
    change = f"P(“{word}”) {percent(base)} → {percent(best.mean or 0.0)}"
    if (best.mean or 0.0) <= base:
        return f"No value raises P(“{word}”) above {percent(base)}.{never}"
    said = f"Most at {curve.address}, value {write_value(best.value, unit)}: {change}"
    if largest is not None:
        said += f"; the best of {controls} random neurons gives {percent(largest)}"
    return said + "." + _warn(best) + _name_clean(word, base, best, known, unit) + never


def _name_clean(
    word: str, base: float, best: DosePoint, known: Sequence[tuple[DoseCurve, DosePoint]], unit: str
) -> str:
    """The best value whose text does not repeat itself, where that of `best` does; with a space before it."""
    if not best.collapse:
        return ""
    clean = [pair for pair in known if not pair[1].collapse]
    curve, point = max(clean, key=lambda pair: pair[1].mean or 0.0, default=(None, best))
    if curve is None or (point.mean or 0.0) <= base:
        return f" No value without repetition raises P(“{word}”)."
    return (
        f" Without repetition most at {curve.address}, value {write_value(point.value, unit)}: "
        f"{percent(point.mean or 0.0)}."
    )


def _name_idle(curves: Sequence[DoseCurve]) -> str:
    """The neurons that acted on no position, and why; with a space before it."""
    idle = [curve.address for curve in curves if not curve.reached]
    said = ""
    for experts, why in (
        (True, "no position clamped is routed to its expert"),
        (False, "no prompt reaches the positions clamped"),
    ):
        names = [
            str(one) for one in idle if (one.block.expert is not None and not one.block.shared) == experts
        ]
        if names:
            said += f" {', '.join(names)} never acted: {why}."
    return said


def _warn(point: DosePoint) -> str:
    if point.collapse:
        return " Its text repeats itself."
    if point.neutral_kl is not None and point.neutral_kl > BOUND:
        return f" Neutral text changes by {point.neutral_kl:.2g} nats a token, above {BOUND:g}."
    return ""


def describe_clamps(clamps: Clamps, unit: str = OF_RESIDUAL) -> str:
    """`L29.N808 at 1.5 × residual and L3.N2 at −0.5 × residual`. unit: as `name_unit` has it."""
    said = [f"{clamp.address} at {write_value(clamp.value or 0.0, unit)}" for clamp in clamps]
    return said[0] if len(said) == 1 else f"{', '.join(said[:-1])} and {said[-1]}"


def write_number(value: float) -> str:
    """A number of three digits for a sentence: 1.41, −0.5."""
    return f"{value:.3g}".replace("-", "−", int(value < 0))


def write_value(value: float, unit: str) -> str:
    """`1.41 × residual`."""
    return f"{write_number(value)} {unit}".rstrip()


def percent(value: float) -> str:
    """A probability for a sentence: 94 %, 0.3 %, 2e-05."""
    if value >= 0.1:
        return f"{100 * value:.0f} %" if value < 0.995 else f"{min(100 * value, 99.9):.1f} %"
    return f"{100 * value:.1f} %" if value >= 0.001 else f"{value:.0e}" if value else "0 %"


def count(number: int, what: str) -> str:
    """`1 prompt`, `3 prompts`."""
    return f"{number} {what}" + ("" if number == 1 else "s")
