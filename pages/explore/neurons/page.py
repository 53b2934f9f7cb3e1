"""Neurons: search a word, browse all neurons, or look at one (`?neuron=L2.N47`)."""

from __future__ import annotations

from analysis.anatomy.addresses import parse_address
from pages.explore.neurons.controls import controls
from pages.explore.neurons.decoding import decoded_model
from pages.explore.neurons.lists import browse, search_results
from pages.explore.neurons.view import neuron_page
from pages.shared.errors import shown_errors
from pages.shared.layout import page_header
from pages.shared.resources import model

page_header("Neurons", "Which words does a neuron say, and which neurons say a word?")
with shown_errors(), model() as loaded:
    asked = controls(loaded)
    if asked.neuron:
        neuron_page(loaded, parse_address(asked.neuron), asked)
    elif (decoded := decoded_model(loaded, asked)) is not None:
        if asked.word:
            search_results(loaded, decoded, asked)
        else:
            browse(loaded, decoded, asked)
