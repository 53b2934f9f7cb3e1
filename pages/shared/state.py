"""Page state in the URL: its keys, and links that carry the current model with everything filled in.

A widget whose value is part of the URL has one of these as its key and bind="query-params".
"""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import quote, urlencode

import streamlit as st

MODEL = "model"
DTYPE = "dtype"
DEVICE = "device"
REVISION = "revision"
CONTEXT = "context"
WEIGHTS = "weights"
WORD = "word"
HANDED_WORD = "say"
"""The word of a link between two pages with a box for it: a parameter that both bind is lost on the way."""
FOLD = "fold"
SITE = "site"
BY = "by"
SIGN = "sign"
LAYERS = "layers"
KINDS = "kinds"
MINIMUM = "minimum"
END = "end"
ORDER = "order"
PAGE = "page"
NEURON = "neuron"
NORM = "norm"
TEXT = "text"
LEVERS = "levers"
SHADE = "shade"
SPACES = "spaces"
LIMIT = "limit"
PROMPT = "prompt"
CLAMPS = "clamps"
SEPARATOR = ";"
"""Between clamps in the URL."""
PREFIX = "prefix"
SYSTEM = "system"
TURNS = "turns"
RAW = "raw"
TOKENS = "tokens"
TEMPERATURE = "temperature"
SEED = "seed"
FINDING = "finding"
SEARCH = "search"
TAG = "tag"
RUN = "run"
KIND = "kind"
OTHER = "with"
CALIBRATION = "calibration"
RELEASED = "released"
RULE = "rule"
FORMING = "forming"
PERCENTILE = "percentile"
RATIO = "ratio"
PRUNE = "prune"
DRAWS = "draws"
WINDOW = "window"
SKILL = "skill"
COMPARED = "compared"
EXAMPLES = "examples"
SPLIT = "split"
LAYER = "layer"
TOGETHER = "together"
ALPHA = "alpha"
QUERY = "query"
REMOVE = "remove"
FORGET = "forget"
RETAIN = "retain"
METHODS = "methods"
BOXES = "boxes"
RIVALS = "rivals"
CHECK = "check"
SHARES = "shares"
ANSWER = "answer"
TESTS = "tests"
CONTROLS = "controls"
ROBUSTNESS = "robustness"
UTILITY = "utility"
NEAR = "near"
UNLISTED = "unlisted"
MEASURE = "measure"
KEY_PLACE = "key"
WRAP = "wrap"
CONCEPT = "concept"
LEADS = "leads"
HELD_OUT = "held_out"
LANGUAGES = "languages"
STAYING = "staying"
GOAL = "goal"
MOST_KL = "max_kl"
HEAD_ROWS = "head_rows"
EDITS = "edits"
COSINE = "cosine"
NOISE = "noise"
TRIED = "tried"
ASK = "ask"

PAGES = {
    "/": "pages/explore/overview/page.py",
    "/neurons": "pages/explore/neurons/page.py",
    "/experts": "pages/explore/experts/page.py",
    "/compare": "pages/explore/compare/page.py",
    "/clamp": "pages/intervene/clamp/page.py",
    "/skills": "pages/intervene/skills/page.py",
    "/unlearn": "pages/intervene/unlearn/page.py",
    "/findings": "pages/record/findings/page.py",
    "/runs": "pages/record/runs/page.py",
}
"""Address → script, relative to app.py."""

QueryValue = str | list[str]


def make_query(**params: object) -> dict[str, QueryValue]:
    """The parameters of a link: the current model, how it is open, then `params`; empty ones dropped."""
    carried = {key: st.session_state.get(key) for key in (MODEL, REVISION, DEVICE, DTYPE, WEIGHTS)}
    carried = {key: None if value == "auto" else value for key, value in carried.items()}
    if params.get(MODEL, carried[MODEL]) != carried[MODEL]:
        carried |= {REVISION: None, WEIGHTS: None}
    given = {key: _as_text(value) for key, value in (carried | params).items()}
    return {key: value for key, value in given.items() if value not in ("", [])}


def make_link(page: str, **params: object) -> str:
    """`link("/neurons", neuron="L2.N47")` → `/neurons?model=…&neuron=L2.N47`, percent-encoded."""
    pairs = urlencode(make_query(**params), doseq=True, quote_via=quote, safe=":@,")
    return f"{page}?{pairs}" if pairs else page


def _as_text(value: object) -> QueryValue:
    if value is None:
        return ""
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [str(item) for item in value]
    return str(value)
