"""Display of tokens: made visible, and made safe, as texts come from models and users.

A vocabulary entry may be `<script>`, an answer may be Markdown or LaTeX: nothing is ever interpreted.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Sequence

from analysis.figures.theme import NEGATIVE_RGB, POSITIVE_RGB

_VISIBLE = {"\n": "⏎", "\t": "⇥"}
_INVISIBLE = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]"
)
_PUNCTUATION = re.compile(r"([!-/:-@\[-`{-~])")
# Streamlit turns `:dog:`, `->`, `--` and bare addresses into something else after Markdown's escapes
# are gone; a word joiner, which has no width, keeps them as they are.
_TURNED = re.compile(r"(?<=[:@])(?=[\w/+-])|(?<=-)(?=[->])|(?<=<)(?=-)|(?<=[<>~])(?==)|(?<=www)(?=\.)", re.I)
_JOINER = "\u2060"
STRONGEST = 0.6
"""Opacity of the strongest shade: text on it stays readable in both themes."""


def show_token(text: str) -> str:
    """A token's exact text made visible: ␣ leading space, ⏎ newline, ⇥ tab, others as <0x00> or U+202E."""
    if text.startswith(" "):
        text = f"␣{text[1:]}"
    return _INVISIBLE.sub(lambda match: _visible(match.group()), text)


def _visible(character: str) -> str:
    if character in _VISIBLE:
        return _VISIBLE[character]
    if character < " ":
        return f"<0x{ord(character):02X}>"
    return f"U+{ord(character):04X}"


def render_token(text: str) -> str:
    """`show_token`, escaped for HTML."""
    return html.escape(show_token(text))


def escape_text(text: str) -> str:
    """Escape a text for st.markdown, captions and labels: no Markdown, LaTeX, HTML, emoji, links."""
    one_line = " ".join(text.split("\n"))
    return _PUNCTUATION.sub(r"\\\1", _TURNED.sub(_JOINER, _without_control(one_line)))


def _without_control(text: str) -> str:
    return _INVISIBLE.sub(lambda match: _visible(match.group()), text)


def shade_tokens(
    tokens: Sequence[str],
    values: Sequence[float],
    *,
    largest: float,
    spaces: bool = False,
    peak: bool = False,
) -> str:
    """HTML: each token shaded by its value, diverging around 0, saturated at ±largest.

    tokens, values: equally many. NaN: a token not routed to the expert; dotted, without shade.
    spaces: leading ones as ␣. peak: the token with the largest |value| is bold, with its value.
    """
    sizes = [0.0 if math.isnan(value) else abs(float(value)) for value in values]
    highest = sizes.index(max(sizes)) if peak and any(sizes) else None
    spans = (
        _span(token, float(value), largest, spaces=spaces, bold=at == highest)
        for at, (token, value) in enumerate(zip(tokens, values, strict=True))
    )
    return f'<span style="line-height:2.1;overflow-wrap:anywhere">{"".join(spans)}</span>'


def _span(token: str, value: float, largest: float, *, spaces: bool, bold: bool) -> str:
    base = "padding:.15em .1em;border-radius:.2em;white-space:pre-wrap;"
    if math.isnan(value):
        style, title = f"{base}opacity:.55;border-bottom:1px dotted currentColor;", "not routed here"
    else:
        style, title = f"{base}background:{choose_shade(value, largest)};", f"{value:+.4g}"
    shown = render_token(token) if spaces else html.escape(_without_control(token))
    if bold:
        shown = f"<b>{shown}</b><sub>{value:+.3g}</sub>"
    return f'<span style="{style}" title="{title}">{shown}</span><wbr>'


def choose_shade(value: float, largest: float) -> str:
    """A CSS colour for a signed value: transparent at 0, strongest at ±largest."""
    share = min(abs(value) / largest, 1.0) if largest > 0 else 0.0
    red, green, blue = POSITIVE_RGB if value >= 0 else NEGATIVE_RGB
    return f"rgba({red},{green},{blue},{STRONGEST * share:.3f})"
