"""Overview: what this model is, what has been mapped, and three questions to begin with."""

from __future__ import annotations

from pages.explore.overview.panels import (
    anatomy_picture,
    facts_shown,
    guided_questions,
    mapped,
    recent_runs,
    storage,
)
from pages.shared.errors import shown_errors
from pages.shared.layout import page_header
from pages.shared.resources import model

page_header("Overview", "What is inside this model, what has been mapped so far, and where to begin.")
with shown_errors(), model() as loaded:
    facts_shown(loaded)
    guided_questions(loaded)
    anatomy_picture(loaded)
    mapped(loaded)
    recent_runs()
    storage()
