"""Neurons: search a word, browse all neurons, or look at one (`?neuron=L2.N47`)."""

from __future__ import annotations

from analysis.anatomy.addresses import parse_address
from pages.explore.neurons.controls import choose_neurons
from pages.explore.neurons.decoding import is_ready_to_search, load_decoding
from pages.explore.neurons.lever_panel import show_lever_panel
from pages.explore.neurons.lists import show_browser
from pages.explore.neurons.results import show_search_results
from pages.explore.neurons.view import show_neuron
from pages.shared.errors import show_errors
from pages.shared.layout import show_header
from pages.shared.resources import use_model

show_header("Neurons", "Which words does a neuron say, and which neurons say a word?")
with show_errors(), use_model() as loaded:
    asked = choose_neurons(loaded)
    if asked.neuron:
        show_neuron(loaded, parse_address(asked.neuron), asked)
    elif asked.word:
        show_lever_panel(loaded, asked.word)
        if is_ready_to_search(loaded, asked):
            show_search_results(loaded, asked)
    elif (decoded := load_decoding(loaded, asked)) is not None:
        show_browser(loaded, decoded, asked)
