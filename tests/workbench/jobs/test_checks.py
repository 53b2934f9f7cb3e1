"""Orders are refused before they are requested, for all that can be known before anything is measured."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from analysis.errors import HeadlampError
from analysis.opening.leases import lease_model
from analysis.opening.models import LoadedModel, ModelRef
from analysis.running.conversations import Conversation
from demo import BUNDLED_SKILLS
from store import keep_text
from tests.analysis.conftest import tiny_model, tiny_tokenizer
from workbench.experts.profiles import EXPERTS
from workbench.experts.pruning import PRUNE
from workbench.jobs.engines import check_order
from workbench.kinds import Kind, make_order
from workbench.levers.levers import LEVERS
from workbench.levers.questions import LeverQuestion, SweepQuestion
from workbench.levers.sweeps import SWEEP
from workbench.neurons.decoding import DECODE
from workbench.skills.sources import make_skill_source
from workbench.unlearning.concepts.questions import Concept, ConceptQuestion
from workbench.unlearning.concepts.tars import TARS
from workbench.unlearning.questions import UnlearningQuestion
from workbench.unlearning.unlearning import UNLEARN

WORDS = " dog cat the is my w20 w21 w22 w23 w24"
PROMPTS = (Conversation("the cat"), Conversation("my"))
LONG = (Conversation("cat " * 400),)
SIZES = {"window": 16, "draws": 1, "prompt": 4, "new_tokens": 6}


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoadedModel]:
    folder = tmp_path_factory.mktemp("moe")
    tiny_model("mixtral").save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    with lease_model(ModelRef(str(folder))) as model:
        yield model


def make_bad(name: str) -> tuple[Kind, dict[str, object], str]:
    text = keep_text(WORDS * 8)
    if name == "levers":
        return LEVERS, LeverQuestion("dog", PROMPTS[:1], LONG, ()).document(), "context"
    if name == "sweep":
        return SWEEP, SweepQuestion("dog", ("L7.N1",), PROMPTS).document(), "layer 7: "
    if name == "tars":
        return TARS, ConceptQuestion((Concept("the", PROMPTS),)).document(), "any text needs"
    if name == "decode":
        return DECODE, {"site": "down", "norm": "none", "top_k": 0}, "choose at least 1"
    if name == "experts":
        return EXPERTS, {"text": text, "split": False, "window": 16, "released": True}, "bfloat16"
    if name == "unlearn":
        question = UnlearningQuestion(make_skill_source(BUNDLED_SKILLS["facts"]), methods=("ksd",))
        return UNLEARN, {"question": question.document()}, "this model has only experts"
    groups = [[["L9.E2"]], [], []]
    return PRUNE, {"text": text, "split": False, "groups": groups, **SIZES}, "layer 9: "


@pytest.mark.parametrize("name", ["levers", "sweep", "tars", "decode", "experts", "prune", "unlearn"])
def test_an_order_that_cannot_be_answered_is_refused(loaded: LoadedModel, name: str) -> None:
    kind, asked, message = make_bad(name)
    with pytest.raises(HeadlampError, match=message):
        check_order(loaded, make_order(kind, loaded.ref, **asked))


def test_an_order_that_can_be_answered_passes(loaded: LoadedModel, tmp_path: Path) -> None:
    text = keep_text(WORDS * 8)
    asked = {"text": text, "split": False, "groups": [[["L1.E2"]], [], []], **SIZES}
    check_order(loaded, make_order(PRUNE, loaded.ref, **asked))
    check_order(
        loaded, make_order(SWEEP, loaded.ref, **SweepQuestion("dog", ("L1.E1.N1",), PROMPTS).document())
    )
