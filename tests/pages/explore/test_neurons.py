"""Neurons: empty, working, done and failed; every view from its address alone."""

import json
import re
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from analysis.opening.models import ModelRef
from store import default_path, list_runs, open_store
from workbench.models import open_model
from workbench.neurons.firing import ReferenceReading

RunApp = Callable[..., AppTest]


def headings(app: AppTest) -> list[str]:
    return [heading.value for heading in app.subheader]


def neurons(app: AppTest) -> list[str]:
    """The addresses in the page's first table."""
    return list(app.dataframe[0].value["address"])


def shown_html(app: AppTest) -> str:
    return "".join(block.proto.body for block in app.get("html"))


def test_a_small_model_is_decoded_at_once_and_listed_best_first(run_app: RunApp) -> None:
    app = run_app("/neurons")
    table = app.dataframe[0].value
    assert not app.exception
    assert len(table) == 48
    assert table["p"].is_monotonic_decreasing


def test_a_large_model_is_decoded_only_when_asked(run_app: RunApp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pages.explore.neurons.decoding.SMALL", 10)
    app = run_app("/neurons")
    assert "each of the 48 neurons" in app.info[0].value
    assert not app.dataframe
    app.button(key="decode_down").click().run()
    assert len(app.dataframe[0].value) == 48
    assert len(run_app("/neurons").dataframe[0].value) == 48


@pytest.mark.parametrize("asked", [{"neuron": "L0.N1"}, {"word": "dog"}])
def test_a_large_model_shows_a_neuron_and_a_words_neurons_undecoded(
    run_app: RunApp, monkeypatch: pytest.MonkeyPatch, asked: dict[str, str]
) -> None:
    monkeypatch.setattr("pages.explore.neurons.decoding.SMALL", 10)
    app = run_app("/neurons", **asked)
    assert not app.exception
    assert headings(app)[0] in ("Neuron L0.N1", "Neurons of “dog”")
    assert app.dataframe
    assert not [run for run in list_runs(open_store(default_path())) if run.kind == "decode"]


def test_a_word_lists_its_neurons_and_names_the_merged_variants(run_app: RunApp) -> None:
    app = run_app("/neurons", word="dog")
    table = app.dataframe[0].value
    assert headings(app)[0] == "Neurons of “dog”"
    assert "␣dog, ␣Dog, dog" in app.markdown[1].value.replace("\\", "")
    assert table["z-score"].abs().is_monotonic_decreasing
    assert "p" not in table


def test_a_row_shows_the_tokens_at_the_end_that_its_sign_means(run_app: RunApp) -> None:
    table = run_app("/neurons", word="dog").dataframe[0].value
    address = neurons(run_app("/neurons", word="dog"))
    tables = {n: [t.value for t in run_app("/neurons", neuron=n).dataframe] for n in address[:6]}
    assert {"+", "−"} == set(table["sign"][:6])
    for row, name in enumerate(address[:6]):
        top, bottom = tables[name][2]["token"][0], tables[name][5]["token"][0]
        assert table["tokens"][row].startswith(top if table["sign"][row] == "+" else bottom)


def test_p_and_times_uniform_are_shown_once_the_neurons_are_decoded(
    run_app: RunApp, tiny_model_folder: Path
) -> None:
    run_app("/neurons")
    table = run_app("/neurons", word="dog").dataframe[0].value
    assert table["z-score"].abs().is_monotonic_decreasing
    with open_model(ModelRef(str(tiny_model_folder)), open_store(default_path())) as loaded:
        tokens = loaded.vocabulary.tokens
    assert (table["× uniform"] / table["p"]).tolist() == pytest.approx([tokens] * len(table))


def test_a_word_can_be_ranked_by_signed_scores(run_app: RunApp) -> None:
    up = run_app("/neurons", word="dog", by="z", sign="positive").dataframe[0].value["z-score"]
    down = run_app("/neurons", word="dog", by="cosine", sign="negative").dataframe[0].value["cosine"]
    assert (up > 0).all()
    assert up.is_monotonic_decreasing
    assert (down < 0).all()
    assert down.is_monotonic_increasing


def test_the_sign_and_the_token_of_a_row_are_those_of_the_ranking(run_app: RunApp) -> None:
    for by, column in (("z", "z-score"), ("cosine", "cosine")):
        table = run_app("/neurons", word="dog", by=by).dataframe[0].value
        assert {"+", "−"} == set(table["sign"])
        assert ((table[column] >= 0) == (table["sign"] == "+")).all()
        assert set(table["token"]) <= {"␣dog", "␣Dog", "dog"}


@pytest.mark.parametrize(
    ("site", "said"), [("up", "the site down shows what the neuron writes"), ("down", "suppress the word")]
)
def test_the_caption_says_what_a_sign_means_at_the_site(run_app: RunApp, site: str, said: str) -> None:
    captions = [text.value for text in run_app("/neurons", word="dog", by="z", site=site).caption]
    assert any("Sign −" in text and said in text for text in captions)


def test_a_probability_has_no_sign(run_app: RunApp) -> None:
    app = run_app("/neurons", word="dog", by="probability", sign="negative")
    assert not app.error
    assert len(app.dataframe[0].value) == 48


@pytest.mark.parametrize("word", ["", "dog"])
def test_layers_site_and_norm_of_the_address_are_used(run_app: RunApp, word: str) -> None:
    first = run_app("/neurons", word=word)
    other = run_app("/neurons", word=word, layers=["1", "1"], site="up", norm="final")
    assert all(address.startswith("L1.") for address in neurons(other))
    assert len(neurons(other)) == 24
    score = "z-score" if word else "p"
    assert first.dataframe[0].value[score].max() != other.dataframe[0].value[score].max()


def test_kinds_and_smallest_probability_narrow_the_list(run_app: RunApp) -> None:
    everything = run_app("/neurons").dataframe[0].value
    words = run_app("/neurons", kinds=["word"]).dataframe[0].value
    sure = run_app("/neurons", minimum="0.3").dataframe[0].value
    assert 0 < len(words) < len(everything)
    assert words["label"].str.startswith("␣").all()
    assert 0 < len(sure) < len(everything)
    assert (sure["p"] >= 0.3).all()


def test_bottom_labels_and_order_by_address(run_app: RunApp) -> None:
    app = run_app("/neurons", end="bottom", order="address")
    assert neurons(app) == [f"L{layer}.N{n}" for layer in range(2) for n in range(24)]
    assert (app.dataframe[0].value["logit"] < 0).all()


def test_a_list_is_cut_into_pages(run_app: RunApp) -> None:
    first = neurons(run_app("/neurons", limit="20", order="address"))
    third = neurons(run_app("/neurons", limit="20", order="address", page="3"))
    assert len(first) == 20
    assert third == [f"L1.N{n}" for n in range(16, 24)]


def test_filters_that_nothing_passes_say_what_to_do(run_app: RunApp) -> None:
    app = run_app("/neurons", minimum="1.0")
    assert "No neuron passes these filters" in app.info[0].value


@pytest.mark.parametrize(
    "nonsense",
    [
        {"page": "99"}, {"page": "-1"}, {"minimum": "7"}, {"minimum": "nan"}, {"layers": ["3", "9"]},
        {"layers": "x"}, {"by": "luck"}, {"site": "roof"}, {"norm": "<b>"}, {"limit": "1000000"},
        {"kinds": ["noise"]}, {"order": "☃"}, {"end": "middle"}, {"dtype": "int3"},
    ],
)  # fmt: skip
def test_nonsense_in_the_address_never_breaks_the_page(run_app: RunApp, nonsense: dict[str, Any]) -> None:
    app = run_app("/neurons", **{"limit": "20", **nonsense})
    assert not app.exception
    assert len(app.dataframe[0].value) <= 500


def test_a_word_of_several_tokens_shows_its_pieces(run_app: RunApp) -> None:
    app = run_app("/neurons", word="zebra")
    assert not app.exception
    assert app.error[0].value.startswith("**Unknown word**")
    assert "unk" in app.error[0].value


def test_a_neuron_opens_from_its_address_alone(run_app: RunApp) -> None:
    app = run_app("/neurons", neuron="L1.N3")
    assert not app.exception
    assert headings(app) == [
        *("Neuron L1.N3", "Dose curve", "On the reference text", "Where it fires", "Nearest neurons")
    ]
    tops = [table.value for table in app.dataframe[:3]]
    assert all(table["p"].is_monotonic_decreasing for table in tops)
    assert all(len(table) == 10 for table in tops)


def test_the_profile_shows_each_site(run_app: RunApp) -> None:
    app = run_app("/neurons", neuron="L1.N3")
    profile = next(table.value for table in app.dataframe if "at position 0" in table.value)
    assert profile.index.tolist() == ["key", "up", "gate"]
    assert (profile["largest"] > 0).all()


def test_nearest_neurons_do_not_hold_the_neuron_itself(run_app: RunApp) -> None:
    app = run_app("/neurons", neuron="L1.N3")
    nearest = app.dataframe[-1].value
    assert len(nearest) == 10
    assert "L1.N3" not in set(nearest["address"])
    assert nearest["cosine"].abs().is_monotonic_decreasing


def test_a_tried_text_is_shaded_token_by_token(run_app: RunApp) -> None:
    app = run_app("/neurons", neuron="L1.N3", text=" the dog ran", shade="up")
    assert "␣" not in shown_html(app)
    app.toggle(key="spaces").set_value(True).run()
    assert "␣dog" in shown_html(app)
    numbers = next(table.value for table in app.dataframe if "token" in table.value and "up" in table.value)
    assert numbers["token"].tolist()[-3:] == ["␣the", "␣dog", "␣ran"]


def test_a_text_longer_than_the_context_is_explained(run_app: RunApp) -> None:
    app = run_app("/neurons", neuron="L1.N3", text=" dog" * 65)
    assert app.error[0].value.startswith("**Prompt too long**")


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("neuron five", "Bad address"),
        ("<script>alert(1)</script>", "Bad address"),
        ("L9.N0", "Address out of range"),
        ("L1.N99", "Address out of range"),
        ("L1.E2.N0", "Address out of range"),
    ],
)
def test_an_address_of_no_neuron_is_explained(run_app: RunApp, address: str, name: str) -> None:
    app = run_app("/neurons", neuron=address)
    assert not app.exception
    assert app.error[0].value.startswith(f"**{name}**")
    assert "<script>" not in app.error[0].value


def test_an_expert_in_a_dense_model_says_that_the_layer_is_dense(run_app: RunApp) -> None:
    assert "is dense" in run_app("/neurons", neuron="L1.E2.N0").error[0].value


def test_next_and_previous_walk_through_all_blocks(run_app: RunApp) -> None:
    app = run_app("/neurons", neuron="L0.N23")
    next(button for button in app.button if button.label == "Next").click().run()
    assert headings(app)[0] == "Neuron L1.N0"
    next(button for button in app.button if button.label == "Previous").click().run()
    assert headings(app)[0] == "Neuron L0.N23"


def test_with_a_word_next_and_previous_walk_through_its_hits(run_app: RunApp) -> None:
    hits = neurons(run_app("/neurons", word="dog", by="cosine"))
    app = run_app("/neurons", word="dog", by="cosine", neuron=hits[1])
    assert "Hit 2 of 48 for “dog”" in [text.value for text in app.caption]
    next(button for button in app.button if button.label == "Next hit").click().run()
    assert headings(app)[0] == f"Neuron {hits[2]}"
    for _ in range(2):
        next(button for button in app.button if button.label == "Previous hit").click().run()
    assert headings(app)[0] == f"Neuron {hits[0]}"
    assert next(button for button in app.button if button.label == "Previous hit").disabled


@pytest.mark.parametrize("word", ["dog", ""])
def test_the_reference_text_is_read_once_for_a_neuron_and_those_that_next_leads_to(
    run_app: RunApp, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    start = neurons(run_app("/neurons", word="dog"))[0] if word else "L1.N0"
    app = run_app("/neurons", word=word, neuron=start)

    def read_again(reading: ReferenceReading, loaded: object) -> None:
        raise AssertionError("the reference text is read again")

    monkeypatch.setattr(ReferenceReading, "read_next", read_again)
    next(button for button in app.button if button.label.startswith("Next")).click().run()
    assert not app.exception
    assert "Where it fires" in headings(app)
    assert headings(app)[0] != f"Neuron {start}"


def test_a_neuron_that_is_no_hit_has_its_own_neighbours(run_app: RunApp) -> None:
    app = run_app("/neurons", word="dog", sign="positive", by="z", neuron=weakest(run_app))
    assert {"Previous", "Next"} <= {button.label for button in app.button}
    assert "Previous hit" not in [button.label for button in app.button]


def weakest(run_app: RunApp) -> str:
    """A neuron that suppresses dog."""
    return neurons(run_app("/neurons", word="dog", by="z", sign="negative"))[0]


def test_words_of_the_vocabulary_are_offered_while_one_is_typed(run_app: RunApp) -> None:
    app = run_app("/neurons", word="d")
    assert "dog" in app.button_group(key="_offered_words").options
    app.button_group(key="_offered_words").set_value("dog").run()
    assert headings(app)[0] == "Neurons of “dog”"
    assert app.text_input(key="word").value == "dog"


def test_the_hits_are_dots_by_layer_and_a_click_opens_one(run_app: RunApp) -> None:
    app = run_app("/neurons", word="dog")
    dots = json.loads(app.get("plotly_chart")[0].proto.spec)["data"][1]
    table = app.dataframe[0].value
    assert [name for name, _ in dots["customdata"]] == list(table["address"])
    assert dots["x"] == pytest.approx(list(table["z-score"]))


def test_the_peak_of_a_passage_is_bold_with_its_value(run_app: RunApp) -> None:
    app = run_app("/neurons", neuron="L1.N3")
    profile = next(table.value for table in app.dataframe if "at position 0" in table.value)
    (first, *_) = re.findall(r"<b>[^<]*</b><sub>([+-][^<]+)</sub>", shown_html(app))
    assert abs(float(first)) == pytest.approx(profile["largest"]["key"], rel=1e-2)


def test_back_to_the_list_keeps_the_word_and_its_ranking(run_app: RunApp) -> None:
    app = run_app("/neurons", neuron="L0.N2", word="dog", by="cosine")
    next(button for button in app.button if button.label == "Back to the list").click().run()
    assert headings(app)[0] == "Neurons of “dog”"
    assert app.selectbox(key="by").value == "cosine"


def test_searching_a_word_leaves_the_neuron(run_app: RunApp) -> None:
    app = run_app("/neurons", neuron="L0.N2")
    app.text_input(key="word").set_value("cat").run()
    assert headings(app)[0] == "Neurons of “cat”"


def test_a_neuron_can_be_kept_as_a_finding(run_app: RunApp) -> None:
    app = run_app("/neurons", neuron="L0.N2")
    next(button for button in app.button if button.label == "Keep").click().run()
    assert not app.exception
    assert not app.error
    assert any(link.label == "Open the finding" for link in app.page_link)


def test_the_last_view_is_not_computed_again_when_a_widget_is_touched(
    run_app: RunApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = run_app("/neurons", neuron="L0.N2")

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr("pages.explore.neurons.view.view_neuron", fail)
    app.selectbox(key="shade").set_value("up").run()
    assert not app.exception


@pytest.mark.parametrize("token", ["<script>alert(1)</script>", "![a](http://x)", "$x$", ":red[hot]"])
def test_a_hostile_token_reaches_no_html_and_no_markdown(run_app: RunApp, token: str) -> None:
    app = run_app("/neurons", neuron="L1.N3", text=token)
    assert escape(token) in shown_html(app)
    assert "<script>" not in shown_html(app)
    assert not any(token in text.value for text in (*app.markdown, *app.caption))


def test_a_hostile_word_is_shown_as_text(run_app: RunApp) -> None:
    app = run_app("/neurons", word="![a](http://x)")
    assert headings(app)[0].count("\\") > 5
    assert "![a](" not in headings(app)[0]


def test_the_map_escapes_tokens_in_its_hover_texts(run_app: RunApp) -> None:
    chart = run_app("/neurons").get("plotly_chart")[0]
    texts = str(json.loads(chart.proto.spec)["data"][0]["text"])
    assert "&lt;script&gt;" in texts
    assert "<script>" not in texts
