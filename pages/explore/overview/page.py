"""Overview: the model's anatomy, its stored decodings, and three questions to start with."""

from __future__ import annotations

from pages.explore.overview.panels import (
    show_anatomy,
    show_decoded_sites,
    show_facts,
    show_questions,
    show_recent_runs,
    show_storage_link,
)
from pages.shared.errors import show_errors
from pages.shared.layout import show_header
from pages.shared.resources import use_model

show_header("Overview", "What is inside this model, what has been decoded so far, and where to start.")
with show_errors(), use_model() as loaded:
    show_facts(loaded)
    show_questions(loaded)
    show_anatomy(loaded)
    show_decoded_sites(loaded)
    show_recent_runs()
    show_storage_link()
