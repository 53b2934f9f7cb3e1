"""What the theme in .streamlit/config.toml cannot say: one style sheet for every page.

Colours come in pairs and follow the theme without asking which one it is, so that a theme switched while a
page is open leaves nothing in the other's colours. Popovers lie outside `.stApp`, which alone says what theme
it is: there colours are made from the text's own.
"""

from __future__ import annotations

import streamlit as st

Pair = tuple[str, str]
"""A colour in the light theme, and in the dark one."""

INK: Pair = ("#10141c", "#f0eee9")
MUTED: Pair = ("#565247", "#b4b0a6")
LINK: Pair = ("#0b5c8a", "#7cc4f5")
ACCENT: Pair = ("#8f5200", "#ffc266")
"""Text on cells; axes; links; a slider's number."""

CAPTION_PERCENT = 74
"""How much of a caption's colour is the text's; the rest is the paper."""

RING = "#b8730c"
"""The ring around what the keyboard is at: 3:1 on the paper of both themes."""


def _themed(colour: Pair) -> str:
    return f"light-dark({colour[0]}, {colour[1]})"


_FRAME = """
[data-testid="stMainBlockContainer"] {padding-inline: clamp(1rem, 4vw, 5rem); padding-bottom: 5rem}
.stApp:has([data-testid="stSidebar"][data-collapsed="false"]) [data-testid="stMainBlockContainer"]
  {padding-top: 1.75rem}
"""
"""The page begins at the top: Streamlit keeps 6 rem free for a toolbar, empty while the sidebar is open."""

_NARROW = """
@media (max-width: 1000px) {
  [data-testid="stSidebar"][data-collapsed="false"] {width: 15rem !important; min-width: 15rem !important}
  [data-testid="stHorizontalBlock"] {flex-wrap: wrap}
  [data-testid="stColumn"]:has(input, textarea, [data-testid="stDataFrame"]) {min-width: 10rem}
}
"""
"""At a laptop's 150 % zoom the sidebar leaves room, and columns too narrow to read go on in a second row."""

_PRESSABLE = f"""
button[kind="tertiary"] {{
  padding-inline: .7rem;
  background: color-mix(in srgb, currentColor 7%, transparent);
  border: 1px solid color-mix(in srgb, currentColor 22%, transparent);
}}
[data-testid="stBaseButton-primaryFormSubmit"] kbd {{display: none}}
[class*="st-key-_open_"] button {{justify-content: flex-start; text-align: start}}
button[kind="tertiary"]:hover:not(:disabled) {{background: color-mix(in srgb, currentColor 14%, transparent)}}
button:is([kind="secondary"], [kind="tertiary"]):is(:hover, :focus-visible):not(:disabled) {{color: inherit}}
[data-testid="stPageLink-NavLink"] p {{text-decoration: underline; text-underline-offset: .2em}}
.stApp [data-testid="stPageLink-NavLink"] p {{color: {_themed(LINK)}}}
:is(button, a, input, textarea, summary, [role], [tabindex]):focus-visible {{
  outline: 2px solid {RING} !important;
  outline-offset: 2px;
}}
[data-testid="stMain"]:focus-visible {{outline-offset: -2px}}
"""
"""A button has a face, a link a line below it, and what the keyboard is at a ring. A form's key is said by
its text area, and would crowd out its button's label.
"""

_READABLE = f"""
[data-testid="stCaptionContainer"] {{opacity: 1}}
[data-testid="stCaptionContainer"] :is(p, ul, ol)
  {{color: color-mix(in srgb, currentColor {CAPTION_PERCENT}%, transparent)}}
.stApp [data-testid="stSliderThumbValue"] p {{color: {_themed(ACCENT)}}}
[data-testid="stMetric"] .stMarkdownEllipsis, [data-testid="stMetric"] .stMarkdownEllipsis p,
[data-testid="stWidgetLabel"] p {{
  white-space: normal; overflow: visible; text-overflow: clip; overflow-wrap: break-word;
}}
"""
"""Captions, code and sliders are as readable as the rest; a metric or a label too long for its line goes on
below it.
"""

_CHARTS = f"""
.stApp .js-plotly-plot :is(.xtick text, .ytick text, .xtitle, .ytitle, .cbtitle text, .cbaxis text)
  {{fill: {_themed(MUTED)} !important}}
.stApp .js-plotly-plot .scatterlayer text {{fill: {_themed(INK)} !important}}
[data-testid="stElementContainer"]:has(> [data-testid="stFullScreenFrame"] > .stPlotlyChart)
  {{height: auto; flex: 0 0 auto; margin-top: -.5rem}}
.stPlotlyChart {{margin-top: 26px}}
.stPlotlyChart .js-plotly-plot {{overflow: visible !important}}
.stPlotlyChart .modebar-container {{top: -26px !important}}
"""
"""A chart's texts follow the theme, and its buttons have a strip of their own above it."""


def apply_style() -> None:
    """Send the style sheet; it takes no space on the page."""
    st.html(f"<style>{_FRAME}{_NARROW}{_PRESSABLE}{_READABLE}{_CHARTS}</style>")
