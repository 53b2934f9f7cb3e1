"""The pairs of a session on the Clamp page: opened again, undone, pinned, compared; values from evidence."""

from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from analysis.anatomy.addresses import parse_address
from analysis.intervening.clamps import parse_clamp
from analysis.opening.models import ModelRef
from analysis.running.differences import mark_differences
from pages.intervene.clamp.recipe_rows import read_row
from pages.shared.pair import render_text
from store import default_path, open_store
from tests.pages.reading import elements, html_of, press, shown
from workbench.levers.asking import find_best_value
from workbench.models import open_model

CLAMP = "L1.N3:key:set:4@all"
VIEW = {"clamps": CLAMP, "prompt": " the dog", "word": "cat", "tokens": "4"}


@pytest.fixture
def two(run_app: Callable[..., AppTest]) -> AppTest:
    """The page after two pairs: the second with another value, prompt, word and seed."""
    app = press(run_app("/clamp", **VIEW), "Generate")
    app.text_input(key="_recipe0_value").set_value("-5").run()
    app.text_area(key="prompt").set_value(" a")
    app.text_input(key="word").set_value("dog")
    app.number_input(key="seed").set_value(7)
    press(app, "Generate")
    assert not app.error
    return app


def asked(app: AppTest) -> dict[str, object]:
    """What the widgets hold, as a link would."""
    return {
        "clamps": app.query_params["clamps"],
        "prompt": app.text_area(key="prompt").value,
        "word": app.text_input(key="word").value,
        "seed": app.number_input(key="seed").value,
    }


FIRST = {"clamps": CLAMP, "prompt": " the dog", "word": "cat", "seed": 0}
SECOND = {"clamps": "L1.N3:key:set:-5@all", "prompt": " a", "word": "dog", "seed": 7}


def rows(app: AppTest) -> list[str]:
    """The titles of the history, from the top."""
    said = [one.value.replace("\\", "") for one in app.markdown]
    return [title for title in said if " · Holding " in title]


def test_undo_goes_back_to_the_pair_before_with_all_its_settings(two: AppTest) -> None:
    assert asked(two) == SECOND
    second = html_of(two)
    press(two, "Undo")
    assert asked(two) == FIRST
    assert html_of(two) != second
    assert "before your last change" not in shown(two)
    press(two, "Undo")
    assert asked(two) == FIRST
    assert "There is no pair" in two.toast[0].value


def test_undo_first_takes_back_what_was_changed_since_the_last_pair(two: AppTest) -> None:
    two.text_input(key="_recipe0_value").set_value("9").run()
    two.text_area(key="prompt").set_value("b")
    press(two, "Undo")
    assert asked(two) == SECOND
    press(two, "Undo")
    assert asked(two) == FIRST


def test_the_history_lists_the_newest_first_and_opens_any_again(two: AppTest) -> None:
    newest, oldest = rows(two)
    assert newest.startswith("dog ")
    assert newest.endswith(" · Holding L1.N3 at −5 everywhere · “a”")
    assert oldest.startswith("cat ")
    assert oldest.endswith(" · Holding L1.N3 at 4 everywhere · “the dog”")
    two.button(key="_past_open0").click().run()
    assert asked(two) == FIRST
    assert rows(two) == [newest, oldest]


def test_two_ticked_pairs_stand_side_by_side(two: AppTest) -> None:
    before = len(html_of(two))
    two.checkbox(key="_past_tick0").check().run()
    assert len(html_of(two)) == before
    assert not two.exception
    two.checkbox(key="_past_tick1").check().run()
    first, second = html_of(two)[before:]
    pairs = {one.number: one.result for one in two.session_state["_clamp_past"]}
    assert pairs[1].changed_text.strip()[:1] in first
    assert first != second


def test_ten_pairs_are_kept_and_pinned_ones_beyond(
    run_app: Callable[..., AppTest], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pages.intervene.clamp.history.KEPT", 2)
    app = run_app("/clamp", **VIEW | {"tokens": "1"})
    for seed in range(4):
        app.number_input(key="seed").set_value(seed)
        press(app, "Generate")
        if seed == 0:
            app.button(key="_past_pin0").click().run()
    assert [one.number for one in app.session_state["_clamp_past"]] == [3, 2, 0]
    ticks = [str(box.key) for box in app.checkbox if str(box.key).startswith("_past_tick")]
    assert ticks == ["_past_tick0", "_past_tick3", "_past_tick2"]
    app.button(key="_past_pin0").click().run()
    app.number_input(key="seed").set_value(9)
    press(app, "Generate")
    assert [one.number for one in app.session_state["_clamp_past"]] == [4, 3]


def test_a_token_says_its_probability_and_the_words_before_it(two: AppTest) -> None:
    base, changed = html_of(two)[:2]
    result = two.session_state["_generation_last"][1]
    assert result.chosen is not None
    assert 'title="' in base
    assert changed.count("<span title=") == len(result.changed_tokens)
    assert "P(dog) before it: " in changed
    assert ", in the base text " in changed


def test_a_grid_value_is_shown_short_and_stays_exact(run_app: Callable[..., AppTest]) -> None:
    exact = "L1.N3:key:set:2.8284271247461903r@last"
    app = run_app("/clamp", **VIEW | {"clamps": exact})
    assert app.text_input(key="_recipe0_value").value == "2.83"
    assert app.query_params["clamps"] == exact
    app.selectbox(key="_recipe0_scope").set_value("all").run()
    assert app.query_params["clamps"] == exact.replace("last", "all")
    app.text_input(key="_recipe0_value").set_value("3").run()
    app.text_input(key="_recipe0_value").set_value("2.83").run()
    assert app.query_params["clamps"] == "L1.N3:key:set:2.83r@all"
    assert read_row(exact).text == exact


def test_a_new_clamp_is_a_guess_until_its_neuron_was_measured(
    run_app: Callable[..., AppTest], tiny_model_folder: Path
) -> None:
    app = press(run_app("/clamp", prompt=" the", word="dog"), "Add a clamp")
    app.text_input(key="_recipe0_address").set_value("L1.N5").run()
    assert app.query_params["clamps"] == "L1.N5:key:set:1r@last"
    assert "This value is a guess: nothing is measured of it for “dog” yet" in shown(app)
    link = next(one for one in elements(app, "page_link") if "dose curve" in one.label)
    assert "neuron=L1.N5" in str(link.proto)
    assert "word=dog" in str(link.proto)
    press(run_app("/neurons", neuron="L1.N5", word="dog"), "Measure the curve")
    store = open_store(default_path())
    with open_model(ModelRef(str(tiny_model_folder)), store) as loaded:
        best = find_best_value(loaded, store, parse_address("L1.N5"), "dog")
    assert best is not None
    app = press(run_app("/clamp", prompt=" the", word="dog"), "Add a clamp")
    app.text_input(key="_recipe0_address").set_value("L1.N5").run()
    assert parse_clamp(app.query_params["clamps"]) == best
    assert "this one raises “dog” most" in shown(app)
    app.text_input(key="_recipe0_value").set_value("0.7").run()
    assert app.query_params["clamps"] == "L1.N5:key:set:0.7r@last"
    press(app, "Take the measured value")
    assert parse_clamp(app.query_params["clamps"]) == best


def test_what_hovers_over_a_token_is_escaped_and_its_parts_share_one_note() -> None:
    (pieces, _) = mark_differences(["<b>", "<0xC3>", "<0xA9>"], ["<b>"])
    shown_text = render_text(pieces, notes=['"><script>', "first", "second"])
    assert '<span title="&quot;&gt;&lt;script&gt;">&lt;b&gt;</span>' in shown_text
    assert '<span title="first\nsecond">é</span>' in shown_text


def test_an_equal_probability_is_called_identical_and_has_no_arrow() -> None:
    def script() -> None:
        from pages.shared.pair import show_word

        show_word("dog", 0.25, 0.25)

    app = AppTest.from_function(script).run()
    assert app.metric[1].delta == "identical"
