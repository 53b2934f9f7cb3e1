"""Figure of doses: both signs alike, random neurons beside them, spoiled text shaded, divergences below."""

from itertools import pairwise

import pytest

from analysis.figures.doses import DoseLines, bend_value, choose_ticks, dose_figure

VALUES = (-4.0, -1.0, -0.25, 0.0, 0.25, 1.0, 4.0)


def dose_lines(**changed: object) -> DoseLines:
    """Seven values of which the last one breaks the text, one of the model's answers NaN."""
    mean = [0.0, 0.01, 0.02, 0.03, 0.1, 0.6, None]
    given = {
        "values": VALUES,
        "mean": mean,
        "probability": [mean, [0.5] * 7],
        "base": 0.03,
        "band": [(0.01, 0.04)] * 7,
        "repeats": [False] * 5 + [True, False],
        "spoiled": [False] * 6 + [True],
        "kl": [0.5, 0.2, 0.1, 0.0, 0.1, 0.6, 1.5],
        "neutral_kl": [None] * 7,
    }
    return DoseLines(**{**given, **changed})  # type: ignore[arg-type]


def test_a_dose_curve_draws_each_prompt_the_mean_the_base_and_the_band_of_random_neurons() -> None:
    figure = dose_figure("<b>", dose_lines(), unit="× residual")
    named = {trace.name: trace for trace in figure.data if trace.name}
    assert list(named["mean over prompts"].y) == [0.0, 0.01, 0.02, 0.03, 0.1, 0.6, None]
    assert list(named["without clamps"].y) == [0.03, 0.03]
    assert list(named["random neurons"].y) == [0.04] * 7
    assert named["random neurons"].fill == "tonexty"
    assert [0.5] * 7 in [list(trace.y) for trace in figure.data]
    assert named["mean over prompts"].customdata[0] == [0, "-4 × residual"]
    assert figure.layout.yaxis.title.text == "P(&lt;b&gt;)"


def test_both_signs_have_equal_room() -> None:
    figure = dose_figure("dog", dose_lines(), unit="raw")
    x = list(next(trace for trace in figure.data if trace.name == "mean over prompts").x)
    assert x == sorted(x)
    assert x == pytest.approx([-one for one in reversed(x)])
    steps = [after - before for before, after in pairwise(x)]
    assert max(steps) < 2 * min(steps)
    assert list(figure.layout.xaxis.ticktext) == ["−4", "−1", "−0.25", "0", "0.25", "1", "4"]
    assert list(figure.layout.xaxis.tickvals) == pytest.approx(x)


def test_only_spoiled_values_are_shaded() -> None:
    (shade,) = dose_figure("dog", dose_lines(), unit="raw").layout.shapes
    places = [bend_value(value, 0.25) for value in VALUES]
    assert (shade.x0, shade.x1) == pytest.approx(((places[5] + places[6]) / 2, places[6]))
    assert not dose_figure("dog", dose_lines(spoiled=[False] * 7), unit="raw").layout.shapes
    assert "other text suffers" in [trace.name for trace in dose_figure("d", dose_lines(), unit="r").data]


def test_a_sweep_without_random_neurons_has_no_band() -> None:
    names = [trace.name for trace in dose_figure("dog", dose_lines(band=()), unit="raw").data]
    assert "random neurons" not in names


@pytest.mark.parametrize(
    "wrong",
    [{"mean": [0.1]}, {"band": [(0.0, 1.0)]}, {"spoiled": [True]}, {"probability": [[1.0]]}, {"kl": [1.0]}],
)
def test_a_dose_curve_of_unequal_lengths_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="one entry for each value"):
        dose_lines(**wrong)


def test_values_out_of_order_are_refused() -> None:
    with pytest.raises(ValueError, match="must ascend"):
        dose_lines(values=VALUES[::-1])


def test_ticks_quarter_the_largest_value_of_each_sign() -> None:
    assert choose_ticks((-8.0, -1.0, 0.0, 0.5)) == [-8.0, -2.0, 0.0, 0.5]
    assert choose_ticks((1.0, 2.0)) == [2.0]
    assert choose_ticks((0.0,)) == [0.0]
    assert choose_ticks(()) == []


def test_a_point_carries_its_place_and_is_a_cross_where_the_text_repeats_itself() -> None:
    figure = dose_figure("dog", dose_lines(), unit="raw")
    named = {trace.name: trace for trace in figure.data if trace.name}
    mean = named["mean over prompts"]
    assert [place for place, _ in mean.customdata] == list(range(7))
    assert list(mean.marker.symbol) == ["circle"] * 5 + ["x", "circle"]
    assert "text repeats itself" in named
    assert "text repeats itself" not in [
        trace.name for trace in dose_figure("d", dose_lines(repeats=[False] * 7), unit="raw").data
    ]


def test_divergences_lie_below_on_a_logarithmic_axis_where_they_were_measured() -> None:
    figure = dose_figure("dog", dose_lines(), unit="raw")
    named = {trace.name: trace for trace in figure.data if trace.name}
    assert list(named["KL at the answer position"].y) == [0.5, 0.2, 0.1, None, 0.1, 0.6, 1.5]
    assert named["KL at the answer position"].yaxis == "y2"
    assert figure.layout.yaxis2.type == "log"
    bare = dose_figure("dog", dose_lines(kl=[None] * 7), unit="raw")
    assert "KL at the answer position" not in [trace.name for trace in bare.data]
    assert bare.layout.xaxis.title.text == "value (raw)"
