"""Many prompts under one recipe: a table of P(word) before and after, with the mean and random neurons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import streamlit as st

from analysis.errors import HeadlampError
from analysis.opening.models import LoadedModel, ModelRef
from analysis.running.generation import Sampling
from pages.intervene.clamp.generated import is_measured, recall_pair
from pages.intervene.clamp.settings import LONGEST, read_request
from pages.shared.errors import show_errors
from pages.shared.layout import format_duration, make_progress_bar, show_caption, show_download
from pages.shared.resources import get_store
from pages.shared.tokens import escape_text, show_token
from store.errors import StoreError
from workbench.files import table_csv
from workbench.generating.clamping import Generation
from workbench.generating.prompt_files import (
    LARGEST_FILE,
    MOST_PROMPTS,
    PromptLine,
    decode_prompts,
    read_prompts,
)
from workbench.generating.requests import GenerationRequest
from workbench.generating.several import average_word, check_prompts, generate_pairs
from workbench.levers.random_clamps import RandomClamps, judge_prompts, measure_random_clamps

FIRST_TOKENS = 12
TEXT_SHOWN = 80
"""Characters of a text in the table."""
COLUMNS = ("prompt", "P base", "P changed", "difference", "changed text", "base text")
_PROMPT_PIXELS, _NUMBER_PIXELS = 130, 76

_ASKED, _LAST = "_many_asked", "_many_last"


@dataclass(frozen=True)
class ManyRequest:
    """What is asked of every prompt; controls: whether random neurons are measured as well."""

    ref: ModelRef
    name: str
    lines: tuple[PromptLine, ...]
    common: GenerationRequest
    controls: bool


@dataclass
class ManyPairs:
    """The pairs so far; done with the controls."""

    asked: ManyRequest
    pairs: list[Generation] = field(default_factory=list)
    controls: RandomClamps | None = None
    done: bool = False


def show_many_prompts(loaded: LoadedModel, clamps: Sequence[str]) -> None:
    """The panel: prompts, a button that says what it starts, and the table."""
    with (
        st.expander("Many prompts", key="many-prompts", icon=":material/format_list_bulleted:"),
        show_errors(),
    ):
        name, text = _edit_prompts()
        numbers, button = st.columns([1, 1], vertical_alignment="bottom")
        tokens = numbers.number_input("New tokens for each", 1, LONGEST, FIRST_TOKENS, key="_many_tokens")
        controls = st.checkbox(
            "Compare with 20 sets of random neurons at the same values", value=True, key="_many_controls"
        )
        pressed = button.button("Generate all", type="primary", width="stretch")
        asked = None
        if text.strip() or pressed:
            asked = _ask(loaded, clamps, name, text, int(tokens), controls=controls)
            show_caption(_estimate(asked, recall_pair(loaded.ref)))
        if pressed:
            st.session_state[_ASKED] = asked
        if asked is not None and st.session_state.get(_ASKED) == asked:
            _run(loaded, asked)
        _show_last(loaded.ref, asked)


def _edit_prompts() -> tuple[str, str]:
    """(what errors call them, the prompts' text): the uploaded file's, else what is typed."""
    text = st.text_area(
        "Prompts, one a line",
        key="_many_text",
        height=120,
        placeholder="My pet is a\nThe animal at the door was a",
        help='Or JSON lines as for `generate --prompts`: {"prompt": …, "answer_prefix": …, "word": …}.',
    )
    file = st.file_uploader(
        f"Or a text or JSONL file with at most {MOST_PROMPTS:,} prompts",
        ["txt", "jsonl"],
        key="_many_file",
        max_upload_size=LARGEST_FILE // 10**6,
    )
    if file is None:
        return "What is typed", text or ""
    return file.name, decode_prompts(file.getvalue(), file.name)


def _ask(
    loaded: LoadedModel, clamps: Sequence[str], name: str, text: str, tokens: int, *, controls: bool
) -> ManyRequest:
    """The request; its prompt and number of new tokens are the panel's, all else the form's above."""
    lines = read_prompts(text, name)
    form = read_request(clamps, chat=bool(loaded.tokenizer.chat_template))
    sampling = Sampling(tokens, form.sampling.temperature, form.sampling.seed)
    return ManyRequest(loaded.ref, name, lines, replace(form, prompt="", sampling=sampling), controls)


def _estimate(asked: ManyRequest, last: Generation | None) -> str:
    """How many texts, and about how long they take at the last pair's rate."""
    count, tokens = len(asked.lines), asked.common.sampling.max_new_tokens
    word = asked.common.word.strip()
    said = f"{count} prompts, two texts of at most {tokens} tokens each"
    written = 0 if last is None else max(len(last.base_ids), len(last.changed_ids))
    if last is not None and written:
        seconds = count * tokens * last.seconds / written
        said += f": about {format_duration(seconds)} at the rate of the pair above"
    else:
        said += "; the first one shows how long it takes"
    unread = "" if word or any(line.word for line in asked.lines) else " No word to measure is given."
    return f"{said}. Each is stored when it is finished.{unread}"


def _run(loaded: LoadedModel, asked: ManyRequest) -> None:
    """Generate what is not stored yet, with a bar and Stop; what is finished stays."""
    try:
        first, *_ = check_prompts(loaded, asked.lines, asked.common, asked.name)
    except HeadlampError:
        _forget()
        raise
    if not is_measured(loaded, first):
        return
    last = ManyPairs(asked)
    st.session_state[_LAST] = last
    place = st.empty()
    with place.container():
        show = make_progress_bar("Generating", "prompts")
        st.button("Stop", key="_many_stop", icon=":material/stop:", on_click=_forget)
        show(0, len(asked.lines))
        try:
            for pair in generate_pairs(loaded, get_store(), asked.lines, asked.common, asked.name):
                last.pairs.append(pair)
                show(len(last.pairs), len(asked.lines))
            if asked.controls:
                last.controls = _measure_controls(loaded, last.pairs, asked.common.sampling.seed)
        except (HeadlampError, StoreError):
            place.empty()  # what has failed cannot be stopped
            _forget()
            raise
    place.empty()
    last.done = True
    _forget()


def _measure_controls(loaded: LoadedModel, pairs: Sequence[Generation], seed: int) -> RandomClamps | None:
    """P(word) under random neurons, with a bar: each prompt is read with and without them."""
    show, steps = make_progress_bar("Random neurons", "readings"), iter(range(1, 2 * len(pairs)))

    def pulse(done: int, total: int) -> None:
        show(next(steps, 2 * len(pairs) - 1), 2 * len(pairs))

    return measure_random_clamps(loaded, [pair.request for pair in pairs], seed, pulse=pulse)


def _forget() -> None:
    st.session_state.pop(_ASKED, None)


def _show_last(ref: ModelRef, asked: ManyRequest | None) -> None:
    """The last table, also where it was stopped or belongs to an earlier request."""
    last: ManyPairs | None = st.session_state.get(_LAST)
    if last is None or last.asked.ref != ref or not last.pairs:
        return
    if last.asked != asked:
        st.info("This table belongs to an earlier request. **Generate all** makes a new one.")
    if not last.done:
        st.info(
            f"Stopped after {len(last.pairs)} of {len(last.asked.lines)} prompts, which are stored: "
            "**Generate all** goes on from here."
        )
    mean = average_word(last.pairs, last.asked.common.sampling.seed)
    st.markdown(f"**{escape_text(judge_prompts(last.pairs, mean, last.controls))}**")
    _show_table(last)


def _show_table(last: ManyPairs) -> None:
    rows = [_row(line, pair) for line, pair in zip(last.asked.lines, last.pairs, strict=False)]
    shown = [(*row[:4], *(_cut(str(text)) for text in row[4:])) for row in rows]
    columns = dict(zip(COLUMNS, zip(*shown, strict=True), strict=True))
    percent, text = st.column_config.NumberColumn, st.column_config.TextColumn
    config = dict.fromkeys(COLUMNS[1:4], percent(format="percent", width=_NUMBER_PIXELS))
    config["prompt"] = text(width=_PROMPT_PIXELS)
    st.dataframe(columns, hide_index=True, column_config=config, column_order=COLUMNS[:-1])
    show_caption(
        "A row for each prompt; the base texts are in the CSV. The interval is by bootstrap over the prompts."
    )
    show_download("Table as CSV", table_csv(COLUMNS, rows), "prompts.csv", key="many-csv")


def _row(line: PromptLine, pair: Generation) -> tuple[str | float | None, ...]:
    """Cells of COLUMNS."""
    word = (None, None, None) if pair.word is None else (*pair.word, pair.word[1] - pair.word[0])
    return (line.prompt, *word, pair.changed_text, pair.base_text)


def _cut(text: str) -> str:
    line = show_token(" ".join(text.split()))
    return line if len(line) <= TEXT_SHOWN else f"{line[:TEXT_SHOWN]}…"
