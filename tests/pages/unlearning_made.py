"""Skills for the tiny model of these tests, whose answers are its own, and the Unlearn page on them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from analysis.opening.leases import lease_model
from analysis.opening.models import LoadedModel, ModelRef
from analysis.skills.answering import answer_prompts
from analysis.unlearning.methods import METHODS
from store import Store, default_path, open_store
from workbench.skills.sources import make_skill_source
from workbench.unlearning.answers import UnlearningAnswer
from workbench.unlearning.questions import UnlearningQuestion
from workbench.unlearning.unlearning import unlearn

RunApp = Callable[..., AppTest]
Query = dict[str, str | list[str]]
Skills = dict[str, Path]
GO = "Forget it and measure"
QUICK: Query = {"robustness": "false", "controls": "false"}
WORDS = {"one": (" dog", " cat", " day", " Dog"), "two": (" the", " a", " ran", " and")}
NEW_TOKENS = 3
CHOICES: dict[str, Any] = {"answer": str(NEW_TOKENS), "shares": "5", "boxes": "all"}
"""What the address says beside the skills: quick settings of the form."""


def question_of(skills: dict[str, Path], **changes: Any) -> UnlearningQuestion:
    """What the page asks with CHOICES in its address: forget one, keep two."""
    asked: dict[str, Any] = {
        "forget": make_skill_source(skills["one"]),
        "retain": (make_skill_source(skills["two"]),),
        "layers": "all",
        "shares": (5.0,),
        "max_new_tokens": NEW_TOKENS,
    }
    return UnlearningQuestion(**asked | changes)


def records(name: str, words: tuple[str, ...]) -> Iterator[dict[str, str]]:
    """Prompts of three words of a skill, ended in four ways."""
    for one, two, three in product(words, repeat=3):
        for end in words:
            group, wording = f"{name}{one}{two}{three}", f"{name}-end{end}"
            yield {"prompt": f"{one}{two}{three}{end}", "group": group, "wording": wording, "judge": "exact"}


def write_skill(folder: Path, name: str, loaded: LoadedModel) -> Path:
    """A skill file whose answers are what the model says, where it says something."""
    made = list(records(name, WORDS[name]))
    ids = [loaded.tokenizer.encode(record["prompt"]) for record in made]
    said = answer_prompts(loaded, ids, max_new_tokens=NEW_TOKENS)
    lines = [
        json.dumps(record | {"answer": answer.text.strip()})
        for record, answer in zip(made, said, strict=True)
        if answer.text.strip()
    ]
    path = folder / f"{name}.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def write_skills(folder: Path, model: Path) -> dict[str, Path]:
    """Both skills as files; name → path."""
    with lease_model(ModelRef(str(model))) as loaded:
        return {name: write_skill(folder, name, loaded) for name in WORDS}


def answer_in(database: Path, model: Path, question: UnlearningQuestion) -> tuple[Store, UnlearningAnswer]:
    """Answer a question into a database of its own."""
    store = open_store(database)
    with lease_model(ModelRef(str(model))) as loaded:
        return store, unlearn(loaded, store, question)


@pytest.fixture(scope="session")
def skill_files(tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Path) -> Skills:
    """Both skills as files; name → path."""
    return write_skills(tmp_path_factory.mktemp("skills"), tiny_model_folder)


@pytest.fixture
def skills(skill_files: Skills, monkeypatch: pytest.MonkeyPatch) -> Skills:
    """The two skills stand where the bundled ones do."""
    monkeypatch.setattr("workbench.skills.library.BUNDLED_SKILLS", skill_files)
    return skill_files


@pytest.fixture(scope="session")
def answered_once(
    tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Path, skill_files: Skills
) -> tuple[Store, UnlearningAnswer]:
    """What the page asks by itself, answered in a database of its own."""
    database = tmp_path_factory.mktemp("answered") / "headlamp.db"
    return answer_in(database, tiny_model_folder, question_of(skill_files))


@pytest.fixture
def answer(
    answered_once: tuple[Store, UnlearningAnswer], skills: Skills, isolated_environment: None
) -> tuple[Store, UnlearningAnswer]:
    """The same, in the database that the app will open."""
    store, found = answered_once
    with sqlite3.connect(store.path) as there, sqlite3.connect(default_path()) as here:
        there.backup(here)
    return store, found


def page(run_app: RunApp, **changes: Any) -> AppTest:
    """The page with CHOICES in its address, and these changes of them."""
    app = run_app("/unlearn", **CHOICES | changes)
    assert not app.exception
    return app


def failures(app: AppTest) -> list[str]:
    """The page's errors, without the verdicts of methods that miss the goal."""
    return [str(error.value) for error in app.error if error.icon != ":material/cancel:"]


def judged(app: AppTest) -> list[str]:
    """The methods whose verdicts are shown."""
    sentences = [str(element.value) for kind in (app.success, app.error, app.info) for element in kind]
    titles = [record.title for record in METHODS.values()]
    return [title for title in titles if any(text.startswith(f"{title} ") for text in sentences)]


def told(app: AppTest) -> str:
    """The main page's errors and warnings, escapes taken out."""
    texts = [str(element.value) for kind in (app.error, app.warning) for element in kind]
    return "\n".join(texts).replace("\\", "").replace("\u2060", "")
