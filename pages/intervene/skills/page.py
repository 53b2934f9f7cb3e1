"""Skills: whose queries fall into a box in key space, what a guard at α would refuse, and what decides."""

from __future__ import annotations

from pages.intervene.skills.choice import asked_question, fitted
from pages.intervene.skills.define import define_a_skill
from pages.intervene.skills.keeping import take_away
from pages.intervene.skills.pictures import abstention_curve, keys_picture, layer_map
from pages.intervene.skills.query import query_box
from pages.intervene.skills.view import chosen_view, refused
from pages.shared.errors import shown_errors
from pages.shared.layout import page_header
from pages.shared.resources import model

page_header("Skills", "Which queries belong to a skill, by the keys they write, and which neurons decide it?")
with shown_errors(), model(runs="Fitting a skill") as loaded:
    define_a_skill()
    question = asked_question(loaded)
    found = None if question is None else fitted(loaded, question)
    if question is not None and found is not None:
        run, space = found
        view = chosen_view(space, run)
        refused(space, view)
        picture = keys_picture(space, view)
        tried = query_box(loaded, space, view, run)
        picture(tried)
        abstention_curve(space, view)
        layer_map(space, view)
        take_away(loaded, question, run, space, view, tried)
