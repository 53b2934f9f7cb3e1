"""What several tests share of unlearned made."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from analysis.opening.leases import lease_model
from analysis.opening.models import LoadedModel, ModelRef
from store import Store, open_store
from tests.workbench.skill_files_made import LETTERS, write_skill
from workbench.skills.sources import make_skill_source
from workbench.unlearning.answers import UnlearningAnswer
from workbench.unlearning.questions import UnlearningQuestion
from workbench.unlearning.unlearning import unlearn


@pytest.fixture(scope="module")
def question(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> UnlearningQuestion:
    folder = tmp_path_factory.mktemp("skills")
    one, two = (write_skill(folder / f"{name}.jsonl", tiny, letters) for name, letters in LETTERS.items())
    return UnlearningQuestion(
        make_skill_source(one), (make_skill_source(two),), shares=(5.0, 30.0), max_new_tokens=3
    )


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return open_store(tmp_path_factory.mktemp("unlearned") / "headlamp.db")


@pytest.fixture
def loaded(tiny: Path) -> Iterator[LoadedModel]:
    with lease_model(ModelRef(str(tiny))) as model:
        yield model


@pytest.fixture
def found(loaded: LoadedModel, store: Store, question: UnlearningQuestion) -> UnlearningAnswer:
    """Answered by the first test that wants it, read by the others."""
    return unlearn(loaded, store, question)
