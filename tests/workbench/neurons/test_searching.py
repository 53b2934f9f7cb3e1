"""A word's search after another's: what no word changes is measured once, and stays what it is."""

from pathlib import Path

import pytest
import torch

from analysis.neurons.decoding import NORMS, NeuronNorm, read_block_vectors
from analysis.neurons.word_search import score_word
from analysis.opening.models import ModelRef
from store import open_store
from workbench.models import open_model
from workbench.neurons.searching import find_word


def test_the_next_word_measures_no_spread_again(tiny: Path, tmp_path: Path) -> None:
    store = open_store(tmp_path / "s.db")
    with open_model(ModelRef(str(tiny)), store) as loaded:
        find_word(loaded, store, "dog")
        object.__setattr__(loaded.head, "covariance", torch.full((1,), torch.nan))
        found = find_word(loaded, store, "cat")
    assert not any(torch.isnan(torch.tensor(hit.z_score)) for hit in found.neurons)


@pytest.mark.parametrize("norm", NORMS)
def test_a_search_after_others_scores_every_neuron_as_if_it_were_the_first(
    experts: Path, tmp_path: Path, norm: NeuronNorm
) -> None:
    store = open_store(tmp_path / "s.db")
    with open_model(ModelRef(str(experts)), store) as loaded:
        for site in loaded.anatomy.sites:
            find_word(loaded, store, "dog", site=site)
        for site in loaded.anatomy.sites:
            found = find_word(loaded, store, "cat", site=site, norm=norm)
            alone = [
                score_word(
                    read_block_vectors(loaded.anatomy, block, loaded.parameters, site, norm),
                    loaded.head,
                    found.token_ids,
                ).z_scores
                for block in loaded.anatomy.blocks
            ]
            assert torch.equal(found.scores.z_scores, torch.cat(alone))
