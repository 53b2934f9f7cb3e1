"""Skills: which queries are inside a skill's box in key space, what a guard at α would refuse, and which
neurons decide.
"""

from __future__ import annotations

from pages.intervene.skills.choice import load_key_space, read_fit_question
from pages.intervene.skills.define import define_skill
from pages.intervene.skills.keeping import offer_skill_exports
from pages.intervene.skills.pictures import place_keys_picture, show_abstention_curve, show_layer_map
from pages.intervene.skills.query import show_query_box
from pages.intervene.skills.view import choose_view, show_refused
from pages.shared.errors import show_errors
from pages.shared.layout import show_header
from pages.shared.resources import use_model

show_header("Skills", "Which queries belong to a skill, by their keys, and which neurons decide?")
with show_errors(), use_model(runs="Fitting a skill") as loaded:
    define_skill()
    question = read_fit_question(loaded)
    found = None if question is None else load_key_space(loaded, question)
    if question is not None and found is not None:
        run, space = found
        view = choose_view(space, run)
        show_refused(space, view)
        picture = place_keys_picture(space, view)
        tried = show_query_box(loaded, space, view, run)
        picture(tried)
        show_abstention_curve(space, view)
        show_layer_map(space, view)
        offer_skill_exports(loaded, question, run, space, view, tried)
