"""The style sheet and the theme: one of each for both themes, and every text readable in both."""

import re
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.figures.theme import POSITIVE_RGB, READABLE
from pages.shared import style

THEMES = ("light", "dark")
BOXES = ("blue", "green", "yellow", "red")


@pytest.fixture
def theme(repo_root: Path) -> dict[str, Any]:
    """The themes of the configuration."""
    config = tomllib.loads((repo_root / ".streamlit" / "config.toml").read_text(encoding="utf-8"))
    return dict(config["theme"])


def rgb(colour: str) -> list[float]:
    return [float(int(colour[i : i + 2], 16)) for i in (1, 3, 5)]


def mixed(colour: str, paper: str, share: float) -> list[float]:
    """What a colour of this opacity looks like on a paper."""
    return [share * c + (1 - share) * p for c, p in zip(rgb(colour), rgb(paper), strict=True)]


def contrast(one: list[float], other: list[float]) -> float:
    """WCAG's contrast of two colours."""

    def luminance(colour: list[float]) -> float:
        parts = [c / 255 for c in colour]
        linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return float(np.dot([0.2126, 0.7152, 0.0722], linear))

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("name", THEMES)
def test_every_text_reaches_aa_on_page_and_sidebar(theme: dict[str, Any], name: str) -> None:
    at, themed = THEMES.index(name), theme[name]
    papers = [themed["backgroundColor"], themed["sidebar"]["backgroundColor"], themed["codeBackgroundColor"]]
    texts = [pair[at] for pair in (style.INK, style.MUTED, style.LINK, style.ACCENT)]
    texts.append(themed["codeTextColor"])
    assert min(contrast(rgb(text), rgb(paper)) for text in texts for paper in papers) >= 4.5
    assert min(contrast(rgb(style.RING), rgb(paper)) for paper in papers) >= 3
    for paper in papers:
        assert contrast(mixed(themed["textColor"], paper, style.CAPTION_PERCENT / 100), rgb(paper)) >= 4.5


@pytest.mark.parametrize("name", THEMES)
def test_every_box_reaches_aa_in_colours_of_its_own(theme: dict[str, Any], name: str) -> None:
    themed = theme[name]
    pairs = [(themed[f"{box}TextColor"], themed[f"{box}BackgroundColor"]) for box in BOXES]
    assert min(contrast(rgb(text), rgb(ground)) for text, ground in pairs) >= 4.5
    red, _, blue = rgb(themed["blueBackgroundColor"])
    assert red > blue  # paper, not Streamlit's blue


@pytest.mark.parametrize("name", THEMES)
def test_what_is_written_on_amber_can_be_read(theme: dict[str, Any], name: str) -> None:
    strongest = float(re.findall(r"[\d.]+", READABLE[-1][1])[-1])
    amber = "#" + "".join(f"{part:02x}" for part in POSITIVE_RGB)
    cell = mixed(amber, theme[name]["backgroundColor"], strongest)
    assert contrast(rgb(style.INK[THEMES.index(name)]), cell) >= 4.5
