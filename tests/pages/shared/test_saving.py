"""*Save as a model* on a page that has a recipe."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from streamlit.testing.v1 import AppTest
from transformers import AutoModelForCausalLM

from store import default_path
from tests.pages.reading import press, shown

RunApp = Callable[..., AppTest]
VIEW = {"prompt": " the dog", "word": "cat", "tokens": "6"}


def generated(run_app: RunApp, clamp: str) -> AppTest:
    app = press(run_app("/clamp", **VIEW, clamps=clamp), "Generate")
    assert not app.exception
    return app


def name_it(app: AppTest, name: str) -> AppTest:
    [field] = [one for one in app.text_input if (one.key or "").startswith("save_name_")]
    field.input(name)
    return press(app, "Save")


def test_an_exact_change_is_saved_and_can_be_opened(run_app: RunApp, tiny_model_folder: Path) -> None:
    app = name_it(generated(run_app, "L1.N3:key:ablate@all"), "without-3")
    assert not app.exception
    assert not app.error
    assert "1 parameter differs" in app.success[0].value
    folder = default_path().parent / "models" / "without-3"
    assert str(folder) in [code.value for code in app.code]
    weight = AutoModelForCausalLM.from_pretrained(folder).model.layers[1].mlp.down_proj.weight
    assert weight[:, 3].abs().max() == 0 < weight[:, 4].abs().max()
    assert torch.equal(
        weight[:, :3],
        AutoModelForCausalLM.from_pretrained(tiny_model_folder).model.layers[1].mlp.down_proj.weight[:, :3],
    )
    again = name_it(app, "without-3")
    assert "is not empty" in again.error[0].value


@pytest.mark.parametrize("name", ["../away", "/tmp/away", "a/b", ".hidden", "  "])
def test_no_name_leads_out_of_the_folder_of_models(run_app: RunApp, name: str) -> None:
    app = name_it(generated(run_app, "L1.N3:key:ablate@all"), name)
    assert not app.exception
    assert "is no name for a folder" in app.error[0].value
    assert not (default_path().parent / "models").exists()


def test_a_change_that_no_weights_hold_says_why(run_app: RunApp) -> None:
    app = generated(run_app, "L1.N3:key:set:4@all")
    assert "is not an ablation or scaling of a key at every position" in shown(app)
    assert "Save" not in [button.label for button in app.button]
