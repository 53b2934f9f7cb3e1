"""The frame: navigation, the model picker, the URL, errors at the edge, and texts made harmless."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from analysis.checkpoints.devices import FreeMemory
from analysis.opening.memory import estimate_folder
from demo import FIRST_REAL
from pages.shared import state
from pages.shared.layout import format_duration, format_size, shorten_model
from pages.shared.tokens import choose_shade, escape_text, render_token, shade_tokens, show_token
from tests.pages.reading import shown

RunApp = Callable[..., AppTest]


def test_every_page_of_the_frame_exists(repo_root: Path) -> None:
    assert all((repo_root / script).is_file() for script in state.PAGES.values())


def test_the_url_names_the_model_even_when_it_is_the_default(
    run_app: RunApp, tiny_model_folder: Path
) -> None:
    app = run_app("/")
    assert app.query_params["model"] == str(tiny_model_folder)


def test_the_sidebar_says_what_the_open_model_is(run_app: RunApp) -> None:
    caption = run_app("/").sidebar.caption[0].value
    assert "LlamaForCausalLM" in caption
    assert "2 layers · 48 neurons" in caption
    assert "float32 on cpu" in caption
    assert "seeded" not in caption


def test_the_sidebar_says_of_demo_moe_that_its_super_expert_was_planted(run_app: RunApp) -> None:
    assert "seeded: its super expert was planted" in run_app("/", model="demo/moe").sidebar.caption[0].value


@pytest.mark.slow
def test_the_number_format_in_the_url_is_used(run_app: RunApp) -> None:
    assert "bfloat16 on cpu" in run_app("/", dtype="bfloat16").sidebar.caption[0].value


@pytest.mark.slow
def test_a_model_opened_before_can_be_picked_and_goes_into_the_url(
    bare_app: RunApp, tiny_model_folder: Path
) -> None:
    bare_app("/", model=str(tiny_model_folder))
    app = bare_app("/")
    app.sidebar.selectbox[0].set_value(str(tiny_model_folder)).run()
    assert app.query_params["model"] == str(tiny_model_folder)
    assert "2 layers of width" in shown(app)


@pytest.mark.parametrize("page", ["/", "/neurons"])
def test_without_a_model_the_page_says_how_to_open_one(bare_app: RunApp, page: str) -> None:
    app = bare_app(page)
    assert not app.exception
    assert "No model is open" in app.info[0].value
    assert "HEADLAMP_MODEL" in app.info[0].value


@pytest.mark.parametrize("page", ["/", "/neurons"])
def test_an_unknown_folder_is_explained_not_raised(bare_app: RunApp, page: str) -> None:
    app = bare_app(page, model="/no/such/folder")
    assert not app.exception
    assert app.error[0].value.startswith("**Model not found**")


def test_a_link_alone_never_downloads_a_model(bare_app: RunApp, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = _hub(monkeypatch)
    app = bare_app("/", model="someone/something-large")
    assert asked == []
    assert app.button[0].label == "Fetch it from the Hub"
    assert "something" in app.info[0].value
    assert "not among the Hub models on this machine" in app.info[0].value.replace("\\", "")


def test_a_name_like_a_bundled_one_that_is_not_there_is_never_looked_up_by_a_link(
    bare_app: RunApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = _hub(monkeypatch)
    for name in ("demo/nothing", "gpt2", "_x/y"):
        assert not bare_app("/", model=name).exception
    assert asked == []


def _hub(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A Hub that nothing is at hand of; the names that were asked for over the network."""
    asked: list[str] = []

    def snapshot(name: str, *, local_files_only: bool = False, **_: object) -> str:
        if not local_files_only:
            asked.append(name)
        raise OSError(f"{name} is gated")

    for module in ("hub", "sources"):
        monkeypatch.setattr(f"analysis.checkpoints.{module}.snapshot_download", snapshot)
    return asked


def test_the_fetch_button_fetches_the_model(bare_app: RunApp, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = _hub(monkeypatch)
    app = bare_app("/", model="someone/something-large")
    app.button[0].click().run()
    assert asked == ["someone/something-large"]
    assert "is gated" in app.error[0].value


def test_a_hostile_model_name_is_shown_as_text(bare_app: RunApp) -> None:
    app = bare_app("/", model="/x/<b>![a](http://x)$y$:red[z]")
    shown = app.error[0].value
    assert "![a]" not in shown
    assert "$y$" not in shown
    assert "<b>" not in shown


def test_a_damaged_store_is_explained(
    run_app: RunApp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "broken.db"
    broken.write_bytes(b"not a database" * 1000)
    monkeypatch.setenv("HEADLAMP_DB", str(broken))
    app = run_app("/")
    assert not app.exception
    assert app.error[0].value.startswith("**Database corrupt**")


def test_an_error_that_is_not_ours_is_not_swallowed(run_app: RunApp, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("pages.explore.overview.structure.list_block_kinds", fail)
    assert len(run_app("/").exception) == 1


def test_a_link_carries_the_model_and_drops_what_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state.st, "session_state", {"model": "a/b c", "dtype": "auto"})
    assert (
        state.make_link("/neurons", neuron="L2.N47", word="", site=None)
        == "/neurons?model=a%2Fb%20c&neuron=L2.N47"
    )


def test_a_link_repeats_a_parameter_with_several_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state.st, "session_state", {"model": "", "dtype": "float16"})
    assert (
        state.make_link("/neurons", kinds=["word", "byte"]) == "/neurons?dtype=float16&kinds=word&kinds=byte"
    )


def test_a_link_carries_how_a_model_is_open_but_not_to_another_model(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = {"model": "a", "revision": "v2", "device": "cpu", "weights": "disk"}
    monkeypatch.setattr(state.st, "session_state", opened)
    assert state.make_link("/neurons") == "/neurons?model=a&revision=v2&device=cpu&weights=disk"
    assert state.make_link("/neurons", model="b") == "/neurons?model=b&device=cpu"


def test_a_link_escapes_what_would_end_a_parameter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state.st, "session_state", {})
    assert state.make_link("/clamp", prompt="a&b=c#d") == "/clamp?prompt=a%26b%3Dc%23d"


@pytest.mark.parametrize(
    ("token", "shown"),
    [
        (" dog", "␣dog"),
        ("dog ", "dog "),
        ("\n", "⏎"),
        ("\t", "⇥"),
        ("\x00", "<0x00>"),
        ("<0xE2>", "<0xE2>"),
        ("a\u202eb", "aU+202Eb"),
        ("", ""),
    ],
)
def test_a_token_is_shown_with_what_cannot_be_seen(token: str, shown: str) -> None:
    assert show_token(token) == shown


def test_a_token_never_becomes_html() -> None:
    assert render_token("<script>alert('1')</script>") == "&lt;script&gt;alert(&#x27;1&#x27;)&lt;/script&gt;"


@pytest.mark.parametrize(
    "text", ["**b**", "$x$", ":red[hot]", "![a](http://x)", "<b>", "`c`", "# h", "- l", "1. l"]
)
def test_plain_text_has_every_mark_of_markdown_escaped(text: str) -> None:
    shown = escape_text(text)
    bare = re.sub(r"\\[!-/:-@\[-`{-~]", "", shown)
    assert not re.search(r"[!-/:-@\[-`{-~]", bare)
    assert shown.replace("\\", "").replace("\u2060", "") == text


@pytest.mark.parametrize("text", [":dog:", "http://x.y", "www.x.y", "a@b.c", "->", "<-", "--", ">="])
def test_plain_text_is_not_turned_into_emoji_links_or_arrows(text: str) -> None:
    assert text not in escape_text(text).replace("\\", "")


def test_shades_diverge_around_zero_and_never_hide_the_text() -> None:
    assert choose_shade(0, 2).endswith(",0.000)")
    assert choose_shade(2, 2) != choose_shade(-2, 2)
    assert choose_shade(200, 2).endswith(",0.600)")
    assert choose_shade(1, 0).endswith(",0.000)")


def test_shaded_tokens_are_escaped_and_say_their_value() -> None:
    html = shade_tokens(["<b>", " x"], [1.5, float("nan")], largest=2)
    assert "<b>" not in html
    assert 'title="+1.5"' in html
    assert 'title="not routed here"' in html


def test_shaded_tokens_need_as_many_values_as_tokens() -> None:
    with pytest.raises(ValueError, match="zip"):
        shade_tokens(["a", "b"], [1.0], largest=1)


@pytest.mark.parametrize(
    ("name", "said"),
    [("demo/base", "demo/base"), ("/m/gemma", "gemma"), ("/m/smollm2/safetensors", "smollm2"), ("/", "/")],
)
def test_a_folder_is_named_by_what_says_most_of_the_model(name: str, said: str) -> None:
    assert shorten_model(name) == said


@pytest.mark.parametrize(
    ("seconds", "said"), [(3.21, "3.2 s"), (48.2, "48 s"), (250, "4 min 10 s"), (7500, "2 h 5 min")]
)
def test_a_duration_is_said_in_words(seconds: float, said: str) -> None:
    assert format_duration(seconds) == said


@pytest.mark.parametrize(
    ("count", "said"), [(0, "0 B"), (1500, "1.5 kB"), (2.5e9, "2.5 GB"), (3e13, "30.0 TB")]
)
def test_a_size_is_said_in_decimal_units(count: float, said: str) -> None:
    assert format_size(count) == said


def free_bytes(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr("analysis.opening.memory.read_free_memory", lambda: FreeMemory(count))
    monkeypatch.setattr("pages.shared.resources.is_loaded", lambda ref: False)


def test_a_model_that_fits_in_half_precision_is_offered_so(
    run_app: RunApp, tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, half = (estimate_folder(tiny_model_folder, dtype).peak for dtype in ("float32", "bfloat16"))
    free_bytes(monkeypatch, int((whole + half) / 2 / 0.9))
    app = run_app("/neurons")
    assert "does not fit into memory as float32" in app.warning[0].value
    assert not app.dataframe
    app.button[0].click().run()
    assert not app.warning
    assert "bfloat16 on cpu" in app.sidebar.caption[0].value


def test_a_model_that_does_not_fit_is_opened_only_when_somebody_says_so(
    run_app: RunApp, tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free_bytes(monkeypatch, int(estimate_folder(tiny_model_folder, "float32").streamed_peak / 0.9) + 1)
    app = run_app("/neurons")
    assert "does not fit" in app.warning[0].value
    assert f"decode {tiny_model_folder} --from-disk" in app.code[0].value
    next(button for button in app.button if button.label == "Open it anyway").click().run()
    assert not app.warning
    assert app.dataframe


def test_the_first_real_model_says_where_else_it_is_where_the_hub_is_out_of_reach(
    bare_app: RunApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    _hub(monkeypatch)
    app = bare_app("/", model=FIRST_REAL)
    assert any("`make real-model` fetches it from there" in caption.value for caption in app.caption)
    app.button[0].click().run()
    assert "fetches it from there" in app.error[0].value
