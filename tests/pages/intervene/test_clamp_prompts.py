"""Many prompts on the Clamp page: typed or uploaded, one table, its verdict, and what goes wrong."""

from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from analysis.errors import HeadlampError, TextError
from analysis.intervening.clamps import parse_clamp
from analysis.opening.models import ModelRef
from analysis.running.generation import Sampling
from store import default_path, open_store
from tests.pages.reading import press, shown
from workbench.generating.clamping import find_pair, generate_pair
from workbench.generating.prompt_files import MOST_PROMPTS, PromptLine, decode_prompts, read_prompts
from workbench.generating.requests import GenerationRequest
from workbench.generating.several import average_word
from workbench.levers.random_clamps import judge_prompts, measure_random_clamps
from workbench.models import open_model

CLAMP = "L1.N3:key:set:4@all"
VIEW = {"clamps": CLAMP, "prompt": " unused", "word": "cat", "tokens": "4"}
PROMPTS = (" the dog", " a", " the cat ran")


def open_panel(run_app: Callable[..., AppTest], text: str, **view: str) -> AppTest:
    app = run_app("/clamp", **VIEW | view)
    app.number_input(key="_many_tokens").set_value(3).run()
    app.text_area(key="_many_text").set_value(text).run()
    return app


def table(app: AppTest) -> list[list[object]]:
    return next(one.value for one in app.dataframe if "prompt" in one.value).values.tolist()


def test_typed_lines_become_one_table_with_the_mean_first(
    run_app: Callable[..., AppTest], tiny_model_folder: Path
) -> None:
    app = open_panel(run_app, "\n".join((*PROMPTS, "", PROMPTS[0])))
    assert "3 prompts, two texts of at most 3 tokens each" in shown(app)
    press(app, "Generate all")
    assert not app.exception
    assert not app.error
    store, clamps = open_store(default_path()), (parse_clamp(CLAMP),)
    with open_model(ModelRef(str(tiny_model_folder)), store) as loaded:
        requests = [GenerationRequest(one, clamps, "", Sampling(3), "cat") for one in PROMPTS]
        pairs = [found for one in requests if (found := find_pair(loaded, store, one))]
        controls = measure_random_clamps(loaded, [pair.request for pair in pairs], 0)
    assert len(pairs) == 3
    assert f"**{judge_prompts(pairs, average_word(pairs, 0), controls)}**" in shown(app)
    assert "sets of neurons at the same values" in shown(app)
    wanted = [
        [one, *pair.word, pair.word[1] - pair.word[0]]
        for one, pair in zip(PROMPTS, pairs, strict=True)
        if pair.word
    ]
    assert [row[:4] for row in table(app)] == wanted
    app.run()
    assert [row[:4] for row in table(app)] == wanted
    app.text_area(key="_many_text").set_value(" b").run()
    assert "belongs to an earlier request" in shown(app)


def test_a_file_of_json_lines_is_taken_in_place_of_what_is_typed(run_app: Callable[..., AppTest]) -> None:
    app = open_panel(run_app, "ignored")
    content = b'{"prompt": " a"}\n{"prompt": " the", "word": "dog"}\n'
    app.file_uploader[0].set_value(("prompts.jsonl", content, "application/json")).run()
    app.checkbox(key="_many_controls").uncheck().run()
    press(app, "Generate all")
    assert not app.error
    assert [row[0] for row in table(app)] == [" a", " the"]


def test_what_fails_on_the_way_names_its_prompt_and_keeps_the_finished_ones(
    run_app: Callable[..., AppTest], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail_at_the_third(loaded: object, store: object, request: GenerationRequest) -> object:
        if request.prompt == PROMPTS[2]:
            raise HeadlampError("the clamp drove the model to NaN")
        return generate_pair(loaded, store, request)  # type: ignore[arg-type]

    monkeypatch.setattr("workbench.generating.several.generate_pair", fail_at_the_third)
    app = press(open_panel(run_app, "\n".join(PROMPTS)), "Generate all")
    assert "prompt 3" in app.error[0].value
    assert "Stop" not in [button.label for button in app.button]
    app.run()
    assert len(table(app)) == 2
    assert "Stopped after 2 of 3 prompts" in shown(app)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no prompt"),
        ('{"prompt": ""}', "the prompt is empty"),
        ('{"prompt": 3}', "prompt is not text"),
        ("\n".join(f"p{n}" for n in range(MOST_PROMPTS + 1)), f"more than {MOST_PROMPTS}"),
        (" the dog" * 60, "prompt 1"),
    ],
)
def test_prompts_that_cannot_be_used_are_refused_before_anything_is_generated(
    run_app: Callable[..., AppTest], text: str, said: str
) -> None:
    app = press(open_panel(run_app, text), "Generate all")
    assert not app.exception
    assert any(said in error.value.replace("\\", "").replace("\u2060", "") for error in app.error)


def test_typed_and_uploaded_prompts_are_read_alike() -> None:
    assert read_prompts(" a\n\n a\nb  ", "x") == (PromptLine(" a"), PromptLine("b"))
    assert read_prompts('\n{"prompt": " a", "word": "dog"}', "x") == (PromptLine(" a", word="dog"),)
    assert decode_prompts("\ufeffé".encode(), "x") == "é"
    with pytest.raises(TextError, match="not UTF-8"):
        decode_prompts(b"\xff\xfe", "x")
    with pytest.raises(TextError, match="more than"):
        decode_prompts(b"a" * 4_000_001, "x")
