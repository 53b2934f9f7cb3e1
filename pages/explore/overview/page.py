"""Overview: what the model is, three questions that end in a finding, and what there is already."""

from __future__ import annotations

from pages.explore.overview.card import show_card
from pages.explore.overview.kept import show_kept_findings
from pages.explore.overview.maps import offer_map, show_maps
from pages.explore.overview.questions import show_questions
from pages.explore.overview.recent import show_recent_runs, show_storage_link
from pages.explore.overview.structure import show_anatomy
from pages.shared.errors import show_errors
from pages.shared.layout import show_header
from pages.shared.resources import use_model

show_header("Overview", "What is this model, and what would you like to find out about it?")
with show_errors(), use_model() as loaded:
    show_card(loaded)
    tell_time = show_questions(loaded)
    offer_map(loaded)
    show_maps(loaded)
    show_kept_findings()
    show_recent_runs()
    show_anatomy(loaded)
    show_storage_link()
    tell_time()
